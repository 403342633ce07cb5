//! The protocols of the websocket, and that of a call over plain HTTP, as pure state machines: each event results in at most one action.
//!
//! No sockets, no clock, no wasm. The session reports events and performs the actions. Each protocol has a file that
//! knows what its frames mean; this file has the parts that all protocols share.

pub mod distillery1;
pub mod exchange;
pub mod lines;
pub mod pow1;

use super::framing::Framing;
use crate::wire::{
    Frame,
    distillery1::{Attach, Listed},
};
use bytes::Bytes;
use distillery_core::{
    call::{CancelReason, OnDisconnect, Outcome, Refusal},
    size::Size,
    stream::Stream,
};
use distillery_process::dispatch::Request;
use distillery1::Distillery1;
use exchange::Exchange;
use lines::Seed;
use pow1::Pow1;
use std::{ops::Range, time::Duration};
use uuid::Uuid;

/// The close code of the websocket after the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseCode {
    Normal = 1000,
    /// A frame violated the websocket protocol.
    Protocol = 1002,
    /// Text was not valid UTF-8.
    InvalidText = 1007,
    TooBig = 1009,
}

/// An event of a connection.
#[derive(Debug)]
pub enum Event<'a> {
    /// The connection is open.
    Opened,
    Text(&'a str),
    Binary(&'a [u8]),
    /// The body of a request is complete.
    Complete,
    /// A frame was larger than `http.max_frame`; no more frames can be read.
    TooBig(Size),
    /// The client violated the websocket protocol. No more frames can be read, and the connection is closed with this
    /// code.
    Broken(String, CloseCode),
    /// The client closed the connection, or the connection was lost.
    Gone,
    /// The client is silent. The connection is still open.
    Silent,
    /// No call message arrived in time.
    CallTimeout(Duration),
    /// The call waits at this position in the queue.
    Queued(usize),
    /// The call has become a process.
    Started(&'a Started<'a>),
    /// The requested process exists.
    Attached(&'a Attached<'a>),
    /// The processes that the caller is allowed to see.
    Listed(&'a [Listed]),
    /// The resources that the process has used so far.
    Beat(&'a Beat),
    /// The process has read all of its input, and waits for more.
    Waiting,
    /// The process was cancelled.
    Cancelling(&'a CancelReason),
    /// These bytes of its output are no longer kept.
    Lost(Stream, Range<u64>),
    /// The call was not started.
    Refused(Refusal),
    /// The process has ended, with a value if it set one.
    Ended(&'a Outcome, Option<&'a str>),
    /// The server drains.
    Shutdown,
}

/// A process that was started for the client.
#[derive(Clone, Copy, Debug)]
pub struct Started<'a> {
    pub id: Uuid,
    pub call: &'a str,
    pub generation: u64,
    /// The process outlives the connection.
    pub detached: bool,
    /// Access key; present if the process has no owner.
    pub key: Option<&'a str>,
}

/// A process that the client attached to.
#[derive(Clone, Debug)]
pub struct Attached<'a> {
    pub id: Uuid,
    pub call: &'a str,
    pub params: &'a [Option<String>],
    pub generation: u64,
    pub started: String,
    pub running: bool,
    pub stdout: Range<u64>,
    pub stderr: Range<u64>,
}

#[derive(Clone, Copy, Debug)]
pub struct Beat {
    pub elapsed: Duration,
    pub cpu: Duration,
    pub memory: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
}

/// An action for the session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Do nothing.
    None,
    /// Start this call.
    Start(Box<Start>),
    /// Attach to this process.
    Attach(Box<Attach>),
    /// List the processes that the caller is allowed to see.
    List,
    /// Pass the text to the process as a line of input.
    Line,
    /// Pass the frame to the process unchanged.
    Bytes,
    /// End the input of the process.
    EndInput,
    /// Cancel the process, or a call that waits for its start.
    Cancel(CancelReason),
    /// Force the end of the process without its grace.
    Force,
    /// Send this before more of the output.
    Send(Frame),
    /// Send the rest of the output and this result, then close.
    Finish(Frame, CloseCode),
    /// Detach from the process, send this and close.
    Leave(Frame),
    /// End the input of the process, then detach from it, send this and close.
    HandOver(Frame),
    /// Drop the connection; there is no client to read a result.
    Drop,
}

/// A call, and its settings from before it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    pub call: Request,
    /// `None` if the manifest decides.
    pub on_disconnect: Option<OnDisconnect>,
    /// Input that arrived before the call.
    pub input: Vec<u8>,
}

/// The subprotocol name of `distillery-1`.
const DISTILLERY_1: &str = "distillery-1";
/// The subprotocol name of `pow-1`.
pub const POW_1: &str = "pow-1";

/// One of the protocols.
#[derive(Debug)]
pub enum Protocol {
    Seed(Seed),
    Distillery1(Distillery1),
    Pow1(Pow1),
    Exchange(Box<Exchange>),
}

impl Default for Protocol {
    fn default() -> Self {
        Self::Seed(Seed::default())
    }
}

impl Protocol {
    /// Returns the first offered protocol that the server supports, with its name. A client that offers none gets the
    /// protocol without a name. At most `early` bytes can arrive before a call.
    pub fn choose<'a>(offered: impl IntoIterator<Item = &'a str>, early: Size) -> (Option<&'static str>, Self) {
        let spoken = |name: &str| match name {
            DISTILLERY_1 => Some((Some(DISTILLERY_1), Self::Distillery1(Distillery1::default()))),
            POW_1 => Some((Some(POW_1), Self::Pow1(Pow1::new(early)))),
            _ => None,
        };
        offered.into_iter().find_map(spoken).unwrap_or((None, Self::default()))
    }

    pub fn on(&mut self, event: Event<'_>) -> Action {
        match self {
            Self::Seed(machine) => machine.on(event),
            Self::Distillery1(machine) => machine.on(event),
            Self::Pow1(machine) => machine.on(event),
            Self::Exchange(machine) => machine.on(event),
        }
    }

    /// Returns how output becomes frames.
    pub fn framing(&self) -> Framing {
        match self {
            Self::Seed(_) => Framing::Lines,
            Self::Distillery1(_) => Framing::Data,
            Self::Pow1(_) => Framing::Text { held: [Bytes::new(), Bytes::new()] },
            Self::Exchange(machine) => Framing::Answer { form: machine.form(), held: Default::default() },
        }
    }

    /// Returns whether the client gets notifications about its process, and not only the result.
    pub fn tells(&self) -> bool {
        match self {
            Self::Distillery1(_) => true,
            Self::Exchange(machine) => machine.form().has_messages(),
            Self::Seed(_) | Self::Pow1(_) => false,
        }
    }

    /// Returns whether the client is told each time that the process waits for input.
    pub fn tells_waits(&self) -> bool {
        matches!(self, Self::Exchange(machine) if machine.tells_waits())
    }

    /// Returns whether the client learns which process it talks to.
    pub fn names_process(&self) -> bool {
        matches!(self, Self::Distillery1(_) | Self::Exchange(_))
    }

    /// Returns whether the client was refused because of an invalid message.
    pub fn is_at_fault(&self) -> bool {
        self.talk().at_fault
    }

    fn talk(&self) -> &Talk {
        match self {
            Self::Seed(machine) => &machine.talk,
            Self::Distillery1(machine) => &machine.talk,
            Self::Pow1(machine) => &machine.talk,
            Self::Exchange(machine) => &machine.talk,
        }
    }
}

/// The state of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// No call message yet.
    Waiting,
    /// A call or an attach was requested, and has not ended. It may not have started yet.
    Running {
        cancelled: bool,
        /// The process outlives the connection.
        detached: bool,
    },
    /// The result is being sent, or there is no client to send it to.
    Over,
}

/// The part that all protocols share: one call begins, and ends once.
#[derive(Debug)]
struct Talk {
    state: State,
    gone: bool,
    /// The connection is only attached to a process of another connection.
    follows: bool,
    /// The client was refused because of an invalid message.
    at_fault: bool,
    close: CloseCode,
    refused: fn(&Refusal) -> Frame,
}

impl Talk {
    fn new(refused: fn(&Refusal) -> Frame) -> Self {
        Self { state: State::Waiting, gone: false, follows: false, at_fault: false, close: CloseCode::Normal, refused }
    }

    fn start(&mut self, start: Start) -> Action {
        self.state = State::Running { cancelled: false, detached: false };
        Action::Start(Box::new(start))
    }

    fn attach(&mut self, attach: Attach) -> Action {
        self.state = State::Running { cancelled: false, detached: true };
        self.follows = true;
        Action::Attach(Box::new(attach))
    }

    /// Handles an event in the way that all protocols share.
    fn on(&mut self, event: Event<'_>) -> Action {
        match (event, self.state) {
            (Event::TooBig(limit), _) => self.unreadable(CloseCode::TooBig, format!("a frame is larger than {limit}")),
            (Event::Broken(what, code), _) => self.unreadable(code, what),
            (Event::Silent, State::Running { detached: false, .. }) => self.cancel(CancelReason::Disconnected),
            (Event::Silent, _) => self.refuse(Refusal::Cancelled(CancelReason::Disconnected)),
            (Event::Gone, State::Running { detached: false, .. }) => {
                self.gone = true;
                self.cancel(CancelReason::Disconnected)
            }
            (Event::Gone, _) => {
                self.gone = true;
                self.state = State::Over;
                Action::Drop
            }
            (Event::Started(started), _) => {
                if let State::Running { detached, .. } = &mut self.state {
                    *detached = started.detached;
                }
                Action::None
            }
            (Event::CallTimeout(limit), State::Waiting) => self.refuse(Refusal::NoCall(limit)),
            (Event::Refused(refusal), _) => self.refuse(refusal),
            (Event::Shutdown, State::Waiting) => self.refuse(Refusal::ShuttingDown),
            // The task that drives a detached process cancels it.
            (Event::Shutdown, State::Running { detached: false, .. }) => self.cancel(CancelReason::Shutdown),
            _ => Action::None,
        }
    }

    /// Handles a cancel by the client: the first one cancels the process, the second one forces its end.
    fn ask_to_cancel(&mut self) -> Action {
        match self.state {
            State::Running { cancelled: true, .. } => Action::Force,
            State::Running { cancelled: false, .. } => self.cancel(CancelReason::Client),
            State::Waiting => self.signal_before_call(),
            State::Over => Action::None,
        }
    }

    fn signal_before_call(&mut self) -> Action {
        self.protocol_error("a signal before the call message".into())
    }

    /// Handles unreadable frames. The connection is closed with the code of the first reason.
    fn unreadable(&mut self, code: CloseCode, what: String) -> Action {
        if self.close == CloseCode::Normal {
            self.close = code;
        }
        self.protocol_error(what)
    }

    fn protocol_error(&mut self, what: String) -> Action {
        match self.state {
            State::Running { .. } if !self.follows => self.cancel(CancelReason::ProtocolError(what)),
            State::Over => Action::None,
            // An attached client's protocol error must not cancel the process.
            State::Waiting | State::Running { .. } => {
                self.at_fault = true;
                self.refuse(Refusal::ProtocolError(what))
            }
        }
    }

    fn cancel(&mut self, reason: CancelReason) -> Action {
        if let State::Running { cancelled, .. } = &mut self.state {
            *cancelled = true;
        }
        Action::Cancel(reason)
    }

    fn refuse(&mut self, refusal: Refusal) -> Action {
        self.finish((self.refused)(&refusal))
    }

    fn finish(&mut self, result: Frame) -> Action {
        if self.state == State::Over {
            return Action::None;
        }
        self.state = State::Over;
        if self.gone { Action::Drop } else { Action::Finish(result, self.close) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_supported_protocol_is_chosen() {
        for (offered, chosen) in [
            (&[][..], None),
            (&["chat"], None),
            (&["distillery-1"], Some("distillery-1")),
            (&["chat", "distillery-1"], Some("distillery-1")),
            (&["pow-1", "distillery-1"], Some("pow-1")),
            (&["Distillery-1"], None),
        ] {
            assert_eq!(Protocol::choose(offered.iter().copied(), Size::mib(1)).0, chosen, "{offered:?}");
        }
    }
}
