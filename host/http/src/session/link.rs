//! The connection to the client: its state, its signs of life, and its orderly end.

use super::{Timing, transport::Transport};
use std::{
    task::{Context, Poll},
    time::{Duration, Instant},
};

/// Maximum time without progress while a connection is being closed.
const LINGER: Duration = Duration::from_secs(2);
/// Maximum time in all for closing a connection that still makes progress.
const LONGEST_LINGER: Duration = Duration::from_secs(30);

/// Interval of the looks at a client that is held back.
const LOOK_AT_HELD_BACK: Duration = Duration::from_secs(1);

pub(super) struct Link {
    pub socket: Transport,
    state: State,
    /// The last sign of life of the client.
    heard: Instant,
    /// Bytes received from it before the last ping.
    received: u64,
    /// The server reads what the client sends. Silence counts only while it does.
    listening: bool,
    /// When a client that is held back is looked at next: its end would wait behind what it has sent.
    next_look: Option<Instant>,
    next_ping: Instant,
    blocked: Option<Blocked>,
}

enum State {
    Open,
    /// The client sent invalid frames: the server reads no more of them, but still sends the result.
    Invalid,
    /// A close frame was received or is being sent.
    Closing(Closing),
    Closed,
}

struct Closing {
    since: Instant,
    /// The last time that bytes went over the connection, and their number by then.
    moved: Instant,
    bytes: u64,
}

impl Closing {
    /// Returns when the wait for the client ends. A server that shuts down does not wait for a client that still makes
    /// progress.
    fn until(&self, draining: bool) -> Instant {
        let longest = self.since + if draining { LINGER } else { LONGEST_LINGER };
        longest.min(self.moved + LINGER)
    }

    /// Notes how many bytes have gone over the connection, and returns whether the wait is over. A client that never
    /// stops sending makes progress, but not for ever.
    fn is_over(&mut self, bytes: u64, now: Instant, draining: bool) -> bool {
        if self.bytes != bytes {
            (self.bytes, self.moved) = (bytes, now);
        }
        now >= self.until(draining)
    }
}

/// The client does not read what the server sends.
struct Blocked {
    since: Instant,
    /// Bytes that it had accepted by then.
    written: u64,
}

/// A problem of the client that the clock reveals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The client is silent.
    Silent,
    /// The client accepts no more bytes, or its connection is broken.
    Lost,
}

impl Link {
    pub fn new(socket: Transport, now: Instant, timing: &Timing) -> Self {
        Self {
            socket,
            state: State::Open,
            heard: now,
            received: 0,
            listening: true,
            next_look: None,
            next_ping: now + timing.ping_interval,
            blocked: None,
        }
    }

    /// Returns whether frames of the client can be read.
    pub fn is_readable(&self) -> bool {
        matches!(self.state, State::Open)
    }

    /// Returns whether frames can be sent.
    pub fn is_writable(&self) -> bool {
        matches!(self.state, State::Open | State::Invalid)
    }

    pub fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    /// Returns whether the client does not read what the server sends.
    pub fn is_blocked(&self) -> bool {
        self.blocked.is_some()
    }

    /// Notes whether the server reads what arrives, or lets it wait.
    pub fn listen(&mut self, listening: bool, now: Instant) {
        if listening && !self.listening {
            self.heard = now;
        }
        self.listening = listening;
        self.next_look = if listening { None } else { self.next_look.or(Some(now + LOOK_AT_HELD_BACK)) };
    }

    /// Tells whether the client that is held back has gone, when it is time to look.
    pub fn has_hung_up(&mut self, now: Instant, cx: &mut Context<'_>) -> bool {
        if !self.is_readable() || self.next_look.is_none_or(|look| now < look) {
            return false;
        }
        self.next_look = Some(now + LOOK_AT_HELD_BACK);
        self.socket.has_hung_up(cx)
    }

    pub fn note_heard(&mut self, now: Instant) {
        self.heard = now;
    }

    /// Marks the connection as unreadable.
    pub fn invalidate(&mut self) {
        self.state = State::Invalid;
    }

    /// Begins the close: a close frame was received, or is about to be sent.
    pub fn begin_close(&mut self, now: Instant) {
        self.blocked = None;
        self.state = State::Closing(Closing { since: now, moved: now, bytes: self.moved() });
    }

    pub fn lose(&mut self) {
        self.blocked = None;
        self.state = State::Closed;
    }

    /// Continues the close, if it has begun. Returns whether the connection is closed.
    pub fn close(&mut self, cx: &mut Context<'_>) -> bool {
        let closed = matches!(self.state, State::Closing(_)) && self.socket.poll_close(cx).is_ready();
        if closed {
            self.state = State::Closed;
        }
        closed
    }

    /// Notes whether the client has accepted everything.
    pub fn note_flush<T>(&mut self, flushed: &Poll<T>, now: Instant) {
        if flushed.is_ready() {
            self.blocked = None;
        } else if self.blocked.is_none() {
            self.blocked = Some(Blocked { since: now, written: self.socket.written() });
        }
    }

    /// Returns when to check the clock again.
    pub fn due(&self, timing: &Timing, draining: bool) -> Option<Instant> {
        match &self.state {
            State::Open => {
                let blocked = self.blocked.as_ref().map(|blocked| blocked.since + timing.write_timeout);
                [blocked, self.next_look, Some(self.next_ping)].into_iter().flatten().min()
            }
            State::Invalid => self.blocked.as_ref().map(|blocked| blocked.since + timing.write_timeout),
            State::Closing(closing) => Some(closing.until(draining)),
            State::Closed => None,
        }
    }

    /// Pings the client when a ping is due, and returns a problem of the client, if any.
    pub fn look_at_clock(&mut self, now: Instant, timing: &Timing, draining: bool) -> Option<Trouble> {
        let moved = self.moved();
        if let State::Closing(closing) = &mut self.state {
            if closing.is_over(moved, now, draining) {
                self.state = State::Closed;
            }
            return None;
        }
        if let Some(blocked) = &mut self.blocked {
            let written = self.socket.written();
            if written != blocked.written {
                *blocked = Blocked { since: now, written };
                self.heard = now;
            } else if now >= blocked.since + timing.write_timeout {
                return Some(Trouble::Lost);
            }
        }
        if self.is_readable() && now >= self.next_ping { self.ping(now, timing) } else { None }
    }

    fn ping(&mut self, now: Instant, timing: &Timing) -> Option<Trouble> {
        let last_ping = self.next_ping - timing.ping_interval;
        self.next_ping = now + timing.ping_interval;
        // A partial frame is a sign of life as well.
        let received = self.socket.received();
        if std::mem::replace(&mut self.received, received) != received {
            self.heard = self.heard.max(last_ping);
        }
        if self.socket.send_ping().is_err() {
            return Some(Trouble::Lost);
        }
        let silent = self.socket.is_pinged() && self.listening && now >= self.heard + timing.silence_timeout;
        silent.then_some(Trouble::Silent)
    }

    /// Returns how many bytes went over the connection, in both directions.
    fn moved(&self) -> u64 {
        self.socket.received() + self.socket.written()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends a byte every 100 ms after the close has begun, and returns how long the server waits.
    fn waits_for_a_client_that_sends(draining: bool) -> Duration {
        let since = Instant::now();
        let mut closing = Closing { since, moved: since, bytes: 0 };
        let step = |number: u64| since + Duration::from_millis(100) * u32::try_from(number).expect("a small number");
        let last = (1..1_000).find(|&number| closing.is_over(number, step(number), draining)).expect("an end");
        step(last) - since
    }

    #[test]
    fn client_that_never_stops_sending_is_left() {
        assert_eq!(waits_for_a_client_that_sends(false), LONGEST_LINGER);
        assert_eq!(waits_for_a_client_that_sends(true), LINGER);
    }

    #[test]
    fn silent_client_is_left_before() {
        let since = Instant::now();
        let mut closing = Closing { since, moved: since, bytes: 0 };
        assert!(!closing.is_over(1, since + LINGER, false), "it has sent a byte");
        assert!(!closing.is_over(1, since + 2 * LINGER - Duration::from_millis(1), false));
        assert!(closing.is_over(1, since + 2 * LINGER, false));
    }
}
