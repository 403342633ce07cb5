//! A buffer that turns bytes into lines, however the writes were split.

use bytes::{Bytes, BytesMut};

/// A buffer up to this size is kept when it is empty; larger ones are released.
const KEEP: usize = 4 << 10;

/// A line buffer. Finished lines wait in `ready`, each with one `\n`. The unfinished line waits in `partial`. It is
/// sent as it is, as a prompt, when the guest waits for input.
#[derive(Debug, Default)]
pub struct Lines {
    ready: BytesMut,
    partial: Vec<u8>,
    /// The beginning of the present line was sent as a prompt.
    prompted: bool,
}

impl Lines {
    /// Returns how many bytes of lines wait.
    pub fn waiting(&self) -> usize {
        self.ready.len()
    }

    /// Returns the length of the unfinished line.
    pub fn begun(&self) -> usize {
        self.partial.len()
    }

    pub fn write(&mut self, bytes: &[u8]) {
        let Some(end) = memchr::memrchr(b'\n', bytes) else { return self.partial.extend_from_slice(bytes) };
        let mut finished = &bytes[..=end];
        if self.prompted && self.partial.is_empty() {
            // The text of the line was sent as a prompt, so a terminator directly after it begins no new line.
            finished = finished.strip_prefix(b"\r").filter(|it| it.starts_with(b"\n")).unwrap_or(finished);
            finished = finished.strip_prefix(b"\n").unwrap_or(finished);
        } else if self.prompted && self.partial == b"\r" && finished.starts_with(b"\n") {
            // The second half of the same terminator, from a later write.
            self.partial.clear();
            finished = &finished[1..];
        }
        self.prompted = false;
        self.ready.extend_from_slice(&self.partial);
        self.ready.extend_from_slice(finished);
        self.partial.clear();
        self.partial.extend_from_slice(&bytes[end + 1..]);
    }

    /// Appends raw bytes.
    pub fn write_plain(&mut self, bytes: &[u8]) {
        self.ready.extend_from_slice(bytes);
    }

    /// Appends a whole line, independent of the unfinished one.
    pub fn write_line(&mut self, line: &[u8]) {
        self.ready.extend_from_slice(line);
        self.ready.extend_from_slice(b"\n");
    }

    /// Makes the unfinished line ready as a prompt, up to its last whole character. Returns whether there was one.
    pub fn prompt(&mut self) -> bool {
        if self.partial.is_empty() {
            return false;
        }
        let whole = whole_characters(&self.partial);
        if whole == 0 {
            return false;
        }
        self.ready.extend_from_slice(&self.partial[..whole]);
        self.ready.extend_from_slice(b"\n");
        self.partial.drain(..whole);
        self.prompted = true;
        true
    }

    /// Ends the lines: a last line without a terminator is a line.
    pub fn finish(&mut self) {
        // After a prompt, half of a terminator is not a line either.
        let half = self.prompted && self.partial == b"\r";
        if !(self.partial.is_empty() || half) {
            self.ready.extend_from_slice(&self.partial);
            self.ready.extend_from_slice(b"\n");
        }
        self.partial = Vec::new();
        self.prompted = false;
    }

    /// Takes all finished lines, each with its `\n`. Returns no bytes if there are none.
    pub fn take(&mut self) -> Bytes {
        if self.ready.len() > KEEP { std::mem::take(&mut self.ready).freeze() } else { self.ready.split().freeze() }
    }
}

/// Returns the length of `text` before a character that is cut off at its end. Also excludes a `\r` before that, which
/// can be half of a terminator.
fn whole_characters(text: &[u8]) -> usize {
    let text = without_returns(text);
    without_returns(&text[..before_cut(text)]).len()
}

/// Returns the length of `text` before a character that is cut off at its end.
pub fn before_cut(text: &[u8]) -> usize {
    let tail = text.len().saturating_sub(3);
    let cut = |from: &usize| {
        std::str::from_utf8(&text[*from..]).is_err_and(|error| error.valid_up_to() == 0 && error.error_len().is_none())
    };
    (tail..text.len()).find(cut).unwrap_or(text.len())
}

fn without_returns(text: &[u8]) -> &[u8] {
    let returns = text.iter().rev().take_while(|byte| **byte == b'\r').count();
    &text[..text.len() - returns]
}

/// Returns the lines in the result of [`Lines::take`], without terminators, each with the position of the next one.
pub fn lines(taken: &Bytes) -> impl Iterator<Item = (Bytes, usize)> + '_ {
    let mut start = 0;
    memchr::memchr_iter(b'\n', taken).map(move |end| {
        let from = std::mem::replace(&mut start, end + 1);
        let to = if end > from && taken[end - 1] == b'\r' { end - 1 } else { end };
        (taken.slice(from..to), end + 1)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cut_character_is_found_at_every_position() {
        for text in ["a", "ä", "☃", "🦀", "abc🦀"] {
            let bytes = text.as_bytes();
            assert_eq!(whole_characters(bytes), bytes.len(), "{text}");
            let last = text.chars().last().unwrap().len_utf8();
            for cut in 1..last {
                assert_eq!(whole_characters(&bytes[..bytes.len() - cut]), bytes.len() - last, "{text} less {cut}");
            }
        }
        assert_eq!(whole_characters(b"ab\r"), 2);
        assert_eq!(whole_characters(b"ab\r\r"), 2);
        assert_eq!(whole_characters(b"ab\r\xc3"), 2);
        assert_eq!(before_cut(b"ab\r\xc3"), 3);
        // No further byte would complete a character.
        for text in [&b"\xe0\x80"[..], b"\xed\xa0", b"\xf4\x90", b"\x80\x80"] {
            assert_eq!(whole_characters(text), text.len());
        }
    }
}
