//! One websocket: incoming and outgoing frames, and its orderly end. Only this module uses the websocket library.
//!
//! Outgoing frames are buffered and written together when the session flushes.

mod counted;
mod hang_up;

use crate::wire::Frame;
use axum::{
    body::Body,
    http::{
        HeaderValue, StatusCode, Version,
        header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, UPGRADE},
        request::Parts,
    },
    response::Response,
};
use bytes::Bytes;
use counted::Counted;
use distillery_core::size::Size;
use futures_util::{Sink, Stream};
pub use hang_up::HangUp;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message, Utf8Bytes,
        error::{CapacityError, Error, ProtocolError},
        handshake::derive_accept_key,
        protocol::{CloseFrame, Role, WebSocketConfig},
    },
};

/// Bytes that are read from the kernel at a time. Each open socket has a buffer of this size.
const READ_BUFFER: usize = 16 << 10;
/// Buffered bytes above which frames are written before the session flushes.
const WRITE_BUFFER: usize = 64 << 10;
/// Maximum number of pongs that the client has not accepted.
const PONGS: usize = 1024;
/// Maximum number of frames or chunks that are skipped at a time while the connection is closed.
const SKIPPED: usize = 64;

/// The close code for a violation of the websocket protocol.
const PROTOCOL: u16 = 1002;

/// A frame or an event from the client.
#[derive(Debug)]
pub enum Incoming {
    Text(Utf8Bytes),
    Binary(Bytes),
    /// The body of a request has ended. Only of an exchange.
    Ended,
    /// A ping or a pong: a sign of life.
    Alive,
    /// A frame larger than the limit; no more frames can be read.
    TooBig,
    /// The client violated the websocket protocol; no more frames can be read.
    Broken(String),
    /// Text that is not UTF-8; no more frames can be read.
    NotText,
    /// The client closes the connection. The reply is queued, and no other frame can be sent.
    Closed,
    /// The connection is lost.
    Lost,
}

/// The error of a lost connection.
#[derive(Debug)]
pub struct Lost;

/// A websocket over a stream of bytes.
pub struct Socket<S = TokioIo<Upgraded>> {
    inner: WebSocketStream<Counted<S>>,
    /// Frames wait for a flush.
    unflushed: bool,
    /// Pongs that the client has not accepted.
    pongs: usize,
    /// Reading has ended: the client has closed, or has sent invalid frames.
    heard_out: bool,
    /// The client's close frame has arrived.
    closed: bool,
    stage: Stage,
    hang_up: HangUp,
}

/// A stage of the close of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The close frame is being sent.
    Flush,
    /// The client's close frame is awaited.
    Await,
    /// Writing has ended.
    Shutdown,
    /// Remaining input is read and dropped. A connection that is dropped earlier would be reset, and the client could
    /// lose data that it has not read yet.
    Drain,
}

/// Accepts a valid handshake. Returns the response, and the socket that exists once the client has the response. Over
/// HTTP/1.1 the response is to the client's key, over HTTP/2 to its CONNECT.
pub fn accept(
    request: &Parts,
    on_upgrade: OnUpgrade,
    hang_up: HangUp,
    protocol: Option<&'static str>,
    max_frame: Size,
) -> (Response, impl Future<Output = Result<Socket, hyper::Error>> + Send + use<>) {
    let mut answer = Response::new(Body::empty());
    if let Some(key) = request.headers.get(SEC_WEBSOCKET_KEY).filter(|_| request.version != Version::HTTP_2) {
        *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let accept = HeaderValue::from_str(&derive_accept_key(key.as_bytes())).expect("base64 is a header");
        let headers = answer.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    }
    if let Some(protocol) = protocol {
        answer.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
    }
    (answer, async move {
        let mut socket = Socket::new(TokioIo::new(on_upgrade.await?), max_frame).await;
        socket.hang_up = hang_up;
        Ok(socket)
    })
}

impl<S: AsyncRead + AsyncWrite + Unpin> Socket<S> {
    /// Returns a websocket over `stream`, after the upgrade.
    pub async fn new(stream: S, max_frame: Size) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(WRITE_BUFFER)
            .max_frame_size(Some(max_frame.as_usize()))
            .max_message_size(Some(max_frame.as_usize()));
        let inner = WebSocketStream::from_raw_socket(Counted::new(stream), Role::Server, Some(config)).await;
        Self {
            inner,
            unflushed: false,
            pongs: 0,
            heard_out: false,
            closed: false,
            stage: Stage::Flush,
            hang_up: HangUp::default(),
        }
    }

    /// Returns how many bytes the client's side of the connection has accepted.
    pub fn written(&self) -> u64 {
        self.inner.get_ref().written()
    }

    /// Returns how many bytes arrived from the client.
    pub fn received(&self) -> u64 {
        self.inner.get_ref().received()
    }

    /// Returns whether so many pongs wait for the client that reading from it must stop.
    pub fn is_choked(&self) -> bool {
        self.pongs >= PONGS
    }

    /// Tells whether the client has closed its side of a connection that is not read at the moment.
    pub fn has_hung_up(&mut self, cx: &mut Context<'_>) -> bool {
        self.hang_up.ask();
        // Only the look matters: what is written is flushed elsewhere.
        let _ = Pin::new(self.inner.get_mut()).poll_flush(cx);
        self.hang_up.is_found()
    }

    pub fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Incoming> {
        Poll::Ready(match ready!(Pin::new(&mut self.inner).poll_next(cx)) {
            Some(Ok(Message::Text(text))) => Incoming::Text(text),
            Some(Ok(Message::Binary(data))) => Incoming::Binary(data),
            Some(Ok(Message::Ping(_))) => {
                // The reply is queued, and is sent with the next flush.
                self.unflushed = true;
                self.pongs += 1;
                Incoming::Alive
            }
            Some(Ok(Message::Pong(_) | Message::Frame(_))) => Incoming::Alive,
            Some(Ok(Message::Close(_))) => {
                self.heard_out = true;
                self.closed = true;
                Incoming::Closed
            }
            None => Incoming::Lost,
            Some(Err(error)) => self.broken(error),
        })
    }

    fn broken(&mut self, error: Error) -> Incoming {
        let incoming = match error {
            Error::Capacity(CapacityError::MessageTooLong { .. }) => Incoming::TooBig,
            Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => return Incoming::Lost,
            // A malformed close frame.
            Error::Protocol(ProtocolError::InvalidCloseSequence) => match self.send_close(PROTOCOL) {
                Ok(()) => Incoming::Closed,
                Err(Lost) => return Incoming::Lost,
            },
            Error::Protocol(error) => Incoming::Broken(lower_first(&error.to_string())),
            Error::Utf8(_) => Incoming::NotText,
            _ => return Incoming::Lost,
        };
        self.heard_out = true;
        incoming
    }

    /// Becomes ready when a frame can be sent; not while the client does not read.
    pub fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Lost>> {
        Pin::new(&mut self.inner).poll_ready(cx).map_err(|_| Lost)
    }

    /// Queues text as a frame. Invalid UTF-8 becomes U+FFFD.
    pub fn send_line(&mut self, line: Bytes) -> Result<(), Lost> {
        // Validated once. The clone, which costs a reference count, keeps the bytes in case they are invalid.
        let text = Utf8Bytes::try_from(line.clone());
        self.send(Message::Text(text.unwrap_or_else(|_| String::from_utf8_lossy(&line).into_owned().into())))
    }

    pub fn send_frame(&mut self, frame: Frame) -> Result<(), Lost> {
        match frame {
            Frame::Text(text) => self.send_line(text),
            Frame::Binary(data) => self.send(Message::Binary(data)),
            Frame::Part(part) => unreachable!("only an exchange has parts, such as {part:?}"),
        }
    }

    pub fn send_ping(&mut self) -> Result<(), Lost> {
        self.send(Message::Ping(Bytes::new()))
    }

    /// Queues the last frame. [`Self::poll_close`] then closes the connection.
    pub fn send_close(&mut self, code: u16) -> Result<(), Lost> {
        self.send(Message::Close(Some(CloseFrame { code: code.into(), reason: Utf8Bytes::default() })))
    }

    fn send(&mut self, message: Message) -> Result<(), Lost> {
        self.unflushed = true;
        Pin::new(&mut self.inner).start_send(message).map_err(|_| Lost)
    }

    /// Becomes ready when all frames are in the kernel.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Lost>> {
        if !self.unflushed {
            return Poll::Ready(Ok(()));
        }
        let flushed = ready!(Pin::new(&mut self.inner).poll_flush(cx));
        self.unflushed = false;
        self.pongs = 0;
        Poll::Ready(flushed.map_err(|_| Lost))
    }

    /// Closes the connection in order, after a close frame from each side. Becomes ready when the connection is closed.
    pub fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            self.stage = match self.stage {
                Stage::Flush => match ready!(Pin::new(&mut self.inner).poll_flush(cx)) {
                    Ok(()) if self.heard_out => Stage::Shutdown,
                    Ok(()) => Stage::Await,
                    Err(_) => return Poll::Ready(()),
                },
                Stage::Await => {
                    ready!(self.poll_last_frame(cx));
                    Stage::Shutdown
                }
                Stage::Shutdown => match ready!(Pin::new(self.inner.get_mut()).poll_shutdown(cx)) {
                    Ok(()) => Stage::Drain,
                    Err(_) => return Poll::Ready(()),
                },
                Stage::Drain => return self.poll_drain(cx),
            };
        }
    }

    /// Skips input before the client's close frame.
    fn poll_last_frame(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        for _ in 0..SKIPPED {
            match ready!(Pin::new(&mut self.inner).poll_next(cx)) {
                Some(Ok(Message::Close(_))) => self.closed = true,
                Some(Err(_)) | None => {}
                Some(Ok(_)) => continue,
            }
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Skips input until the client closes the connection as well. No input is expected after its close frame, so the
    /// wait ends then.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut piece = [0; 4 << 10];
        for _ in 0..SKIPPED {
            let mut buffer = ReadBuf::new(&mut piece);
            match Pin::new(self.inner.get_mut()).poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => self.closed = false,
                Poll::Pending if !self.closed => return Poll::Pending,
                Poll::Ready(_) | Poll::Pending => return Poll::Ready(()),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

fn lower_first(text: &str) -> String {
    let mut characters = text.chars();
    match characters.next() {
        Some(first) => first.to_lowercase().chain(characters).collect(),
        None => String::new(),
    }
}
