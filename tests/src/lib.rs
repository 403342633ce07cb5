//! A server under test, and a client that talks to it through a real socket, as any client would.
//!
//! [`Server`] is a child process with its own directory and its own choice of [`Guest`]s as plugins; it keeps every
//! line of its log. [`Client`] speaks the protocol of the websocket and knows only the address of the server. Nothing
//! here sleeps: a test waits for a frame, an answer or a line of the log, and gives up after [`PATIENCE`].

pub mod browser;
pub mod client;
pub mod deadline;
pub mod distillery1;
pub mod engine;
pub mod exchange;
pub mod guest;
pub mod http;
pub mod http2;
pub mod languages;
pub mod log;
pub mod pow1;
pub mod program;
pub mod raw;
pub mod server;
pub mod tls;

pub use browser::Browser;
pub use client::{Client, End, Frame, Verdict};
pub use engine::Engine;
pub use guest::Guest;
pub use server::Server;

use std::{future::Future, time::Duration};

/// Longest wait before a test fails. Generous, as the machine can be busy with a hundred other tests.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// Returns the output of `future`; `what` names it in the failure after a timeout.
pub async fn patiently<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(output) => output,
        Err(_) => panic!("waited {PATIENCE:?} in vain for {what}"),
    }
}
