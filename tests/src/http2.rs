//! HTTP/2 as raw frames, for frames that no correct client sends: a connection, and frames out and in. It knows the
//! format of frames (RFC 9113) and headers without compression (RFC 7541), and nothing about the requests.

use crate::patiently;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The first bytes of every connection.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PUSH_PROMISE: u8 = 5;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

/// The flags of frames: ACK and END_STREAM are the same bit.
pub const ACK: u8 = 1;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;
pub const PADDED: u8 = 8;
pub const PRIORITIZED: u8 = 0x20;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    pub fn new(kind: u8, flags: u8, stream: u32, payload: impl Into<Vec<u8>>) -> Self {
        Self { kind, flags, stream, payload: payload.into() }
    }

    /// Returns the bytes of the frame.
    pub fn bytes(&self) -> Vec<u8> {
        let length = u32::try_from(self.payload.len()).expect("a short frame").to_be_bytes();
        let mut bytes = length[1..].to_vec();
        bytes.extend([self.kind, self.flags]);
        bytes.extend(self.stream.to_be_bytes());
        bytes.extend(&self.payload);
        bytes
    }

    /// Returns the error that RST_STREAM or GOAWAY names.
    pub fn error(&self) -> Option<u32> {
        let code = match self.kind {
            RST_STREAM => self.payload.get(..4)?,
            GOAWAY => self.payload.get(4..8)?,
            _ => return None,
        };
        Some(u32::from_be_bytes(code.try_into().ok()?))
    }

    /// Returns the status of an answer, if it is in the static table of every client.
    pub fn status(&self) -> Option<u16> {
        let indexed = [0x88, 0x89, 0x8a, 0x8b, 0x8c, 0x8d, 0x8e].iter().position(|it| self.payload.first() == Some(it));
        indexed.filter(|_| self.kind == HEADERS).map(|at| [200, 204, 206, 304, 400, 404, 500][at])
    }
}

/// Builds a block of headers, none of them compressed.
pub fn block(headers: &[(&str, &str)]) -> Vec<u8> {
    let text = |text: &str| {
        // A length of seven bits, with the remainder in the following bytes.
        let length = text.len();
        let mut bytes = if length < 127 {
            vec![u8::try_from(length).expect("a short text")]
        } else {
            let mut bytes = vec![127];
            let mut more = length - 127;
            while more >= 128 {
                bytes.push(u8::try_from(more % 128).expect("seven bits") | 0x80);
                more /= 128;
            }
            bytes.push(u8::try_from(more).expect("seven bits"));
            bytes
        };
        bytes.extend(text.bytes());
        bytes
    };
    headers.iter().flat_map(|(name, value)| [vec![0], text(name), text(value)].concat()).collect()
}

/// Returns the headers of a GET.
pub fn get(path: &str) -> Vec<u8> {
    block(&[(":method", "GET"), (":scheme", "https"), (":authority", "localhost"), (":path", path)])
}

/// Builds the settings of a client with this one.
pub fn setting(name: u16, value: u32) -> Vec<u8> {
    [&name.to_be_bytes()[..], &value.to_be_bytes()].concat()
}

/// A connection on which the preface has been sent.
#[derive(Debug)]
pub struct Raw<S> {
    pub stream: S,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Raw<S> {
    /// Sends the preface, and these settings.
    pub async fn open(mut stream: S, settings: Vec<u8>) -> Self {
        let hello = [PREFACE.to_vec(), Frame::new(SETTINGS, 0, 0, settings).bytes()].concat();
        stream.write_all(&hello).await.expect("the preface leaves");
        Self { stream }
    }

    /// Sends frames. A server that has closed already reads none.
    pub async fn send(&mut self, frames: &[Frame]) {
        let bytes: Vec<u8> = frames.iter().flat_map(Frame::bytes).collect();
        _ = self.stream.write_all(&bytes).await;
        _ = self.stream.flush().await;
    }

    /// Returns the next frame, `None` when the connection has ended.
    pub async fn next(&mut self) -> Option<Frame> {
        patiently("a frame", async {
            let mut head = [0; 9];
            self.stream.read_exact(&mut head).await.ok()?;
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; length as usize];
            self.stream.read_exact(&mut payload).await.ok()?;
            let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            Some(Frame { kind: head[3], flags: head[4], stream, payload })
        })
        .await
    }

    /// Returns the next frame that matches, `None` when the connection has ended before.
    pub async fn find(&mut self, wanted: impl Fn(&Frame) -> bool) -> Option<Frame> {
        loop {
            let frame = self.next().await?;
            if wanted(&frame) {
                return Some(frame);
            }
        }
    }

    /// Waits until the server has ended the connection.
    pub async fn ends(&mut self) {
        while self.next().await.is_some() {}
    }
}
