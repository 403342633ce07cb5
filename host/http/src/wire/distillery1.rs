//! The messages of `distillery-1`: text frames are JSON objects with a `type`, binary frames are bytes of a stream.

use super::{Frame, Object, said, shortened};
use bytes::{BufMut, Bytes, BytesMut};
use distillery_core::{
    call::{Cleanup, OnDisconnect, Outcome, Refusal},
    stream::Stream,
};
use serde::{Deserialize, Serialize, Serializer, de::DeserializeOwned};
use serde_json::{Map, Value};
use uuid::Uuid;

/// The messages in AsyncAPI form, by sender and name.
pub const MESSAGES: &str = include_str!("distillery1.messages.json");

/// A message of the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientMessage {
    Call(Call),
    Attach(Attach),
    /// Ends stdin.
    End,
    Cancel,
    /// Detaches: the process continues without this client.
    Detach,
    List,
}

/// `{"type": "call", "call": "some-name", "params": ["some", "strings"], "on_disconnect": "detach"}`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Call {
    pub call: String,
    #[serde(default, deserialize_with = "super::null_is_empty")]
    pub params: Vec<String>,
    /// `None` if the manifest decides.
    pub on_disconnect: Option<OnDisconnect>,
}

/// `{"type": "attach", "id": "…", "key": "…", "stdout": 0, "stderr": 0}`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attach {
    pub id: String,
    /// Access key; required if the process has no owner.
    pub key: Option<String>,
    /// The offset to read from. `None` means the oldest byte that is kept.
    pub stdout: Option<u64>,
    pub stderr: Option<u64>,
}

/// A message with no key but its type.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Bare {}

/// A message of the server.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum ServerMessage<'a> {
    /// The call waits for a slot; the first in the queue is at position 1.
    Queued { position: usize },
    /// The call has become a process.
    Started {
        #[serde(serialize_with = "as_text")]
        id: Uuid,
        call: &'a str,
        generation: u64,
        kept: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        key: Option<&'a str>,
    },
    /// The requested process, and which of its output is kept.
    Attached {
        #[serde(serialize_with = "as_text")]
        id: Uuid,
        call: &'a str,
        /// Secrets are null.
        params: &'a [Option<String>],
        generation: u64,
        started: String,
        running: bool,
        stdout: Detached,
        stderr: Detached,
    },
    /// These bytes are no longer kept.
    Lost { stream: &'static str, from: u64, to: u64 },
    /// The resources that a running process has used so far.
    Heartbeat { elapsed_ms: u64, cpu_ms: u64, memory: u64, bytes_in: u64, bytes_out: u64 },
    /// The processes that the caller is allowed to see.
    Processes { processes: &'a [Listed] },
    /// The process was cancelled.
    Cancelling { reason: &'static str },
    /// The client is detached, and the process continues.
    Detached,
}

/// The range of bytes of a stream that are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Detached {
    pub from: u64,
    pub to: u64,
}

/// A running process, or an ended one that is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Listed {
    pub id: String,
    pub call: String,
    /// Empty if anonymous.
    pub user: String,
    pub generation: u64,
    pub started: String,
    pub running: bool,
    /// Whether clients can attach to it.
    pub kept: bool,
    /// The outcome in one word. `None` while it runs.
    pub outcome: Option<&'static str>,
}

/// The outcome of a process, or of a refused call. Fields that do not apply are null.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
struct OutcomeMessage {
    success: bool,
    kind: &'static str,
    message: Option<String>,
    status: Option<u32>,
    reason: Option<&'static str>,
    stop: Option<&'static str>,
    cleanup: Option<&'static str>,
}

fn as_text<S: Serializer>(id: &Uuid, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(id)
}

/// The kind of an outcome without a process.
const REFUSED: &str = "refused";

impl ServerMessage<'_> {
    pub fn encode(&self) -> Frame {
        let json = serde_json::to_vec(self).expect("numbers and strings are always JSON");
        Frame::Text(json.into())
    }
}

/// Returns the last message: the outcome of the process. `value` is the JSON that it set.
pub fn ended(outcome: &Outcome, value: Option<&str>) -> Frame {
    let (status, reason, cleanup) = match outcome {
        Outcome::Exited { status, .. } => (Some(*status), None, None),
        Outcome::Cancelled { reason, cleanup, .. } => {
            let cleanup = match cleanup {
                Cleanup::None => None,
                Cleanup::Done => Some("done"),
                Cleanup::Failed(_) => Some("failed"),
            };
            (None, Some(reason.name()), cleanup)
        }
        Outcome::Trapped { .. } | Outcome::HostFailed { .. } => (None, None, None),
    };
    let message = OutcomeMessage {
        success: outcome.is_success(),
        kind: outcome.kind(),
        message: outcome.failure(),
        status,
        reason,
        stop: outcome.stop().map(|stop| stop.name()),
        cleanup,
    };
    last(&message, value)
}

/// Returns the last message for a call that was not started.
pub fn refused(refusal: &Refusal) -> Frame {
    let reason = match refusal {
        Refusal::Cancelled(reason) => Some(reason.name()),
        _ => None,
    };
    let message =
        OutcomeMessage { kind: REFUSED, message: Some(refusal.to_string()), reason, ..OutcomeMessage::default() };
    last(&message, None)
}

/// Returns the last message, with the value unchanged. The value is JSON, but can be deeper or larger than this program
/// would parse.
fn last(outcome: &OutcomeMessage, value: Option<&str>) -> Frame {
    let outcome = serde_json::to_string(outcome).expect("numbers and strings are always JSON");
    let open = outcome.strip_suffix('}').expect("a struct is an object");
    let value = value.unwrap_or("null");
    Frame::Text(format!(r#"{{"type":"ended","outcome":{open},"value":{value}}}}}"#).into())
}

/// Returns the type of a message of the server.
pub fn kind(message: &[u8]) -> &str {
    let kind = message.strip_prefix(br#"{"type":""#).and_then(|rest| rest.split(|byte| *byte == b'"').next());
    kind.and_then(|kind| std::str::from_utf8(kind).ok()).unwrap_or("message")
}

/// Maximum number of bytes in one data frame.
pub const DATA: usize = 64 << 10;

/// Returns a data frame with bytes of a guest at `offset` in their stream.
pub fn data(stream: Stream, offset: u64, bytes: &[u8]) -> Frame {
    let mut frame = BytesMut::with_capacity(9 + bytes.len());
    frame.put_u8(match stream {
        Stream::Stdout => 1,
        Stream::Stderr => 2,
    });
    frame.put_u64(offset);
    frame.put_slice(bytes);
    Frame::Binary(Bytes::from(frame))
}

/// Reads a text frame. The error says what is wrong, with at most a short quote of the frame.
pub fn decode(frame: &[u8]) -> Result<ClientMessage, String> {
    read(frame).map_err(|what| said(&what))
}

fn read(frame: &[u8]) -> Result<ClientMessage, String> {
    let Object(mut object) =
        serde_json::from_slice(frame).map_err(|error| format!("a text frame is not a JSON object: {error}"))?;
    let kind = match object.remove("type") {
        Some(Value::String(kind)) => kind,
        Some(_) => return Err("the type of a message is not a string".into()),
        None => return Err("a message has no type".into()),
    };
    let bare = |object, message| fields::<Bare>(&kind, object).map(|Bare {}| message);
    match kind.as_str() {
        "call" => fields(&kind, object).map(ClientMessage::Call),
        "attach" => fields(&kind, object).map(ClientMessage::Attach),
        "end" => bare(object, ClientMessage::End),
        "cancel" => bare(object, ClientMessage::Cancel),
        "detach" => bare(object, ClientMessage::Detach),
        "list" => bare(object, ClientMessage::List),
        other => Err(format!("unknown type {:?}: use call, attach, end, cancel, detach or list", shortened(other))),
    }
}

fn fields<T: DeserializeOwned>(kind: &str, object: Map<String, Value>) -> Result<T, String> {
    serde_path_to_error::deserialize(Value::Object(object))
        .map_err(|error| format!("the message of type {kind} is wrong: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use distillery_core::call::{CancelReason, Stop};
    use serde_json::json;
    use std::{collections::BTreeSet, time::Duration};

    fn read(text: &str) -> Result<ClientMessage, String> {
        decode(text.as_bytes())
    }

    fn shown(frame: &Frame) -> Value {
        let Frame::Text(text) = frame else { panic!("{frame:?}") };
        serde_json::from_slice(text).unwrap()
    }

    #[test]
    fn client_messages_are_read() {
        let call =
            |on_disconnect| ClientMessage::Call(Call { call: "x".into(), params: vec!["a".into()], on_disconnect });
        assert_eq!(read(r#"{"type":"call","call":"x","params":["a"]}"#), Ok(call(None)));
        assert!(matches!(read(r#"{"type":"call","call":"x","params":null}"#), Ok(ClientMessage::Call(_))));
        let detach = r#"{"on_disconnect":"detach","call":"x","params":["a"],"type":"call"}"#;
        assert_eq!(read(detach), Ok(call(Some(OnDisconnect::Detach))));
        let id = "0198";
        let attach = Attach { id: id.into(), key: Some("k".into()), stdout: Some(7), stderr: None };
        let text = format!(r#"{{"type":"attach","id":"{id}","key":"k","stdout":7}}"#);
        assert_eq!(read(&text), Ok(ClientMessage::Attach(attach)));
        for (text, message) in [
            ("end", ClientMessage::End),
            ("cancel", ClientMessage::Cancel),
            ("detach", ClientMessage::Detach),
            ("list", ClientMessage::List),
        ] {
            assert_eq!(read(&format!(r#"{{"type":"{text}"}}"#)), Ok(message));
        }
    }

    #[test]
    fn invalid_messages_are_explained() {
        for (text, said) in [
            ("hello", "a text frame is not a JSON object: expected value at line 1 column 1"),
            ("{}", "a message has no type"),
            (r#"{"type":1}"#, "the type of a message is not a string"),
            (r#"{"type":"stop"}"#, "unknown type \"stop\": use call, attach, end, cancel, detach or list"),
            (
                r#"{"type":"end","now":true}"#,
                "the message of type end is wrong: now: unknown field `now`, there are no fields",
            ),
            (r#"{"type":"call"}"#, "the message of type call is wrong: missing field `call`"),
            (
                r#"{"type":"call","call":"x","params":[1]}"#,
                "the message of type call is wrong: params[0]: invalid type: integer `1`, expected a string",
            ),
            (
                r#"{"type":"call","type":"list","call":"x"}"#,
                "a text frame is not a JSON object: a key is there twice at line 1 column 28",
            ),
        ] {
            assert_eq!(read(text), Err(said.to_owned()), "{text}");
        }
        assert!(read(r#"{"type":"attach","id":1}"#).unwrap_err().starts_with("the message of type attach is wrong"));
    }

    #[test]
    fn result_has_all_known_fields_and_null_for_the_rest() {
        let exited = Outcome::Exited { status: 7, last_words: Some("no".into()) };
        assert_eq!(
            shown(&ended(&exited, Some(r#"{"a": 1}"#))),
            json!({"type": "ended", "outcome": {
                "success": false, "kind": "exited", "message": "exit status 7: no", "status": 7, "reason": null, "stop": null,
                "cleanup": null, "value": {"a": 1},
            }})
        );
        let stop = Stop::Dropped(Duration::from_secs(2));
        let cancelled = Outcome::Cancelled { reason: CancelReason::Client, stop, cleanup: Cleanup::Done };
        assert_eq!(
            shown(&ended(&cancelled, None)),
            json!({"type": "ended", "outcome": {
                "success": false, "kind": "cancelled", "message": "cancelled by the client (forced after 2s)",
                "status": null, "reason": "client", "stop": "dropped", "cleanup": "done", "value": null,
            }})
        );
        assert_eq!(
            shown(&refused(&Refusal::UnknownCall("x".into()))),
            json!({"type": "ended", "outcome": {
                "success": false, "kind": "refused", "message": "unknown call \"x\"", "status": null, "reason": null,
                "stop": null, "cleanup": null, "value": null,
            }})
        );
    }

    #[test]
    fn every_message_is_described() {
        let messages: Value = serde_json::from_str(MESSAGES).unwrap();
        let described = |side: &str| {
            let messages = messages.as_object().unwrap().iter();
            let of_side = messages.filter_map(|(name, message)| Some((name.strip_prefix(side)?, &message["payload"])));
            of_side.map(|(name, payload)| (name.to_owned(), payload.clone())).collect::<Vec<_>>()
        };
        for (name, payload) in described("client.").iter().filter(|(name, _)| name != "stdin") {
            let mut message = json!({ "type": name });
            for key in payload["required"].as_array().unwrap().iter().filter(|key| *key != "type") {
                message[key.as_str().unwrap()] = json!("x");
            }
            assert!(read(&message.to_string()).is_ok(), "{message}");
        }
        let range = Detached::default();
        let (id, started) = (Uuid::nil(), String::new());
        let said = [
            ServerMessage::Queued { position: 1 }.encode(),
            ServerMessage::Started { id, call: "x", generation: 1, kept: true, key: None }.encode(),
            ServerMessage::Attached {
                id,
                call: "x",
                params: &[],
                generation: 1,
                started,
                running: true,
                stdout: range,
                stderr: range,
            }
            .encode(),
            ServerMessage::Lost { stream: "stdout", from: 0, to: 1 }.encode(),
            ServerMessage::Heartbeat { elapsed_ms: 0, cpu_ms: 0, memory: 0, bytes_in: 0, bytes_out: 0 }.encode(),
            ServerMessage::Processes { processes: &[] }.encode(),
            ServerMessage::Cancelling { reason: "client" }.encode(),
            ServerMessage::Detached.encode(),
            refused(&Refusal::ShuttingDown),
        ];
        let keys = |object: &Value| object.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
        let mut all: Vec<_> = described("server.");
        for message in said.iter().map(shown) {
            let at = all.iter().position(|(name, _)| message["type"] == *name).expect("it is described");
            let (_, payload) = all.remove(at);
            let required: BTreeSet<_> =
                payload["required"].as_array().unwrap().iter().map(|key| key.as_str().unwrap().to_owned()).collect();
            assert_eq!(keys(&message), required, "{message}");
        }
        assert_eq!(all.len(), 1, "bytes are no message: {all:?}");
    }

    #[test]
    fn data_frame_has_its_stream_and_offset() {
        let Frame::Binary(frame) = data(Stream::Stderr, 258, b"ab") else { panic!() };
        assert_eq!(&frame[..], b"\x02\0\0\0\0\0\0\x01\x02ab");
    }
}
