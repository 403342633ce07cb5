//! The protocol of lines, the default without a subprotocol: text frames are lines of the call, and binary frames are
//! JSON messages.

use super::{From, Protocol};
use crate::{
    api::openapi::Schemas,
    wire::{CallMessage, ResultMessage, SignalMessage},
};
use serde_json::{Value, json};

const ABOUT: &str = "\
A text frame is one line of the call's input or output, without its end. A binary frame is JSON in UTF-8: the client's \
first one names the call, and the server's only one is the result. The server closes with 1000 after \
that. A disconnected client has cancelled. Unknown keys are ignored.";

pub(super) fn protocol(schemas: &mut Schemas) -> Protocol {
    let call = schemas.reading.subschema_for::<CallMessage>().to_value();
    let signal = schemas.reading.subschema_for::<SignalMessage>().to_value();
    let result = schemas.writing.subschema_for::<ResultMessage>().to_value();
    let line = |title, summary: &str, examples: &[&str]| {
        let examples: Vec<_> = examples.iter().map(|line| json!({"payload": line})).collect();
        json!({
            "title": title,
            "summary": summary,
            "contentType": "text/plain; charset=utf-8",
            "payload": {"type": "string", "description": "One line, without its end"},
            "examples": examples,
            "x-frame": "text",
        })
    };
    let object = |title: &str, summary: &str, payload: &Value, examples: Value| {
        json!({
            "title": title,
            "summary": summary,
            "contentType": "application/json",
            "payload": payload,
            "examples": examples,
            "x-frame": "binary",
        })
    };
    Protocol::new("lines", "The protocol of lines", "/api/v1/ws", ABOUT, &json!({"type": "object"}))
        .says(
            From::Client,
            "startCall",
            "Starts the call: exactly once, as the first message",
            "call",
            object(
                "CallMessage",
                "The call to run, and its parameters",
                &call,
                json!([{"payload": {"call": "echo", "params": ["hello"]}}]),
            ),
        )
        .says(
            From::Client,
            "cancelCall",
            "Ends the input of the call, or cancels the call with its grace period; a second cancel ends the call \
             at once",
            "signal",
            object(
                "SignalMessage",
                "Ends the input, or cancels the call",
                &signal,
                json!([{"payload": {"signal": "cancel"}}, {"payload": {"signal": "close"}}]),
            ),
        )
        .says(
            From::Client,
            "sendLine",
            "Sends a line of input, at any time after the call message",
            "input",
            line("Input", "A line of the call's input", &["hello"]),
        )
        .says(
            From::Server,
            "receiveLine",
            "A line of output, or an unfinished one if the call now waits for input",
            "output",
            line("Output", "A line of the call's output", &["What is your name? "]),
        )
        .says(
            From::Server,
            "receiveResult",
            "The result of the call: exactly once, as the last message before the close frame",
            "result",
            object(
                "ResultMessage",
                "Success, or failure with its reason",
                &result,
                json!([
                    {"name": "success", "payload": {"success": true}},
                    {"name": "failure", "payload": {"success": false, "message": "exit status 7"}},
                ]),
            ),
        )
}
