//! A running call of a client of this protocol: its messages as they come, and its input.

use crate::{
    api::{ApiState, calls::asked::Asked},
    wire::exchange::Form,
};
use axum::{
    body::{Body, BodyDataStream},
    http::{header::EXPECT, request::Parts},
};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use bytes::Bytes;
use distillery_core::stream::Stream;
use distillery_process::dispatch;
use futures_util::{StreamExt, stream};
use serde::Deserialize;
use serde_json::Value;
use std::convert::Infallible;
use tokio::sync::mpsc;

/// Messages that wait for the client's side; then the call waits.
const MESSAGES: usize = 64;
/// Answers that wait for the call.
const ANSWERS: usize = 4;

/// A message of a running call.
#[derive(Debug)]
pub(super) enum Message {
    Output(Stream, Vec<u8>),
    /// The call has read all of its input, and waits for more.
    Waiting,
    Ended(Outcome),
}

/// The end of a call.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Outcome {
    pub success: bool,
    pub message: Option<String>,
    #[serde(default)]
    pub value: Value,
}

/// A call that runs until it ends, or until this is dropped.
pub(super) struct Run {
    messages: mpsc::Receiver<Message>,
    /// `None` once the input is complete.
    input: Option<mpsc::Sender<Result<Bytes, Infallible>>>,
}

impl Run {
    /// Starts a call as the caller of the request in `parts`. Without `stdin` the input stays open for answers.
    pub async fn start(state: &ApiState, parts: &Parts, call: dispatch::Request, stdin: Option<String>) -> Self {
        let mut parts = parts.clone();
        // It concerns the body of the client's request, which has arrived.
        parts.headers.remove(EXPECT);
        let (input, body) = match stdin {
            Some(text) => (None, Body::from(text)),
            None => {
                let (input, mut answers) = mpsc::channel(ANSWERS);
                (Some(input), Body::from_stream(stream::poll_fn(move |cx| answers.poll_recv(cx))))
            }
        };
        let asked = Asked { parts, body, call, form: Form::Lines, answers: true };
        let answer = (state.run)(asked).await;
        let (sender, messages) = mpsc::channel(MESSAGES);
        tokio::spawn(read(answer.into_body().into_data_stream(), sender));
        Self { messages, input }
    }

    /// Returns the next message. A call whose answer breaks off has failed.
    pub async fn next(&mut self) -> Message {
        self.messages.recv().await.unwrap_or_else(|| {
            let message = Some("the call was broken off: the server's log says why".to_owned());
            Message::Ended(Outcome { message, ..Outcome::default() })
        })
    }

    /// Sends a line of input.
    pub async fn answer(&mut self, line: &str) {
        if let Some(input) = &self.input {
            // A call that has ended needs no answer.
            let _ = input.send(Ok(format!("{line}\n").into())).await;
        }
    }

    /// Ends the input.
    pub fn end_input(&mut self) {
        self.input = None;
    }
}

/// A message on the wire. Those that concern no client of this protocol are left out.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Wire {
    Stdout(Output),
    Stderr(Output),
    Waiting,
    Ended {
        outcome: Outcome,
    },
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
struct Output {
    text: Option<String>,
    base64: Option<String>,
}

impl Output {
    fn bytes(self) -> Vec<u8> {
        match (self.text, self.base64) {
            (Some(text), _) => text.into_bytes(),
            (None, Some(coded)) => BASE64.decode(coded).unwrap_or_default(),
            (None, None) => Vec::new(),
        }
    }
}

/// Passes on the messages of a call until its client has gone.
async fn read(mut answer: BodyDataStream, messages: mpsc::Sender<Message>) {
    let mut unread = Vec::new();
    loop {
        let piece = tokio::select! {
            piece = answer.next() => piece,
            () = messages.closed() => return,
        };
        let Some(Ok(piece)) = piece else { break };
        unread.extend_from_slice(&piece);
        let Some(end) = unread.iter().rposition(|byte| *byte == b'\n') else { continue };
        let lines: Vec<u8> = unread.drain(..=end).collect();
        for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            if let Some(message) = message(line)
                && messages.send(message).await.is_err()
            {
                return;
            }
        }
    }
    // A refused call has only an error.
    if let Some(message) = message(&unread) {
        let _ = messages.send(message).await;
    }
}

fn message(line: &[u8]) -> Option<Message> {
    if let Ok(refused) = serde_json::from_slice::<Refused>(line) {
        return Some(Message::Ended(Outcome { message: Some(refused.message), ..Outcome::default() }));
    }
    match serde_json::from_slice(line).ok()? {
        Wire::Stdout(output) => Some(Message::Output(Stream::Stdout, output.bytes())),
        Wire::Stderr(output) => Some(Message::Output(Stream::Stderr, output.bytes())),
        Wire::Waiting => Some(Message::Waiting),
        Wire::Ended { outcome } => Some(Message::Ended(outcome)),
        Wire::Other => None,
    }
}

/// The error of a call that was not started.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Refused {
    #[expect(dead_code, reason = "it tells an error from a message")]
    status: u16,
    message: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(line: &str) -> String {
        format!("{:?}", message(line.as_bytes()))
    }

    #[test]
    fn messages_are_read() {
        assert_eq!(shown(r#"{"type":"stdout","from":0,"text":"a\n"}"#), "Some(Output(Stdout, [97, 10]))");
        assert_eq!(shown(r#"{"type":"stderr","from":7,"base64":"/w=="}"#), "Some(Output(Stderr, [255]))");
        assert_eq!(shown(r#"{"type":"waiting"}"#), "Some(Waiting)");
        assert_eq!(shown(r#"{"type":"heartbeat","elapsed_ms":1}"#), "None");
        let refused = r#"{"status":403,"message":"not authorized to run \"x\""}"#;
        assert!(shown(refused).contains("not authorized"), "{}", shown(refused));
        let ended = r#"{"type":"ended","outcome":{"success":true,"kind":"exited","message":null,"value":{"a":1}}}"#;
        let Some(Message::Ended(outcome)) = message(ended.as_bytes()) else { panic!("{}", shown(ended)) };
        assert_eq!((outcome.success, outcome.value), (true, serde_json::json!({"a": 1})));
    }
}
