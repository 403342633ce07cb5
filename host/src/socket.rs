//! One websocket: frames in and frames out, as a session needs them. The one door to the websocket library.
//!
//! Frames out are gathered and written together when the session flushes.

use crate::{server::connection::Meter, size::Size, wire::Frame};
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade};
use bytes::Bytes;
use futures_util::{Sink, Stream};
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};
use tokio_tungstenite::tungstenite;

/// What is read from the kernel at a time. Each socket has a buffer of this size for as long as it is open.
const READ_BUFFER: usize = 16 << 10;
/// When this much waits to be written, it is written before the session flushes.
const WRITE_BUFFER: usize = 64 << 10;

/// What came from the client.
#[derive(Debug)]
pub enum Incoming {
    Text(Utf8Bytes),
    Binary(Bytes),
    /// A ping or a pong: the client lives.
    Alive,
    /// A frame larger than the limit; nothing can be read any more.
    TooBig,
    /// The client broke the rules of websockets; nothing can be read any more.
    Broken(String),
    /// The client is gone.
    Gone,
}

/// The connection is gone.
#[derive(Debug)]
pub struct Lost;

pub struct Socket {
    inner: WebSocket,
    meter: Arc<Meter>,
    /// Frames wait to be flushed.
    unflushed: bool,
}

/// The sizes that a socket keeps to.
pub fn sized(upgrade: WebSocketUpgrade, max_frame: Size) -> WebSocketUpgrade {
    upgrade
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(WRITE_BUFFER)
        .max_frame_size(max_frame.as_usize())
        .max_message_size(max_frame.as_usize())
}

impl Socket {
    /// `meter` counts what the connection below `inner` writes.
    pub fn new(inner: WebSocket, meter: Arc<Meter>) -> Self {
        Self { inner, meter, unflushed: false }
    }

    /// How many bytes the client's side of the connection has taken.
    pub fn written(&self) -> u64 {
        self.meter.written()
    }

    pub fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Incoming> {
        Poll::Ready(match ready!(Pin::new(&mut self.inner).poll_next(cx)) {
            Some(Ok(Message::Text(text))) => Incoming::Text(text),
            Some(Ok(Message::Binary(data))) => Incoming::Binary(data),
            Some(Ok(Message::Ping(_))) => {
                // The answer is queued, and goes out with the next flush.
                self.unflushed = true;
                Incoming::Alive
            }
            Some(Ok(Message::Pong(_))) => Incoming::Alive,
            Some(Ok(Message::Close(_))) | None => Incoming::Gone,
            Some(Err(error)) => broken(error),
        })
    }

    /// Ready when a frame may be sent; not ready while the client does not take what was sent.
    pub fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Lost>> {
        Pin::new(&mut self.inner).poll_ready(cx).map_err(|_| Lost)
    }

    /// Queues text as a frame. What is not UTF-8 in it becomes U+FFFD.
    pub fn send_line(&mut self, line: Bytes) -> Result<(), Lost> {
        // Looked at once: the bytes are kept for the case that they are none, at the cost of a count.
        let text = Utf8Bytes::try_from(line.clone());
        self.send(Message::Text(text.unwrap_or_else(|_| String::from_utf8_lossy(&line).into_owned().into())))
    }

    pub fn send_frame(&mut self, frame: Frame) -> Result<(), Lost> {
        match frame {
            Frame::Text(text) => self.send_line(text),
            Frame::Binary(data) => self.send(Message::Binary(data)),
        }
    }

    pub fn send_ping(&mut self) -> Result<(), Lost> {
        self.send(Message::Ping(Bytes::new()))
    }

    pub fn send_close(&mut self, code: u16) -> Result<(), Lost> {
        self.send(Message::Close(Some(CloseFrame { code, reason: Utf8Bytes::default() })))
    }

    fn send(&mut self, message: Message) -> Result<(), Lost> {
        self.unflushed = true;
        Pin::new(&mut self.inner).start_send(message).map_err(|_| Lost)
    }

    /// Ready when everything that was sent has gone to the kernel.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Lost>> {
        if !self.unflushed {
            return Poll::Ready(Ok(()));
        }
        let flushed = ready!(Pin::new(&mut self.inner).poll_flush(cx));
        self.unflushed = false;
        Poll::Ready(flushed.map_err(|_| Lost))
    }
}

fn broken(error: axum::Error) -> Incoming {
    use tungstenite::error::{CapacityError, Error, ProtocolError};
    let Ok(error) = error.into_inner().downcast::<Error>() else { return Incoming::Gone };
    match *error {
        Error::Capacity(CapacityError::MessageTooLong { .. }) => Incoming::TooBig,
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => Incoming::Gone,
        Error::Protocol(error) => Incoming::Broken(lower_first(&error.to_string())),
        Error::Utf8(_) => Incoming::Broken("a text frame is not UTF-8".into()),
        _ => Incoming::Gone,
    }
}

fn lower_first(text: &str) -> String {
    let mut characters = text.chars();
    match characters.next() {
        Some(first) => first.to_lowercase().chain(characters).collect(),
        None => String::new(),
    }
}
