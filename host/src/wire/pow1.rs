//! The messages of `pow-1`: text frames are bytes of a stream, binary frames are JSON.

use super::{Frame, Object, said, shortened};
use crate::call::{CancelReason, Outcome, Refusal};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The messages as AsyncAPI has them, by who sends them and by their names.
pub const MESSAGES: &str = include_str!("pow1.messages.json");

/// What a client may say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientMessage {
    Call(Call),
    /// Nothing more comes for stdin.
    Close,
    Cancel,
}

/// `{"call": "some-name", "params": ["some", "strings"]}`. What else is in it is not looked at.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Call {
    pub call: String,
    #[serde(default)]
    params: Option<Vec<String>>,
}

impl Call {
    /// The call of a request's body.
    pub fn read(body: &[u8]) -> Option<Self> {
        let Object(object) = serde_json::from_slice(body).ok()?;
        serde_json::from_value(Value::Object(object)).ok()
    }

    pub fn into_message(self) -> super::CallMessage {
        super::CallMessage { call: self.call, params: self.params.unwrap_or_default() }
    }
}

/// Reads a binary frame; the error says what is wrong with it, for the log.
pub fn decode(frame: &[u8]) -> Result<ClientMessage, String> {
    read(frame).map_err(|what| said(&what))
}

fn read(frame: &[u8]) -> Result<ClientMessage, String> {
    let Object(object) =
        serde_json::from_slice(frame).map_err(|error| format!("a binary frame is not a JSON object: {error}"))?;
    if object.contains_key("call") {
        let call = serde_path_to_error::deserialize(Value::Object(object));
        return call.map(ClientMessage::Call).map_err(|error| format!("the call message is wrong: {error}"));
    }
    match object.get("signal").and_then(Value::as_str) {
        Some("close") => Ok(ClientMessage::Close),
        Some("cancel") => Ok(ClientMessage::Cancel),
        Some(other) => Err(format!("unknown signal {:?}", shortened(other))),
        None => Err("a binary frame is neither a call message nor a signal message".into()),
    }
}

/// `{"status":"pending"}`, `{"status":"fulfilled","value":…}` or `{"status":"rejected","reason":"…"}`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "status", rename_all = "lowercase")]
enum ResultMessage<'a> {
    Pending,
    Rejected { reason: &'a str },
}

fn encode(message: &ResultMessage<'_>) -> String {
    serde_json::to_string(message).expect("a string is always JSON")
}

/// How a process ended, as JSON. The value is passed on as it was set: it is JSON, but maybe deeper or larger than what is
/// read here.
pub fn result(outcome: &Outcome, value: Option<&str>) -> String {
    match outcome.failure() {
        None => format!(r#"{{"status":"fulfilled","value":{}}}"#, value.unwrap_or("null")),
        Some(failure) => encode(&ResultMessage::Rejected {
            reason: match outcome {
                Outcome::Cancelled { reason: CancelReason::ProtocolError(_), .. } => PROTOCOL_ERROR,
                _ => &failure,
            },
        }),
    }
}

/// The result of a process that runs.
pub fn pending() -> String {
    encode(&ResultMessage::Pending)
}

const PROTOCOL_ERROR: &str = "protocol error occurred";

/// The result where there is no process.
pub fn refused(refusal: &Refusal) -> Frame {
    let words = refusal.to_string();
    let reason = match refusal {
        Refusal::ProtocolError(_) | Refusal::Cancelled(CancelReason::ProtocolError(_)) => PROTOCOL_ERROR,
        Refusal::NoCall(_) => "timeout expired",
        Refusal::UnknownCall(_) => "failed to get process: unknown process",
        _ => &words,
    };
    Frame::Binary(encode(&ResultMessage::Rejected { reason }).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::{Cleanup, Stop};
    use serde_json::json;

    #[test]
    fn calls_are_read_with_what_else_is_in_them() {
        let call = |params: Option<&[&str]>| {
            let params = params.map(|params| params.iter().map(|it| (*it).to_owned()).collect());
            Ok(ClientMessage::Call(Call { call: "x".into(), params }))
        };
        assert_eq!(decode(br#"{"call":"x","params":["a"]}"#), call(Some(&["a"])));
        assert_eq!(decode(br#"{"call":"x","params":null,"id":7}"#), call(None));
        assert_eq!(decode(br#"{"call":"x"}"#), call(None));
        assert_eq!(decode(br#"{"signal":"close"}"#), Ok(ClientMessage::Close));
        assert_eq!(decode(br#"{"signal":"cancel","now":1}"#), Ok(ClientMessage::Cancel));
        for wrong in ["", "[]", "{}", r#"{"signal":"hup"}"#, r#"{"call":1}"#, r#"{"call":"x","params":[1]}"#] {
            assert!(decode(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn it_is_described() {
        let messages: Value = serde_json::from_str(MESSAGES).unwrap();
        assert_eq!(messages["client.signal"]["payload"]["properties"]["signal"]["enum"], json!(["close", "cancel"]));
        let result = &messages["server.result"]["payload"]["oneOf"];
        let status = |at: usize| result[at]["properties"]["status"]["const"].clone();
        assert_eq!((status(0), status(1)), (json!("fulfilled"), json!("rejected")));
    }

    #[test]
    fn results_are_fulfilled_with_a_value_or_rejected_with_a_reason() {
        let read = |json: String| serde_json::from_str::<Value>(&json).unwrap();
        let exited = |status| Outcome::Exited { status, last_words: None };
        assert_eq!(result(&exited(0), None), r#"{"status":"fulfilled","value":null}"#);
        assert_eq!(read(result(&exited(0), Some("[1]"))), json!({"status": "fulfilled", "value": [1]}));
        assert_eq!(read(result(&exited(7), Some("[1]"))), json!({"status": "rejected", "reason": "exit status 7"}));
        let reason = CancelReason::ProtocolError("x".into());
        let cancelled = Outcome::Cancelled { reason, stop: Stop::Told, cleanup: Cleanup::None };
        assert_eq!(read(result(&cancelled, None))["reason"], "protocol error occurred");
        assert_eq!(pending(), r#"{"status":"pending"}"#);
        let Frame::Binary(unknown) = refused(&Refusal::UnknownCall("x".into())) else { panic!() };
        assert_eq!(unknown, r#"{"status":"rejected","reason":"failed to get process: unknown process"}"#);
    }
}
