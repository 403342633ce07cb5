//! stdout: bytes from the guest, made into lines on their way to the client.
//!
//! Finished lines wait until the socket takes them all at once. The unfinished line is sent as it is, as a prompt, when
//! the guest waits for input.

use super::{Stream, lines::Lines, recording::Recording, remember, wake_other};
use bytes::Bytes;
use parking_lot::Mutex;
use std::{
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Instant,
};

/// Waiting bytes above which the guest blocks.
const FULL: usize = 64 << 10;
/// Maximum size of one write.
const WRITE: usize = 64 << 10;

/// The result of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    Yes,
    /// The limit of this many bytes in all is reached; the rest is dropped.
    OverLimit(u64),
    /// A line exceeds the maximum length, this many bytes.
    LineTooLong(usize),
}

pub struct Output {
    limit: Option<u64>,
    line: usize,
    state: Mutex<State>,
}

struct State {
    lines: Lines,
    /// Set if output is raw.
    plain: Option<Plain>,
    /// Gets all bytes of the guest, as they are.
    recording: Option<Arc<Recording>>,
    /// Further output is dropped.
    closed: bool,
    /// Bytes that can still be written. `None` if there is no limit.
    left: Option<u64>,
    written_in_all: u64,
    /// The last time that the client took output while the guest was blocked.
    relieved: Option<Instant>,
    guest: Option<Waker>,
    socket: Option<Waker>,
}

#[derive(Clone, Copy, Default)]
struct Plain {
    /// Length of the present line.
    line: usize,
    /// Bytes written when the guest last waited for input.
    waited: u64,
    /// Bytes of input that it had read by then.
    read: u64,
    /// How often it has waited, each time after new output or input.
    waits: u64,
}

impl Plain {
    /// Notes a wait after so much output and input. Returns whether it is a new one.
    fn wait(&mut self, written: u64, read: u64) -> bool {
        let is_new = self.waits == 0 || (self.waited, self.read) != (written, read);
        (self.waited, self.read) = (written, read);
        self.waits += u64::from(is_new);
        is_new
    }
}

impl Output {
    /// Returns a stream of at most `limit` bytes, with lines of at most `line` bytes.
    pub fn new(limit: Option<u64>, line: usize) -> Self {
        let state = State {
            lines: Lines::default(),
            plain: None,
            recording: None,
            closed: false,
            left: limit,
            written_in_all: 0,
            relieved: None,
            guest: None,
            socket: None,
        };
        Self { limit, line, state: Mutex::new(state) }
    }

    /// Switches to raw output: a prompt is not a line, and a last line gets no terminator. Call before the guest
    /// writes.
    pub fn raw_output(&self) {
        self.state.lock().plain = Some(Plain::default());
    }

    /// Also gives all bytes of the guest to `recording`. Call before the guest writes.
    pub fn record(&self, recording: Arc<Recording>) {
        self.state.lock().recording = Some(recording);
    }

    /// Resets the limit for the next guest.
    pub fn renew(&self) {
        let mut state = self.state.lock();
        state.closed = false;
        state.left = self.limit;
        if let Some(plain) = &mut state.plain {
            plain.line = 0;
        }
    }

    /// Returns how many bytes the guest is allowed to write now.
    pub fn permit(&self) -> usize {
        let state = self.state.lock();
        if state.closed || state.lines.waiting() < FULL { WRITE } else { 0 }
    }

    /// Returns whether `bytes` more are within the permits. Stdout and a forwarded stderr can each have a permit from
    /// before the other wrote.
    pub fn admits(&self, bytes: usize) -> bool {
        let state = self.state.lock();
        state.closed || state.lines.waiting() + bytes <= FULL + 2 * WRITE
    }

    /// Appends all of `bytes`, up to the limits.
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
        if let Some(recording) = &state.recording {
            recording.write(Stream::Stdout, bytes);
        }
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

    /// Returns the beginning of `bytes` within the limits, and which limit ends it. The present line already has
    /// `begun` bytes.
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

    /// Returns where a line in `bytes` becomes too long, if the first one already has `begun` bytes.
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

    /// Appends a whole line, independent of the unfinished one. It counts as output.
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

    /// Becomes ready when the guest is allowed to write.
    pub fn poll_writable(&self, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.state.lock();
        if state.closed || state.lines.waiting() < FULL {
            return Poll::Ready(());
        }
        remember(&mut state.guest, cx);
        Poll::Pending
    }

    /// Notes that the guest waits for input: its unfinished line is a prompt. `read` returns how much input it has read.
    pub fn prompt(&self, read: impl FnOnce() -> u64) {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let news = match &mut state.plain {
            Some(plain) => plain.wait(state.written_in_all, read()),
            None => state.lines.prompt(),
        };
        if !news {
            return;
        }
        let socket = state.socket.take();
        drop(guard);
        wake_other(socket, None);
    }

    /// Ends the output: a last line without a terminator is a line.
    pub fn finish(&self) {
        self.state.lock().lines.finish();
    }

    /// Returns how much raw output was written when the guest last waited for input.
    pub fn waited(&self) -> u64 {
        self.state.lock().plain.map_or(0, |plain| plain.waited)
    }

    /// Returns how often the guest has waited for input, if its output is raw: each time after new output or input.
    pub fn waits(&self) -> u64 {
        self.state.lock().plain.map_or(0, |plain| plain.waits)
    }

    /// Takes all finished lines, each with its `\n`. Returns no bytes if there are none.
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

    /// Becomes ready when there are finished lines to take.
    pub fn poll_lines(&self, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.state.lock();
        if state.lines.waiting() > 0 {
            return Poll::Ready(());
        }
        remember(&mut state.socket, cx);
        Poll::Pending
    }

    /// Returns until when the client blocked the guest: `now` if it still does, `None` if it never did.
    pub fn held_until(&self, now: Instant) -> Option<Instant> {
        let state = self.state.lock();
        if !state.closed && state.lines.waiting() >= FULL { Some(now) } else { state.relieved }
    }

    /// Returns how many bytes the guest has written.
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
