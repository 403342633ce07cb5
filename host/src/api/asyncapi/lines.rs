//! The protocol of lines, spoken where no other is asked for: text frames are lines of the call, and binary frames are
//! JSON about it.

use super::{From, Protocol};
use crate::{
    api::openapi::Schemas,
    wire::{CallMessage, ResultMessage, SignalMessage},
};
use serde_json::{Value, json};

const ABOUT: &str = "\
A text frame is one line of the call's input or output, without its end. A binary frame is JSON in UTF-8: the client's \
first one says what is to be run, and the server's only one says what came of it. The server closes with 1000 after \
that. A client that is gone has cancelled. Keys that are not known are ignored.";

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
            "Says which call is to be run: once, and first of all",
            "call",
            object(
                "CallMessage",
                "What is to be run, and with which parameters",
                &call,
                json!([{"payload": {"call": "echo", "params": ["hello"]}}]),
            ),
        )
        .says(
            From::Client,
            "cancelCall",
            "Ends the input of the call, or cancels the call: it is told, and ends gracefully; the second time it is ended \
             at once",
            "signal",
            object(
                "SignalMessage",
                "Ends the input, or the call before its time",
                &signal,
                json!([{"payload": {"signal": "cancel"}}, {"payload": {"signal": "close"}}]),
            ),
        )
        .says(
            From::Client,
            "sendLine",
            "A line for the call to read, any time after the call message",
            "input",
            line("Input", "A line of the call's input", &["hello"]),
        )
        .says(
            From::Server,
            "receiveLine",
            "A line that the call has written, or the beginning of one that it now waits behind",
            "output",
            line("Output", "A line of the call's output", &["What is your name? "]),
        )
        .says(
            From::Server,
            "receiveResult",
            "What came of the call: exactly once, and last of all, before the close frame",
            "result",
            object(
                "ResultMessage",
                "Whether the call was a success, and if not, why",
                &result,
                json!([
                    {"name": "success", "payload": {"success": true}},
                    {"name": "failure", "payload": {"success": false, "message": "exit status 7"}},
                ]),
            ),
        )
}
