//! stderr: lines for the server's log, and the guest's last words.

use super::{Output, Stream, last_words::LastWords, recording::Recording};
use memchr::memchr;
use parking_lot::Mutex;
use std::sync::{Arc, OnceLock};

/// Maximum length of a line; the rest of a longer one is dropped.
const LINE: usize = 1 << 10;
/// Maximum number of lines of one process in the log. A flood says enough in its first thousand.
const LINES: u32 = 1000;

#[derive(Default)]
pub struct Stderr {
    state: Mutex<State>,
    whole: OnceLock<Whole>,
}

struct Whole {
    output: Output,
    /// The lines are also logged.
    logged: bool,
}

#[derive(Default)]
struct State {
    line: Vec<u8>,
    last_words: LastWords,
    given: u32,
    written_in_all: u64,
    recording: Option<Arc<Recording>>,
}

impl Stderr {
    /// Sends all of stderr, byte for byte, to a terminal instead of the log. Call before the guest writes.
    pub fn give_whole(&self) {
        self.give(None, false);
    }

    /// Sends all of stderr, byte for byte and apart from stdout, to a client, at most `limit` bytes. The log gets it
    /// too. Call before the guest writes.
    pub fn give_apart(&self, limit: Option<u64>) {
        self.give(limit, true);
    }

    /// Also gives all bytes of the guest to `recording`. Call before the guest writes.
    pub fn record(&self, recording: Arc<Recording>) {
        self.state.lock().recording = Some(recording);
    }

    fn give(&self, limit: Option<u64>, logged: bool) {
        self.whole.get_or_init(|| {
            let output = Output::new(limit, usize::MAX);
            output.raw_output();
            Whole { output, logged }
        });
    }

    /// Returns the output with all of stderr. `None` if only the log gets it.
    pub fn whole(&self) -> Option<&Output> {
        self.whole.get().map(|whole| &whole.output)
    }

    /// Returns whether its lines are logged.
    pub fn is_logged(&self) -> bool {
        self.whole.get().is_none_or(|whole| whole.logged)
    }

    /// Takes `bytes` and passes each line that they finish to `each`, cut to 1 KiB. Passes at most a thousand lines in
    /// all.
    pub fn write(&self, mut bytes: &[u8], mut each: impl FnMut(&[u8])) {
        let mut state = self.state.lock();
        state.written_in_all += bytes.len() as u64;
        if let Some(recording) = &state.recording {
            recording.write(Stream::Stderr, bytes);
        }
        while let Some(end) = memchr(b'\n', bytes) {
            state.append(&bytes[..end]);
            state.end_line(&mut each);
            bytes = &bytes[end + 1..];
        }
        state.append(bytes);
    }

    /// Ends stderr: a last line without a terminator is a line.
    pub fn finish(&self, mut each: impl FnMut(&[u8])) {
        let mut state = self.state.lock();
        let State { line, last_words, .. } = &mut *state;
        if !line.is_empty() {
            last_words.unfinished(line);
            state.give_line(&mut each);
        }
    }

    /// Returns the last line that explains the failure of the guest, cut to 1 KiB.
    pub fn last_words(&self) -> Option<String> {
        self.state.lock().last_words.words()
    }

    /// Returns the text of a panic if the guest wrote one, or else its last words.
    pub fn panic(&self) -> Option<String> {
        self.state.lock().last_words.panic()
    }

    /// Resets the last words and the bounds for the next guest.
    pub fn renew(&self) {
        let mut state = self.state.lock();
        state.line.clear();
        state.last_words.forget();
        state.given = 0;
        drop(state);
        if let Some(whole) = self.whole() {
            whole.renew();
        }
    }

    pub fn total(&self) -> u64 {
        self.state.lock().written_in_all
    }
}

impl State {
    fn append(&mut self, bytes: &[u8]) {
        let room = LINE.saturating_sub(self.line.len());
        self.line.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn end_line(&mut self, each: &mut impl FnMut(&[u8])) {
        self.last_words.line(&self.line);
        self.give_line(each);
    }

    fn give_line(&mut self, each: &mut impl FnMut(&[u8])) {
        if self.line.last() == Some(&b'\r') {
            self.line.pop();
        }
        if self.given < LINES {
            self.given += 1;
            each(&self.line);
        }
        self.line.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_words_are_the_last_line_with_an_explanation() {
        let stderr = Stderr::default();
        let mut seen = Vec::new();
        for part in [&b"first\nno such sl"[..], b"ug\r\n\n", b"  \n"] {
            stderr.write(part, |line| seen.push(String::from_utf8_lossy(line).into_owned()));
        }
        assert_eq!(seen, ["first", "no such slug", "", "  "]);
        assert_eq!(stderr.last_words().unwrap(), "no such slug");
        stderr.write(b"unfinished", |_| panic!());
        stderr.finish(|line| seen.push(String::from_utf8_lossy(line).into_owned()));
        assert_eq!(stderr.last_words().unwrap(), "unfinished");
        assert_eq!(seen.len(), 5);
    }

    #[test]
    fn flood_is_bounded() {
        let stderr = Stderr::default();
        let mut count = 0;
        stderr.write(&b"x".repeat(1 << 20), |_| panic!());
        stderr.write(b"\n", |line| assert_eq!(line.len(), LINE));
        for _ in 0..5000 {
            stderr.write(b"again\n", |_| count += 1);
        }
        assert_eq!(count, LINES - 1);
        stderr.renew();
        stderr.write(b"of another guest\n", |_| count += 1);
        assert_eq!(count, LINES);
        stderr.write(b"again\n", |_| ());
        assert_eq!(stderr.last_words().unwrap(), "again");
    }
}
