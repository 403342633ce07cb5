//! The words of the distillery, which all its packages share: calls, limits, callers, and the streams between a client and
//! a guest. Nothing here opens a socket, runs WebAssembly, or knows the database.
//!
//! - a call and its rules: [`call`], [`limits`], [`size`]
//! - a caller and its rights: [`auth`], [`principal`], [`trace`]
//! - a running process: [`stream`], [`control`], [`timer`], [`drain`], [`systems`]
//! - text from outside: [`harmless`], [`one_line`], [`redact`], [`secret`], [`yaml`]
//! - addresses: [`hosts`], [`network`], [`origin`]
//! - files of the server: [`directory`], [`private`]
#![forbid(unsafe_code)]
// They panic where stdout or stderr cannot be written: only the command line prints.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

pub mod auth;
pub mod call;
pub mod control;
pub mod directory;
pub mod drain;
pub mod harmless;
pub mod hosts;
pub mod limits;
pub mod network;
pub mod one_line;
pub mod origin;
pub mod principal;
pub mod private;
pub mod redact;
pub mod secret;
pub mod size;
pub mod stream;
pub mod systems;
pub mod timer;
pub mod trace;
pub mod yaml;
