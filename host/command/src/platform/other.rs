//! Systems without the means to supervise a command: none starts.

use crate::message::Job;
use rustix::net::SendFlags;
use std::{
    io,
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::PathBuf,
    process::ExitCode,
};

/// The flags of a message to a supervisor. Rust programs ignore the signal of a closed socket.
pub const SEND: SendFlags = SendFlags::DONTWAIT;

/// The supervisor that cannot start here.
pub enum Supervisor {}

fn needs_linux() -> io::Error {
    io::Error::other("granted commands need Linux: run the server there")
}

impl Supervisor {
    pub fn start(_: UnixStream) -> io::Result<Self> {
        Err(needs_linux())
    }

    pub fn cgroup(&self) -> Option<PathBuf> {
        match *self {}
    }

    pub fn wait(self) -> io::Result<()> {
        match self {}
    }
}

pub fn send(_: &Job, _: &UnixStream, _: [OwnedFd; 3]) -> io::Result<()> {
    Err(needs_linux())
}

pub fn can_confine() -> bool {
    false
}

pub fn work() -> ExitCode {
    ExitCode::FAILURE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_elsewhere_are_refused_with_the_reason() {
        let (_, theirs) = UnixStream::pair().unwrap();
        let Err(error) = Supervisor::start(theirs);
        assert!(error.to_string().contains("need Linux"), "{error}");
        assert!(!can_confine());
        assert_eq!(work(), ExitCode::FAILURE);
    }
}
