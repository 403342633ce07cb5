//! `pow-1`: text frames are bytes, and binary frames are calls, signals and results.

use super::{Action, Event, Start, State, Talk};
use crate::wire::{
    Frame,
    pow1::{ClientMessage, decode, refused, result},
};
use distillery_core::{
    call::{CancelReason, Refusal},
    size::Size,
};

#[derive(Debug)]
pub struct Pow1 {
    pub(super) talk: Talk,
    /// Text that came before the call.
    early: Vec<u8>,
    /// Maximum size of this text.
    limit: Size,
}

impl Pow1 {
    pub fn new(limit: Size) -> Self {
        Self { talk: Talk::new(refused), early: Vec::new(), limit }
    }

    pub fn on(&mut self, event: Event<'_>) -> Action {
        match event {
            Event::Text(text) => match self.talk.state {
                State::Waiting if self.early.len() + text.len() > self.limit.as_usize() => {
                    self.early = Vec::new();
                    self.talk.refuse(Refusal::Cancelled(CancelReason::InputLimit(self.limit)))
                }
                State::Waiting => {
                    self.early.extend_from_slice(text.as_bytes());
                    Action::None
                }
                State::Running { .. } => Action::Bytes,
                State::Over => Action::None,
            },
            Event::Binary(frame) => self.on_message(decode(frame)),
            Event::Ended(outcome, value) => self.talk.finish(Frame::Binary(result(outcome, value).into())),
            event => self.talk.on(event),
        }
    }

    fn on_message(&mut self, message: Result<ClientMessage, String>) -> Action {
        match (self.talk.state, message) {
            (State::Over, _) => Action::None,
            (State::Waiting, Ok(ClientMessage::Call(call))) => {
                let input = std::mem::take(&mut self.early);
                self.talk.start(Start { call: call.into_message().into(), on_disconnect: None, input })
            }
            (State::Running { .. }, Ok(ClientMessage::Call(_))) => {
                self.talk.protocol_error("a second call message".into())
            }
            (State::Running { .. }, Ok(ClientMessage::Close)) => Action::EndInput,
            (State::Waiting, Ok(ClientMessage::Close)) => self.talk.signal_before_call(),
            (_, Ok(ClientMessage::Cancel)) => self.talk.ask_to_cancel(),
            (_, Err(what)) => self.talk.protocol_error(what),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::protocol::CloseCode;
    use distillery_core::call::Outcome;
    use serde_json::{Value, json};
    use std::time::Duration;

    const CALL: Event<'static> = Event::Binary(br#"{"call":"echo","params":null,"more":1}"#);
    const CLOSE: Event<'static> = Event::Binary(br#"{"signal":"close"}"#);
    const CANCEL: Event<'static> = Event::Binary(br#"{"signal":"cancel"}"#);
    const TEXT: Event<'static> = Event::Text("ab\n");
    const SUCCESS: Event<'static> = Event::Ended(&Outcome::Exited { status: 0, last_words: None }, Some("[1]"));

    fn fresh() -> Pow1 {
        Pow1::new(Size::bytes(6))
    }

    fn after<const N: usize>(events: [Event<'static>; N]) -> Pow1 {
        let mut protocol = fresh();
        for event in events {
            protocol.on(event);
        }
        protocol
    }

    fn end(action: Action) -> Value {
        let Action::Finish(Frame::Binary(json), CloseCode::Normal) = action else { panic!("{action:?}") };
        serde_json::from_slice(&json).unwrap()
    }

    fn rejected(reason: &str) -> Value {
        json!({"status": "rejected", "reason": reason})
    }

    #[test]
    fn text_is_bytes_before_and_after_the_call() {
        let mut protocol = after([TEXT, TEXT]);
        let Action::Start(start) = protocol.on(CALL) else { panic!() };
        assert_eq!((start.call.call.as_str(), &start.input[..]), ("echo", &b"ab\nab\n"[..]));
        assert_eq!(protocol.on(TEXT), Action::Bytes);
        assert_eq!(protocol.on(CLOSE), Action::EndInput);
        assert_eq!(end(protocol.on(SUCCESS)), json!({"status": "fulfilled", "value": [1]}));
        for event in [TEXT, CALL, CLOSE, CANCEL, SUCCESS] {
            assert_eq!(protocol.on(event), Action::None);
        }
    }

    #[test]
    fn text_before_the_call_has_a_limit() {
        let reason = "input limit of 6B reached: the call does not read its input";
        assert_eq!(end(after([TEXT, TEXT]).on(Event::Text("x"))), rejected(reason));
    }

    #[test]
    fn mistakes_are_protocol_errors_and_the_first_cause_sticks() {
        for event in [CLOSE, CANCEL, Event::Binary(b"{"), Event::Binary(br#"{"signal":"hup"}"#)] {
            assert_eq!(end(fresh().on(event)), rejected("protocol error occurred"));
        }
        for event in [CALL, Event::Binary(b"{"), Event::Binary(br#"{"signal":"hup"}"#)] {
            let action = after([CALL]).on(event);
            assert!(matches!(action, Action::Cancel(CancelReason::ProtocolError(_))), "{action:?}");
        }
        assert_eq!(end(fresh().on(Event::CallTimeout(Duration::from_secs(5)))), rejected("timeout expired"));
    }

    #[test]
    fn second_cancel_forces() {
        let mut protocol = after([CALL]);
        assert_eq!(protocol.on(CANCEL), Action::Cancel(CancelReason::Client));
        assert_eq!(protocol.on(CANCEL), Action::Force);
        assert_eq!(after([CALL]).on(Event::Gone), Action::Cancel(CancelReason::Disconnected));
    }
}
