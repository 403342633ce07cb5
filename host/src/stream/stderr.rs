//! stderr: lines for the server's log, and the guest's last words.

use super::{Output, last_words::LastWords};
use memchr::memchr;
use parking_lot::Mutex;
use std::sync::OnceLock;

/// The longest line that is kept; the rest of a longer one is dropped.
const LINE: usize = 1 << 10;
/// How many lines of one process are given on; a flood says enough in its first thousand.
const LINES: u32 = 1000;

#[derive(Default)]
pub struct Stderr {
    state: Mutex<State>,
    whole: OnceLock<Whole>,
}

struct Whole {
    output: Output,
    /// The log has it too.
    logged: bool,
}

#[derive(Default)]
struct State {
    line: Vec<u8>,
    last_words: LastWords,
    given: u32,
    written_in_all: u64,
}

impl Stderr {
    /// Someone at a terminal reads all of it, byte for byte, instead of the log. To be said before anything is written.
    pub fn give_whole(&self) {
        self.give(None, false);
    }

    /// A client reads all of it, byte for byte and apart from stdout, beside the log: at most `limit` bytes. To be said
    /// before anything is written.
    pub fn give_apart(&self, limit: Option<u64>) {
        self.give(limit, true);
    }

    fn give(&self, limit: Option<u64>, logged: bool) {
        self.whole.get_or_init(|| {
            let output = Output::new(limit, usize::MAX);
            output.be_plain();
            Whole { output, logged }
        });
    }

    /// Where all of it goes, if anywhere but to the log.
    pub fn whole(&self) -> Option<&Output> {
        self.whole.get().map(|whole| &whole.output)
    }

    /// Whether its lines belong into the log.
    pub fn is_logged(&self) -> bool {
        self.whole.get().is_none_or(|whole| whole.logged)
    }

    /// Takes `bytes` and gives each line that they finish to `each`, cut to 1 KiB; no more than a thousand lines in all.
    pub fn write(&self, mut bytes: &[u8], mut each: impl FnMut(&[u8])) {
        let mut state = self.state.lock();
        state.written_in_all += bytes.len() as u64;
        while let Some(end) = memchr(b'\n', bytes) {
            state.append(&bytes[..end]);
            state.end_line(&mut each);
            bytes = &bytes[end + 1..];
        }
        state.append(bytes);
    }

    /// The guest has ended: a last line without a terminator is a line.
    pub fn finish(&self, mut each: impl FnMut(&[u8])) {
        let mut state = self.state.lock();
        let State { line, last_words, .. } = &mut *state;
        if !line.is_empty() {
            last_words.unfinished(line);
            state.give_line(&mut each);
        }
    }

    /// The last line that says why the guest failed, as far as 1 KiB of it.
    pub fn last_words(&self) -> Option<String> {
        self.state.lock().last_words.words()
    }

    /// The text of a panic if the guest wrote one, or else its last words.
    pub fn panic(&self) -> Option<String> {
        self.state.lock().last_words.panic()
    }

    /// Another guest writes from now on: with last words and bounds of its own.
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
    fn the_last_words_are_the_last_line_that_says_something() {
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
    fn a_flood_is_bounded() {
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
