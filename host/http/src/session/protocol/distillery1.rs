//! `distillery-1`: text frames are messages, binary frames are bytes.

use super::{Action, Event, Start, State, Talk};
use crate::wire::{
    CallMessage,
    distillery1::{Call, ClientMessage, Detached, ServerMessage, decode, ended, refused},
};

#[derive(Debug)]
pub struct Distillery1 {
    pub(super) talk: Talk,
}

impl Default for Distillery1 {
    fn default() -> Self {
        Self { talk: Talk::new(refused) }
    }
}

impl Distillery1 {
    pub fn on(&mut self, event: Event<'_>) -> Action {
        match event {
            Event::Text(text) => return self.on_message(decode(text.as_bytes())),
            Event::Binary(_) => {
                return match self.talk.state {
                    State::Waiting => {
                        let what = "data before the call message: send the call first, as a text frame";
                        self.talk.protocol_error(what.into())
                    }
                    State::Running { .. } => Action::Bytes,
                    State::Over => Action::None,
                };
            }
            Event::Ended(outcome, value) => return self.talk.finish(ended(outcome, value)),
            Event::Started(started) => _ = self.talk.on(Event::Started(started)),
            _ => {}
        }
        match message(&event) {
            // No message follows the result.
            Some(_) if self.talk.state == State::Over => Action::None,
            Some(message) => Action::Send(message.encode()),
            None => self.talk.on(event),
        }
    }

    fn on_message(&mut self, message: Result<ClientMessage, String>) -> Action {
        match (self.talk.state, message) {
            (State::Over, _) => Action::None,
            (_, Err(what)) => self.talk.protocol_error(what),
            (_, Ok(ClientMessage::List)) => Action::List,
            (State::Waiting, Ok(ClientMessage::Call(Call { call, params, on_disconnect }))) => {
                self.talk.start(Start { call: CallMessage { call, params }.into(), on_disconnect, input: Vec::new() })
            }
            (State::Waiting, Ok(ClientMessage::Attach(attach))) => self.talk.attach(attach),
            (State::Running { .. }, Ok(ClientMessage::Call(_) | ClientMessage::Attach(_))) => {
                self.talk.protocol_error("a second call message".into())
            }
            (_, Ok(ClientMessage::Cancel)) => self.talk.ask_to_cancel(),
            (State::Running { .. }, Ok(ClientMessage::End)) => Action::EndInput,
            (State::Running { detached: true, .. }, Ok(ClientMessage::Detach)) => {
                self.talk.state = State::Over;
                Action::Leave(ServerMessage::Detached.encode())
            }
            (State::Running { .. }, Ok(ClientMessage::Detach)) => {
                let what = "a detach from a process that is not kept: call it with \"on_disconnect\":\"detach\"";
                self.talk.protocol_error(what.into())
            }
            (State::Waiting, Ok(ClientMessage::End | ClientMessage::Detach)) => self.talk.signal_before_call(),
        }
    }
}

/// Returns the message that tells the client of an event. `None` for events of which it has another sign.
pub(super) fn message<'a>(event: &Event<'a>) -> Option<ServerMessage<'a>> {
    Some(match event {
        Event::Started(started) => {
            let super::Started { id, call, generation, detached, key } = **started;
            ServerMessage::Started { id, call, generation, kept: detached, key }
        }
        Event::Attached(it) => ServerMessage::Attached {
            id: it.id,
            call: it.call,
            params: it.params,
            generation: it.generation,
            started: it.started.clone(),
            running: it.running,
            stdout: Detached { from: it.stdout.start, to: it.stdout.end },
            stderr: Detached { from: it.stderr.start, to: it.stderr.end },
        },
        Event::Queued(position) => ServerMessage::Queued { position: *position },
        Event::Listed(processes) => ServerMessage::Processes { processes },
        Event::Beat(beat) => ServerMessage::Heartbeat {
            elapsed_ms: beat.elapsed.as_millis() as u64,
            cpu_ms: beat.cpu.as_millis() as u64,
            memory: beat.memory,
            bytes_in: beat.bytes_in,
            bytes_out: beat.bytes_out,
        },
        Event::Cancelling(reason) => ServerMessage::Cancelling { reason: reason.name() },
        Event::Lost(stream, lost) => ServerMessage::Lost { stream: stream.name(), from: lost.start, to: lost.end },
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        session::protocol::{Attached, Beat, CloseCode, Started},
        wire::Frame,
    };
    use distillery_core::{
        call::{CancelReason, Outcome, Refusal},
        size::Size,
        stream::Stream,
    };
    use serde_json::{Value, json};
    use std::time::Duration;
    use uuid::Uuid;

    const CALL: Event<'static> = Event::Text(r#"{"type":"call","call":"echo"}"#);
    const ATTACH: Event<'static> =
        Event::Text(r#"{"type":"attach","id":"00000000-0000-0000-0000-000000000000","stdout":3}"#);
    const END: Event<'static> = Event::Text(r#"{"type":"end"}"#);
    const CANCEL: Event<'static> = Event::Text(r#"{"type":"cancel"}"#);
    const DETACH: Event<'static> = Event::Text(r#"{"type":"detach"}"#);
    const LIST: Event<'static> = Event::Text(r#"{"type":"list"}"#);
    const BYTES: Event<'static> = Event::Binary(b"\xff");
    const SUCCESS: Event<'static> = Event::Ended(&Outcome::Exited { status: 0, last_words: None }, Some("[1]"));

    fn started(detached: bool) -> Event<'static> {
        const fn told(detached: bool) -> Started<'static> {
            Started { id: Uuid::nil(), call: "echo", generation: 4, detached, key: None }
        }
        static STARTED: [Started<'static>; 2] = [told(false), told(true)];
        Event::Started(&STARTED[usize::from(detached)])
    }

    fn after<const N: usize>(events: [Event<'static>; N]) -> Distillery1 {
        let mut protocol = Distillery1::default();
        for event in events {
            protocol.on(event);
        }
        protocol
    }

    fn json_of(frame: &Frame) -> Value {
        let Frame::Text(text) = frame else { panic!("{frame:?}") };
        serde_json::from_slice(text).unwrap()
    }

    fn said(action: Action) -> Value {
        let Action::Send(frame) = action else { panic!("{action:?}") };
        json_of(&frame)
    }

    fn outcome(action: Action) -> Value {
        let Action::Finish(frame, CloseCode::Normal) = action else { panic!("{action:?}") };
        let message = json_of(&frame);
        assert_eq!(message["type"], "ended");
        message["outcome"].clone()
    }

    fn refusal(action: Action) -> String {
        let outcome = outcome(action);
        assert_eq!((&outcome["kind"], &outcome["success"]), (&json!("refused"), &json!(false)));
        outcome["message"].as_str().unwrap().to_owned()
    }

    #[test]
    fn call_takes_bytes_and_ends_once() {
        let mut protocol = Distillery1::default();
        assert!(matches!(protocol.on(CALL), Action::Start(start) if start.call.call == "echo"));
        assert_eq!(
            said(protocol.on(started(false))),
            json!({"type": "started", "id": Uuid::nil().to_string(), "call": "echo", "generation": 4, "kept": false})
        );
        assert_eq!(protocol.on(BYTES), Action::Bytes);
        assert_eq!(protocol.on(END), Action::EndInput);
        assert_eq!(outcome(protocol.on(SUCCESS))["value"], json!([1]));
        for event in [BYTES, CALL, LIST, CANCEL, END, Event::Shutdown, SUCCESS, Event::Queued(1)] {
            assert_eq!(protocol.on(event), Action::None);
        }
    }

    #[test]
    fn only_a_list_is_accepted_before_the_call() {
        let first = |event| Distillery1::default().on(event);
        assert_eq!(first(LIST), Action::List);
        assert_eq!(
            refusal(first(BYTES)),
            "protocol error: data before the call message: send the call first, as a text frame"
        );
        for event in [END, CANCEL, DETACH] {
            assert_eq!(refusal(first(event)), "protocol error: a signal before the call message");
        }
        assert_eq!(refusal(first(Event::Text("{}"))), "protocol error: a message has no type");
        let timeout = Event::CallTimeout(Duration::from_secs(5));
        assert_eq!(refusal(after([LIST]).on(timeout)), "no call message within 5s");
        assert_eq!(refusal(first(Event::Shutdown)), "the server is shutting down");
        assert_eq!(refusal(after([CALL]).on(Event::Refused(Refusal::UnknownCall("x".into())))), r#"unknown call "x""#);
    }

    #[test]
    fn every_event_has_a_message() {
        let mut protocol = after([CALL]);
        assert_eq!(said(protocol.on(Event::Queued(3))), json!({"type": "queued", "position": 3}));
        let beat = Beat {
            elapsed: Duration::from_secs(1),
            cpu: Duration::from_millis(2),
            memory: 3,
            bytes_in: 4,
            bytes_out: 5,
        };
        assert_eq!(
            said(protocol.on(Event::Beat(&beat))),
            json!({"type": "heartbeat", "elapsed_ms": 1000, "cpu_ms": 2, "memory": 3, "bytes_in": 4, "bytes_out": 5})
        );
        let reason = CancelReason::Operator;
        assert_eq!(said(protocol.on(Event::Cancelling(&reason))), json!({"type": "cancelling", "reason": "operator"}));
        assert_eq!(
            said(protocol.on(Event::Lost(Stream::Stderr, 1..9))),
            json!({"type": "lost", "stream": "stderr", "from": 1, "to": 9})
        );
        assert_eq!(said(protocol.on(Event::Listed(&[]))), json!({"type": "processes", "processes": []}));
    }

    #[test]
    fn attached_client_sees_the_process_and_harms_nothing() {
        let mut protocol = Distillery1::default();
        assert!(matches!(protocol.on(ATTACH), Action::Attach(attach) if attach.stdout == Some(3)));
        let attached = Attached {
            id: Uuid::nil(),
            call: "echo",
            params: &[Some("a".into()), None],
            generation: 4,
            started: "now".into(),
            running: true,
            stdout: 3..10,
            stderr: 0..0,
        };
        assert_eq!(
            said(protocol.on(Event::Attached(&attached))),
            json!({
                "type": "attached", "id": Uuid::nil().to_string(), "call": "echo", "params": ["a", null], "generation": 4,
                "started": "now", "running": true, "stdout": {"from": 3, "to": 10}, "stderr": {"from": 0, "to": 0},
            })
        );
        assert_eq!(protocol.on(BYTES), Action::Bytes);
        assert_eq!(protocol.on(Event::Shutdown), Action::None);
        assert_eq!(protocol.on(Event::Gone), Action::Drop);
        // A protocol error ends only its own connection.
        assert_eq!(refusal(after([ATTACH]).on(CALL)), "protocol error: a second call message");
        assert_eq!(after([ATTACH]).on(CANCEL), Action::Cancel(CancelReason::Client));
    }

    #[test]
    fn detach_leaves_a_kept_process_running() {
        let mut protocol = after([CALL, started(true)]);
        let Action::Leave(frame) = protocol.on(DETACH) else { panic!() };
        assert_eq!(json_of(&frame), json!({"type": "detached"}));
        assert_eq!(protocol.on(SUCCESS), Action::None);
        assert!(matches!(after([ATTACH]).on(DETACH), Action::Leave(_)));
        assert!(matches!(after([CALL, started(false)]).on(DETACH), Action::Cancel(CancelReason::ProtocolError(_))));
    }

    #[test]
    fn disconnect_cancels_a_process_that_is_not_kept() {
        assert_eq!(after([CALL, started(false)]).on(Event::Gone), Action::Cancel(CancelReason::Disconnected));
        assert_eq!(after([CALL, started(true)]).on(Event::Gone), Action::Drop);
        // The client has no id yet with which it could find a detached process again.
        assert_eq!(after([CALL]).on(Event::Gone), Action::Cancel(CancelReason::Disconnected));
        assert_eq!(Distillery1::default().on(Event::Gone), Action::Drop);
    }

    #[test]
    fn second_cancel_forces_and_protocol_errors_cancel() {
        let mut protocol = after([CALL, started(false)]);
        assert_eq!(protocol.on(CANCEL), Action::Cancel(CancelReason::Client));
        assert_eq!(protocol.on(CANCEL), Action::Force);
        for event in [CALL, ATTACH, Event::Text("x"), Event::Broken("bad masking".into(), CloseCode::Protocol)] {
            let action = after([CALL, started(true)]).on(event);
            assert!(matches!(action, Action::Cancel(CancelReason::ProtocolError(_))), "{action:?}");
        }
        let action = after([ATTACH]).on(Event::TooBig(Size::mib(1)));
        assert!(matches!(action, Action::Finish(_, CloseCode::TooBig)), "{action:?}");
    }
}
