//! The answer to a call over plain HTTP: its forms, its status, and the fields with the outcome.
//!
//! The two forms with messages have those of [`distillery-1`](super::distillery1), and in addition the messages `stdout`
//! and `stderr`.

use super::{Frame, distillery1};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header::RETRY_AFTER};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use bytes::Bytes;
use distillery_core::{
    call::{CancelReason, Full, Outcome, Refusal},
    stream::Stream,
};
use schemars::JsonSchema;
use serde::Serialize;
use std::fmt::Write as _;

/// The id of the process.
pub const PROCESS: HeaderName = HeaderName::from_static("distillery-process");
/// The access key of a process that outlives its client and has no owner.
pub const KEY: HeaderName = HeaderName::from_static("distillery-key");
/// The outcome in one word.
pub const OUTCOME: HeaderName = HeaderName::from_static("distillery-outcome");
/// The exit status of the guest.
pub const EXIT_STATUS: HeaderName = HeaderName::from_static("distillery-exit-status");
/// The reason of a failure, percent-encoded.
pub const MESSAGE: HeaderName = HeaderName::from_static("distillery-message");
/// The value of the call, as JSON in ASCII.
pub const VALUE: HeaderName = HeaderName::from_static("distillery-value");

/// The fields with the outcome: headers if nothing was sent before, otherwise trailers.
pub const FIELDS: &str = "distillery-outcome, distillery-exit-status, distillery-message, distillery-value";

/// The maximum size of a value in a field: clients and proxies refuse long ones. A larger value is only in messages.
const VALUE_FIELD: usize = 4 << 10;
/// Seconds after which a refused client can retry.
const RETRY: HeaderValue = HeaderValue::from_static("1");

/// The form of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// stdout as it is, labelled as text.
    Text,
    /// stdout as it is, labelled as bytes.
    Bytes,
    /// Messages as server-sent events.
    Events,
    /// Messages as lines of JSON.
    Lines,
    /// Only the id of a process that outlives its client.
    Id,
}

/// The forms that a client can ask for, by media type.
const FORMS: [(&str, Form); 4] = [
    ("text/plain", Form::Text),
    ("application/octet-stream", Form::Bytes),
    ("text/event-stream", Form::Events),
    ("application/x-ndjson", Form::Lines),
];

/// A part of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    Begin(Begin),
    End(End),
}

/// The process has begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Begin {
    pub headers: HeaderMap,
    /// The message for the forms that have messages.
    pub message: Bytes,
}

/// The end of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// The status, if nothing was sent before.
    pub status: StatusCode,
    /// The headers in addition to `fields`, if nothing was sent before.
    pub headers: HeaderMap,
    /// The body in JSON, if nothing was sent before. Empty after a success without output.
    pub body: Bytes,
    /// The message for the forms that have messages.
    pub message: Bytes,
    /// The outcome: headers or trailers.
    pub fields: HeaderMap,
}

/// The process that a detached call has become.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "AcceptedProcess")]
pub struct Accepted {
    #[schemars(extend("format" = "uuid"))]
    pub id: String,
    pub call: String,
    pub generation: u64,
    /// Access key; present if the process has no owner.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

impl Form {
    /// Returns the form that a client prefers among those in its `Accept` headers; text if it names none.
    pub fn preferred<'a>(accept: impl IntoIterator<Item = &'a str>) -> Self {
        let ranges = accept.into_iter().flat_map(|line| line.split(','));
        let mut best = (Self::Text, 0.0);
        for range in ranges {
            let mut parts = range.split(';').map(str::trim);
            let media = parts.next().unwrap_or_default();
            let weight = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
            let weight: f32 = weight.map_or(1.0, |weight| weight.trim().parse().unwrap_or(0.0));
            let known = FORMS.iter().find(|(name, _)| name.eq_ignore_ascii_case(media));
            if let Some((_, form)) = known
                && weight > best.1
            {
                best = (*form, weight);
            }
        }
        best.0
    }

    /// Returns whether the client gets messages, and not only stdout.
    pub fn has_messages(self) -> bool {
        matches!(self, Self::Events | Self::Lines)
    }

    pub fn media(self) -> &'static str {
        match self {
            Self::Text => "text/plain; charset=utf-8",
            Self::Bytes => "application/octet-stream",
            Self::Events => "text/event-stream",
            Self::Lines => "application/x-ndjson",
            Self::Id => "application/json",
        }
    }

    /// Returns a message of JSON as a part of the body. Empty in the forms without messages.
    pub fn message(self, json: &[u8]) -> Bytes {
        match self {
            Self::Events => {
                let kind = distillery1::kind(json);
                [b"event: ", kind.as_bytes(), b"\ndata: ", json, b"\n\n"].concat().into()
            }
            Self::Lines => [json, b"\n"].concat().into(),
            Self::Text | Self::Bytes | Self::Id => Bytes::new(),
        }
    }

    /// Returns output of a guest as a part of the body. The forms without messages have stdout only.
    pub fn output(self, stream: Stream, from: u64, bytes: &Bytes) -> Bytes {
        match self {
            Self::Id => Bytes::new(),
            Self::Text | Self::Bytes if stream == Stream::Stdout => bytes.clone(),
            Self::Text | Self::Bytes => Bytes::new(),
            Self::Events | Self::Lines => {
                let (name, content) = match std::str::from_utf8(bytes) {
                    Ok(text) => ("text", text.to_owned()),
                    Err(_) => ("base64", BASE64.encode(bytes)),
                };
                let content = serde_json::to_string(&content).expect("text is always JSON");
                let stream = stream.name();
                self.message(format!(r#"{{"type":"{stream}","from":{from},"{name}":{content}}}"#).as_bytes())
            }
        }
    }
}

impl Accepted {
    fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let fields = [(PROCESS, Some(self.id.as_str())), (KEY, self.key.as_deref())];
        for (name, value) in fields.into_iter().filter_map(|(name, value)| Some((name, value?))) {
            insert(&mut headers, name, value);
        }
        headers
    }

    /// Returns the beginning of the answer of the process itself.
    pub fn begin(&self, message: Bytes) -> Frame {
        Frame::Part(Box::new(Part::Begin(Begin { headers: self.headers(), message })))
    }

    /// Returns the answer with the id of the process.
    pub fn answer(&self) -> Frame {
        let mut headers = self.headers();
        insert(&mut headers, axum::http::header::LOCATION, &format!("/api/v1/processes/{}", self.id));
        let body = serde_json::to_vec(self).expect("strings and numbers are always JSON").into();
        end(End { status: StatusCode::ACCEPTED, headers, body, message: Bytes::new(), fields: HeaderMap::new() })
    }
}

/// Returns the end of the answer to a call that has run.
pub fn ended(outcome: &Outcome, value: Option<&str>) -> Frame {
    let status = status_of(outcome);
    let message = outcome.failure();
    let mut fields = HeaderMap::new();
    insert(&mut fields, OUTCOME, if outcome.is_success() { "success" } else { outcome.kind() });
    if let Outcome::Exited { status, .. } = outcome {
        fields.insert(EXIT_STATUS, HeaderValue::from(*status));
    }
    if let Some(message) = &message {
        insert(&mut fields, MESSAGE, &percent_encoded(message));
    }
    if let Some(value) = value.map(in_ascii).filter(|value| value.len() <= VALUE_FIELD) {
        insert(&mut fields, VALUE, &value);
    }
    let body = message.map_or_else(Bytes::new, |message| error(status, &message));
    end(End { status, headers: HeaderMap::new(), body, message: text(distillery1::ended(outcome, value)), fields })
}

/// Returns the answer to a call that was not started.
pub fn refused(refusal: &Refusal) -> Frame {
    let status = status_of_refusal(refusal);
    let (mut headers, mut fields) = (HeaderMap::new(), HeaderMap::new());
    if matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) {
        headers.insert(RETRY_AFTER, RETRY);
    }
    let message = refusal.to_string();
    insert(&mut fields, OUTCOME, "refused");
    insert(&mut fields, MESSAGE, &percent_encoded(&message));
    let body = error(status, &message);
    end(End { status, headers, body, message: text(distillery1::refused(refusal)), fields })
}

fn end(end: End) -> Frame {
    Frame::Part(Box::new(Part::End(end)))
}

fn text(frame: Frame) -> Bytes {
    match frame {
        Frame::Text(text) => text,
        other => unreachable!("messages of distillery-1 are text, not {other:?}"),
    }
}

fn error(status: StatusCode, message: &str) -> Bytes {
    let message = serde_json::to_string(message).expect("text is always JSON");
    format!(r#"{{"status":{},"message":{message}}}"#, status.as_u16()).into()
}

/// Returns the status for an outcome of which nothing was sent yet.
pub fn status_of(outcome: &Outcome) -> StatusCode {
    match outcome {
        Outcome::Exited { status: 0, .. } => StatusCode::OK,
        Outcome::Exited { .. } | Outcome::Trapped { .. } | Outcome::HostFailed { .. } => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
        Outcome::Cancelled { reason, .. } => status_of_cancel(reason),
    }
}

fn status_of_cancel(reason: &CancelReason) -> StatusCode {
    match reason {
        CancelReason::TimeLimit(_) | CancelReason::CpuLimit(_) => StatusCode::GATEWAY_TIMEOUT,
        CancelReason::InputLimit(_) => StatusCode::PAYLOAD_TOO_LARGE,
        CancelReason::OutputLimit(_) | CancelReason::LineLimit(_) => StatusCode::INTERNAL_SERVER_ERROR,
        CancelReason::Client | CancelReason::Disconnected | CancelReason::ProtocolError(_) => StatusCode::BAD_REQUEST,
        CancelReason::Shutdown | CancelReason::Operator => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// Returns the status for a call that was not started.
pub fn status_of_refusal(refusal: &Refusal) -> StatusCode {
    match refusal {
        Refusal::UnknownCall(_) | Refusal::NoProcess(_) => StatusCode::NOT_FOUND,
        Refusal::NotAuthorized(_) => StatusCode::FORBIDDEN,
        Refusal::Revoked => StatusCode::UNAUTHORIZED,
        Refusal::BadParams(_) | Refusal::ProtocolError(_) | Refusal::NoCall(_) => StatusCode::BAD_REQUEST,
        Refusal::Full(Full::Caller) => StatusCode::TOO_MANY_REQUESTS,
        Refusal::Full(Full::Server | Full::Plugin)
        | Refusal::Loading(_)
        | Refusal::RightsChanged(_)
        | Refusal::ShuttingDown => StatusCode::SERVICE_UNAVAILABLE,
        Refusal::Cancelled(reason) => status_of_cancel(reason),
    }
}

/// Sets a field. The value is ASCII without control characters.
fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// Encodes text for a field: each byte that is not a printable ASCII character, and each %, as %XX.
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => encoded.push(char::from(byte)),
            _ => _ = write!(encoded, "%{byte:02X}"),
        }
    }
    encoded
}

/// Returns the same JSON in ASCII and on one line. Other characters can only be inside of strings, and space outside.
fn in_ascii(json: &str) -> String {
    let mut ascii = String::with_capacity(json.len());
    for character in json.chars() {
        match character {
            '\n' | '\r' | '\t' => ascii.push(' '),
            // Raw in JSON, but not in a field.
            '\x7f' => ascii.push_str("\\u007f"),
            character if character.is_ascii() => ascii.push(character),
            character => {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    _ = write!(ascii, "\\u{unit:04x}");
                }
            }
        }
    }
    ascii
}

#[cfg(test)]
mod tests;
