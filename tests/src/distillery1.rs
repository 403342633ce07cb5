//! A strict client of `distillery-1`: every frame belongs to the protocol, data comes in order without an unreported
//! gap, and only the close follows the end.

use crate::{
    client::{next_but_pings, upgraded},
    patiently,
    server::Server,
};
use futures_util::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::{WebSocketStream, tungstenite::Message};

/// One socket.
#[derive(Debug)]
pub struct Talk {
    speaker: Speaker,
    listener: Listener,
}

/// The half of a socket that sends.
#[derive(Debug)]
pub struct Speaker(SplitSink<WebSocketStream<TcpStream>, Message>);

/// The half of a socket that receives.
#[derive(Debug)]
pub struct Listener {
    frames: SplitStream<WebSocketStream<TcpStream>>,
    /// Position in each stream; `None` before its first byte.
    at: [Option<u64>; 2],
}

/// A message from the server.
#[derive(Clone, Debug, PartialEq)]
pub enum Heard {
    /// A message; heartbeats are left out.
    Message(Value),
    Stdout(Vec<u8>),
    Stderr(Vec<u8>),
    Close(u16),
    /// The connection ended without a close frame.
    Gone,
}

/// All messages until the end, and the end.
#[derive(Debug, Default)]
pub struct Whole {
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    /// Returns the messages except the last.
    pub messages: Vec<Value>,
    pub outcome: Value,
    pub close: u16,
}

impl Whole {
    #[track_caller]
    pub fn success(self) -> Vec<u8> {
        assert_eq!(self.outcome["success"], true, "{}", self.outcome);
        self.stdout
    }

    /// Returns the message of an end of this kind, which must be no success.
    #[track_caller]
    pub fn failure(&self, kind: &str) -> &str {
        assert_eq!((&self.outcome["success"], &self.outcome["kind"]), (&json!(false), &json!(kind)), "{self:?}");
        self.outcome["message"].as_str().expect("a failure says why")
    }
}

impl Server {
    /// Opens a socket without sending a message.
    pub async fn talk(&self) -> Talk {
        self.talk_with(&[]).await
    }

    /// Opens a socket with credentials.
    pub async fn talk_with(&self, headers: &[(&str, &str)]) -> Talk {
        let headers = [headers, &[("sec-websocket-protocol", "distillery-1")]].concat();
        let stream = TcpStream::connect(self.address()).await.expect("the server takes connections");
        let upgraded = upgraded(stream, self.address(), "/api/v1/ws", &headers).await;
        let (socket, protocol) = upgraded.expect("the server takes sockets");
        assert_eq!(protocol.as_deref(), Some("distillery-1"));
        let (sender, frames) = socket.split();
        Talk { speaker: Speaker(sender), listener: Listener { frames, at: [None; 2] } }
    }

    /// Opens a socket and calls `name`.
    pub async fn talk_to(&self, name: &str, params: &[&str]) -> Talk {
        let mut talk = self.talk().await;
        talk.say(json!({"type": "call", "call": name, "params": params})).await;
        talk
    }
}

impl Speaker {
    pub async fn say(&mut self, message: Value) {
        self.send(Message::text(message.to_string())).await;
    }

    /// Builds a message with nothing but its type.
    pub async fn signal(&mut self, kind: &str) {
        self.say(json!({ "type": kind })).await;
    }

    pub async fn give(&mut self, bytes: impl Into<Vec<u8>>) {
        self.send(Message::binary(bytes.into())).await;
    }

    pub async fn send(&mut self, message: Message) {
        patiently("a frame to leave", self.0.send(message)).await.expect("the server is there");
    }
}

impl Talk {
    pub async fn say(&mut self, message: Value) {
        self.speaker.say(message).await;
    }

    pub async fn signal(&mut self, kind: &str) {
        self.speaker.signal(kind).await;
    }

    pub async fn give(&mut self, bytes: impl Into<Vec<u8>>) {
        self.speaker.give(bytes).await;
    }

    pub async fn send(&mut self, message: Message) {
        self.speaker.send(message).await;
    }

    /// Splits the socket, to send and receive at the same time, as programs do.
    pub fn split(self) -> (Speaker, Listener) {
        (self.speaker, self.listener)
    }

    /// Closes as a browser does, without waiting.
    pub async fn hang_up(mut self) {
        // The server can already have exited: then there is nothing left to close.
        _ = patiently("the close frame to leave", self.speaker.0.send(Message::Close(None))).await;
    }

    pub async fn next(&mut self) -> Heard {
        self.listener.next().await
    }

    pub async fn next_of_all(&mut self) -> Heard {
        self.listener.next_of_all().await
    }

    /// Returns the next message, which must be of this type. Earlier output of the guest is skipped.
    #[track_caller]
    pub fn message(&mut self, kind: &str) -> impl Future<Output = Value> {
        self.listener.message(kind)
    }

    /// Returns the next stdout of the guest, at least this many bytes.
    pub async fn stdout(&mut self, many: usize) -> Vec<u8> {
        self.listener.stdout(many).await
    }

    /// Reads to the end.
    pub async fn finish(self) -> Whole {
        // The other half stays open until then.
        let Self { speaker: _speaker, listener } = self;
        listener.finish().await
    }
}

impl Listener {
    /// Returns the next message except heartbeats.
    pub async fn next(&mut self) -> Heard {
        patiently("anything but heartbeats", async {
            loop {
                match self.next_of_all().await {
                    Heard::Message(message) if message["type"] == "heartbeat" => {}
                    heard => return heard,
                }
            }
        })
        .await
    }

    pub async fn next_of_all(&mut self) -> Heard {
        match next_but_pings(&mut self.frames).await {
            Some(Ok(Message::Text(text))) => {
                let message: Value = serde_json::from_str(&text).expect("a message is JSON");
                self.check(&message);
                Heard::Message(message)
            }
            Some(Ok(Message::Binary(data))) => self.data(&data),
            Some(Ok(Message::Close(close))) => Heard::Close(close.map_or(1005, |it| it.code.into())),
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => unreachable!("they are left out"),
            Some(Err(_)) | None => Heard::Gone,
        }
    }

    fn check(&mut self, message: &Value) {
        match message["type"].as_str().expect("a message has a type") {
            "lost" => {
                let stream = usize::from(message["stream"] == "stderr");
                let (from, to) = (message["from"].as_u64().expect("an offset"), message["to"].as_u64());
                assert!(self.at[stream].is_none_or(|at| at == from), "{message} at {:?}", self.at);
                assert!(to > Some(from));
                self.at[stream] = to;
            }
            "queued" | "started" | "attached" | "heartbeat" | "processes" | "cancelling" | "ended" | "detached" => {}
            other => panic!("an unknown message: {other}"),
        }
    }

    fn data(&mut self, frame: &[u8]) -> Heard {
        let (head, bytes) = frame.split_at_checked(9).expect("data has a head");
        assert!(!bytes.is_empty(), "an empty data frame");
        let from = u64::from_be_bytes(head[1..].try_into().expect("eight bytes"));
        let stream = match head[0] {
            1 => 0,
            2 => 1,
            other => panic!("an unknown stream: {other}"),
        };
        assert!(self.at[stream].is_none_or(|at| at == from), "data from {from} on, at {:?}", self.at);
        self.at[stream] = Some(from + bytes.len() as u64);
        if stream == 0 { Heard::Stdout(bytes.to_vec()) } else { Heard::Stderr(bytes.to_vec()) }
    }

    /// Returns the next message, which must be of this type. Earlier output of the guest is skipped.
    #[track_caller]
    pub fn message(&mut self, kind: &str) -> impl Future<Output = Value> {
        let asked_at = std::panic::Location::caller();
        async move {
            loop {
                match self.next().await {
                    Heard::Message(message) if message["type"] == kind => return message,
                    Heard::Stdout(_) | Heard::Stderr(_) => {}
                    other => panic!("{asked_at}: instead of {kind} came {other:?}"),
                }
            }
        }
    }

    /// Returns the next stdout of the guest, at least this many bytes.
    pub async fn stdout(&mut self, many: usize) -> Vec<u8> {
        let mut all = Vec::new();
        while all.len() < many {
            match self.next().await {
                Heard::Stdout(bytes) => all.extend(bytes),
                Heard::Message(message) if message["type"] != "ended" => {}
                other => panic!("instead of {many} bytes came {all:?} and {other:?}"),
            }
        }
        all
    }

    /// Reads to the end.
    pub async fn finish(mut self) -> Whole {
        let mut whole = Whole::default();
        loop {
            match self.next().await {
                Heard::Stdout(bytes) => whole.stdout.extend(bytes),
                Heard::Stderr(bytes) => whole.stderr.extend(bytes),
                Heard::Message(message) if message["type"] == "ended" => {
                    whole.outcome = message["outcome"].clone();
                    break;
                }
                Heard::Message(message) => whole.messages.push(message),
                other => panic!("instead of an end came {other:?} after {:?}", whole.messages),
            }
        }
        match self.next_of_all().await {
            Heard::Close(code) => Whole { close: code, ..whole },
            other => panic!("after the end came {other:?} instead of a close frame"),
        }
    }
}
