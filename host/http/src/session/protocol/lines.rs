//! The protocol without a name: text frames are lines, and binary frames are calls, signals and results.

use super::{Action, Event, Start, State, Talk};
use crate::wire::{ClientMessage, ResultMessage, decode};

#[derive(Debug)]
pub struct Seed {
    pub(super) talk: Talk,
}

impl Default for Seed {
    fn default() -> Self {
        Self { talk: Talk::new(|refusal| ResultMessage::from(refusal).encode()) }
    }
}

impl Seed {
    pub fn on(&mut self, event: Event<'_>) -> Action {
        match event {
            Event::Text(_) => match self.talk.state {
                State::Waiting => {
                    let what = "text before the call message: send the call first, as a binary frame";
                    self.talk.protocol_error(what.into())
                }
                State::Running { .. } => Action::Line,
                State::Over => Action::None,
            },
            Event::Binary(frame) => self.on_message(decode(frame)),
            Event::Ended(outcome, _) => self.talk.finish(ResultMessage::from(outcome).encode()),
            event => self.talk.on(event),
        }
    }

    fn on_message(&mut self, message: Result<ClientMessage, String>) -> Action {
        match (self.talk.state, message) {
            (State::Over, _) => Action::None,
            (State::Waiting, Ok(ClientMessage::Call(call))) => {
                self.talk.start(Start { call: call.into(), on_disconnect: None, input: Vec::new() })
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
    use crate::session::protocol::{CloseCode, Started};
    use distillery_core::{
        call::{CancelReason, Outcome},
        size::Size,
    };
    use std::time::Duration;
    use uuid::Uuid;

    const CALL: Event<'static> = Event::Binary(br#"{"call":"echo","params":[]}"#);
    const CANCEL: Event<'static> = Event::Binary(br#"{"signal":"cancel"}"#);
    const CLOSE: Event<'static> = Event::Binary(br#"{"signal":"close"}"#);

    fn after(events: impl IntoIterator<Item = Event<'static>>) -> Seed {
        let mut protocol = Seed::default();
        for event in events {
            protocol.on(event);
        }
        protocol
    }

    fn failure(message: &str) -> Action {
        Action::Finish(ResultMessage::failure(message).encode(), CloseCode::Normal)
    }

    const TEXT: Event<'static> = Event::Text("a line");
    const SUCCESS: Event<'static> = Event::Ended(&Outcome::Exited { status: 0, last_words: None }, None);
    const FAILURE: Event<'static> = Event::Ended(&Outcome::Exited { status: 7, last_words: None }, None);

    #[test]
    fn call_runs_takes_lines_and_ends_with_one_result() {
        let mut protocol = Seed::default();
        assert!(matches!(protocol.on(CALL), Action::Start(start) if start.call.call == "echo"));
        assert_eq!(protocol.on(TEXT), Action::Line);
        assert_eq!(protocol.on(SUCCESS), Action::Finish(ResultMessage::success().encode(), CloseCode::Normal));
        for event in [TEXT, CALL, CANCEL, CLOSE, Event::Shutdown, Event::Silent, SUCCESS] {
            assert_eq!(protocol.on(event), Action::None);
        }
    }

    #[test]
    fn missing_call_fails_after_the_timeout() {
        let timeout = || Event::CallTimeout(Duration::from_secs(5));
        assert_eq!(Seed::default().on(timeout()), failure("no call message within 5s"));
        assert_eq!(after([CALL]).on(timeout()), Action::None);
    }

    #[test]
    fn frame_before_the_call_is_a_protocol_error() {
        let first = |event| Seed::default().on(event);
        assert_eq!(
            first(TEXT),
            failure("protocol error: text before the call message: send the call first, as a binary frame")
        );
        for signal in [CANCEL, CLOSE] {
            assert_eq!(first(signal), failure("protocol error: a signal before the call message"));
        }
        assert_eq!(
            first(Event::Binary(b"{}")),
            failure("protocol error: a binary frame is neither a call message nor a signal message")
        );
    }

    #[test]
    fn protocol_error_cancels_the_process_and_is_its_result() {
        for (event, said) in [
            (CALL, "a second call message"),
            (Event::Binary(br#"{"signal":"hup"}"#), "unknown signal \"hup\""),
            (Event::Broken("bad masking".into(), CloseCode::Protocol), "bad masking"),
        ] {
            assert_eq!(after([CALL]).on(event), Action::Cancel(CancelReason::ProtocolError(said.into())));
        }
    }

    #[test]
    fn second_cancel_forces_and_third_does_no_harm() {
        let mut protocol = after([CALL]);
        assert_eq!(protocol.on(CANCEL), Action::Cancel(CancelReason::Client));
        assert_eq!(protocol.on(CANCEL), Action::Force);
        assert_eq!(protocol.on(CANCEL), Action::Force);
        assert_eq!(protocol.on(FAILURE), failure("exit status 7"));
        assert_eq!(protocol.on(CANCEL), Action::None);
    }

    #[test]
    fn close_signal_ends_the_input_and_can_be_repeated() {
        let mut protocol = after([CALL]);
        assert_eq!(protocol.on(CLOSE), Action::EndInput);
        assert_eq!(protocol.on(CLOSE), Action::EndInput);
        assert_eq!(protocol.on(CANCEL), Action::Cancel(CancelReason::Client));
        assert_eq!(protocol.on(CLOSE), Action::EndInput);
        assert_eq!(protocol.on(FAILURE), failure("exit status 7"));
    }

    #[test]
    fn text_after_a_cancel_is_not_an_error() {
        assert_eq!(after([CALL, CANCEL]).on(TEXT), Action::Line);
    }

    #[test]
    fn oversized_frame_closes_with_1009_after_the_result() {
        let too_big = || Event::TooBig(Size::mib(1));
        assert_eq!(
            Seed::default().on(too_big()),
            Action::Finish(
                ResultMessage::failure("protocol error: a frame is larger than 1MiB").encode(),
                CloseCode::TooBig
            )
        );
        let mut protocol = after([CALL]);
        assert!(matches!(protocol.on(too_big()), Action::Cancel(CancelReason::ProtocolError(_))));
        assert!(matches!(protocol.on(FAILURE), Action::Finish(_, CloseCode::TooBig)));
    }

    #[test]
    fn invalid_frames_close_with_their_code_after_the_result() {
        for code in [CloseCode::Protocol, CloseCode::InvalidText] {
            let broken = || Event::Broken("bad masking".into(), code);
            let refused = ResultMessage::failure("protocol error: bad masking").encode();
            assert_eq!(Seed::default().on(broken()), Action::Finish(refused, code));
            let mut protocol = after([CALL]);
            assert!(matches!(protocol.on(broken()), Action::Cancel(CancelReason::ProtocolError(_))));
            assert!(matches!(protocol.on(FAILURE), Action::Finish(_, close) if close == code));
        }
    }

    #[test]
    fn silent_client_still_gets_its_result() {
        assert_eq!(Seed::default().on(Event::Silent), failure("the client disconnected"));
        let mut protocol = after([CALL]);
        assert_eq!(protocol.on(Event::Silent), Action::Cancel(CancelReason::Disconnected));
        assert_eq!(protocol.on(Event::Silent), Action::Cancel(CancelReason::Disconnected));
        assert_eq!(protocol.on(FAILURE), failure("exit status 7"));
    }

    #[test]
    fn disconnected_client_gets_no_result() {
        assert_eq!(Seed::default().on(Event::Gone), Action::Drop);
        let mut protocol = after([CALL]);
        assert_eq!(protocol.on(Event::Gone), Action::Cancel(CancelReason::Disconnected));
        assert_eq!(protocol.on(SUCCESS), Action::Drop);
        assert_eq!(after([CALL, SUCCESS]).on(Event::Gone), Action::Drop);
    }

    #[test]
    fn drain_cancels_running_calls_and_refuses_new_ones() {
        assert_eq!(Seed::default().on(Event::Shutdown), failure("the server is shutting down"));
        assert_eq!(after([CALL]).on(Event::Shutdown), Action::Cancel(CancelReason::Shutdown));
    }

    #[test]
    fn kept_process_outlives_its_client() {
        static KEPT: Started<'static> =
            Started { id: Uuid::nil(), call: "echo", generation: 1, detached: true, key: None };
        assert_eq!(after([CALL, Event::Started(&KEPT)]).on(Event::Shutdown), Action::None);
        let mut protocol = after([CALL, Event::Started(&KEPT)]);
        assert_eq!(protocol.on(Event::Gone), Action::Drop);
        assert_eq!(protocol.on(SUCCESS), Action::None);
        assert_eq!(after([CALL, Event::Started(&KEPT)]).on(CANCEL), Action::Cancel(CancelReason::Client));
    }
}
