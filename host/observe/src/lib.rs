//! Everything that the operator reads about a running server: the log, metrics, spans and health.
#![forbid(unsafe_code)]
// They panic where stdout or stderr cannot be written: only the command line prints.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

pub mod health;
pub mod metrics;
pub mod telemetry;
pub mod traces;
