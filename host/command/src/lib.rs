//! Granted commands: programs of this machine that run for a guest.
//!
//! Each command runs below a supervisor: a process of this program that prepares the command's surroundings, starts it,
//! and kills everything that it left behind. The supervisor ends when its socket to the server closes, so no command
//! outlives the server, however the server ends. The bytes of a command pass directly through pipes between the command
//! and the server.
//!
//! This module knows no WebAssembly, and not what is granted to whom.
#![forbid(unsafe_code)]
// They panic where stdout or stderr cannot be written: only the command line prints.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

mod launch;
mod message;
mod platform;
mod running;
mod slots;
mod stream;

pub use launch::{Begun, StartError, start};
pub use message::Status;
pub use platform::{can_confine, work as supervise};
pub use running::{Bound, End, Ended, Running, Signal};
pub use slots::Slots;
pub use stream::{Read, Stdin, Stdout};

use distillery_core::{command::CommandLine, secret::Secret, size::Size};
use std::{path::PathBuf, sync::Arc, time::Duration};

/// The command of this program that supervises one command.
pub const SUPERVISOR_COMMAND: &str = "command-supervisor";

/// A granted command.
#[derive(Debug)]
pub struct Command {
    /// The plugin that it is granted to, and its name there.
    pub plugin: String,
    pub name: String,
    pub line: CommandLine,
    /// The file of the program.
    pub program: PathBuf,
    pub directory: PathBuf,
    /// The whole environment.
    pub env: Vec<(String, Secret)>,
    pub timeout: Duration,
    /// Bytes of stdout and stderr together.
    pub output: Size,
    /// Number of runs at once.
    pub concurrent: u32,
    pub limits: KernelLimits,
    /// The files that it can use. `None` means all that the server's user can.
    pub paths: Option<Paths>,
    pub slots: Arc<Slots>,
}

/// The kernel's limits for each process of a command. `None` means the limit of the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct KernelLimits {
    /// Bytes of memory that it can write to.
    pub memory: Option<u64>,
    /// Seconds of processor time.
    pub cpu: Option<u64>,
    /// Open files.
    pub files: Option<u64>,
}

/// The only files and directories that a command can use.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Paths {
    /// To read and to run.
    pub read: Vec<PathBuf>,
    /// To read, run and write.
    pub write: Vec<PathBuf>,
}

/// Commands are equal if they do the same. The slots belong to the server.
impl PartialEq for Command {
    fn eq(&self, other: &Self) -> bool {
        let Self { plugin, name, line, program, directory, env, timeout, output, concurrent, limits, paths, slots: _ } =
            self;
        (plugin, name, line, program, directory)
            == (&other.plugin, &other.name, &other.line, &other.program, &other.directory)
            && (env, timeout, output) == (&other.env, &other.timeout, &other.output)
            && (concurrent, limits, paths) == (&other.concurrent, &other.limits, &other.paths)
    }
}

impl Eq for Command {}

impl Command {
    /// Formats parameters for the log, without the values of secret ones.
    fn shown(&self, given: &[(String, String)]) -> String {
        let is_secret =
            |name: &str| self.line.params().iter().any(|param| param.rule.name == name && param.rule.secret);
        let shown = given.iter().map(|(name, value)| match is_secret(name) {
            true => format!("{name}=***"),
            false => format!("{name}={value:?}"),
        });
        shown.collect::<Vec<_>>().join(" ")
    }
}
