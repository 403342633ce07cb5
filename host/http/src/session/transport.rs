//! The way to the client: a websocket, or an exchange of a request and its answer.

use crate::{
    exchange::Exchange,
    socket::{Incoming, Lost, Socket},
    wire::Frame,
};
use bytes::Bytes;
use std::task::{Context, Poll};

pub enum Transport {
    Socket(Box<Socket>),
    Exchange(Box<Exchange>),
}

impl From<Socket> for Transport {
    fn from(socket: Socket) -> Self {
        Self::Socket(Box::new(socket))
    }
}

impl From<Exchange> for Transport {
    fn from(exchange: Exchange) -> Self {
        Self::Exchange(Box::new(exchange))
    }
}

impl Transport {
    /// Returns whether the client has to answer pings. The system and the HTTP library watch over the connection of an
    /// exchange.
    pub fn is_pinged(&self) -> bool {
        matches!(self, Self::Socket(_))
    }

    /// Returns whether the client's messages count until the result is sent. The body of a request does not.
    pub fn is_heard_at_end(&self) -> bool {
        matches!(self, Self::Socket(_))
    }

    /// Returns how many bytes the client's side has accepted.
    pub fn written(&self) -> u64 {
        match self {
            Self::Socket(socket) => socket.written(),
            Self::Exchange(exchange) => exchange.written(),
        }
    }

    /// Returns how many bytes arrived from the client.
    pub fn received(&self) -> u64 {
        match self {
            Self::Socket(socket) => socket.received(),
            Self::Exchange(exchange) => exchange.received(),
        }
    }

    /// Returns whether so many answers wait for the client that reading from it must stop.
    pub fn is_choked(&self) -> bool {
        match self {
            Self::Socket(socket) => socket.is_choked(),
            Self::Exchange(_) => false,
        }
    }

    /// Tells whether the client has closed its side of a connection that is not read at the moment.
    pub fn has_hung_up(&mut self, cx: &mut Context<'_>) -> bool {
        match self {
            Self::Socket(socket) => socket.has_hung_up(cx),
            Self::Exchange(exchange) => exchange.has_hung_up(),
        }
    }

    pub fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Incoming> {
        match self {
            Self::Socket(socket) => socket.poll_read(cx),
            Self::Exchange(exchange) => exchange.poll_read(cx),
        }
    }

    /// Becomes ready when a frame can be sent; not while the client does not read.
    pub fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Lost>> {
        match self {
            Self::Socket(socket) => socket.poll_ready(cx),
            Self::Exchange(exchange) => exchange.poll_ready(cx),
        }
    }

    pub fn send_line(&mut self, line: Bytes) -> Result<(), Lost> {
        match self {
            Self::Socket(socket) => socket.send_line(line),
            Self::Exchange(_) => unreachable!("an exchange has no lines"),
        }
    }

    pub fn send_frame(&mut self, frame: Frame) -> Result<(), Lost> {
        match self {
            Self::Socket(socket) => socket.send_frame(frame),
            Self::Exchange(exchange) => {
                exchange.send_frame(frame);
                Ok(())
            }
        }
    }

    pub fn send_ping(&mut self) -> Result<(), Lost> {
        match self {
            Self::Socket(socket) => socket.send_ping(),
            Self::Exchange(_) => Ok(()),
        }
    }

    /// Queues the last frame. The end of an answer is in its last part already.
    pub fn send_close(&mut self, code: u16) -> Result<(), Lost> {
        match self {
            Self::Socket(socket) => socket.send_close(code),
            Self::Exchange(_) => Ok(()),
        }
    }

    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Lost>> {
        match self {
            Self::Socket(socket) => socket.poll_flush(cx),
            Self::Exchange(exchange) => exchange.poll_flush(cx),
        }
    }

    pub fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Socket(socket) => socket.poll_close(cx),
            Self::Exchange(exchange) => exchange.poll_close(cx),
        }
    }
}
