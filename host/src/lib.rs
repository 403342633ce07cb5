//! A server that runs WebAssembly programs as sandboxed, interactive *calls* over websockets.
//!
//! The binary `distillery` is [`cli::main`] and nothing else. This library is the server's own code, for its tests and
//! measurements. It is not a stable interface: speak to a server through its protocols instead.
//!
//! # Where to begin
//!
//! A call takes this way:
//!
//! 1. [`server`] accepts a connection and finds out the caller ([`identity`]). A websocket becomes a [`session`].
//! 2. [`session::protocol`] reads frames ([`wire`]) and decides what they mean, as a state machine without sockets.
//! 3. [`dispatch`] finds the call in the [`plugin::Catalog`], asks [`auth`] whether the caller is allowed to run it, checks
//!    the parameters, and waits for a slot ([`process::admission`]).
//! 4. [`process::Process`] runs a [`runtime`] guest. [`stream`] carries its input and output, [`control`] its cancel.
//! 5. The process ends with a [`call::Outcome`], which the client reads as a result and [`history`] writes down.
//!
//! Beside this way: [`api`] answers requests, [`console`] serves the page for people, [`kept`] holds processes that outlive
//! their client, [`store`] has the database, [`config`] reads `distillery.yaml`, [`ops`] and [`metrics`] are for the operator,
//! and [`client`] speaks to other servers for [`cli`].
//!
//! ARCHITECTURE.md at the top of the repository says what each module must not know, and has the glossary. `docs/design`
//! explains cancel, swap, threads, bounds and takeover.
#![forbid(unsafe_code)]
// They panic where stdout or stderr cannot be written: `cli::output` is the way to print.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

pub mod alarm;
pub mod api;
pub mod auth;
pub mod call;
pub mod cli;
pub mod client;
pub mod config;
pub mod console;
pub mod control;
pub mod directory;
pub mod dispatch;
pub mod drain;
pub mod harmless;
pub mod health;
pub mod hidden;
pub mod history;
pub mod hosts;
pub mod identity;
pub mod kept;
pub mod limits;
pub mod metrics;
pub mod network;
pub mod one_line;
pub mod ops;
pub mod origin;
pub mod plugin;
pub mod principal;
pub mod private;
pub mod process;
pub mod redact;
pub mod runtime;
pub mod server;
pub mod session;
pub mod size;
pub mod socket;
pub mod store;
pub mod stream;
pub mod telemetry;
pub mod traces;
pub mod wire;
pub mod yaml;
