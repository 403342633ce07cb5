//! The messages between the server and a supervisor.
//!
//! The server sends the length of the job together with the command's streams, the job, and then one byte for each
//! signal. The supervisor sends a line of JSON for each report. The end of the socket means: kill everything.

use super::{KernelLimits, Paths};
use serde::{Deserialize, Serialize};
use std::{path::PathBuf, time::Duration};

/// Everything that the supervisor must know. It contains secrets, and is never logged.
#[derive(Serialize, Deserialize)]
pub struct Job {
    pub program: PathBuf,
    /// The name under which the program sees itself.
    pub name: String,
    pub arguments: Vec<String>,
    pub env: Vec<(String, String)>,
    pub directory: PathBuf,
    pub timeout: Duration,
    pub limits: KernelLimits,
    pub paths: Option<Paths>,
    /// The control group for the command, if the server may have groups of its own.
    pub cgroup: Option<PathBuf>,
}

#[derive(Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Report {
    /// The command runs. Its process group has this number.
    Started(i32),
    /// The command was not started.
    Failed(String),
    /// The command has ended, and so has everything that it started.
    Ended(Final),
}

/// The end of a command, as its supervisor saw it.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Final {
    pub status: Status,
    pub timed_out: bool,
    /// Processor time of all processes of the command.
    pub cpu: Duration,
    /// The peak memory of its largest process, in bytes.
    pub memory: u64,
}

/// How a program ended.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Exited(u8),
    Signalled(u8),
}
