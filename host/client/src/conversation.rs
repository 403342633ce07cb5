//! One socket and its process: bytes in, bytes and messages out, and one end.
//!
//! Uses `distillery-1` if the server supports it, and the protocol of lines otherwise. Callers need not know which: a
//! feature that the protocol lacks is skipped.

use super::{Peer, Socket};
use anyhow::{anyhow, bail};
use bytes::Bytes;
use futures_util::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::{sync::mpsc, task::JoinHandle, time::timeout};
use tokio_tungstenite::tungstenite::Message;

const PROTOCOL: &str = "distillery-1";
/// The silence after which the server is pinged, and the interval of pings.
const QUIET: Duration = Duration::from_secs(20);
const ASKED: u32 = 3;
/// The longest line that any server accepts.
const LINE: usize = 64 << 20;
/// The number of pieces of input that can wait for the socket.
const WAITING: usize = 4;
/// The length of a frame's header: the stream, and the offset.
const HEAD: usize = 9;

/// The target of a conversation.
#[derive(Clone, Debug)]
pub enum Wanted {
    Call {
        name: String,
        params: Vec<String>,
        /// Whether the process continues without a client.
        detached: bool,
    },
    /// A detached process, by its identifier, and its key if it has no owner.
    Attach { id: String, key: Option<String> },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    Stdout,
    Stderr,
}

/// An event from the server.
#[derive(Debug)]
pub enum Event {
    /// Output of the process, with its offset in the stream.
    Data(From, u64, Bytes),
    /// Any other message, parsed and raw.
    Told(Told, Value),
    Ended(End, Value),
    /// The process continues, and this socket is closed.
    Detached,
}

/// The meaning of a message, as far as it is known here.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Told {
    Queued {
        position: usize,
    },
    Started {
        id: String,
        key: Option<String>,
    },
    Attached {
        id: String,
    },
    Lost {
        stream: String,
        from: u64,
        to: u64,
    },
    Cancelling {
        reason: String,
    },
    #[serde(other)]
    Other,
}

/// The end of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct End {
    pub success: bool,
    /// exited, trapped, cancelled, failed, or refused.
    pub kind: String,
    pub message: Option<String>,
    pub status: Option<u32>,
    /// The reason of a cancellation.
    pub reason: Option<String>,
}

/// The sending half.
#[derive(Debug)]
pub struct Speaker {
    lines: bool,
    /// The unfinished line, in the protocol of lines.
    partial: Vec<u8>,
    /// Whether the user was warned that input is changed in transit.
    mangled: bool,
    control: mpsc::UnboundedSender<Message>,
    data: mpsc::Sender<Message>,
    notice: Notice,
}

/// Warns the user about a difference from the expected behaviour.
pub type Notice = fn(&str);

/// The receiving half.
#[derive(Debug)]
pub struct Listener {
    lines: bool,
    frames: SplitStream<Socket>,
    read: u64,
    /// The queue for pings.
    control: mpsc::UnboundedSender<Message>,
    _sending: Sending,
}

/// The sending task, which ends together with the listener.
#[derive(Debug)]
struct Sending(JoinHandle<()>);

impl Drop for Sending {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Starts a conversation with the `wanted` target.
pub async fn begin(peer: &Peer, wanted: &Wanted, notice: Notice) -> anyhow::Result<(Speaker, Listener)> {
    let (socket, known) = peer.open(PROTOCOL).await?;
    let lines = !known;
    let first = match wanted {
        Wanted::Call { name, params, detached } => {
            let mut call = json!({"type": "call", "call": name, "params": params});
            if *detached {
                call["on_disconnect"] = "detach".into();
            }
            if lines {
                if *detached {
                    bail!("{} knows no calls that go on without their client", peer.shown());
                }
                call = json!({"call": name, "params": params});
            }
            call
        }
        Wanted::Attach { .. } if lines => bail!("{} knows no way to attach to a process", peer.shown()),
        Wanted::Attach { id, key } => {
            let mut attach = json!({"type": "attach", "id": id});
            if let Some(key) = key {
                attach["key"] = key.as_str().into();
            }
            attach
        }
    };
    let (sink, frames) = socket.split();
    let (control, controls) = mpsc::unbounded_channel();
    let (data, pieces) = mpsc::channel(WAITING);
    let _ = control.send(if lines { binary(&first) } else { text(&first) });
    let sending = Sending(tokio::spawn(send(sink, controls, pieces)));
    let speaker = Speaker { lines, partial: Vec::new(), mangled: false, control: control.clone(), data, notice };
    Ok((speaker, Listener { lines, frames, read: 0, control, _sending: sending }))
}

/// Sends messages, control first: a cancel never waits for input, except for the frame in transit.
async fn send(
    mut sink: SplitSink<Socket, Message>,
    mut controls: mpsc::UnboundedReceiver<Message>,
    mut pieces: mpsc::Receiver<Message>,
) {
    loop {
        let message = tokio::select! {
            biased;
            Some(message) = controls.recv() => message,
            Some(message) = pieces.recv() => message,
            else => return,
        };
        // The listener detects a closed socket.
        if sink.send(message).await.is_err() {
            return;
        }
    }
}

fn text(message: &Value) -> Message {
    Message::text(message.to_string())
}

fn binary(message: &Value) -> Message {
    Message::binary(message.to_string().into_bytes())
}

impl Speaker {
    /// Sends input to the process when the socket accepts it.
    pub async fn give(&mut self, bytes: Bytes) {
        if !self.lines {
            let _ = self.data.send(Message::Binary(bytes)).await;
            return;
        }
        let mut lines = bytes.split(|byte| *byte == b'\n');
        // The part after the last line terminator, possibly empty.
        let rest = lines.next_back().unwrap_or_default();
        for line in lines {
            self.partial.extend_from_slice(line);
            self.give_line().await;
        }
        self.partial.extend_from_slice(rest);
        if self.partial.len() > LINE {
            // The server answers that the line is too long.
            self.give_line().await;
        }
    }

    async fn give_line(&mut self) {
        let line = String::from_utf8(std::mem::take(&mut self.partial)).unwrap_or_else(|error| {
            if !self.mangled {
                self.mangled = true;
                (self.notice)("this server takes only text: what is not UTF-8 in the input is replaced");
            }
            String::from_utf8_lossy(error.as_bytes()).into_owned()
        });
        let _ = self.data.send(Message::text(line)).await;
    }

    /// Ends the input. A server that supports only lines can be too old for the signal, and would cancel the call. Its
    /// process sees no end of input.
    pub async fn end(&mut self) {
        if !self.lines {
            // After the last piece of input.
            let _ = self.data.send(text(&json!({"type": "end"}))).await;
            return;
        }
        if !self.partial.is_empty() {
            self.give_line().await;
        }
        (self.notice)("this server cannot tell a call that its input has ended");
    }

    /// Tells the process to stop; a second call skips the grace period.
    pub fn cancel(&self) {
        let message = if self.lines { binary(&json!({"signal": "cancel"})) } else { text(&json!({"type": "cancel"})) };
        let _ = self.control.send(message);
    }

    /// Leaves a detached process running.
    pub fn detach(&self) {
        let _ = self.control.send(text(&json!({"type": "detach"})));
    }

    /// Returns a handle for signal handlers, usable while input is being sent.
    pub fn canceller(&self) -> Self {
        let (control, data) = (self.control.clone(), self.data.clone());
        Self { lines: self.lines, partial: Vec::new(), mangled: false, control, data, notice: self.notice }
    }
}

impl Listener {
    /// Returns the next event. An error is an end without a result: the process can still run.
    pub async fn next(&mut self) -> anyhow::Result<Event> {
        let mut asked = 0;
        loop {
            let Ok(frame) = timeout(QUIET, self.frames.next()).await else {
                if asked == ASKED {
                    bail!("the server is not heard of any more: the call may still run");
                }
                asked += 1;
                let _ = self.control.send(Message::Ping(Bytes::new()));
                continue;
            };
            asked = 0;
            let frame = match frame {
                Some(Ok(frame)) => frame,
                Some(Err(error)) => bail!("the connection was lost before the call ended: {error}"),
                None => bail!("the server closed the connection before the call ended"),
            };
            let event = if self.lines { self.line(frame)? } else { message(frame)? };
            if let Some(event) = event {
                return Ok(event);
            }
        }
    }

    /// Parses a frame of the protocol of lines.
    fn line(&mut self, frame: Message) -> anyhow::Result<Option<Event>> {
        Ok(Some(match frame {
            Message::Text(line) => {
                let mut line = Vec::from(line.as_bytes());
                line.push(b'\n');
                let offset = self.read;
                self.read += line.len() as u64;
                Event::Data(From::Stdout, offset, line.into())
            }
            Message::Binary(result) => {
                let result: Value =
                    serde_json::from_slice(&result).map_err(|_| strange("a result that is not JSON"))?;
                let said = result["message"].as_str().unwrap_or("failed");
                let end = if result["success"] == true { End::success() } else { End::of(said) };
                Event::Ended(end, result)
            }
            Message::Close(_) => bail!("the server closed the connection before the call ended"),
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => return Ok(None),
        }))
    }
}

/// Parses a frame of `distillery-1`.
fn message(frame: Message) -> anyhow::Result<Option<Event>> {
    Ok(Some(match frame {
        Message::Binary(frame) => {
            let head = frame.get(..HEAD).ok_or_else(|| strange("a frame of data that is too short"))?;
            let from = match head[0] {
                1 => From::Stdout,
                2 => From::Stderr,
                _ => return Err(strange("data of an unknown stream")),
            };
            let offset = u64::from_be_bytes(head[1..].try_into().expect("eight bytes"));
            Event::Data(from, offset, frame.slice(HEAD..))
        }
        Message::Text(text) => {
            let value: Value = serde_json::from_str(&text).map_err(|_| strange("a message that is not JSON"))?;
            match value["type"].as_str() {
                Some("ended") => {
                    let end = End::deserialize(&value["outcome"]).map_err(|_| strange("an end without an outcome"))?;
                    Event::Ended(end, value)
                }
                Some("detached") => Event::Detached,
                _ => {
                    let told = Told::deserialize(&value).map_err(|error| strange(&format!("a message: {error}")))?;
                    Event::Told(told, value)
                }
            }
        }
        Message::Close(_) => bail!("the server closed the connection before the call ended"),
        Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => return Ok(None),
    }))
}

fn strange(what: &str) -> anyhow::Error {
    anyhow!("the server sent {what}: use the command of its release")
}

impl End {
    fn success() -> Self {
        Self { success: true, kind: "exited".into(), status: Some(0), ..Self::default() }
    }

    /// Parses the result sentence of the protocol of lines.
    fn of(message: &str) -> Self {
        let end = |kind: &str, status, reason: Option<&str>| Self {
            success: false,
            kind: kind.into(),
            message: Some(message.to_owned()),
            status,
            reason: reason.map(Into::into),
        };
        let begins = |beginnings: &[&str]| beginnings.iter().any(|it| message.starts_with(it));
        let status =
            message.strip_prefix("exit status ").map(|it| it.split_once(": ").map_or(it, |(status, _)| status));
        if let Some(status) = status.and_then(|it| it.parse().ok()) {
            return end("exited", Some(status), None);
        }
        for (beginning, reason) in [
            ("cancelled by the client", "client"),
            ("the server is shutting down", "shutdown"),
            ("time limit of ", "time limit"),
            ("cpu limit of ", "cpu limit"),
            ("output limit of ", "output limit"),
            ("input limit of ", "input limit"),
            ("line limit of ", "line limit"),
        ] {
            if begins(&[beginning]) {
                return end("cancelled", None, Some(reason));
            }
        }
        let loading = begins(&["call \""]) && message.ends_with(" is still loading: try again");
        if loading
            || begins(&[
                "unknown call ",
                "not authorized ",
                "parameter ",
                "too many ",
                "no call message ",
                "protocol error: ",
            ])
        {
            end("refused", None, None)
        } else if begins(&["trap: ", "memory limit of ", "stack limit of ", "table limit of ", "instance limit of "]) {
            end("trapped", None, None)
        } else {
            // The last words of a process on an older server, which does not send the status.
            end("exited", Some(1), None)
        }
    }
}

#[cfg(test)]
mod tests;
