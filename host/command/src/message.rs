//! The messages between the server and a supervisor.
//!
//! The server sends the length of the job together with the command's streams, the job, and then one byte for each
//! signal. The supervisor sends a line of JSON for each report. The end of the socket means: kill everything.

use super::{KernelLimits, confine::Paths};
use rustix::{
    io::Errno,
    net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
        recvmsg, sendmsg,
    },
};
use serde::{Deserialize, Serialize};
use std::{
    io::{self, IoSlice, IoSliceMut, Read, Write},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::PathBuf,
    time::Duration,
};

/// The maximum size of a job. Arguments and environment are bounded to far less.
const JOB: u32 = 8 << 20;

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

impl Job {
    /// Sends the job with the streams of the command: stdin, stdout and stderr.
    pub fn send(&self, mut socket: &UnixStream, streams: [OwnedFd; 3]) -> io::Result<()> {
        let job = serde_json::to_vec(self)?;
        let length = u32::try_from(job.len()).ok().filter(|length| *length <= JOB).ok_or(Errno::TOOBIG)?.to_le_bytes();
        let fds = streams.each_ref().map(AsFd::as_fd);
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !control.push(SendAncillaryMessage::ScmRights(&fds)) {
            return Err(Errno::NOBUFS.into());
        }
        let sent = sendmsg(socket, &[IoSlice::new(&length)], &mut control, SendFlags::NOSIGNAL)?;
        if sent != length.len() {
            return Err(io::ErrorKind::WriteZero.into());
        }
        socket.write_all(&job)
    }

    /// Receives a job and the streams of the command.
    pub fn receive(mut socket: &UnixStream) -> io::Result<(Self, [OwnedFd; 3])> {
        let mut length = [0; 4];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = recvmsg(socket, &mut [IoSliceMut::new(&mut length)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
        let rights = control.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(fds) => Some(fds),
            _ => None,
        });
        let streams: Vec<OwnedFd> = rights.flatten().collect();
        let length = u32::from_le_bytes(length);
        let Ok(streams) = streams.try_into() else { return Err(io::ErrorKind::InvalidData.into()) };
        if received.bytes != 4 || length > JOB {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut job = vec![0; length as usize];
        socket.read_exact(&mut job)?;
        Ok((serde_json::from_slice(&job)?, streams))
    }
}

impl Report {
    pub fn send(&self, mut socket: &UnixStream) -> io::Result<()> {
        let mut line = serde_json::to_vec(self)?;
        line.push(b'\n');
        socket.write_all(&line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    #[test]
    fn job_arrives_with_its_streams() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let job = Job {
            program: "/bin/x".into(),
            name: "x".into(),
            arguments: vec!["a b\n".into()],
            env: vec![("A".into(), "ä".into())],
            directory: "/".into(),
            timeout: Duration::from_millis(1500),
            limits: KernelLimits { cpu: Some(3), ..KernelLimits::default() },
            paths: None,
            cgroup: None,
        };
        let (mut read, write) = std::io::pipe().unwrap();
        let null = || OwnedFd::from(File::open("/dev/null").unwrap());
        job.send(&ours, [null(), write.into(), null()]).unwrap();
        let (received, streams) = Job::receive(&theirs).unwrap();
        assert_eq!(serde_json::to_value(&received).unwrap(), serde_json::to_value(&job).unwrap());
        let [_, stdout, _] = streams;
        File::from(stdout).write_all(b"through").unwrap();
        let mut text = String::new();
        read.read_to_string(&mut text).unwrap();
        assert_eq!(text, "through");

        drop(ours);
        assert!(Job::receive(&theirs).is_err());
    }
}
