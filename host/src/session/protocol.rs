//! The protocols of the websocket as plain machines: events in, at most one thing to do out.
//!
//! No sockets, no clock, no wasm. Whoever drives one tells what happened and does what it says. There is a file for each
//! protocol, which knows what its frames mean; what is the same for all of them is here.

pub mod distillery1;
pub mod pow1;
pub mod seed;

use super::framing::Framing;
use crate::{
    call::{CancelReason, OnDisconnect, Outcome, Refusal},
    size::Size,
    stream::Stream,
    wire::{
        CallMessage, Frame,
        distillery1::{Attach, Listed},
    },
};
use bytes::Bytes;
use distillery1::Distillery1;
use pow1::Pow1;
use seed::Seed;
use std::{ops::Range, time::Duration};
use uuid::Uuid;

/// How the websocket is closed after the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseCode {
    Normal = 1000,
    /// A frame broke the rules of websockets.
    Protocol = 1002,
    /// Text was not UTF-8.
    InvalidText = 1007,
    TooBig = 1009,
}

/// What happened.
#[derive(Debug)]
pub enum Event<'a> {
    Text(&'a str),
    Binary(&'a [u8]),
    /// A frame was larger than `http.max_frame`; nothing can be read any more.
    TooBig(Size),
    /// The client broke the rules of websockets, and the connection is closed with this code; nothing can be read any more.
    Broken(String, CloseCode),
    /// The client closed the connection, or the connection was lost.
    Gone,
    /// The client is not heard of any more. The connection is still open.
    Silent,
    /// No call message came in time.
    CallTimeout(Duration),
    /// The call waits at this place in the queue.
    Queued(usize),
    /// The call has become a process.
    Started(&'a Started<'a>),
    /// The process that was asked for is there.
    Attached(&'a Attached<'a>),
    /// These are the processes that the caller may see.
    Listed(&'a [Listed]),
    /// What the process used up so far.
    Beat(&'a Beat),
    /// The process was told to stop.
    Cancelling(&'a CancelReason),
    /// These bytes of its output are not kept any more.
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
    /// It outlives the connection.
    pub kept: bool,
    /// What opens it, where it is nobody's.
    pub key: Option<&'a str>,
}

/// A process that others may have started.
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

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing.
    None,
    /// Start this call.
    Start(Box<Start>),
    /// Follow this process.
    Attach(Box<Attach>),
    /// Say which processes the caller may see.
    List,
    /// Give the text to the process as a line of input.
    Line,
    /// Give the frame to the process as it is.
    Bytes,
    /// Nothing more comes for the process to read.
    EndInput,
    /// Tell the process to stop; a call that waits for its start is given up.
    Cancel(CancelReason),
    /// End the process without waiting for its grace.
    Force,
    /// Send this before more of the output.
    Send(Frame),
    /// Send what is left of the output, this result, and close.
    Finish(Frame, CloseCode),
    /// Let go of the process, send this and close.
    Leave(Frame),
    /// Let go of the connection; nobody is there to read a result.
    Drop,
}

/// A call, and what is known of it before it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    pub call: CallMessage,
    /// If nothing is said, what the manifest says.
    pub on_disconnect: Option<OnDisconnect>,
    /// What has come for it to read.
    pub input: Vec<u8>,
}

/// The name under which `distillery-1` is offered.
const DISTILLERY_1: &str = "distillery-1";
/// The same of `pow-1`.
pub const POW_1: &str = "pow-1";

/// One of the protocols.
#[derive(Debug)]
pub enum Protocol {
    Seed(Seed),
    Distillery1(Distillery1),
    Pow1(Pow1),
}

impl Default for Protocol {
    fn default() -> Self {
        Self::Seed(Seed::default())
    }
}

impl Protocol {
    /// The first of those that a client offers that is spoken here, with its name. Who offers none speaks the one that
    /// has no name. At most `early` bytes may come before a call.
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
        }
    }

    /// How output is put into frames.
    pub fn framing(&self) -> Framing {
        match self {
            Self::Seed(_) => Framing::Lines,
            Self::Distillery1(_) => Framing::Data,
            Self::Pow1(_) => Framing::Text { held: [Bytes::new(), Bytes::new()] },
        }
    }

    /// Whether the client is told how its process fares, and not only how it ends.
    pub fn tells(&self) -> bool {
        matches!(self, Self::Distillery1(_))
    }

    /// Whether the client was refused for what it sent.
    pub fn is_at_fault(&self) -> bool {
        self.talk().at_fault
    }

    fn talk(&self) -> &Talk {
        match self {
            Self::Seed(machine) => &machine.talk,
            Self::Distillery1(machine) => &machine.talk,
            Self::Pow1(machine) => &machine.talk,
        }
    }
}

/// Where a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// No call message yet.
    Waiting,
    /// A call has been named, and has not ended. It may be about to start.
    Running {
        cancelled: bool,
        /// It outlives the connection.
        kept: bool,
    },
    /// The result is on its way, or nobody waits for it.
    Over,
}

/// What is the same in every protocol: what begins, and that it ends once.
#[derive(Debug)]
struct Talk {
    state: State,
    gone: bool,
    /// It only follows what another connection has started.
    follows: bool,
    /// It was refused for what it sent.
    at_fault: bool,
    close: CloseCode,
    refused: fn(&Refusal) -> Frame,
}

impl Talk {
    fn new(refused: fn(&Refusal) -> Frame) -> Self {
        Self { state: State::Waiting, gone: false, follows: false, at_fault: false, close: CloseCode::Normal, refused }
    }

    fn start(&mut self, start: Start) -> Action {
        self.state = State::Running { cancelled: false, kept: false };
        Action::Start(Box::new(start))
    }

    fn attach(&mut self, attach: Attach) -> Action {
        self.state = State::Running { cancelled: false, kept: true };
        self.follows = true;
        Action::Attach(Box::new(attach))
    }

    /// What every protocol answers alike.
    fn on(&mut self, event: Event<'_>) -> Action {
        match (event, self.state) {
            (Event::TooBig(limit), _) => self.unreadable(CloseCode::TooBig, format!("a frame is larger than {limit}")),
            (Event::Broken(what, code), _) => self.unreadable(code, what),
            (Event::Silent, State::Running { kept: false, .. }) => self.cancel(CancelReason::Disconnected),
            (Event::Silent, _) => self.refuse(Refusal::Cancelled(CancelReason::Disconnected)),
            (Event::Gone, State::Running { kept: false, .. }) => {
                self.gone = true;
                self.cancel(CancelReason::Disconnected)
            }
            (Event::Gone, _) => {
                self.gone = true;
                self.state = State::Over;
                Action::Drop
            }
            (Event::Started(started), _) => {
                if let State::Running { kept, .. } = &mut self.state {
                    *kept = started.kept;
                }
                Action::None
            }
            (Event::CallTimeout(limit), State::Waiting) => self.refuse(Refusal::NoCall(limit)),
            (Event::Refused(refusal), _) => self.refuse(refusal),
            (Event::Shutdown, State::Waiting) => self.refuse(Refusal::ShuttingDown),
            // Whoever keeps a process tells it.
            (Event::Shutdown, State::Running { kept: false, .. }) => self.cancel(CancelReason::Shutdown),
            _ => Action::None,
        }
    }

    /// The client asks for the end of its process: once to tell it, and again to force it.
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

    /// Nothing more can be read, and the connection is closed with the code of the first reason.
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
            // The process is not to blame for the mistakes of who looks at it.
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
    fn the_first_protocol_that_is_offered_and_spoken_is_chosen() {
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
