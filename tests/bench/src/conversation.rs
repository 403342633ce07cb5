//! A whole call as the client sees it: upgrade, call, one line each way, result, close.
//!
//! It is given bytes and says what it waits for. Its user decides whether to block or to poll.

use crate::{
    client::{LINE, Target, call_message, text, told},
    frame::{self, Frame, Inbox, Kind, find},
};
use anyhow::{Context, Result, bail, ensure};
use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
};

/// Bytes that every call to a server sends, and the state of one call after the other.
pub struct Conversation<'a> {
    target: &'a Target,
    request: Vec<u8>,
    opening: Vec<u8>,
    close: Vec<u8>,
    inbox: Inbox,
    awaited: Awaited,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Awaited {
    Upgrade,
    Line,
    Result,
    Close,
    End,
}

/// State of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    Waiting,
    Over,
}

impl<'a> Conversation<'a> {
    pub fn new(target: &'a Target) -> Self {
        Self {
            target,
            request: if target.requests { request(target) } else { frame::upgrade_request(&target.path) },
            // The call and its line leave in one write: the protocol allows to send both without waiting.
            opening: [call_message(target), text(LINE)].concat(),
            close: frame::close(),
            inbox: Inbox::new(),
            awaited: Awaited::Upgrade,
        }
    }

    /// Connects and requests the upgrade. Connecting on the loopback is immediate, so it need not be polled.
    pub fn begin(&mut self) -> Result<TcpStream> {
        let mut stream = TcpStream::connect(self.target.address).context("cannot connect")?;
        stream.set_nodelay(true)?;
        stream.write_all(&self.request)?;
        self.inbox.clear();
        self.awaited = Awaited::Upgrade;
        Ok(stream)
    }

    /// Reads available bytes, and answers them. The few bytes of an answer always fit the socket.
    pub fn go_on<S: Read + Write>(&mut self, stream: &mut S) -> Result<Progress> {
        if self.target.requests {
            return self.read_answer(stream);
        }
        match self.inbox.fill(stream) {
            Ok(0) if self.awaited == Awaited::End => return Ok(Progress::Over),
            // A server can hang up without waiting for the answer to its close frame.
            Err(gone) if self.awaited == Awaited::End && is_gone(&gone) => return Ok(Progress::Over),
            Err(later) if later.kind() == ErrorKind::WouldBlock => return Ok(Progress::Waiting),
            Ok(0) => bail!("the server hung up in the middle of a call"),
            read => read?,
        };
        if self.awaited == Awaited::Upgrade {
            if !self.inbox.upgraded()? {
                return Ok(Progress::Waiting);
            }
            stream.write_all(&self.opening)?;
            self.awaited = Awaited::Line;
        }
        while let Some(frame) = self.inbox.ready()? {
            self.awaited = match (self.awaited, frame) {
                (Awaited::Line, Frame { kind: Kind::Text, payload }) if payload == LINE => {
                    if self.target.call.is_none() {
                        stream.write_all(&self.close)?;
                        return Ok(Progress::Over);
                    }
                    Awaited::Result
                }
                (Awaited::Result, Frame { kind: Kind::Binary, payload: br#"{"success":true}"# }) => Awaited::Close,
                (Awaited::Close, Frame { kind: Kind::Close, payload: [3, 232, ..] }) => {
                    match stream.write_all(&self.close) {
                        Err(other) if !is_gone(&other) => return Err(other.into()),
                        _ => Awaited::End,
                    }
                }
                (_, other) => {
                    let expected = match self.awaited {
                        Awaited::Line => "the line back",
                        Awaited::Result => "the result",
                        Awaited::Close => "a close frame 1000",
                        Awaited::Upgrade | Awaited::End => "nothing more",
                    };
                    bail!("expected {expected}, got {}", told(Some(other)))
                }
            };
        }
        ensure!(self.awaited != Awaited::End || self.inbox.is_empty(), "something came after the close frame");
        Ok(Progress::Waiting)
    }

    /// Reads a response, which is complete when the server hangs up.
    fn read_answer<S: Read>(&mut self, stream: &mut S) -> Result<Progress> {
        match self.inbox.fill(stream) {
            Ok(0) => {
                let answer = self.inbox.unread();
                let good = answer.starts_with(b"HTTP/1.1 200") && find(answer, LINE).is_some();
                ensure!(good, "expected the line back, got {}", String::from_utf8_lossy(answer));
                Ok(Progress::Over)
            }
            Err(later) if later.kind() == ErrorKind::WouldBlock => Ok(Progress::Waiting),
            read => read.map(|_| Progress::Waiting).context("waiting for the answer"),
        }
    }

    /// Runs a whole call on a blocking socket.
    pub fn hold(&mut self) -> Result<()> {
        let mut stream = self.begin()?;
        while self.go_on(&mut stream)? == Progress::Waiting {}
        Ok(())
    }

    /// Runs a whole call on a socket of the runtime.
    pub async fn hold_among_others(&mut self) -> Result<()> {
        let stream = self.begin()?;
        stream.set_nonblocking(true)?;
        let stream = tokio::net::TcpStream::from_std(stream)?;
        loop {
            stream.readable().await?;
            if self.go_on(&mut Ready(&stream))? == Progress::Over {
                return Ok(());
            }
        }
    }
}

/// Returns the request of a server without websockets.
fn request(target: &Target) -> Vec<u8> {
    let Target { path, .. } = target;
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        LINE.len()
    );
    [head.as_bytes(), LINE].concat()
}

fn is_gone(failed: &std::io::Error) -> bool {
    matches!(failed.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
}

/// A socket of the runtime, used without waiting.
pub struct Ready<'a>(pub &'a tokio::net::TcpStream);

impl Read for Ready<'_> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        self.0.try_read(into)
    }
}

impl Write for Ready<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
