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
    /// How much can still be written; `None` without a limit.
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
mod tests;
