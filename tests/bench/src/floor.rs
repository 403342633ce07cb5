//! The floor: a websocket server as lean as axum can make one, which speaks the protocol of the calls without wasm, and
//! bare routes that answer with prepared bytes.
//!
//! The server's cost beyond the floor is the cost of its sandbox, and it cannot be faster than the floor. With guests,
//! each whole call is an instance of wasmtime, which shows wasmtime's share of that cost.

use crate::request::Resource;
use anyhow::{Context, Result, anyhow};
use axum::{
    Router,
    body::Bytes,
    extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade},
    http::header::CONTENT_TYPE,
    routing::get,
    serve::ListenerExt,
};
use distillery_bench::bare::{Component, KEEP, Module};
use futures_util::{FutureExt, SinkExt, StreamExt};
use rustix::process::setpriority_process;
use std::{
    fs, hint,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
};
use tokio::{net::TcpListener, sync::oneshot};

/// Read buffer of a socket. The default of 128 KiB is zeroed for every socket: that took a fifth of a whole call and
/// most of the memory of a waiting socket, and lines were no faster.
const READ_BUFFER: usize = 16 * 1024;

/// Path of the sockets, as in the server under test.
pub const PATH: &str = "/api/v1/ws/";

/// Call that computes until it is cancelled, its first output, and the message that cancels it.
pub const SPIN: &str = "spin";
const SPINS: &str = "spinning";
const CANCEL: &str = r#"{"signal":"cancel"}"#;
/// Nice value of the server's guest threads.
const NICE: i32 = 10;

const SUCCESS: &str = r#"{"success":true}"#;
const CANCELLED: &str = r#"{"success":false,"message":"cancelled by the client"}"#;

/// Connections: as many as there are clients, and some that have not closed yet.
const PROCESSES: u32 = 256;

/// Program that answers the lines of whole calls.
pub struct Guests {
    once: Component,
    once_tiny: Module,
}

impl Guests {
    pub fn load(once: &Path, once_tiny: &Path) -> Result<Self> {
        let module = fs::read(once_tiny).with_context(|| format!("no guest {}", once_tiny.display()))?;
        let failed = |error: wasmtime::Error| anyhow!("{error:#}");
        Ok(Self {
            once: Component::load(once, PROCESSES).map_err(failed)?,
            once_tiny: Module::load(&module, PROCESSES, KEEP).map_err(failed)?,
        })
    }

    async fn answer(&self, call: &str, line: &str) -> wasmtime::Result<String> {
        let input = [line.as_bytes(), b"\n"].concat();
        let mut output = if call == "once" { self.once.run(input).await? } else { self.once_tiny.run(input)? };
        output.pop();
        Ok(String::from_utf8(output)?)
    }
}

/// Serves until the task is dropped.
pub async fn serve(listener: TcpListener, router: Router) -> Result<()> {
    let listener = listener.tap_io(|stream| {
        // Failing to disable the delay only makes a socket slower.
        let _ = stream.set_nodelay(true);
    });
    Ok(axum::serve(listener, router).await?)
}

/// Sockets in their simplest form: axum's sizes, and each frame is sent by itself.
pub fn plain() -> Router {
    Router::new().route(PATH, get(|upgrade: WebSocketUpgrade| async { upgrade.on_upgrade(plain_session) }))
}

/// Routes of the floor.
pub fn router(guests: Option<Arc<Guests>>) -> Router {
    let upgrade = |upgrade: WebSocketUpgrade| async {
        upgrade.read_buffer_size(READ_BUFFER).on_upgrade(|socket| session(socket, guests))
    };
    let mut router = Router::new().route(PATH, get(upgrade));
    for resource in [Resource::Systems, Resource::Auth] {
        let body = Bytes::from(resource.body());
        let answer = move || async move { ([(CONTENT_TYPE, "application/json")], body.clone()) };
        router = router.route(resource.path(), get(answer));
    }
    router
}

#[derive(serde::Deserialize)]
struct CallMessage {
    call: String,
}

#[derive(serde::Deserialize)]
struct SignalMessage {
    signal: String,
}

async fn plain_session(mut socket: WebSocket) {
    let Some(Ok(Message::Binary(first))) = socket.recv().await else { return };
    let Ok(CallMessage { call }) = serde_json::from_slice(&first) else { return };
    while let Some(Ok(message)) = socket.recv().await {
        match message {
            Message::Text(line) => {
                if socket.send(Message::Text(line)).await.is_err() {
                    return;
                }
                if call == "once" {
                    return end(socket, SUCCESS).await;
                }
            }
            Message::Close(_) => return,
            _ => {}
        }
    }
}

/// A thread that computes until it is told to end, as nice as the guest threads.
struct Spinning {
    stop: Arc<AtomicBool>,
    ended: oneshot::Receiver<()>,
}

impl Spinning {
    fn start() -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (tell, ended) = oneshot::channel();
        let told = stop.clone();
        thread::Builder::new().name("spinning".into()).spawn(move || {
            // On failure the thread is less nice, but still computes.
            let _ = setpriority_process(None, NICE);
            while !told.load(Relaxed) {
                hint::spin_loop();
            }
            // The client can be gone.
            let _ = tell.send(());
        })?;
        Ok(Self { stop, ended })
    }

    async fn end(mut self) {
        self.stop.store(true, Relaxed);
        // The thread confirms its end.
        let _ = (&mut self.ended).await;
    }
}

impl Drop for Spinning {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
    }
}

/// Computes until it is cancelled.
async fn spin(mut socket: WebSocket) {
    let Ok(spinning) = Spinning::start() else { return };
    if socket.send(Message::Text(SPINS.into())).await.is_err() {
        return;
    }
    while let Some(Ok(message)) = socket.next().await {
        if message == Message::Binary(CANCEL.into()) {
            spinning.end().await;
            return end(socket, CANCELLED).await;
        }
    }
}

/// Serves a session. A client that leaves ends it.
async fn session(mut socket: WebSocket, guests: Option<Arc<Guests>>) {
    let Some(Ok(Message::Binary(first))) = socket.next().await else { return };
    let Ok(CallMessage { call }) = serde_json::from_slice(&first) else { return };
    if call == SPIN {
        return spin(socket).await;
    }
    let once = call.starts_with("once");
    let mut pending = None;
    loop {
        let message = match pending.take() {
            Some(message) => message,
            None => socket.next().await,
        };
        let result = match message {
            Some(Ok(Message::Text(line))) => {
                let line = match &guests {
                    Some(guests) if once => match guests.answer(&call, &line).await {
                        Ok(answer) => answer.into(),
                        Err(error) => return eprintln!("{error:#}"),
                    },
                    _ => line,
                };
                if socket.feed(Message::Text(line)).await.is_err() {
                    return;
                }
                once.then_some(SUCCESS)
            }
            Some(Ok(Message::Binary(bytes))) => {
                let cancelled = serde_json::from_slice::<SignalMessage>(&bytes).is_ok_and(|it| it.signal == "cancel");
                cancelled.then_some(CANCELLED)
            }
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => None,
            Some(Ok(Message::Close(_)) | Err(_)) | None => return,
        };
        if let Some(result) = result {
            end(socket, result).await;
            return;
        }
        // Answers all available lines first, so that one write carries many.
        pending = socket.next().now_or_never();
        if pending.is_none() && socket.flush().await.is_err() {
            return;
        }
    }
}

/// Sends the result and the close frame, and waits for the client's, after which the server hangs up first.
async fn end(mut socket: WebSocket, result: &'static str) {
    let close = CloseFrame { code: 1000, reason: "".into() };
    if socket.feed(Message::Binary(result.into())).await.is_ok()
        && socket.send(Message::Close(Some(close))).await.is_ok()
    {
        while let Some(Ok(_)) = socket.next().await {}
    }
}
