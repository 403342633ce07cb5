//! The server that clients speak to: the JSON API, the websocket and its protocols, the console, and the listener of the
//! operator.
//!
//! Modules are in this order, and name only those before them: [`platform`], [`answer`], [`wire`], [`socket`], [`exchange`], [`session`],
//! [`hooks`], [`extensions`], [`handshake`], [`api`], [`mcp`], [`console`], [`server`], [`ops`].
#![forbid(unsafe_code)]
// They panic where stdout or stderr cannot be written: only the command line prints.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

pub mod answer;
pub mod api;
pub mod console;
pub mod exchange;
pub mod extensions;
pub mod handshake;
pub mod hooks;
pub mod mcp;
pub mod ops;
pub mod platform;
pub mod server;
pub mod session;
pub mod socket;
pub mod wire;
