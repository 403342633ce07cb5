//! Plugins, the calls that they provide, and the catalog of both, which is read as one snapshot.
//!
//! This module never runs a call, and knows nothing of sockets.
#![forbid(unsafe_code)]
// They panic where stdout or stderr cannot be written: only the command line prints.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

pub mod archive;
pub mod arguments;
mod capabilities;
mod catalog;
mod command_calls;
mod debounce;
pub mod discover;
pub mod error;
pub mod files;
pub mod first_load;
pub mod generation;
pub mod granted;
pub mod interpreters;
pub mod load;
pub mod loading;
mod look;
pub mod manifest;
mod notice;
mod operator;
pub mod params;
mod plugin;
mod reading;
pub mod rebuild;
mod report;
mod rights;
pub mod signature;
mod snapshot;
pub mod source;
mod stat;
pub mod watch;

pub use catalog::Catalog;
pub use operator::Operator;
pub use plugin::{Call, Found, GuestArguments, Plugin};
pub use snapshot::{Snapshot, State};
