//! A connection without a kernel: client and server are two ends of a pipe within one thread, so that only axum, the
//! websocket, the session and the guest are measured.

use crate::world::World;
use anyhow::Result;
use axum::{Router, extract::Request, routing::get};
use bytes::Bytes;
use distillery_core::{auth::Caller, size::Size};
use distillery_http::{
    session::{Session, Timing, protocol::Protocol},
    socket::{HangUp, Incoming, Lost, Socket, accept},
    wire::ResultMessage,
};
use distillery_process::dispatch::Dispatcher;
use futures_util::future::poll_fn;
use hyper::{server::conn::http1, upgrade::OnUpgrade};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use std::{
    sync::Arc,
    task::{Poll, ready},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    runtime::Runtime,
};
use tokio_util::sync::CancellationToken;

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const MASK: [u8; 4] = [0x3a, 0x91, 0xc7, 0x5e];
const NORMAL: [u8; 2] = 1000u16.to_be_bytes();
const MAX_FRAME: Size = Size::mib(1);

pub struct Memory {
    runtime: Runtime,
    router: Router,
    client: Option<DuplexStream>,
}

impl Memory {
    /// Each websocket makes one call.
    pub fn calls(world: &World) -> Result<Self> {
        let (dispatcher, timing) = (world.dispatcher(), world.timing.clone());
        Self::new(move |socket| {
            let (dispatcher, timing): (Arc<Dispatcher>, Arc<Timing>) = (dispatcher.clone(), timing.clone());
            async move {
                let mut session = Session::new(socket, Protocol::default(), Caller::nobody(), dispatcher, timing);
                session.run(CancellationToken::new(), None).await;
            }
        })
    }

    /// Each websocket echoes lines itself, until the client leaves.
    pub fn echo(_world: &World) -> Result<Self> {
        Self::new(|socket| echo(socket, false))
    }

    /// Behaves like a call that ends after its first line.
    pub fn answer(_world: &World) -> Result<Self> {
        Self::new(|socket| echo(socket, true))
    }

    fn new<F: Future<Output = ()> + Send + 'static>(
        serve: impl Fn(Socket) -> F + Clone + Send + Sync + 'static,
    ) -> Result<Self> {
        let upgrade = move |request: Request| async move {
            let (mut parts, _) = request.into_parts();
            let on_upgrade = parts.extensions.remove::<OnUpgrade>().expect("a request that can be upgraded");
            let (answer, opening) = accept(&parts, on_upgrade, HangUp::default(), None, MAX_FRAME);
            tokio::spawn(async move {
                if let Ok(socket) = opening.await {
                    serve(socket).await;
                }
            });
            answer
        };
        let router = Router::new().route("/", get(upgrade));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Self { runtime, router, client: None })
    }

    /// Opens a websocket.
    pub fn upgrade(&mut self) {
        let (mut client, server) = duplex(256 << 10);
        let service = TowerToHyperService::new(self.router.clone());
        self.runtime.spawn(http1::Builder::new().serve_connection(TokioIo::new(server), service).with_upgrades());
        self.runtime.block_on(async {
            client.write_all(REQUEST).await.expect("the pipe is open");
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(client.read_u8().await.expect("the answer to an upgrade"));
            }
            assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
        });
        self.client = Some(client);
    }

    /// Makes the call of this websocket.
    pub fn begin(&mut self, call: &str) {
        self.send(&[(BINARY, format!(r#"{{"call":"{call}"}}"#).as_bytes())]);
    }

    pub fn there_and_back(&mut self, line: &str) {
        self.send(&[(TEXT, line.as_bytes())]);
        self.expect(TEXT, line.as_bytes());
    }

    /// Runs a call from the upgrade to the end of the connection.
    pub fn whole_call(&mut self, call: &str, line: &str) {
        self.upgrade();
        self.send(&[(BINARY, format!(r#"{{"call":"{call}"}}"#).as_bytes()), (TEXT, line.as_bytes())]);
        self.expect(TEXT, line.as_bytes());
        self.expect(BINARY, br#"{"success":true}"#);
        self.expect(CLOSE, &NORMAL);
        self.send(&[(CLOSE, &NORMAL)]);
        let mut client = self.client.take().expect("it was opened above");
        let left = self.runtime.block_on(client.read(&mut [0])).expect("the end of the pipe");
        assert_eq!(left, 0, "something comes after the close frame");
    }

    fn send(&mut self, frames: &[(u8, &[u8])]) {
        let mut bytes = Vec::new();
        for (kind, payload) in frames {
            bytes.extend([0x80 | kind, 0x80 | payload.len() as u8]);
            bytes.extend(MASK);
            bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        }
        let client = self.client.as_mut().expect("the websocket is open");
        self.runtime.block_on(client.write_all(&bytes)).expect("the pipe is open");
    }

    fn expect(&mut self, kind: u8, payload: &[u8]) {
        let mut frame = vec![0; 2 + payload.len()];
        let client = self.client.as_mut().expect("the websocket is open");
        self.runtime.block_on(client.read_exact(&mut frame)).expect("a frame");
        assert_eq!(frame[0], 0x80 | kind, "{}", String::from_utf8_lossy(&frame));
        assert_eq!(&frame[2..], payload);
    }
}

async fn echo(mut socket: Socket, once: bool) {
    poll_fn(|cx| {
        while let Poll::Ready(incoming) = socket.poll_read(cx) {
            let sent = match incoming {
                Incoming::Text(line) if once => end(&mut socket, line.into()),
                Incoming::Text(line) => socket.send_line(line.into()),
                Incoming::Binary(_) | Incoming::Alive => Ok(()),
                _ => return Poll::Ready(()),
            };
            if sent.is_err() {
                return Poll::Ready(());
            }
        }
        match ready!(socket.poll_flush(cx)) {
            Ok(()) => Poll::Pending,
            Err(_) => Poll::Ready(()),
        }
    })
    .await;
}

/// The one line, and the frames after it.
fn end(socket: &mut Socket, line: Bytes) -> Result<(), Lost> {
    socket.send_line(line)?;
    socket.send_frame(ResultMessage::success().encode())?;
    socket.send_close(u16::from_be_bytes(NORMAL))
}
