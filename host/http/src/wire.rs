//! The messages of the websocket, exactly as its protocols define them. This file has those of the protocol without a
//! name; each other protocol has a file of its own.
//!
//! It knows nothing of sockets or processes.

pub mod distillery1;
pub mod exchange;
pub mod pow1;

use bytes::Bytes;
use distillery_core::{
    call::{Outcome, Refusal},
    one_line::OneLine,
};
use distillery_process::dispatch::Request;
use schemars::JsonSchema;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error as _, MapAccess, Visitor},
};
use serde_json::{Map, Value};
use std::fmt;

/// A frame to a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// Text. Invalid UTF-8 becomes U+FFFD.
    Text(Bytes),
    Binary(Bytes),
    /// The beginning or the end of an answer over plain HTTP, which has no frames of its own.
    Part(Box<exchange::Part>),
}

/// A message of the client in a binary frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientMessage {
    Call(CallMessage),
    /// Ends stdin.
    Close,
    Cancel,
}

/// `{"call": "some-name", "params": ["some", "string", "arguments"]}`. Other keys are ignored.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub struct CallMessage {
    /// The name of the call.
    pub call: String,
    /// Parameters in order; null means none.
    #[serde(default, deserialize_with = "null_is_empty")]
    #[schemars(with = "Option<Vec<String>>")]
    pub params: Vec<String>,
}

impl From<CallMessage> for Request {
    fn from(CallMessage { call, params }: CallMessage) -> Self {
        Self { call, params: params.into() }
    }
}

/// `{"signal": "cancel"}` or `{"signal": "close"}`. Other keys are ignored.
#[derive(Deserialize, JsonSchema)]
pub struct SignalMessage {
    /// `close` ends the input of the process, `cancel` ends the process.
    #[schemars(extend("enum" = ["close", "cancel"]))]
    signal: String,
}

/// Reads a list, or null as an empty list.
fn null_is_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// `{"success": true}`, or `{"success": false, "message": "why"}`. The last frame before the connection closes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ResultMessage {
    success: bool,
    /// The reason of a failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
}

impl ResultMessage {
    pub fn success() -> Self {
        Self { success: true, message: None }
    }

    pub fn failure(message: impl ToString) -> Self {
        Self { success: false, message: Some(message.to_string()) }
    }

    /// Returns the reason of a failure. `None` for a success.
    pub fn message(&self) -> Option<&str> {
        self.message.as_deref()
    }

    pub fn encode(&self) -> Frame {
        // The usual result, without serialization.
        if self.success {
            return Frame::Binary(Bytes::from_static(br#"{"success":true}"#));
        }
        Frame::Binary(serde_json::to_vec(self).expect("a bool and a string are always JSON").into())
    }
}

impl From<&Outcome> for ResultMessage {
    fn from(outcome: &Outcome) -> Self {
        match outcome.failure() {
            None => Self::success(),
            Some(message) => Self::failure(message),
        }
    }
}

impl From<&Refusal> for ResultMessage {
    fn from(refusal: &Refusal) -> Self {
        Self::failure(refusal)
    }
}

/// Reads a binary frame. The error says what is wrong, with at most a short quote of the frame.
pub fn decode(frame: &[u8]) -> Result<ClientMessage, String> {
    read(frame).map_err(|what| said(&what))
}

/// Shortens an error about a frame for the client.
fn said(what: &str) -> String {
    OneLine { text: what, most: SAID }.to_string()
}

/// Maximum length of an error about a frame, as its keys and values can be of any length.
const SAID: usize = 300;

fn read(frame: &[u8]) -> Result<ClientMessage, String> {
    if std::str::from_utf8(frame).is_err() {
        return Err("a binary frame is not UTF-8".into());
    }
    let Object(object) =
        serde_json::from_slice(frame).map_err(|error| format!("a binary frame is not a JSON object: {error}"))?;
    if object.contains_key("call") && object.contains_key("signal") {
        return Err("a binary frame is both a call message and a signal message".into());
    }
    if object.contains_key("call") {
        let call = serde_path_to_error::deserialize(Value::Object(object))
            .map_err(|error| format!("the call message is wrong: {error}"))?;
        return Ok(ClientMessage::Call(call));
    }
    if object.contains_key("signal") {
        let signal = SignalMessage::deserialize(Value::Object(object))
            .map_err(|error| format!("the signal message is wrong: {error}"))?;
        return match signal.signal.as_str() {
            "close" => Ok(ClientMessage::Close),
            "cancel" => Ok(ClientMessage::Cancel),
            other => Err(format!("unknown signal {:?}", shortened(other))),
        };
    }
    Err("a binary frame is neither a call message nor a signal message".into())
}

/// A JSON object with unique keys. Of a duplicate key, some parsers use the first and others the last. The client and
/// an inspecting proxy could disagree about the call.
struct Object(Map<String, Value>);

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = Object;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Object, A::Error> {
                let mut members = Map::new();
                while let Some((key, value)) = access.next_entry::<String, Value>()? {
                    if members.insert(key, value).is_some() {
                        return Err(A::Error::custom("a key is there twice"));
                    }
                }
                Ok(Object(members))
            }
        }

        deserializer.deserialize_map(Members)
    }
}

/// Returns the beginning of a client's text, for a message back to the client.
fn shortened(text: &str) -> &str {
    &text[..text.floor_char_boundary(64)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_the_protocol_are_read() {
        assert_eq!(
            decode(br#"{"call": "some-name", "params": ["some", "string"]}"#),
            Ok(ClientMessage::Call(CallMessage {
                call: "some-name".into(),
                params: vec!["some".into(), "string".into()]
            }))
        );
        assert_eq!(
            decode(br#"{"call":"x"}"#),
            Ok(ClientMessage::Call(CallMessage { call: "x".into(), params: vec![] }))
        );
        assert_eq!(decode(br#" {"signal":"cancel"} "#), Ok(ClientMessage::Cancel));
        assert_eq!(decode(br#"{"signal":"close"}"#), Ok(ClientMessage::Close));
    }

    #[test]
    fn null_params_and_unknown_keys_are_accepted() {
        let call = Ok(ClientMessage::Call(CallMessage { call: "x".into(), params: vec![] }));
        assert_eq!(decode(br#"{"call":"x","params":null}"#), call);
        assert_eq!(decode(br#"{"id":7,"call":"x","nested":{"signal":"cancel"}}"#), call);
        assert_eq!(decode(br#"{"signal":"cancel","now":true}"#), Ok(ClientMessage::Cancel));
    }

    #[test]
    fn invalid_messages_are_explained() {
        for (frame, said) in [
            (&b"\xff"[..], "a binary frame is not UTF-8"),
            (b"", "a binary frame is not a JSON object: EOF while parsing a value at line 1 column 0"),
            (b"[]", "a binary frame is not a JSON object: invalid type: sequence, expected a map at line 1 column 0"),
            (b"{}", "a binary frame is neither a call message nor a signal message"),
            (br#"{"signal":"stop"}"#, "unknown signal \"stop\""),
            (
                br#"{"call":"x","call":"y"}"#,
                "a binary frame is not a JSON object: a key is there twice at line 1 column 23",
            ),
            (br#"{"signal":1}"#, "the signal message is wrong: invalid type: integer `1`, expected a string"),
            (br#"{"call":1}"#, "the call message is wrong: call: invalid type: integer `1`, expected a string"),
            (
                br#"{"call":"x","params":[1]}"#,
                "the call message is wrong: params[0]: invalid type: integer `1`, expected a string",
            ),
            (
                br#"{"call":"x","params":[null]}"#,
                "the call message is wrong: params[0]: invalid type: null, expected a string",
            ),
            (br#"{"call":"x","signal":"cancel"}"#, "a binary frame is both a call message and a signal message"),
        ] {
            assert_eq!(decode(frame), Err(said.to_owned()), "{}", String::from_utf8_lossy(frame));
        }
    }

    #[test]
    fn explanation_is_short_and_one_line() {
        let name = "\\n".repeat(1000);
        let said = decode(format!(r#"{{"call":"x","params":"{name}"}}"#).as_bytes()).unwrap_err();
        assert!(said.starts_with("the call message is wrong: params: invalid type: string") && said.ends_with('…'));
        assert!(said.len() < SAID + 10 && !said.contains('\n'));
    }

    #[test]
    fn results_have_only_the_fields_of_the_protocol() {
        let binary = |text: &'static str| Frame::Binary(Bytes::from_static(text.as_bytes()));
        assert_eq!(ResultMessage::success().encode(), binary(r#"{"success":true}"#));
        let failure = binary(r#"{"success":false,"message":"exit status 7"}"#);
        assert_eq!(ResultMessage::failure("exit status 7").encode(), failure);
    }
}
