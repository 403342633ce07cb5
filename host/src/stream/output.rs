//! stdout: bytes from the guest, made into lines on their way to the client.
//!
//! Finished lines wait until the socket takes them all at once. The line that is not finished goes out as it is when the
//! guest waits for input: it is a prompt.

use super::{lines::Lines, remember, wake_other};
use bytes::Bytes;
use parking_lot::Mutex;
use std::{
    task::{Context, Poll, Waker},
    time::Instant,
};

/// Above this many waiting bytes the guest blocks.
const FULL: usize = 64 << 10;
/// The most that one write may hold.
const WRITE: usize = 64 << 10;

/// What a write came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    Yes,
    /// The stream took what its limit allows, this many bytes in all, and drops the rest.
    OverLimit(u64),
    /// A line is longer than this many bytes, the most that one may have.
    LineTooLong(usize),
}

pub struct Output {
    limit: Option<u64>,
    line: usize,
    state: Mutex<State>,
}

struct State {
    lines: Lines,
    /// Bytes go out as they come.
    plain: Option<Plain>,
    /// Nothing more is taken.
    closed: bool,
    /// How much may still be written; `None` without a limit.
    left: Option<u64>,
    written_in_all: u64,
    /// When the client took what the guest had to wait for.
    relieved: Option<Instant>,
    guest: Option<Waker>,
    socket: Option<Waker>,
}

#[derive(Clone, Copy, Default)]
struct Plain {
    /// So long is the present line.
    line: usize,
    /// So much was written when the guest waited for input the last time.
    waited: u64,
}

impl Output {
    /// A stream of at most `limit` bytes with lines of at most `line` bytes.
    pub fn new(limit: Option<u64>, line: usize) -> Self {
        let state = State {
            lines: Lines::default(),
            plain: None,
            closed: false,
            left: limit,
            written_in_all: 0,
            relieved: None,
            guest: None,
            socket: None,
        };
        Self { limit, line, state: Mutex::new(state) }
    }

    /// Whoever takes wants bytes as they come, not lines: a prompt is no line, and a last line has no terminator of its
    /// own. To be said before anything is written.
    pub fn be_plain(&self) {
        self.state.lock().plain = Some(Plain::default());
    }

    /// Another guest writes from now on, and has the whole limit for itself.
    pub fn renew(&self) {
        let mut state = self.state.lock();
        state.closed = false;
        state.left = self.limit;
        if let Some(plain) = &mut state.plain {
            plain.line = 0;
        }
    }

    /// How many bytes the guest may write now.
    pub fn permit(&self) -> usize {
        let state = self.state.lock();
        if state.closed || state.lines.waiting() < FULL { WRITE } else { 0 }
    }

    /// Whether `bytes` more are no more than what was permitted: stdout and a forwarded stderr may each have a permit
    /// from before the other wrote.
    pub fn admits(&self, bytes: usize) -> bool {
        let state = self.state.lock();
        state.closed || state.lines.waiting() + bytes <= FULL + 2 * WRITE
    }

    /// Takes all of `bytes`, however many.
    pub fn write(&self, bytes: &[u8]) -> Written {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        if state.closed {
            return Written::Yes;
        }
        let begun = state.plain.map_or_else(|| state.lines.begun(), |plain| plain.line);
        let (bytes, result) = self.allowed(state, begun, bytes);
        state.count(bytes.len());
        state.closed = result != Written::Yes;
        match &mut state.plain {
            Some(plain) => {
                state.lines.write_plain(bytes);
                let end = memchr::memrchr(b'\n', bytes);
                plain.line = end.map_or(plain.line + bytes.len(), |end| bytes.len() - end - 1);
            }
            None => state.lines.write(bytes),
        }
        let socket = if state.lines.waiting() == 0 && !state.closed { None } else { state.socket.take() };
        drop(guard);
        wake_other(socket, None);
        result
    }

    /// The beginning of `bytes` that the limits let through, and which of them ends there. The present line has `begun`
    /// bytes already.
    fn allowed<'b>(&self, state: &State, begun: usize, mut bytes: &'b [u8]) -> (&'b [u8], Written) {
        let mut result = Written::Yes;
        if let (Some(limit), Some(left)) = (self.limit, state.left)
            && bytes.len() as u64 > left
        {
            bytes = &bytes[..left as usize];
            result = Written::OverLimit(limit);
        }
        if let Some(end) = self.too_long(begun, bytes) {
            bytes = &bytes[..end];
            result = Written::LineTooLong(self.line);
        }
        (bytes, result)
    }

    /// Where a line in `bytes` grows too long, when `begun` bytes of the first one are there already.
    fn too_long(&self, begun: usize, bytes: &[u8]) -> Option<usize> {
        if begun + bytes.len() <= self.line {
            return None;
        }
        let (mut start, mut room) = (0, self.line - begun);
        loop {
            let line = memchr::memchr(b'\n', &bytes[start..]).unwrap_or(bytes.len() - start);
            if line > room {
                return Some(start + room);
            }
            start += line + 1;
            room = self.line;
            if start >= bytes.len() {
                return None;
            }
        }
    }

    /// Takes one whole line, wherever stdout stands in its own. It counts as output.
    pub fn write_line(&self, line: &[u8]) -> Written {
        let mut state = self.state.lock();
        if state.closed {
            return Written::Yes;
        }
        let size = line.len() + 1;
        let left = state.left.map_or(size, |left| usize::try_from(left).unwrap_or(size).min(size));
        let over = self.limit.filter(|_| size > left);
        let shown = if over.is_some() { &line[..left] } else { line };
        state.count(left);
        state.closed = over.is_some();
        if over.is_none() || !shown.is_empty() {
            state.lines.write_line(shown);
        }
        let socket = state.socket.take();
        drop(state);
        wake_other(socket, None);
        over.map_or(Written::Yes, Written::OverLimit)
    }

    /// Ready when the guest may write.
    pub fn poll_writable(&self, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.state.lock();
        if state.closed || state.lines.waiting() < FULL {
            return Poll::Ready(());
        }
        remember(&mut state.guest, cx);
        Poll::Pending
    }

    /// The guest waits for input: what it wrote of its present line is a prompt.
    pub fn prompt(&self) {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let news = match &mut state.plain {
            Some(plain) => std::mem::replace(&mut plain.waited, state.written_in_all) != state.written_in_all,
            None => state.lines.prompt(),
        };
        if !news {
            return;
        }
        let socket = state.socket.take();
        drop(guard);
        wake_other(socket, None);
    }

    /// The guest has ended: a last line without a terminator is a line.
    pub fn finish(&self) {
        self.state.lock().lines.finish();
    }

    /// How much was written when the guest waited for input the last time, where bytes go out as they come.
    pub fn waited(&self) -> u64 {
        self.state.lock().plain.map_or(0, |plain| plain.waited)
    }

    /// Takes all finished lines, each with its `\n`; empty when there are none.
    pub fn take(&self) -> Bytes {
        let mut state = self.state.lock();
        if state.lines.waiting() == 0 {
            return Bytes::new();
        }
        if state.lines.waiting() >= FULL {
            state.relieved = Some(Instant::now());
        }
        let lines = state.lines.take();
        let guest = state.guest.take();
        drop(state);
        wake_other(guest, None);
        lines
    }

    /// Ready when there are finished lines to take.
    pub fn poll_lines(&self, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.state.lock();
        if state.lines.waiting() > 0 {
            return Poll::Ready(());
        }
        remember(&mut state.socket, cx);
        Poll::Pending
    }

    /// Until when the guest had to wait for its client to take what it wrote: `now` while it still has to, `None` if it
    /// never had to.
    pub fn held_until(&self, now: Instant) -> Option<Instant> {
        let state = self.state.lock();
        if !state.closed && state.lines.waiting() >= FULL { Some(now) } else { state.relieved }
    }

    /// How many bytes the guest wrote.
    pub fn total(&self) -> u64 {
        self.state.lock().written_in_all
    }
}

impl State {
    fn count(&mut self, bytes: usize) {
        self.written_in_all += bytes as u64;
        if let Some(left) = &mut self.left {
            *left -= bytes as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::lines;

    fn cx() -> Context<'static> {
        Context::from_waker(Waker::noop())
    }

    fn output() -> Output {
        Output::new(None, 1 << 20)
    }

    fn taken(output: &Output) -> Vec<String> {
        lines(&output.take()).map(|(line, _)| String::from_utf8_lossy(&line).into_owned()).collect()
    }

    #[test]
    fn lines_are_split_wherever_the_writes_fall() {
        let output = output();
        for part in ["on", "e\ntwo\r", "\n\nfo", "ur"] {
            output.write(part.as_bytes());
        }
        assert_eq!(taken(&output), ["one", "two", ""]);
        assert_eq!(taken(&output), [""; 0]);
        output.finish();
        assert_eq!(taken(&output), ["four"]);
    }

    #[test]
    fn a_prompt_goes_out_when_the_guest_waits_and_its_terminator_is_no_line() {
        let output = output();
        output.write(b"Name? ");
        assert_eq!(taken(&output), [""; 0]);
        output.prompt();
        assert_eq!(taken(&output), ["Name? "]);
        output.write(b"\nHello\n");
        assert_eq!(taken(&output), ["Hello"]);
        output.write(b"\n");
        assert_eq!(taken(&output), [""]);
        output.finish();
        assert_eq!(taken(&output), [""; 0]);
    }

    #[test]
    fn what_follows_a_prompt_on_its_line_is_a_line() {
        let output = output();
        output.write(b"> ");
        output.prompt();
        output.write(b"rest\nnext\n");
        assert_eq!(taken(&output), ["> ", "rest", "next"]);
    }

    #[test]
    fn a_prompt_never_cuts_a_character() {
        let output = output();
        output.write("Größe ☃".as_bytes().split_last().unwrap().1);
        output.prompt();
        assert_eq!(taken(&output), ["Größe "]);
        output.write(&["☃".as_bytes()[2]]);
        output.prompt();
        assert_eq!(taken(&output), ["☃"]);
        output.write(b"\xff\xfe? ");
        output.prompt();
        assert_eq!(taken(&output), ["\u{fffd}\u{fffd}? "]);
    }

    #[test]
    fn a_guest_blocks_while_the_client_does_not_take() {
        let output = output();
        output.write("x\n".repeat(FULL / 2).as_bytes());
        assert_eq!(output.permit(), 0);
        assert!(output.poll_writable(&cx()).is_pending());
        assert_eq!(taken(&output).len(), FULL / 2);
        assert!(output.poll_writable(&cx()).is_ready());
        assert_eq!(output.permit(), WRITE);
    }

    #[test]
    fn the_limit_takes_what_it_allows() {
        let output = Output::new(Some(5), 1 << 20);
        assert_eq!(output.write(b"ab\n"), Written::Yes);
        assert_eq!(output.write(b"cdef\n"), Written::OverLimit(5));
        assert_eq!(output.write(b"more\n"), Written::Yes);
        output.finish();
        assert_eq!(taken(&output), ["ab", "cd"]);
        assert_eq!(output.total(), 5);
    }

    #[test]
    fn a_line_has_an_end() {
        for plain in [false, true] {
            let output = Output::new(None, 10);
            if plain {
                output.be_plain();
            }
            assert_eq!(output.write(b"9\n0123456789"), Written::Yes);
            assert_eq!(output.write(b"0"), Written::LineTooLong(10), "{plain}");
        }
        let output = Output::new(None, 10);
        assert_eq!(output.write(b"01234567890"), Written::LineTooLong(10));
        output.finish();
        assert_eq!(taken(&output), ["0123456789"]);
    }

    #[test]
    fn plain_bytes_go_out_as_they_come() {
        let output = output();
        output.be_plain();
        for part in [&b"Name? "[..], b"\n\r\n\xff", b"end"] {
            output.write(part);
            output.prompt();
            assert_eq!(output.take(), part);
            assert_eq!(output.waited(), output.total());
        }
        output.write(b"not waited for");
        assert_eq!(output.waited(), output.total() - 14);
        output.take();
        output.finish();
        assert_eq!(output.take(), b""[..]);
    }

    #[test]
    fn a_line_that_is_too_long_is_found_in_the_middle_of_a_write() {
        let output = Output::new(None, 4);
        assert_eq!(output.write(b"ab"), Written::Yes);
        assert_eq!(output.write(b"cd\nef\ngh"), Written::Yes);
        assert_eq!(output.write(b"\n1234\n12345\nafter\n"), Written::LineTooLong(4));
        output.finish();
        assert_eq!(taken(&output), ["abcd", "ef", "gh", "1234", "1234"]);
    }

    #[test]
    fn the_limit_counts_whole_lines_too() {
        let output = Output::new(Some(7), 1 << 20);
        assert_eq!(output.write_line(b"ab"), Written::Yes);
        assert_eq!(output.write_line(b"cdefg"), Written::OverLimit(7));
        assert_eq!(output.write(b"more\n"), Written::Yes);
        assert_eq!(taken(&output), ["ab", "cdef"]);
        assert_eq!(output.total(), 7);
    }

    #[test]
    fn next_guest_has_the_whole_limit_for_itself() {
        for plain in [false, true] {
            let output = Output::new(Some(8), 4);
            if plain {
                output.be_plain();
            }
            assert_eq!(output.write(b"abcde"), Written::LineTooLong(4));
            output.finish();
            output.renew();
            assert_eq!(output.write(b"1\n2\n3\n4"), Written::Yes, "{plain}");
            assert_eq!(output.write(b"\n5"), Written::OverLimit(8), "{plain}");
            output.finish();
            let first = if plain { "abcd" } else { "abcd\n" };
            assert_eq!(output.take(), format!("{first}1\n2\n3\n4\n"), "{plain}");
            assert_eq!(output.total(), 12);
        }
    }

    #[test]
    fn guest_that_waits_for_its_client_is_known() {
        let (output, now) = (output(), Instant::now());
        assert_eq!(output.held_until(now), None);
        output.write("x\n".repeat(FULL / 2).as_bytes());
        assert_eq!(output.held_until(now), Some(now));
        output.take();
        assert!(output.held_until(now).is_some_and(|until| until >= now));
    }

    #[test]
    fn a_line_is_too_long_however_it_is_written() {
        let whole = Output::new(None, 4);
        assert_eq!(whole.write(b"abcd\nabcde\nx\n"), Written::LineTooLong(4));
        whole.finish();
        let cut = Output::new(None, 4);
        assert_eq!(cut.write(b"abcd\nab"), Written::Yes);
        assert_eq!(cut.write(b"cde\nx\n"), Written::LineTooLong(4));
        cut.finish();
        assert_eq!((taken(&whole), whole.total()), (vec!["abcd".to_owned(), "abcd".to_owned()], 9));
        assert_eq!((taken(&cut), cut.total()), (vec!["abcd".to_owned(), "abcd".to_owned()], 9));
    }

    #[test]
    fn a_terminator_behind_a_prompt_may_be_cut_in_two() {
        let output = output();
        output.write(b"name? ");
        output.prompt();
        output.write(b"\r");
        output.write(b"\nnext\n");
        assert_eq!(taken(&output), ["name? ", "next"]);
        output.write(b"name? \r");
        output.prompt();
        output.finish();
        assert_eq!(taken(&output), ["name? "]);
    }
}
