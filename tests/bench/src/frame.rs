//! The client's side of a websocket, as small as possible: one request, masked frames out, whole frames in.
//!
//! It knows no calls, and costs as little as possible, so that the server is what is measured. Only for this bench: it
//! assumes that the server does not fragment messages, and fails if it does.

use anyhow::{Context, Result, bail, ensure};
use std::{
    io::{Read, Write},
    ops::Range,
};

/// Kinds of frames, with their opcodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    Text = 1,
    Binary = 2,
    Close = 8,
    Ping = 9,
    Pong = 10,
}

/// A frame of the server.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    pub kind: Kind,
    pub payload: &'a [u8],
}

// Key and answer of the example in RFC 6455: the answer is checked without a hash.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &[u8] = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// Fixed mask. Masks exist for proxies; servers treat all alike.
const MASK: [u8; 4] = [0x3a, 0x91, 0xc7, 0x5e];

/// Returns the request for a websocket at `path`.
pub fn upgrade_request(path: &str) -> Vec<u8> {
    format!(
        "GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
    )
    .into_bytes()
}

/// Appends a frame, masked as the frames of a client must be.
pub fn push(out: &mut Vec<u8>, kind: Kind, payload: &[u8]) {
    out.push(0x80 | kind as u8);
    match payload.len() {
        length @ 0..=125 => out.push(0x80 | length as u8),
        length @ 126..=0xffff => {
            out.push(0x80 | 126);
            out.extend((length as u16).to_be_bytes());
        }
        length => {
            out.push(0x80 | 127);
            out.extend((length as u64).to_be_bytes());
        }
    }
    out.extend(MASK);
    out.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
}

/// Returns a close frame with code 1000.
pub fn close() -> Vec<u8> {
    let mut out = Vec::new();
    push(&mut out, Kind::Close, &1000u16.to_be_bytes());
    out
}

/// Received bytes that are not taken as frames yet. Reused by one socket after the other.
pub struct Inbox {
    buffer: Vec<u8>,
    unread: Range<usize>,
}

impl Inbox {
    pub fn new() -> Self {
        Self { buffer: vec![0; 256 * 1024], unread: 0..0 }
    }

    /// Makes a small one, for many sockets with little traffic.
    pub fn small() -> Self {
        Self { buffer: vec![0; 1024], unread: 0..0 }
    }

    /// Returns all bytes that are not taken yet.
    pub fn unread(&self) -> &[u8] {
        &self.buffer[self.unread.clone()]
    }

    /// Forgets the bytes of the last socket.
    pub fn clear(&mut self) {
        self.unread = 0..0;
    }

    /// Tells whether everything received was taken.
    pub fn is_empty(&self) -> bool {
        self.unread.is_empty()
    }

    /// Waits for more bytes; returns 0 at the end of the stream.
    pub fn fill(&mut self, stream: &mut impl Read) -> std::io::Result<usize> {
        if self.unread.is_empty() {
            self.unread = 0..0;
        } else if self.unread.end == self.buffer.len() {
            self.buffer.copy_within(self.unread.clone(), 0);
            self.unread = 0..self.unread.len();
            if self.unread.end == self.buffer.len() {
                self.buffer.resize(2 * self.buffer.len(), 0);
            }
        }
        let read = stream.read(&mut self.buffer[self.unread.end..])?;
        self.unread.end += read;
        Ok(read)
    }

    /// Takes the answer to the upgrade request, once it is complete.
    pub fn upgraded(&mut self) -> Result<bool> {
        let seen = &self.buffer[self.unread.clone()];
        let Some(end) = find(seen, b"\r\n\r\n") else { return Ok(false) };
        let head = &seen[..end];
        if !head.starts_with(b"HTTP/1.1 101") || find(head, ACCEPT).is_none() {
            bail!("the server did not upgrade: {}", String::from_utf8_lossy(head).trim());
        }
        self.unread.start += end + 4;
        Ok(true)
    }

    /// Takes the next complete frame.
    pub fn ready(&mut self) -> Result<Option<Frame<'_>>> {
        Ok(self.take()?.map(|found| self.frame(found)))
    }

    /// Waits for the next frame other than ping and pong, and answers pings; `None` at the end of the stream.
    pub fn next_message<S: Read + Write>(&mut self, stream: &mut S) -> Result<Option<Frame<'_>>> {
        loop {
            match self.wait(stream)? {
                Some(Found { kind: Kind::Ping, payload }) => {
                    let mut pong = Vec::new();
                    push(&mut pong, Kind::Pong, &self.buffer[payload]);
                    stream.write_all(&pong)?;
                }
                Some(Found { kind: Kind::Pong, .. }) => {}
                found => return Ok(found.map(|found| self.frame(found))),
            }
        }
    }

    fn frame(&self, found: Found) -> Frame<'_> {
        Frame { kind: found.kind, payload: &self.buffer[found.payload] }
    }

    fn wait(&mut self, stream: &mut impl Read) -> Result<Option<Found>> {
        loop {
            if let Some(found) = self.take()? {
                return Ok(Some(found));
            }
            if self.fill(stream)? == 0 {
                ensure!(self.is_empty(), "the server hung up within a frame");
                return Ok(None);
            }
        }
    }

    fn take(&mut self) -> Result<Option<Found>> {
        let seen = &self.buffer[self.unread.clone()];
        let [first, second, ..] = *seen else { return Ok(None) };
        ensure!(first & 0xf0 == 0x80, "the server fragmented a message, or set reserved bits: {first:#04x}");
        ensure!(second & 0x80 == 0, "the server masked a frame");
        let (head, length) = match second {
            126 => match seen[2..].first_chunk() {
                Some(length) => (4, u16::from_be_bytes(*length).into()),
                None => return Ok(None),
            },
            127 => match seen[2..].first_chunk() {
                Some(length) => (10, u64::from_be_bytes(*length).try_into().context("a frame larger than memory")?),
                None => return Ok(None),
            },
            length => (2, usize::from(length)),
        };
        if seen.len() - head.min(seen.len()) < length {
            return Ok(None);
        }
        let kind = match first & 0x0f {
            1 => Kind::Text,
            2 => Kind::Binary,
            8 => Kind::Close,
            9 => Kind::Ping,
            10 => Kind::Pong,
            other => bail!("the server sent a frame of kind {other}"),
        };
        let payload = self.unread.start + head..self.unread.start + head + length;
        self.unread.start = payload.end;
        Ok(Some(Found { kind, payload }))
    }
}

/// Position of a complete frame in the inbox.
struct Found {
    kind: Kind,
    payload: Range<usize>,
}

/// Returns the position of `needle`.
pub fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server whose bytes come in pieces of a given size, and that records what it is sent.
    struct Server<'a> {
        bytes: &'a [u8],
        at_a_time: usize,
        got: Vec<u8>,
    }

    impl<'a> Server<'a> {
        fn new(bytes: &'a [u8], at_a_time: usize) -> Self {
            Self { bytes, at_a_time, got: Vec::new() }
        }
    }

    impl Read for Server<'_> {
        fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
            let (now, later) = self.bytes.split_at(self.at_a_time.min(self.bytes.len()));
            self.bytes = later;
            (&mut &*now).read(into)
        }
    }

    impl Write for Server<'_> {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.got.write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn unmasked(kind: u8, payload: &[u8]) -> Vec<u8> {
        let mut out = vec![0x80 | kind];
        match payload.len() {
            length @ 0..=125 => out.push(length as u8),
            length => {
                out.push(126);
                out.extend((length as u16).to_be_bytes());
            }
        }
        out.extend(payload);
        out
    }

    #[test]
    fn split_bytes_become_whole_frames() {
        let long = vec![b'x'; 300];
        let bytes = [unmasked(1, b"hello"), unmasked(2, &long), unmasked(8, &[3, 232])].concat();
        for at_a_time in [1, 3, bytes.len()] {
            let (mut server, mut inbox) = (Server::new(&bytes, at_a_time), Inbox::new());
            let mut expect = |frame| assert_eq!(inbox.next_message(&mut server).unwrap(), frame);
            expect(Some(Frame { kind: Kind::Text, payload: b"hello" }));
            expect(Some(Frame { kind: Kind::Binary, payload: &long }));
            expect(Some(Frame { kind: Kind::Close, payload: &[3, 232] }));
            expect(None);
        }
    }

    #[test]
    fn ping_is_answered_before_the_next_message() {
        let bytes = [unmasked(9, b"?"), unmasked(1, b"hello")].concat();
        let (mut server, mut inbox) = (Server::new(&bytes, 100), Inbox::new());
        assert_eq!(inbox.next_message(&mut server).unwrap(), Some(Frame { kind: Kind::Text, payload: b"hello" }));
        let mut pong = Vec::new();
        push(&mut pong, Kind::Pong, b"?");
        assert_eq!(server.got, pong);
    }

    #[test]
    fn truncated_or_fragmented_message_is_an_error() {
        for bytes in [&[0x81u8, 5, b'h'][..], &[0x01, 1, b'x']] {
            assert!(Inbox::new().next_message(&mut Server::new(bytes, 100)).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn client_frames_are_masked() {
        let mut out = Vec::new();
        push(&mut out, Kind::Text, b"hello");
        assert_eq!(out[..2], [0x81, 0x85]);
        let unmasked: Vec<u8> = out[6..].iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
        assert_eq!(unmasked, b"hello");
    }
}
