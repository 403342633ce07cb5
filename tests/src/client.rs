//! A strict client of the websocket protocol: any behaviour without a promise in the documentation fails the test. It
//! knows frames and messages, and nothing about servers and processes.

use crate::patiently;
use futures_util::{SinkExt, StreamExt};
use serde::Deserialize;
use serde_json::json;
use std::net::{IpAddr, SocketAddr};
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{
        Bytes, Error, Message,
        client::IntoClientRequest,
        http::{HeaderName, HeaderValue, StatusCode},
        protocol::frame::{
            Frame as WireFrame,
            coding::{Data, OpCode},
        },
    },
};

/// One socket.
#[derive(Debug)]
pub struct Client {
    socket: WebSocketStream<TcpStream>,
}

/// A message from the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    Text(String),
    Result(Verdict),
    Close(u16),
    /// The connection ended without a close frame.
    Gone,
}

/// The result of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Success,
    Failure(String),
}

/// A whole conversation: the lines until the end, and the end.
#[derive(Debug)]
pub struct End {
    pub lines: Vec<String>,
    pub verdict: Verdict,
    pub close: u16,
}

impl End {
    /// Returns the lines of a call that succeeded.
    #[track_caller]
    pub fn success(self) -> Vec<String> {
        assert_eq!(self.verdict, Verdict::Success, "after {:?}", tail(&self.lines));
        self.lines
    }

    /// Returns the message of a call that failed.
    #[track_caller]
    pub fn failure(self) -> String {
        match self.verdict {
            Verdict::Failure(message) => message,
            Verdict::Success => panic!("the call succeeded after {:?}", tail(&self.lines)),
        }
    }
}

/// Returns the last lines, as many as fit a message.
fn tail(lines: &[String]) -> &[String] {
    &lines[lines.len().saturating_sub(5)..]
}

/// The result message exactly as documented.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ResultMessage {
    success: bool,
    message: Option<String>,
}

impl Verdict {
    fn read(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes);
        let message =
            serde_json::from_slice(bytes).unwrap_or_else(|error| panic!("no result message: {text}: {error}"));
        match message {
            ResultMessage { success: true, message: None } => Self::Success,
            ResultMessage { success: false, message: Some(message) } => Self::Failure(message),
            _ => panic!("neither a success nor a failure: {text}"),
        }
    }
}

/// Builds the message that asks for a call.
pub fn call(name: &str, params: &[&str]) -> Message {
    Message::binary(json!({ "call": name, "params": params }).to_string())
}

/// Builds the message that cancels the call.
pub fn cancel() -> Message {
    Message::binary(json!({ "signal": "cancel" }).to_string())
}

impl Client {
    pub async fn connect(address: SocketAddr) -> Self {
        Self::connect_to(address, "/api/v1/ws", &[]).await.expect("the server takes sockets")
    }

    /// Opens a socket at this path, or returns the status of the refusal.
    pub async fn connect_to(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Result<Self, StatusCode> {
        let stream = patiently("a connection", TcpStream::connect(address)).await;
        Self::upgrade(stream.expect("the server takes connections"), address, path, headers).await
    }

    /// Opens a socket from another address of this machine, such as 127.0.0.2.
    pub async fn connect_from(from: IpAddr, address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind(SocketAddr::new(from, 0)).expect("an address of this machine");
        let stream = patiently("a connection", socket.connect(address)).await.expect("the server takes connections");
        Self::upgrade(stream, address, "/api/v1/ws", &[]).await.expect("the server takes sockets")
    }

    /// Opens a socket over an existing connection, or returns the status of the refusal.
    pub async fn upgrade(
        stream: TcpStream,
        address: SocketAddr,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<Self, StatusCode> {
        Ok(Self { socket: upgraded(stream, address, path, headers).await?.0 })
    }

    /// Opens a socket; `None` if the server accepts none any more.
    pub async fn try_connect(address: SocketAddr) -> Option<Self> {
        let request = format!("ws://{address}/api/v1/ws").into_client_request().expect("a request");
        let connected = async {
            let stream = TcpStream::connect(address).await.ok()?;
            stream.set_nodelay(true).ok()?;
            Some(Self { socket: client_async(request, stream).await.ok()?.0 })
        };
        patiently("a socket, or a refusal", connected).await
    }

    /// Sends a call, lines or a cancel to a server that can have ended the socket meanwhile: its earlier messages can
    /// still be read.
    pub async fn offer(&mut self, message: Message) {
        _ = patiently("a frame to leave", self.socket.send(message)).await;
    }

    /// Opens a socket to a server that can stop at any moment: `None` then.
    pub async fn over(stream: TcpStream, address: &str) -> Option<Self> {
        let request = address.into_client_request().expect("a request");
        let (socket, _) = patiently("the upgrade to a websocket", client_async(request, stream)).await.ok()?;
        Some(Self { socket })
    }

    /// Calls on a server that can stop at any moment.
    pub async fn try_call(&mut self, name: &str, params: &[&str]) -> Option<()> {
        let message = Message::binary(json!({ "call": name, "params": params }).to_string());
        patiently("a frame to leave", self.socket.send(message)).await.ok()
    }

    pub async fn call(&mut self, name: &str, params: &[&str]) {
        self.send(call(name, params)).await;
    }

    pub async fn cancel(&mut self) {
        self.send(cancel()).await;
    }

    /// Ends the input.
    pub async fn end_input(&mut self) {
        self.send(Message::binary(json!({ "signal": "close" }).to_string())).await;
    }

    /// Sends a binary frame with any content.
    pub async fn control(&mut self, content: impl Into<Bytes>) {
        self.send(Message::Binary(content.into())).await;
    }

    pub async fn say(&mut self, line: impl Into<String>) {
        self.send(Message::text(line.into())).await;
    }

    /// Sends one text message in several frames.
    pub async fn say_in_frames(&mut self, parts: &[&str]) {
        for (index, part) in parts.iter().enumerate() {
            let opcode = if index == 0 { Data::Text } else { Data::Continue };
            let last = index + 1 == parts.len();
            let frame = WireFrame::message(Bytes::copy_from_slice(part.as_bytes()), OpCode::Data(opcode), last);
            self.send(Message::Frame(frame)).await;
        }
    }

    /// Sends a text message of any bytes.
    pub async fn say_bytes(&mut self, bytes: &'static [u8]) {
        let frame = WireFrame::message(Bytes::from_static(bytes), OpCode::Data(Data::Text), true);
        self.send(Message::Frame(frame)).await;
    }

    /// Waits for a ping of the server; the answer is sent with the next frame or read.
    pub async fn pinged(&mut self) {
        match patiently("a ping", self.socket.next()).await {
            Some(Ok(Message::Ping(_))) => {
                patiently("the pong to leave", self.socket.flush()).await.expect("the server is there");
            }
            other => panic!("instead of a ping came {other:?}"),
        }
    }

    async fn send(&mut self, message: Message) {
        patiently("a frame to leave", self.socket.send(message)).await.expect("the server is there");
    }

    /// Sends many lines in as few writes as possible, for as long as the server accepts them.
    pub async fn say_all(&mut self, lines: impl IntoIterator<Item = String>) -> Result<(), Error> {
        patiently("many frames to leave", async {
            for line in lines {
                self.socket.feed(Message::text(line)).await?;
            }
            self.socket.flush().await
        })
        .await
    }

    /// Splits the socket, to send and receive at the same time, as programs do.
    pub fn split(self) -> (Speaker, Listener) {
        let (speaker, listener) = self.socket.split();
        (Speaker(speaker), Listener(listener))
    }

    /// Closes as a browser does, without waiting.
    pub async fn hang_up(mut self) {
        // The server can already have exited: then there is nothing left to close.
        _ = patiently("the close frame to leave", self.socket.close(None)).await;
    }

    /// Returns the next frame that is not a ping or a pong.
    pub async fn next(&mut self) -> Frame {
        next(&mut self.socket).await
    }

    /// Returns the next frame, which must be text.
    #[track_caller]
    pub fn line(&mut self) -> impl Future<Output = String> {
        let asked_at = std::panic::Location::caller();
        async move {
            match self.next().await {
                Frame::Text(line) => line,
                other => panic!("{asked_at}: instead of a line came {other:?}"),
            }
        }
    }

    /// Reads to the end, which must be one result and then a close frame.
    pub async fn finish(mut self) -> End {
        finish(&mut self.socket).await
    }
}

/// Opens a websocket and returns its subprotocol, or the status of the refusal.
pub(crate) async fn upgraded(
    stream: TcpStream,
    address: SocketAddr,
    path: &str,
    headers: &[(&str, &str)],
) -> Result<(WebSocketStream<TcpStream>, Option<String>), StatusCode> {
    let mut request = format!("ws://{address}{path}").into_client_request().expect("a request");
    for (name, value) in headers {
        let name = HeaderName::from_bytes(name.as_bytes()).expect("the name of a header");
        request.headers_mut().insert(name, HeaderValue::from_str(value).expect("the value of a header"));
    }
    let connected = async {
        stream.set_nodelay(true).expect("a socket without delay");
        client_async(request, stream).await
    };
    match patiently("the upgrade to a websocket", connected).await {
        Ok((socket, answer)) => {
            let protocol = answer.headers().get("sec-websocket-protocol");
            Ok((socket, protocol.map(|name| name.to_str().expect("the name of a protocol").to_owned())))
        }
        Err(Error::Http(response)) => Err(response.status()),
        Err(error) => panic!("neither an upgrade nor a refusal: {error}"),
    }
}

/// The half of a socket that sends.
#[derive(Debug)]
pub struct Speaker(futures_util::stream::SplitSink<WebSocketStream<TcpStream>, Message>);

impl Speaker {
    pub async fn say_all(&mut self, lines: impl IntoIterator<Item = String>) -> Result<(), Error> {
        patiently("many frames to leave", async {
            for line in lines {
                self.0.feed(Message::text(line)).await?;
            }
            self.0.flush().await
        })
        .await
    }

    pub async fn cancel(&mut self) {
        patiently("the signal to leave", self.0.send(cancel())).await.expect("the server is there");
    }
}

/// The half of a socket that receives.
#[derive(Debug)]
pub struct Listener(futures_util::stream::SplitStream<WebSocketStream<TcpStream>>);

impl Listener {
    pub async fn next(&mut self) -> Frame {
        next(&mut self.0).await
    }

    pub async fn finish(mut self) -> End {
        finish(&mut self.0).await
    }
}

/// Skips pure signs of life. They continue for ever, and a wait must not take that long.
pub(crate) async fn next_but_pings(frames: &mut impl Frames) -> Option<Result<Message, Error>> {
    patiently("a frame", async {
        loop {
            match frames.next().await {
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                other => return other,
            }
        }
    })
    .await
}

pub(crate) trait Frames: futures_util::Stream<Item = Result<Message, Error>> + Unpin {}

impl<T: futures_util::Stream<Item = Result<Message, Error>> + Unpin> Frames for T {}

async fn next(frames: &mut impl Frames) -> Frame {
    match next_but_pings(frames).await {
        Some(Ok(Message::Text(line))) => Frame::Text(line.as_str().to_owned()),
        Some(Ok(Message::Binary(content))) => Frame::Result(Verdict::read(&content)),
        Some(Ok(Message::Close(close))) => Frame::Close(close.map_or(1005, |it| it.code.into())),
        Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => unreachable!("they are left out"),
        Some(Err(_)) | None => Frame::Gone,
    }
}

async fn finish(frames: &mut impl Frames) -> End {
    let mut lines = Vec::new();
    let verdict = loop {
        match next(frames).await {
            Frame::Text(line) => lines.push(line),
            Frame::Result(verdict) => break verdict,
            other => panic!("instead of a result came {other:?}, after {:?}", tail(&lines)),
        }
    };
    match next(frames).await {
        Frame::Close(close) => End { lines, verdict, close },
        other => panic!("after the result {verdict:?} came {other:?} instead of a close frame"),
    }
}
