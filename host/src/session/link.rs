//! The connection to the client: whether it is open, whether the client is heard of, and its orderly end.

use super::Timing;
use crate::socket::Socket;
use std::{
    task::{Context, Poll},
    time::{Duration, Instant},
};

/// How long a connection that is being closed waits for a client that does nothing.
const LINGER: Duration = Duration::from_secs(2);
/// How long it waits in all, for a client that still sends or takes something.
const LONGEST_LINGER: Duration = Duration::from_secs(30);

/// Interval of the looks at a client that is held back.
const LOOK_AT_HELD_BACK: Duration = Duration::from_secs(1);

pub(super) struct Link {
    pub socket: Socket,
    state: State,
    /// When the client was last heard of.
    heard: Instant,
    /// How many bytes had come from it at the last ping.
    received: u64,
    /// The server reads what the client sends. A client is silent only while it does.
    listening: bool,
    /// When a client that is held back is looked at next: its end would wait behind what it has sent.
    next_look: Option<Instant>,
    next_ping: Instant,
    blocked: Option<Blocked>,
}

enum State {
    Open,
    /// What the client sent is invalid: nothing more is read from it, but it still gets its result.
    Invalid,
    /// A close frame has come, or is on its way.
    Closing(Closing),
    Closed,
}

struct Closing {
    since: Instant,
    /// When bytes last went over the connection, and how many had gone by then.
    moved: Instant,
    bytes: u64,
}

impl Closing {
    /// When the client is waited for no longer. An ending server does not wait for one that is busy.
    fn until(&self, draining: bool) -> Instant {
        let longest = self.since + if draining { LINGER } else { LONGEST_LINGER };
        longest.min(self.moved + LINGER)
    }
}

/// The client does not take what it is sent.
struct Blocked {
    since: Instant,
    /// How many bytes it had taken by then.
    written: u64,
}

/// What the clock says of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// It is not heard of any more.
    Silent,
    /// It takes nothing any more, or its connection is broken.
    Lost,
}

impl Link {
    pub fn new(socket: Socket, now: Instant, timing: &Timing) -> Self {
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

    /// Whether frames of the client can be read.
    pub fn is_readable(&self) -> bool {
        matches!(self.state, State::Open)
    }

    /// Whether frames can be sent.
    pub fn is_writable(&self) -> bool {
        matches!(self.state, State::Open | State::Invalid)
    }

    pub fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    /// Whether the client does not take what it is sent.
    pub fn is_blocked(&self) -> bool {
        self.blocked.is_some()
    }

    /// The server reads what comes, or lets it wait.
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

    /// Nothing more can be read.
    pub fn invalidate(&mut self) {
        self.state = State::Invalid;
    }

    /// A close frame has come, or is about to leave.
    pub fn begin_close(&mut self, now: Instant) {
        self.blocked = None;
        self.state = State::Closing(Closing { since: now, moved: now, bytes: self.moved() });
    }

    pub fn lose(&mut self) {
        self.blocked = None;
        self.state = State::Closed;
    }

    /// Goes on with the end of the connection, if that has begun. Says whether it is reached.
    pub fn close(&mut self, cx: &mut Context<'_>) -> bool {
        let closed = matches!(self.state, State::Closing(_)) && self.socket.poll_close(cx).is_ready();
        if closed {
            self.state = State::Closed;
        }
        closed
    }

    /// Notes whether the client has taken everything.
    pub fn note_flush<T>(&mut self, flushed: &Poll<T>, now: Instant) {
        if flushed.is_ready() {
            self.blocked = None;
        } else if self.blocked.is_none() {
            self.blocked = Some(Blocked { since: now, written: self.socket.written() });
        }
    }

    /// When the clock is to be looked at.
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

    /// Pings the client when it is time, and says what is wrong with it.
    pub fn look_at_clock(&mut self, now: Instant, timing: &Timing, draining: bool) -> Option<Trouble> {
        let moved = self.moved();
        if let State::Closing(closing) = &mut self.state {
            if closing.bytes != moved {
                (closing.bytes, closing.moved) = (moved, now);
            } else if now >= closing.until(draining) {
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
        // A part of a frame is a sign of life as well.
        let received = self.socket.received();
        if std::mem::replace(&mut self.received, received) != received {
            self.heard = self.heard.max(last_ping);
        }
        if self.socket.send_ping().is_err() {
            return Some(Trouble::Lost);
        }
        let silent = self.listening && now >= self.heard + timing.silence_timeout;
        silent.then_some(Trouble::Silent)
    }

    /// How many bytes went over the connection, in both directions.
    fn moved(&self) -> u64 {
        self.socket.received() + self.socket.written()
    }
}
