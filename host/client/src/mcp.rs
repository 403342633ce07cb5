//! The Model Context Protocol over lines: passes the messages of a client on to the endpoint of a server, and the answers
//! back.
//!
//! It reads only the fields that decide where a message goes: identifiers, names, the version, and the session.

use super::Peer;
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Limited};
use hyper::{Method, Response, StatusCode, body::Incoming, header::CONTENT_TYPE};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::{collections::HashMap, sync::Arc};
use tokio::{
    sync::mpsc,
    task::{AbortHandle, JoinSet},
};

const ROUTE: &str = "mcp";
const SESSION: &str = "mcp-session-id";
const VERSION: &str = "mcp-protocol-version";
/// The key of a message with the version that it speaks.
const VERSION_KEY: &str = "io.modelcontextprotocol/protocolVersion";
/// The maximum size of an answer that is not a stream, and of one message in a stream.
const MESSAGE: usize = 16 << 20;
/// The code of an error that is none of the protocol.
const FAILED: i32 = -32000;

/// The connection of one client to one server.
struct Bridge {
    peer: Peer,
    output: mpsc::Sender<String>,
    /// The session and the version that the server has chosen.
    session: Mutex<(Option<String>, Option<String>)>,
    /// The requests that wait for their answers.
    open: Mutex<HashMap<String, AbortHandle>>,
}

/// Passes messages on until `input` has ended and every request is answered, or until nobody takes the output.
pub async fn pass_on(peer: Peer, mut input: mpsc::Receiver<String>, output: mpsc::Sender<String>) {
    let bridge = Arc::new(Bridge { peer, output, session: Mutex::default(), open: Mutex::default() });
    let mut requests = JoinSet::new();
    let mut notifications = JoinSet::new();
    loop {
        let line = tokio::select! {
            line = input.recv() => line,
            Some(_) = requests.join_next(), if !requests.is_empty() => continue,
            () = bridge.output.closed() => return,
        };
        let Some(line) = line else { break };
        let Ok(message) = serde_json::from_str::<Value>(&line) else {
            let error = "a line is not a message: write each as JSON on a line of its own";
            bridge.say(json!({"jsonrpc": "2.0", "id": null, "error": {"code": -32700, "message": error}})).await;
            continue;
        };
        match message["method"].as_str() {
            // What follows needs the session that it begins.
            Some("initialize") => bridge.clone().post(message).await,
            Some("notifications/initialized") => {
                bridge.clone().post(message).await;
                notifications.spawn(bridge.clone().listen());
            }
            Some("notifications/cancelled") => {
                let id = message["params"]["requestId"].to_string();
                bridge.clone().post(message).await;
                // Without a session only the end of its connection cancels a request.
                if let Some(request) = bridge.open.lock().remove(&id) {
                    request.abort();
                }
            }
            _ => {
                let id = message.get("id").map(Value::to_string);
                let request = requests.spawn(bridge.clone().post(message));
                if let Some(id) = id {
                    bridge.open.lock().insert(id, request);
                }
            }
        }
    }
    while requests.join_next().await.is_some() {}
    bridge.end_session().await;
}

impl Bridge {
    /// Sends a message, and passes on what comes back.
    async fn post(self: Arc<Self>, message: Value) {
        let id = message.get("id").cloned();
        let is_request = id.is_some() && message["method"].is_string();
        if let Err(error) = self.try_post(&message).await
            && is_request
        {
            let error = json!({"code": FAILED, "message": format!("{error:#}")});
            self.say(json!({"jsonrpc": "2.0", "id": id, "error": error})).await;
        }
        if let Some(id) = id {
            self.open.lock().remove(&id.to_string());
        }
    }

    async fn try_post(&self, message: &Value) -> anyhow::Result<()> {
        let mut headers = vec![("content-type", "application/json"), ("accept", "application/json, text/event-stream")];
        let (session, version) = self.session.lock().clone();
        let version = message["params"]["_meta"][VERSION_KEY].as_str().or(version.as_deref());
        headers.extend(session.as_deref().map(|session| (SESSION, session)));
        headers.extend(version.map(|version| (VERSION, version)));
        headers.extend(message["method"].as_str().map(|method| ("mcp-method", method)));
        headers.extend(message["params"]["name"].as_str().map(|name| ("mcp-name", name)));
        let body = serde_json::to_vec(message)?;
        let answer = self.peer.send(Method::POST, ROUTE, &headers, body.into()).await?;
        let begins = message["method"] == "initialize";
        if begins {
            let session = answer.headers().get(SESSION).and_then(|it| it.to_str().ok());
            self.session.lock().0 = session.map(str::to_owned);
        }
        self.receive(answer, begins).await
    }

    /// Passes on the messages of an answer.
    async fn receive(&self, answer: Response<Incoming>, begins: bool) -> anyhow::Result<()> {
        let status = answer.status();
        let is_stream = answer.headers().get(CONTENT_TYPE).is_some_and(|it| it.as_bytes().starts_with(b"text/event-"));
        if !status.is_success() || !is_stream {
            let body = Limited::new(answer.into_body(), MESSAGE).collect().await;
            let body = body.map_err(anyhow::Error::from_boxed)?.to_bytes();
            return match serde_json::from_slice::<Value>(&body) {
                Ok(message) if message["jsonrpc"].is_string() => {
                    self.take(message, begins).await;
                    Ok(())
                }
                _ if status == StatusCode::ACCEPTED || status.is_success() && body.is_empty() => Ok(()),
                _ => anyhow::bail!(self.peer.refused(status, &body)),
            };
        }
        let (mut body, mut events) = (answer.into_body(), Events::default());
        while let Some(frame) = body.frame().await {
            let Ok(piece) = frame?.into_data() else { continue };
            for message in events.push(&piece)? {
                self.take(message, begins).await;
            }
        }
        Ok(())
    }

    async fn take(&self, message: Value, begins: bool) {
        if begins && let Some(version) = message["result"]["protocolVersion"].as_str() {
            self.session.lock().1 = Some(version.to_owned());
        }
        self.say(message).await;
    }

    /// Passes on the notifications of a session.
    async fn listen(self: Arc<Self>) {
        let (session, version) = self.session.lock().clone();
        let Some(session) = session else { return };
        let version = version.unwrap_or_default();
        let headers = [("accept", "text/event-stream"), (SESSION, session.as_str()), (VERSION, version.as_str())];
        if let Ok(answer) = self.peer.send(Method::GET, ROUTE, &headers, Bytes::new()).await {
            // Without them the client still has its answers.
            let _ = self.receive(answer, false).await;
        }
    }

    async fn end_session(&self) {
        let session = self.session.lock().0.take();
        if let Some(session) = session {
            // The server ends it by itself after a while.
            let _ = self.peer.send(Method::DELETE, ROUTE, &[(SESSION, &session)], Bytes::new()).await;
        }
    }

    async fn say(&self, message: Value) {
        // A reader that has gone ends the program as well.
        let _ = self.output.send(message.to_string()).await;
    }
}

/// The reader of a stream of server-sent events whose data are messages.
#[derive(Default)]
struct Events {
    unread: BytesMut,
    data: String,
}

impl Events {
    fn push(&mut self, piece: &[u8]) -> anyhow::Result<Vec<Value>> {
        self.unread.extend_from_slice(piece);
        anyhow::ensure!(self.unread.len() + self.data.len() <= MESSAGE, "a message of the server is too large");
        let mut messages = Vec::new();
        while let Some(end) = self.unread.iter().position(|byte| *byte == b'\n') {
            let line = self.unread.split_to(end + 1);
            let line = std::str::from_utf8(&line)?.trim_end_matches(['\r', '\n']);
            if let Some(data) = line.strip_prefix("data:") {
                self.data.push_str(data.trim_start());
            } else if line.is_empty() {
                // The first event of a stream has no data.
                messages.extend(serde_json::from_str(&std::mem::take(&mut self.data)).ok());
            }
        }
        Ok(messages)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_in_pieces_of_each_size() {
        let stream = b"id: 0\nretry: 3000\ndata: \n\nid: 1\r\ndata: {\"a\":\r\ndata: 1}\r\n\r\n: ping\n\ndata: [2]\n\n";
        for size in 1..stream.len() {
            let mut events = Events::default();
            let read: Vec<_> = stream.chunks(size).flat_map(|piece| events.push(piece).unwrap()).collect();
            assert_eq!(read, [json!({"a": 1}), json!([2])], "{size}");
        }
    }

    #[test]
    fn message_without_end_is_refused() {
        let mut events = Events::default();
        assert!((0..=MESSAGE >> 20).any(|_| events.push(&vec![b'x'; 1 << 20]).is_err()));
    }
}
