//! Supervision on Linux: subreaper, sessions, control groups and Landlock.

mod cgroup;
mod confine;
mod descendants;
mod supervisor;
mod transfer;

pub use confine::can_confine;
pub use supervisor::work;
pub use transfer::send;

use crate::SUPERVISOR_COMMAND;
use cgroup::Group;
use rustix::net::SendFlags;
use std::{
    io,
    os::{
        fd::OwnedFd,
        unix::{net::UnixStream, process::CommandExt},
    },
    path::PathBuf,
    process::{Child, Command, Stdio},
};

/// This program, even if its file was replaced in the meantime.
const PROGRAM: &str = "/proc/self/exe";
/// The flags of a message to a supervisor: one that is gone causes no signal.
pub const SEND: SendFlags = SendFlags::DONTWAIT.union(SendFlags::NOSIGNAL);
/// The process name of the supervisor.
const NAME: &str = "distillery";

/// The process that supervises one command, and the control group of the command.
pub struct Supervisor {
    child: Child,
    group: Option<Group>,
}

impl Supervisor {
    /// Starts the process. It reads its job from `socket`.
    pub fn start(socket: UnixStream) -> io::Result<Self> {
        let group = cgroup::delegated().map(Group::make).transpose()?;
        let child = Command::new(PROGRAM)
            .arg0(NAME)
            .arg(SUPERVISOR_COMMAND)
            .env_clear()
            .stdin(OwnedFd::from(socket))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Self { child, group })
    }

    /// Returns the control group for the command, if the server may have groups of its own.
    pub fn cgroup(&self) -> Option<PathBuf> {
        self.group.as_ref().map(|group| group.path().to_owned())
    }

    /// Waits until the process has ended.
    pub fn wait(mut self) -> io::Result<()> {
        self.child.wait().map(drop)
    }
}
