//! The granted commands of a process, and those that it has started.
//!
//! This module starts nothing itself, and does not know what a command does.

mod table;

use super::descriptors::{Descriptor, Descriptors, Share};
use distillery_command::{Begun, Command, End, Running, StartError, start};
use distillery_core::control::Control;
use parking_lot::Mutex;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
pub use table::{Entry, Table};
use tokio::time::timeout;

/// The descriptors of one command in the server: a socket and three pipes.
const DESCRIPTORS: usize = 4;
/// The time that the end of a process waits for its killed commands. Only a process in a broken device takes longer.
const GONE: Duration = Duration::from_secs(5);

/// The guest of a call without a module: it starts one command, and copies its streams.
pub const GUEST: &[u8] = include_bytes!("commands/pump.wat");

/// The commands that a process can start.
pub struct Commands {
    granted: Arc<BTreeMap<String, Arc<Command>>>,
    descriptors: Arc<Descriptors>,
    /// Those that were started, without most of those that have ended.
    started: Started,
    pub modules: Table,
}

/// The ends of started commands.
#[derive(Clone, Default)]
pub struct Started(Arc<Mutex<Vec<End>>>);

impl Started {
    fn add(&self, end: End) {
        let mut ends = self.0.lock();
        ends.retain(|end| !end.is_over());
        ends.push(end);
    }

    /// Waits until all are gone, once they are killed.
    pub async fn gone(self) {
        let ends = std::mem::take(&mut *self.0.lock());
        if ends.is_empty() {
            return;
        }
        let all = async {
            for mut end in ends {
                end.wait().await;
            }
        };
        _ = timeout(GONE, all).await;
    }
}

/// A started command in the hands of a guest.
pub struct Held {
    pub running: Running,
    _descriptors: Vec<Descriptor>,
}

/// The reason why a command was not started, as guests learn it.
#[derive(Debug)]
pub struct NotStarted {
    pub kind: Kind,
    pub why: String,
}

/// The kinds, in the order of `wit/call.wit`.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    NotGranted,
    InvalidParameter,
    Busy,
    Failed,
}

impl Commands {
    pub fn new(granted: Arc<BTreeMap<String, Arc<Command>>>, descriptors: Arc<Descriptors>) -> Self {
        Self { granted, descriptors, started: Started::default(), modules: Table::default() }
    }

    /// Returns the commands that can still run.
    pub fn left(&self) -> Started {
        self.started.clone()
    }

    /// Returns what is needed to start the command `name`.
    pub fn find(&self, name: &str) -> Found {
        let Some(command) = self.granted.get(name) else {
            let why = format!("plugin.yaml does not ask for the command {name:?} in capabilities.commands");
            return Err(NotStarted { kind: Kind::NotGranted, why });
        };
        // One process has few commands, so each counts as the first of its share.
        let share = Share::of(&self.descriptors);
        let taken: Option<Vec<_>> = (0..DESCRIPTORS).map(|_| share.take()).collect();
        let busy = || NotStarted { kind: Kind::Busy, why: "the server has no free file descriptors".to_owned() };
        Ok((command.clone(), taken.ok_or_else(busy)?, self.started.clone()))
    }
}

/// A command that a guest can start, and what it needs for that.
pub type Found = Result<(Arc<Command>, Vec<Descriptor>, Started), NotStarted>;

/// Starts a command for a guest.
pub async fn begin(
    found: Found,
    params: &[(String, String)],
    control: &Arc<Control>,
) -> Result<(Held, Streams), NotStarted> {
    let (command, descriptors, started) = found?;
    let Begun { running, stdin, stdout, stderr } = start(&command, params, control).await?;
    started.add(running.end());
    Ok((Held { running, _descriptors: descriptors }, Streams { stdin, stdout, stderr }))
}

/// The streams of a command.
pub struct Streams {
    pub stdin: distillery_command::Stdin,
    pub stdout: distillery_command::Stdout,
    pub stderr: distillery_command::Stdout,
}

impl From<StartError> for NotStarted {
    fn from(error: StartError) -> Self {
        let kind = match &error {
            StartError::Argument(_) => Kind::InvalidParameter,
            StartError::Busy(_) => Kind::Busy,
            StartError::Failed { .. } => Kind::Failed,
        };
        Self { kind, why: error.to_string() }
    }
}
