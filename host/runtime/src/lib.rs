//! Runs guests. Only this module uses wasmtime.
//!
//! A [`Program`] is a prepared module: compiled, linked, its exports looked up. [`Program::start`] makes a [`Guest`] of
//! it, one process. A guest is a future that runs for a turn each time it is polled. It returns the thread when its
//! turn is over, when it waits, and when it is killed.
#![forbid(unsafe_code)]
// They panic where stdout or stderr cannot be written: only the command line prints.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

mod address;
mod capacity;
mod code;
mod commands;
mod compiler;
mod descriptors;
mod engine;
mod files;
mod grants;
mod guest;
mod imports;
pub mod inspect;
mod linking;
mod mounted;
mod outgoing;
mod platform;
mod program;
mod runtime;
mod scratch;
mod state;
mod stdio;
pub mod systems;
mod text;
mod ticker;
mod trap;

pub use capacity::Capacity;
pub use code::CompileError;
pub use commands::GUEST as COMMAND_GUEST;
pub use compiler::{COMMAND as COMPILE_COMMAND, CompileLimits, work as compile_worker};
pub use engine::RuntimeError;
pub use files::{DEV_AT, SCRATCH_AT};
pub use grants::Grants;
pub use guest::{End, Guest};
pub use linking::{Linking, UnknownImports};
pub use mounted::Mounted;
pub use program::{Invocation, Kind, Program};
pub use runtime::Runtime;
pub use scratch::{ScratchRoot, ScratchSpace};
pub use stdio::StderrTo;
pub use trap::UNREACHABLE;

#[cfg(test)]
mod bad_modules;
#[doc(hidden)]
pub mod testing;
