//! A server for sandboxed, interactive calls. See ARCHITECTURE.md for the way of the data.
#![forbid(unsafe_code)]

pub mod auth;
pub mod call;
pub mod control;
pub mod config;
pub mod limits;
pub mod process;
pub mod runtime;
pub mod size;
pub mod stream;
pub mod telemetry;
