//! stdin: lines from the client on their way to the guest.
//!
//! A client can send faster than the guest reads. While the guest keeps emptying the buffer, the buffer stays small,
//! and the socket is read no faster than the guest reads. The longer the buffer has not been empty, the more it can
//! hold. A cancel behind text is therefore read soon, even if the guest is slow or does not read at all. A buffer at
//! its limit accepts nothing until the guest reads.

use super::{remember, wake_other};
use crate::size::Size;
use bytes::Bytes;
use parking_lot::Mutex;
use std::{
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

/// Bytes that can always wait: enough to keep a guest that reads in chunks busy until the socket is read again.
const AHEAD: usize = 64 << 10;
/// Additional bytes that can wait for each millisecond that the buffer was not empty: 16 MiB in a quarter of a second.
const AHEAD_PER_MILLI: usize = 64 << 10;
/// Bytes already read are released once they are half of the buffer, or this many.
const SPENT: usize = 1 << 20;
/// Maximum size of one read of the guest.
const READ: usize = 64 << 10;
/// A buffer up to this size is kept when it is empty; larger ones are released.
const KEEP: usize = 4 << 10;

/// The result of a read.
#[derive(Debug, PartialEq, Eq)]
pub enum Read {
    Data(Bytes),
    /// No data waits now.
    Empty,
    /// No data waits, and none will arrive.
    Ended,
}

/// The result of an offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offered {
    Taken,
    /// There is no room, as the guest has not read earlier input.
    Full,
    /// The stream has ended.
    Ended,
}

/// The room for more input.
#[derive(Debug, PartialEq, Eq)]
pub enum Room {
    /// There is room now.
    Now,
    /// There is no room until the guest reads, or until this time.
    Later(Instant),
    /// There is no room until the guest reads: the buffer is full, and the guest has read nothing since then.
    Full(Instant),
}

pub struct Input {
    limit: usize,
    /// Time without a read, while the buffer is full, after which the guest is idle.
    idle: Duration,
    state: Mutex<State>,
}

struct State {
    buffer: Vec<u8>,
    /// The position in `buffer` of the next read.
    start: usize,
    ended: bool,
    /// The time when the buffer stopped being empty.
    waiting_since: Option<Instant>,
    /// The last time when the buffer became full.
    filled: Instant,
    last_read: Instant,
    read_in_all: u64,
    guest: Option<Waker>,
    socket: Option<Waker>,
    /// Further sockets that wait for room, if several clients are attached.
    others: Vec<Waker>,
}

impl Input {
    /// Returns an empty stream in which at most `limit` bytes and one frame wait. A guest that reads nothing for `idle`
    /// while the stream is full counts as idle.
    pub fn new(limit: usize, idle: Duration) -> Self {
        let now = Instant::now();
        let state = State {
            buffer: Vec::new(),
            start: 0,
            ended: false,
            waiting_since: None,
            filled: now,
            last_read: now,
            read_in_all: 0,
            guest: None,
            socket: None,
            others: Vec::new(),
        };
        Self { limit, idle, state: Mutex::new(state) }
    }

    /// Returns the time without a read, while the buffer is full, after which the guest is idle.
    pub fn idle(&self) -> Duration {
        self.idle
    }

    pub fn limit(&self) -> Size {
        Size::bytes(self.limit as u64)
    }

    /// Appends a line and its terminator. `running` is the current task. After the end, the line is dropped.
    pub fn push_line(&self, line: &str, now: Instant, running: &Context<'_>) {
        self.put([line.as_bytes(), b"\n"], now, running);
    }

    /// Appends bytes unchanged, without a terminator. After the end, they are dropped.
    pub fn push(&self, bytes: &[u8], now: Instant, running: &Context<'_>) {
        self.put([bytes, b""], now, running);
    }

    /// Appends all of `bytes` or nothing, without a wait: at most the limit can wait for the guest.
    pub fn offer(&self, bytes: &[u8], now: Instant) -> Offered {
        let waiting = {
            let state = self.state.lock();
            if state.ended {
                return Offered::Ended;
            }
            state.buffer.len() - state.start
        };
        if waiting + bytes.len() > self.limit {
            return Offered::Full;
        }
        if !bytes.is_empty() {
            self.push(bytes, now, &Context::from_waker(Waker::noop()));
        }
        Offered::Taken
    }

    fn put(&self, parts: [&[u8]; 2], now: Instant, running: &Context<'_>) {
        let mut state = self.state.lock();
        if state.ended {
            return;
        }
        if state.start > 0 && (state.start * 2 >= state.buffer.len() || state.start >= SPENT) {
            let start = std::mem::take(&mut state.start);
            state.buffer.drain(..start);
        }
        state.waiting_since.get_or_insert(now);
        let more = parts.iter().map(|part| part.len()).sum();
        if state.buffer.len() + more > state.buffer.capacity() {
            state.make_room(more, self.limit);
        }
        if state.buffer.len() + more >= self.limit {
            let waiting = state.buffer.len() - state.start;
            if waiting < self.limit && waiting + more >= self.limit {
                state.filled = now;
            }
        }
        for part in parts {
            state.buffer.extend_from_slice(part);
        }
        let guest = state.guest.take();
        drop(state);
        wake_other(guest, Some(running));
    }

    /// Returns whether to read a frame from the socket. If not, `running` is woken when the guest reads.
    pub fn room(&self, now: Instant, running: &Context<'_>) -> Room {
        let mut state = self.state.lock();
        let waiting = state.buffer.len() - state.start;
        let Some(since) = state.waiting_since.filter(|_| !state.ended) else {
            return Room::Now;
        };
        let pressed = now.saturating_duration_since(since).as_millis() as usize;
        let ahead = AHEAD.saturating_add(pressed.saturating_mul(AHEAD_PER_MILLI)).min(self.limit);
        if waiting < ahead {
            return Room::Now;
        }
        state.remember_socket(running);
        if waiting < self.limit {
            return Room::Later(since + Duration::from_millis(((waiting - AHEAD) / AHEAD_PER_MILLI + 1) as u64));
        }
        Room::Full(state.last_read.max(state.filled))
    }

    /// Takes up to `max` waiting bytes.
    pub fn read(&self, max: usize, now: Instant) -> Read {
        let mut state = self.state.lock();
        let waiting = state.buffer.len() - state.start;
        if waiting == 0 {
            return if state.ended { Read::Ended } else { Read::Empty };
        }
        let taken = waiting.min(max).min(READ);
        if taken == 0 {
            return Read::Empty;
        }
        let data = if taken == waiting && state.start == 0 && waiting > KEEP {
            std::mem::take(&mut state.buffer)
        } else {
            let start = state.start;
            let data = state.buffer[start..start + taken].to_vec();
            state.start += taken;
            data
        };
        state.last_read = now;
        state.read_in_all += taken as u64;
        if taken == waiting {
            state.start = 0;
            state.waiting_since = None;
            if state.buffer.capacity() > KEEP {
                state.buffer = Vec::new();
            } else {
                state.buffer.clear();
            }
        }
        let sockets = state.take_sockets();
        drop(state);
        wake_all(sockets);
        Read::Data(data.into())
    }

    /// Becomes ready when a read finds data or the end.
    pub fn poll_readable(&self, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.state.lock();
        if state.ended || state.buffer.len() > state.start {
            return Poll::Ready(());
        }
        remember(&mut state.guest, cx);
        Poll::Pending
    }

    /// Ends the stream at once. Waiting data is dropped, as a cancel would otherwise wait behind it.
    pub fn end(&self) {
        let mut state = self.state.lock();
        state.ended = true;
        state.buffer = Vec::new();
        state.start = 0;
        let (guest, sockets) = (state.guest.take(), state.take_sockets());
        drop(state);
        wake_other(guest, None);
        wake_all(sockets);
    }

    /// Ends the stream after the waiting data.
    pub fn finish(&self) {
        let mut state = self.state.lock();
        state.ended = true;
        let guest = state.guest.take();
        drop(state);
        wake_other(guest, None);
    }

    /// Returns how many bytes the guest has read.
    pub fn total(&self) -> u64 {
        self.state.lock().read_in_all
    }
}

fn wake_all((socket, others): (Option<Waker>, Vec<Waker>)) {
    wake_other(socket, None);
    others.into_iter().for_each(Waker::wake);
}

impl State {
    fn remember_socket(&mut self, cx: &Context<'_>) {
        let known = self.socket.as_ref().is_none_or(|socket| socket.will_wake(cx.waker()));
        if known {
            remember(&mut self.socket, cx);
        } else if !self.others.iter().any(|other| other.will_wake(cx.waker())) {
            self.others.push(cx.waker().clone());
        }
    }

    fn take_sockets(&mut self) -> (Option<Waker>, Vec<Waker>) {
        // `others` is used only while `socket` is taken.
        match self.socket.take() {
            None => (None, Vec::new()),
            socket => (socket, std::mem::take(&mut self.others)),
        }
    }

    /// Makes room for `more` bytes, by doubling, up to `limit` plus `more`.
    fn make_room(&mut self, more: usize, limit: usize) {
        let needed = self.buffer.len() + more;
        let wanted = (self.buffer.capacity() * 2).min(limit.saturating_add(more)).max(needed);
        self.buffer.reserve_exact(wanted - self.buffer.len());
    }
}

#[cfg(test)]
mod tests;
