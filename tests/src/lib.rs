//! A server to be tested, and a client that talks to it as any client would: through a real socket.
//!
//! [`Server`] is a child process with its own directory and its own choice of [`Guest`]s as plugins; it keeps every line
//! of its log. [`Client`] speaks the protocol of the websocket and knows no more of the server than its address. Nothing
//! here sleeps: a test waits for a frame, an answer or a line of the log, and gives up after [`PATIENCE`].

pub mod browser;
pub mod client;
pub mod deadline;
pub mod distillery1;
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
pub use guest::Guest;
pub use server::Server;

use std::{future::Future, time::Duration};

/// How long anything may take before the test that waits for it fails. Generous, as the machine may be busy with a
/// hundred other tests.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// The output of `future`, which is called `what` in the failure should it take too long.
pub async fn patiently<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(output) => output,
        Err(_) => panic!("waited {PATIENCE:?} in vain for {what}"),
    }
}
