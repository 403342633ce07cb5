//! The shared vocabulary: calls, cancel reasons and outcomes.
//!
//! No input or output happens here, and nothing here knows of sockets, files or wasm.

use crate::{one_line::OneLine, size::Size};
use serde::Deserialize;
use std::{borrow::Cow, fmt, str::FromStr, sync::Arc, time::Duration};

/// The name of a call: 1 to 64 of `a-z A-Z 0-9 . _ -`, beginning with a letter or a digit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallName(Arc<str>);

/// The form of a call name, as a pattern and as a sentence.
pub const CALL_NAME_PATTERN: &str = "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$";
pub const CALL_NAME_FORM: &str =
    "1 to 64 letters, digits, dots, underscores or dashes, beginning with a letter or a digit";

#[derive(Debug, thiserror::Error)]
#[error("{name:?} is not a name for a call: use {CALL_NAME_FORM}")]
pub struct BadCallName {
    name: String,
}

impl CallName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for CallName {
    type Err = BadCallName;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let begins = name.starts_with(|c: char| c.is_ascii_alphanumeric());
        if begins && name.len() <= 64 && name.chars().all(plain) {
            Ok(Self(name.into()))
        } else {
            Err(BadCallName { name: name.to_owned() })
        }
    }
}

impl fmt::Display for CallName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::borrow::Borrow<str> for CallName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl serde::Serialize for CallName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// The fate of a process whose client disconnects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnDisconnect {
    #[default]
    Cancel,
    /// The process is detached, and clients can attach to it again.
    Detach,
}

impl OnDisconnect {
    pub fn name(self) -> &'static str {
        match self {
            Self::Cancel => "cancel",
            Self::Detach => "detach",
        }
    }
}

/// The reason why a process was cancelled. A process has at most one reason: the first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CancelReason {
    /// The client sent a cancel signal.
    Client,
    /// The client closed the connection, or was silent for too long.
    Disconnected,
    TimeLimit(Duration),
    CpuLimit(Duration),
    OutputLimit(Size),
    InputLimit(Size),
    /// One line of output exceeded the maximum size of a text frame.
    LineLimit(Size),
    /// The client broke the protocol; the text says how.
    ProtocolError(String),
    /// The server is draining.
    Shutdown,
    /// A caller that is allowed to see the process cancelled it.
    Operator,
}

impl CancelReason {
    /// Returns the reason in one or two words, for guests, logs and the API.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Disconnected => "disconnected",
            Self::TimeLimit(_) => "time limit",
            Self::CpuLimit(_) => "cpu limit",
            Self::OutputLimit(_) => "output limit",
            Self::InputLimit(_) => "input limit",
            Self::LineLimit(_) => "line limit",
            Self::ProtocolError(_) => "protocol error",
            Self::Shutdown => "shutdown",
            Self::Operator => "operator",
        }
    }
}

/// Writes the sentence that the client reads.
impl fmt::Display for CancelReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client => f.write_str("cancelled by the client"),
            Self::Disconnected => f.write_str("the client disconnected"),
            Self::TimeLimit(limit) => write!(f, "time limit of {} reached", Span(*limit)),
            Self::CpuLimit(limit) => write!(f, "cpu limit of {} reached", Span(*limit)),
            Self::OutputLimit(limit) => write!(f, "output limit of {limit} reached"),
            Self::InputLimit(limit) => write!(f, "input limit of {limit} reached: the call does not read its input"),
            Self::LineLimit(limit) => write!(f, "line limit of {limit} reached"),
            Self::ProtocolError(what) => write!(f, "protocol error: {what}"),
            Self::Shutdown => f.write_str("the server is shutting down"),
            Self::Operator => f.write_str("cancelled by an operator"),
        }
    }
}

/// The way in which a cancelled process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The guest ended by itself after the cancel.
    Told,
    /// The guest was computing, and was interrupted this long after the cancel.
    Interrupted(Duration),
    /// The guest was in a host call, and was dropped this long after the cancel.
    Dropped(Duration),
}

impl Stop {
    pub fn name(self) -> &'static str {
        match self {
            Self::Told => "told",
            Self::Interrupted(_) => "interrupted",
            Self::Dropped(_) => "dropped",
        }
    }
}

/// The way in which a process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The guest exited by itself. `last_words` is the last line of its stderr that says why.
    Exited { status: u32, last_words: Option<String> },
    /// The guest trapped by itself. `trap` names the trap, and after `unreachable` the panic. `limit` is the limit that
    /// caused the trap, if one did.
    Trapped { trap: Cow<'static, str>, limit: Option<LimitHit> },
    /// The process was cancelled before it ended, whatever the guest did then.
    Cancelled { reason: CancelReason, stop: Stop, cleanup: Cleanup },
    /// The server failed to run it. The text is for the client; the log has the cause.
    HostFailed { what: Cow<'static, str> },
}

/// The result of the cleanup that follows a forced end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cleanup {
    /// No cleanup was requested, or none was needed.
    None,
    Done,
    Failed(String),
}

/// A limit that stopped a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LimitHit {
    Memory(Size),
    Tables(u64),
    Instances(u64),
    Stack(Size),
    Resources(u64),
    /// Bytes that one host call can take from a guest at once.
    HostCall(Size),
    /// Bytes in file streams, between a file and a guest.
    PendingFiles(Size),
}

impl fmt::Display for LimitHit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory(limit) => write!(f, "memory limit of {limit} reached"),
            Self::Tables(limit) => write!(f, "table limit of {limit} elements reached"),
            Self::Instances(limit) => write!(f, "instance limit of {limit} reached"),
            Self::Stack(limit) => write!(f, "stack limit of {limit} reached"),
            Self::Resources(limit) => write!(f, "resource limit of {limit} reached"),
            Self::HostCall(limit) => write!(f, "host call limit of {limit} reached"),
            Self::PendingFiles(limit) => write!(f, "pending file data limit of {limit} reached"),
        }
    }
}

impl Outcome {
    pub fn is_success(&self) -> bool {
        matches!(self, Self::Exited { status: 0, .. })
    }

    /// Returns the kind in one word, for logs and the API.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Exited { .. } => "exited",
            Self::Trapped { .. } => "trapped",
            Self::Cancelled { .. } => "cancelled",
            Self::HostFailed { .. } => "failed",
        }
    }

    /// Returns how a cancelled process ended. `None` if the process was not cancelled.
    pub fn stop(&self) -> Option<Stop> {
        match self {
            Self::Cancelled { stop, .. } => Some(*stop),
            _ => None,
        }
    }

    /// Returns the result of the cleanup in one word. `None` if there was no cleanup.
    pub fn cleanup(&self) -> Option<&'static str> {
        match self {
            Self::Cancelled { cleanup: Cleanup::Done, .. } => Some("done"),
            Self::Cancelled { cleanup: Cleanup::Failed(_), .. } => Some("failed"),
            _ => None,
        }
    }

    /// Returns the reason for a failure, as the client reads it. `None` for a success.
    pub fn failure(&self) -> Option<String> {
        Some(match self {
            Self::Exited { status: 0, .. } => return None,
            Self::Exited { status, last_words: Some(words) } => format!("exit status {status}: {words}"),
            Self::Exited { status, last_words: None } => format!("exit status {status}"),
            Self::Trapped { limit: Some(limit), .. } => limit.to_string(),
            Self::Trapped { trap, limit: None } => format!("trap: {trap}"),
            Self::Cancelled { reason, stop, cleanup } => {
                let mut sentence = reason.to_string();
                if let Stop::Interrupted(after) | Stop::Dropped(after) = stop {
                    sentence += &format!(" (forced after {})", Span(*after));
                }
                if let Cleanup::Failed(why) = cleanup {
                    sentence += &format!(" (cleanup failed: {why})");
                }
                sentence
            }
            Self::HostFailed { what } => what.clone().into_owned(),
        })
    }
}

/// The bound that leaves no free slot now; there can be one in a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    Server,
    Plugin,
    Caller,
}

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Server => "too many running processes",
            Self::Plugin => "too many running processes of this plugin",
            Self::Caller => "too many running processes of this caller",
        })
    }
}

/// The reason why a call was not started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    NoCall(Duration),
    ProtocolError(String),
    UnknownCall(String),
    /// The plugin of the call is loaded at the start, and is not ready yet.
    Loading(String),
    NotAuthorized(String),
    BadParams(String),
    Full(Full),
    /// The call was cancelled while it waited for a slot.
    Cancelled(CancelReason),
    /// There is no such process, or the client is not allowed to attach to it. The text does not say which.
    NoProcess(String),
    /// The credential of the connection was revoked or has expired.
    Revoked,
    /// The operator changed the grants of the plugin while the call waited.
    RightsChanged(String),
    ShuttingDown,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCall(limit) => write!(f, "no call message within {}", Span(*limit)),
            Self::ProtocolError(what) => write!(f, "protocol error: {what}"),
            Self::UnknownCall(name) => write!(f, "unknown call {}", Named(name)),
            Self::Loading(name) => write!(f, "call {} is still loading: try again", Named(name)),
            Self::NotAuthorized(name) => write!(f, "not authorized to run {}", Named(name)),
            Self::BadParams(what) => OneLine { text: what, most: BAD_PARAMS }.fmt(f),
            Self::Full(full) => full.fmt(f),
            Self::Cancelled(reason) => reason.fmt(f),
            Self::NoProcess(id) => write!(f, "there is no process {} that you may attach to", Named(id)),
            Self::Revoked => f.write_str("the token or session of this connection is no longer valid: connect again"),
            Self::RightsChanged(name) => {
                write!(f, "the rights of {} were changed while it waited: call it again", Named(name))
            }
            Self::ShuttingDown => f.write_str("the server is shutting down"),
        }
    }
}

/// Maximum length of the reason why parameters are refused: the rules of a plugin can be of any length.
const BAD_PARAMS: usize = 1 << 10;

/// A name that a client sent, in quotes and truncated to the maximum length of a name.
struct Named<'a>(&'a str);

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = &self.0[..self.0.floor_char_boundary(64)];
        write!(f, "{shown:?}")?;
        if shown.len() < self.0.len() { f.write_str("…") } else { Ok(()) }
    }
}

/// A duration for people: `2s`, `1m 30s`, `350ms`. Rounded to milliseconds below a second, to tenths of a second above.
pub struct Span(pub Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis() as u64;
        let rounded = if millis < 1000 { millis } else { (millis + 50) / 100 * 100 };
        humantime::format_duration(Duration::from_millis(rounded)).fmt(f)
    }
}

#[cfg(test)]
mod tests;
