//! A websocket of single bytes, for frames that no library sends. It knows nothing about their meaning.

use crate::patiently;
use std::net::SocketAddr;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// Returns the first byte of a whole frame of this kind.
pub const TEXT: u8 = 0x81;
pub const BINARY: u8 = 0x82;
pub const CLOSE: u8 = 0x88;
pub const PING: u8 = 0x89;
pub const PONG: u8 = 0x8a;

const MASK: [u8; 4] = [0x3a, 0x91, 0xc7, 0x5e];

#[derive(Debug)]
pub struct Raw(TcpStream);

/// A frame of the server: its first byte and its payload.
pub type RawFrame = (u8, Vec<u8>);

impl Raw {
    /// Opens a socket with this subprotocol, or with none.
    pub async fn connect(address: SocketAddr, protocol: &str) -> Self {
        let stream = patiently("a connection", TcpStream::connect(address)).await;
        let mut stream = stream.expect("the server takes connections");
        stream.set_nodelay(true).expect("a socket without delay");
        let offer = if protocol.is_empty() { String::new() } else { format!("Sec-WebSocket-Protocol: {protocol}\r\n") };
        let request = format!(
            "GET /api/v1/ws HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n{offer}\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.expect("the server reads the request");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(patiently("the answer to an upgrade", stream.read_u8()).await.expect("an answer"));
        }
        assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
        Self(stream)
    }

    /// Returns the connection itself.
    pub fn into_stream(self) -> TcpStream {
        self.0
    }

    /// Sends bytes unchanged.
    pub async fn bytes(&mut self, bytes: &[u8]) {
        patiently("bytes to leave", self.0.write_all(bytes)).await.expect("the server is there");
    }

    /// Sends a masked frame with this first byte.
    pub async fn send(&mut self, first: u8, payload: &[u8]) {
        let mut frame = vec![first];
        match payload.len() {
            short @ ..126 => frame.push(0x80 | short as u8),
            long => {
                frame.push(0x80 | 126);
                frame.extend(u16::try_from(long).expect("a frame of at most 64 KiB").to_be_bytes());
            }
        }
        frame.extend(MASK);
        frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        self.bytes(&frame).await;
    }

    /// Returns the next frame, or `None` if the server has closed the connection. A reset is an error.
    pub async fn next(&mut self) -> Option<RawFrame> {
        patiently("a frame", async {
            let mut head = [0; 2];
            match self.0.read(&mut head[..1]).await.expect("the connection is not reset") {
                0 => return None,
                _ => self.0.read_exact(&mut head[1..]).await.expect("a whole frame"),
            };
            let length = match head[1] {
                126 => self.0.read_u16().await.expect("a length").into(),
                127 => self.0.read_u64().await.expect("a length"),
                short => short.into(),
            };
            let mut payload = vec![0; length as usize];
            self.0.read_exact(&mut payload).await.expect("a whole frame");
            Some((head[0], payload))
        })
        .await
    }

    /// Returns the next frame of this kind, and skips others.
    pub async fn wait(&mut self, first: u8) -> Vec<u8> {
        loop {
            match self.next().await {
                Some((kind, payload)) if kind == first => return payload,
                Some(_) => {}
                None => panic!("the connection ended without a frame {first:#x}"),
            }
        }
    }

    /// Reads until the server has closed the connection.
    pub async fn rest(&mut self) -> Vec<RawFrame> {
        let mut all = Vec::new();
        while let Some(frame) = self.next().await {
            all.push(frame);
        }
        all
    }
}
