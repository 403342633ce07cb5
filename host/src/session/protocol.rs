//! The protocol of the websocket as a plain machine: events in, at most one thing to do out.
//!
//! No sockets, no clock, no wasm. Whoever drives it tells what happened and does what it says.

use crate::{
    call::{CancelReason, Refusal},
    size::Size,
    wire::{CallMessage, ClientMessage, ResultMessage, decode},
};
use std::time::Duration;

/// How the websocket is closed after the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseCode {
    Normal = 1000,
    TooBig = 1009,
}

/// What happened.
#[derive(Debug)]
pub enum Event<'a> {
    Text,
    Binary(&'a [u8]),
    /// A frame was larger than `http.max_frame`; nothing can be read any more.
    TooBig(Size),
    /// The client broke the rules of websockets; nothing can be read any more.
    Broken(String),
    /// The client closed the connection, or is not heard of any more.
    Gone,
    /// No call message came in time.
    CallTimeout(Duration),
    /// The call was not started.
    Refused(Refusal),
    /// The process has ended.
    Ended(ResultMessage),
    /// The server drains.
    Shutdown,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing.
    None,
    /// Start this call.
    Start(CallMessage),
    /// Give the text to the process as a line of input.
    Input,
    /// Tell the process to stop; a call that waits for its start is given up.
    Cancel(CancelReason),
    /// End the process without waiting for its grace.
    Force,
    /// Send what is left of the output, this result, and close.
    Finish(ResultMessage, CloseCode),
    /// Let go of the connection; nobody is there to read a result.
    Drop,
}

/// Where a connection stands.
#[derive(Debug, PartialEq, Eq)]
enum State {
    /// No call message yet.
    Waiting,
    /// A call has been named, and has not ended. It may be about to start.
    Running { cancelled: bool },
    /// The result is on its way, or nobody waits for it.
    Over,
}

#[derive(Debug)]
pub struct Protocol {
    state: State,
    gone: bool,
    close: CloseCode,
}

impl Default for Protocol {
    fn default() -> Self {
        Self { state: State::Waiting, gone: false, close: CloseCode::Normal }
    }
}

impl Protocol {
    pub fn on(&mut self, event: Event<'_>) -> Action {
        match event {
            Event::Text => match self.state {
                State::Waiting => self.refuse(Refusal::ProtocolError("text before the call message".into())),
                State::Running { .. } => Action::Input,
                State::Over => Action::None,
            },
            Event::Binary(frame) => self.on_message(decode(frame)),
            Event::TooBig(limit) => {
                self.close = CloseCode::TooBig;
                self.protocol_error(format!("a frame is larger than {limit}"))
            }
            Event::Broken(what) => self.protocol_error(what),
            Event::Gone => {
                self.gone = true;
                match self.state {
                    State::Running { .. } => self.cancel(CancelReason::Disconnected),
                    State::Waiting | State::Over => {
                        self.state = State::Over;
                        Action::Drop
                    }
                }
            }
            Event::CallTimeout(limit) => match self.state {
                State::Waiting => self.refuse(Refusal::NoCall(limit)),
                State::Running { .. } | State::Over => Action::None,
            },
            Event::Refused(refusal) => self.refuse(refusal),
            Event::Ended(result) => self.finish(result),
            Event::Shutdown => match self.state {
                State::Waiting => self.refuse(Refusal::ShuttingDown),
                State::Running { .. } => self.cancel(CancelReason::Shutdown),
                State::Over => Action::None,
            },
        }
    }

    /// Whether nobody is left to read anything.
    pub fn is_gone(&self) -> bool {
        self.gone
    }

    fn on_message(&mut self, message: Result<ClientMessage, String>) -> Action {
        match (&self.state, message) {
            (State::Over, _) => Action::None,
            (State::Waiting, Ok(ClientMessage::Call(call))) => {
                self.state = State::Running { cancelled: false };
                Action::Start(call)
            }
            (State::Waiting, Ok(ClientMessage::Cancel)) => {
                self.protocol_error("a signal before the call message".into())
            }
            (State::Running { .. }, Ok(ClientMessage::Call(_))) => self.protocol_error("a second call message".into()),
            (State::Running { cancelled: true }, Ok(ClientMessage::Cancel)) => Action::Force,
            (State::Running { cancelled: false }, Ok(ClientMessage::Cancel)) => self.cancel(CancelReason::Client),
            (_, Err(what)) => self.protocol_error(what),
        }
    }

    fn protocol_error(&mut self, what: String) -> Action {
        match self.state {
            State::Waiting => self.refuse(Refusal::ProtocolError(what)),
            State::Running { .. } => self.cancel(CancelReason::ProtocolError(what)),
            State::Over => Action::None,
        }
    }

    fn cancel(&mut self, reason: CancelReason) -> Action {
        self.state = State::Running { cancelled: true };
        Action::Cancel(reason)
    }

    fn refuse(&mut self, refusal: Refusal) -> Action {
        self.finish(ResultMessage::from(&refusal))
    }

    fn finish(&mut self, result: ResultMessage) -> Action {
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

    const CALL: Event<'static> = Event::Binary(br#"{"call":"echo","params":[]}"#);
    const CANCEL: Event<'static> = Event::Binary(br#"{"signal":"cancel"}"#);

    fn after(events: impl IntoIterator<Item = Event<'static>>) -> Protocol {
        let mut protocol = Protocol::default();
        for event in events {
            protocol.on(event);
        }
        protocol
    }

    fn failure(message: &str) -> Action {
        Action::Finish(ResultMessage::failure(message), CloseCode::Normal)
    }

    #[test]
    fn a_call_runs_takes_lines_and_ends_with_one_result() {
        let mut protocol = Protocol::default();
        assert!(matches!(protocol.on(CALL), Action::Start(call) if call.call == "echo"));
        assert_eq!(protocol.on(Event::Text), Action::Input);
        assert_eq!(
            protocol.on(Event::Ended(ResultMessage::success())),
            Action::Finish(ResultMessage::success(), CloseCode::Normal)
        );
        for event in [Event::Text, CALL, CANCEL, Event::Shutdown, Event::Ended(ResultMessage::success())] {
            assert_eq!(protocol.on(event), Action::None);
        }
    }

    #[test]
    fn no_call_in_time_fails() {
        let timeout = || Event::CallTimeout(Duration::from_secs(5));
        assert_eq!(Protocol::default().on(timeout()), failure("no call message within 5s"));
        assert_eq!(after([CALL]).on(timeout()), Action::None);
    }

    #[test]
    fn what_comes_before_the_call_is_a_protocol_error() {
        let first = |event| Protocol::default().on(event);
        assert_eq!(first(Event::Text), failure("protocol error: text before the call message"));
        assert_eq!(
            first(Event::Binary(b"{}")),
            failure("protocol error: a binary frame is neither a call message nor a signal message")
        );
        assert_eq!(first(CANCEL), failure("protocol error: a signal before the call message"));
    }

    #[test]
    fn later_errors_cancel_the_process_and_are_its_result() {
        for (event, said) in [
            (CALL, "a second call message"),
            (Event::Binary(br#"{"signal":"hup"}"#), "unknown signal \"hup\""),
            (Event::Broken("bad masking".into()), "bad masking"),
        ] {
            assert_eq!(after([CALL]).on(event), Action::Cancel(CancelReason::ProtocolError(said.into())));
        }
    }

    #[test]
    fn a_second_cancel_forces_and_a_third_does_no_harm() {
        let mut protocol = after([CALL]);
        assert_eq!(protocol.on(CANCEL), Action::Cancel(CancelReason::Client));
        assert_eq!(protocol.on(CANCEL), Action::Force);
        assert_eq!(protocol.on(CANCEL), Action::Force);
        assert_eq!(protocol.on(Event::Ended(ResultMessage::failure("x"))), failure("x"));
        assert_eq!(protocol.on(CANCEL), Action::None);
    }

    #[test]
    fn text_after_a_cancel_is_no_error() {
        assert_eq!(after([CALL, CANCEL]).on(Event::Text), Action::Input);
    }

    #[test]
    fn a_frame_too_big_ends_with_1009_after_the_result() {
        let too_big = || Event::TooBig(Size::mib(1));
        assert_eq!(
            Protocol::default().on(too_big()),
            Action::Finish(ResultMessage::failure("protocol error: a frame is larger than 1MiB"), CloseCode::TooBig)
        );
        let mut protocol = after([CALL]);
        assert!(matches!(protocol.on(too_big()), Action::Cancel(CancelReason::ProtocolError(_))));
        assert!(matches!(protocol.on(Event::Ended(ResultMessage::failure("x"))), Action::Finish(_, CloseCode::TooBig)));
    }

    #[test]
    fn nobody_gets_a_result_who_is_gone() {
        assert_eq!(Protocol::default().on(Event::Gone), Action::Drop);
        let mut protocol = after([CALL]);
        assert_eq!(protocol.on(Event::Gone), Action::Cancel(CancelReason::Disconnected));
        assert_eq!(protocol.on(Event::Ended(ResultMessage::success())), Action::Drop);
        assert_eq!(after([CALL, Event::Ended(ResultMessage::success())]).on(Event::Gone), Action::Drop);
    }

    #[test]
    fn a_drain_tells_who_runs_and_refuses_who_waits() {
        assert_eq!(Protocol::default().on(Event::Shutdown), failure("the server is shutting down"));
        assert_eq!(after([CALL]).on(Event::Shutdown), Action::Cancel(CancelReason::Shutdown));
    }
}
