//! Requests of the JSON API: the resource, the expected response, and a client that requests it repeatedly.

use anyhow::{Context, Result, bail, ensure};
use std::net::SocketAddr;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// Number of systems: the list of a small institution, of about 4 KiB.
const SYSTEMS: usize = 24;

/// User whose token is used.
pub const USER: &str = "bench";

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Resource {
    /// A resource that is the same for everyone.
    Systems,
    /// A resource that depends on the token.
    Auth,
}

impl Resource {
    pub fn path(self) -> &'static str {
        match self {
            Self::Systems => "/api/v1/systems",
            Self::Auth => "/api/v1/auth",
        }
    }

    /// The expected response, byte for byte.
    pub fn body(self) -> String {
        match self {
            Self::Systems => {
                let system = |number| {
                    format!(
                        "{{\"Slug\":\"s{number:02}\",\"URL\":\"https://s{number:02}.example.org\",\"Tagline\":\"Coins \
                         and medals of the collection {number:02}\",\"EntityCount\":1204,\"BundleCount\":12,\
                         \"LastEdit\":\"2026-01-31T12:00:00Z\"}}"
                    )
                };
                format!("[{}]", (0..SYSTEMS).map(system).collect::<Vec<_>>().join(","))
            }
            Self::Auth => format!("{{\"User\":\"{USER}\",\"Token\":true,\"Scopes\":[\"call:*\"]}}"),
        }
    }
}

/// The same systems, for the configuration of the server.
pub fn systems() -> String {
    let system = |number| {
        format!(
            "{{slug: s{number:02}, url: \"https://s{number:02}.example.org\", tagline: \"Coins and medals of the \
             collection {number:02}\", entity_count: 1204, bundle_count: 12, last_edit: \"2026-01-31T12:00:00Z\"}}"
        )
    };
    format!("[{}]", (0..SYSTEMS).map(system).collect::<Vec<_>>().join(", "))
}

/// Returns the length of the body behind this head. Any other response also ends the wait.
fn content_length(head: &[u8]) -> Result<usize> {
    const NAME: &[u8] = b"content-length:";
    let line = head.split(|byte| *byte == b'\n').find(|line| line.to_ascii_lowercase().starts_with(NAME));
    let length = line.context("an answer does not say how long it is")?[NAME.len()..].trim_ascii();
    std::str::from_utf8(length)?.parse().context("an answer is of no length")
}

/// A client that asks for one thing again and again, over one connection.
pub struct Asker {
    stream: TcpStream,
    request: Vec<u8>,
    body: Vec<u8>,
    read: Vec<u8>,
}

impl Asker {
    pub async fn connect(address: SocketAddr, resource: Resource, token: Option<&str>) -> Result<Self> {
        let stream = TcpStream::connect(address).await.context("cannot connect")?;
        stream.set_nodelay(true)?;
        let token = token.map_or(String::new(), |token| format!("authorization: Bearer {token}\r\n"));
        let request = format!("GET {} HTTP/1.1\r\nhost: {address}\r\n{token}\r\n", resource.path());
        Ok(Self { stream, request: request.into(), body: resource.body().into(), read: Vec::with_capacity(16 << 10) })
    }

    /// One request, and its answer to the last byte.
    pub async fn ask(&mut self) -> Result<()> {
        self.stream.write_all(&self.request).await?;
        self.read.clear();
        loop {
            if let Some(head) = self.read.windows(4).position(|end| end == b"\r\n\r\n")
                && self.read.len() >= head + 4 + content_length(&self.read[..head])?
            {
                return self.check(head);
            }
            ensure!(
                self.stream.read_buf(&mut self.read).await? > 0,
                "the server hung up within an answer: {}",
                self.told()
            );
        }
    }

    fn check(&self, head: usize) -> Result<()> {
        if self.read.starts_with(b"HTTP/1.1 200 ") && self.read[head + 4..] == self.body {
            return Ok(());
        }
        bail!("expected {}, got {}", String::from_utf8_lossy(&self.body), self.told())
    }

    fn told(&self) -> String {
        String::from_utf8_lossy(&self.read).into_owned()
    }
}
