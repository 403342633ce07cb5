//! A call over plain HTTP: the request is the call, its body is the input, and the answer is the output and the result.

use super::{Action, Event, Start, State, Talk, distillery1::message};
use crate::wire::{
    Frame,
    exchange::{Accepted, Form, ended, refused},
};
use bytes::Bytes;
use distillery_core::call::{CancelReason, OnDisconnect};
use distillery_process::dispatch::Request;

#[derive(Debug)]
pub struct Exchange {
    pub(super) talk: Talk,
    form: Form,
    /// Whether the client answers questions: it is told when the process waits for input.
    answers: bool,
    /// The call, until it is started.
    start: Option<Start>,
    /// The process that continues once its input is complete. Only in the form that has only its id.
    accepted: Option<Accepted>,
    /// The body of the request is complete.
    complete: bool,
}

impl Exchange {
    /// Returns the protocol of one call. In the form that has only the id of the process, the process outlives the
    /// exchange.
    pub fn new(call: Request, form: Form) -> Self {
        let on_disconnect = (form == Form::Id).then_some(OnDisconnect::Detach);
        let start = Some(Start { call, on_disconnect, input: Vec::new() });
        Self { talk: Talk::new(refused), form, answers: false, start, accepted: None, complete: false }
    }

    /// Returns the protocol of one call with messages whose client answers questions. The process ends with it.
    pub fn answering(call: Request) -> Self {
        let mut exchange = Self::new(call, Form::Lines);
        exchange.answers = true;
        if let Some(start) = &mut exchange.start {
            start.on_disconnect = Some(OnDisconnect::Cancel);
        }
        exchange
    }

    pub(super) fn tells_waits(&self) -> bool {
        self.answers
    }

    pub(super) fn form(&self) -> Form {
        self.form
    }

    pub fn on(&mut self, event: Event<'_>) -> Action {
        match event {
            Event::Opened => match self.start.take().filter(|_| self.talk.state == State::Waiting) {
                Some(start) => self.talk.start(start),
                None => Action::None,
            },
            Event::Waiting if self.talk.state != State::Over => {
                Action::Send(Frame::Text(Bytes::from_static(br#"{"type":"waiting"}"#)))
            }
            Event::Binary(_) => match self.talk.state {
                State::Running { .. } => Action::Bytes,
                State::Waiting | State::Over => Action::None,
            },
            Event::Complete => {
                self.complete = true;
                match self.talk.state {
                    State::Running { .. } => self.hand_over().unwrap_or(Action::EndInput),
                    State::Waiting | State::Over => Action::None,
                }
            }
            // Its input is not complete, and its client does not know it.
            Event::Gone if self.accepted.is_some() => {
                self.talk.gone = true;
                self.talk.cancel(CancelReason::Disconnected)
            }
            Event::Started(started) => {
                let text = message(&event);
                self.talk.on(Event::Started(started));
                let accepted = Accepted {
                    id: started.id.to_string(),
                    call: started.call.to_owned(),
                    generation: started.generation,
                    key: started.key.map(str::to_owned),
                };
                if self.form == Form::Id {
                    self.accepted = Some(accepted);
                    return self.hand_over().unwrap_or(Action::None);
                }
                let text = text.map(|message| message.encode());
                let text = if let Some(Frame::Text(text)) = text { text } else { Bytes::new() };
                Action::Send(accepted.begin(text))
            }
            Event::Ended(outcome, value) => match self.accepted.take() {
                Some(accepted) => self.talk.finish(accepted.answer()),
                None => self.talk.finish(ended(outcome, value)),
            },
            event => match message(&event).filter(|_| self.form.has_messages()) {
                // No message follows the result.
                Some(_) if self.talk.state == State::Over => Action::None,
                Some(message) => Action::Send(message.encode()),
                None => self.talk.on(event),
            },
        }
    }

    /// Leaves the process to itself once it has begun and has all of its input.
    fn hand_over(&mut self) -> Option<Action> {
        let accepted = self.accepted.take_if(|_| self.complete)?;
        self.talk.state = State::Over;
        Some(Action::HandOver(accepted.answer()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        session::protocol::{CloseCode, Started},
        wire::exchange::Part,
    };
    use distillery_core::call::{Outcome, Refusal};
    use uuid::Uuid;

    const SUCCESS: Event<'static> = Event::Ended(&Outcome::Exited { status: 0, last_words: None }, None);
    const KEPT: Event<'static> =
        Event::Started(&Started { id: Uuid::nil(), call: "echo", generation: 4, detached: true, key: Some("k") });
    const STARTED: Event<'static> =
        Event::Started(&Started { id: Uuid::nil(), call: "echo", generation: 4, detached: false, key: None });

    fn opened(form: Form) -> Exchange {
        let mut exchange = Exchange::new(Request { call: "echo".into(), params: Vec::new().into() }, form);
        let Action::Start(start) = exchange.on(Event::Opened) else { panic!("it does not start") };
        assert_eq!((start.call.call.as_str(), start.on_disconnect.is_some()), ("echo", form == Form::Id));
        exchange
    }

    fn status(action: Action) -> u16 {
        let (Action::Finish(Frame::Part(part), CloseCode::Normal) | Action::HandOver(Frame::Part(part))) = action
        else {
            panic!("{action:?}")
        };
        let Part::End(end) = *part else { panic!("{part:?}") };
        end.status.as_u16()
    }

    fn sent(action: Action) -> Frame {
        let Action::Send(frame) = action else { panic!("{action:?}") };
        frame
    }

    #[test]
    fn body_is_the_input_and_its_end_the_end() {
        let mut exchange = opened(Form::Text);
        assert_eq!(exchange.on(Event::Binary(b"in")), Action::Bytes);
        assert!(matches!(sent(exchange.on(STARTED)), Frame::Part(_)));
        assert_eq!(exchange.on(Event::Complete), Action::EndInput);
        assert_eq!(exchange.on(Event::Queued(1)), Action::None);
        assert_eq!(status(exchange.on(SUCCESS)), 200);
        assert_eq!(exchange.on(Event::Gone), Action::Drop);
    }

    #[test]
    fn form_with_messages_tells_what_happens() {
        let mut exchange = opened(Form::Lines);
        let position = Frame::Text(r#"{"type":"queued","position":1}"#.into());
        assert_eq!(sent(exchange.on(Event::Queued(1))), position);
        let begun = sent(exchange.on(STARTED));
        let Frame::Part(part) = begun else { panic!("{begun:?}") };
        assert!(matches!(*part, Part::Begin(begin) if begin.message.starts_with(br#"{"type":"started""#)));
        exchange.on(SUCCESS);
        assert_eq!(exchange.on(Event::Cancelling(&CancelReason::Operator)), Action::None);
    }

    #[test]
    fn client_that_goes_cancels() {
        let mut exchange = opened(Form::Text);
        exchange.on(STARTED);
        assert_eq!(exchange.on(Event::Gone), Action::Cancel(CancelReason::Disconnected));
        assert_eq!(exchange.on(SUCCESS), Action::Drop);
    }

    #[test]
    fn detached_process_is_left_once_its_input_is_complete() {
        for early in [true, false] {
            let mut exchange = opened(Form::Id);
            if early {
                assert_eq!(exchange.on(Event::Complete), Action::EndInput);
                assert_eq!(status(exchange.on(KEPT)), 202);
            } else {
                assert_eq!(exchange.on(KEPT), Action::None);
                assert_eq!(status(exchange.on(Event::Complete)), 202);
            }
            assert_eq!(exchange.on(Event::Gone), Action::Drop);
        }
    }

    #[test]
    fn detached_process_with_half_of_its_input_is_cancelled() {
        let mut exchange = opened(Form::Id);
        exchange.on(KEPT);
        assert_eq!(exchange.on(Event::Gone), Action::Cancel(CancelReason::Disconnected));
        assert_eq!(exchange.on(SUCCESS), Action::Drop);
        // It can end before its input does.
        let mut exchange = opened(Form::Id);
        exchange.on(KEPT);
        assert_eq!(status(exchange.on(SUCCESS)), 202);
    }

    #[test]
    fn refused_call_has_the_status_of_the_refusal() {
        assert_eq!(status(opened(Form::Id).on(Event::Refused(Refusal::UnknownCall("echo".into())))), 404);
        assert_eq!(status(opened(Form::Text).on(Event::Refused(Refusal::NotAuthorized("echo".into())))), 403);
    }
}
