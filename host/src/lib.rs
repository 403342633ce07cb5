//! A server for sandboxed, interactive calls. See ARCHITECTURE.md for the way of the data.
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
pub mod identity;
pub mod kept;
pub mod limits;
pub mod metrics;
pub mod network;
pub mod one_line;
pub mod ops;
pub mod origin;
pub mod plugin;
pub mod process;
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
