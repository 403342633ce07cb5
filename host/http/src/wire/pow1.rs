//! The messages of `pow-1`: text frames are bytes of a stream, binary frames are JSON.

use super::{Frame, Object, said, shortened};
use distillery_core::call::{CancelReason, Outcome, Refusal};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The messages in AsyncAPI form, by sender and name.
pub const MESSAGES: &str = include_str!("pow1.messages.json");

/// A message of the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientMessage {
    Call(Call),
    /// Ends stdin.
    Close,
    Cancel,
}

/// `{"call": "some-name", "params": ["some", "strings"]}`. Other keys are ignored.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Call {
    pub call: String,
    #[serde(default)]
    params: Option<Vec<String>>,
}

impl Call {
    /// Reads the call in the body of a request.
    pub fn read(body: &[u8]) -> Option<Self> {
        let Object(object) = serde_json::from_slice(body).ok()?;
        serde_json::from_value(Value::Object(object)).ok()
    }

    pub fn into_message(self) -> super::CallMessage {
        super::CallMessage { call: self.call, params: self.params.unwrap_or_default() }
    }
}

/// Reads a binary frame. The error says what is wrong, for the log.
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

/// Returns the outcome of a process as JSON, with the value unchanged. The value is JSON, but can be deeper or larger
/// than this program would parse.
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

/// Returns the result of a running process.
pub fn pending() -> String {
    encode(&ResultMessage::Pending)
}

const PROTOCOL_ERROR: &str = "protocol error occurred";

/// Returns the result for a call that was not started.
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
    use distillery_core::call::{Cleanup, Stop};
    use serde_json::json;

    #[test]
    fn calls_are_read_and_other_keys_ignored() {
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
    fn every_message_is_described() {
        let messages: Value = serde_json::from_str(MESSAGES).unwrap();
        assert_eq!(messages["client.signal"]["payload"]["properties"]["signal"]["enum"], json!(["close", "cancel"]));
        let result = &messages["server.result"]["payload"]["oneOf"];
        let status = |at: usize| result[at]["properties"]["status"]["const"].clone();
        assert_eq!((status(0), status(1)), (json!("fulfilled"), json!("rejected")));
    }

    #[test]
    fn results_are_fulfilled_with_a_value_or_rejected() {
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
