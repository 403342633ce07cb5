//! Sends a job, together with the streams of its command, over the socket between the server and a supervisor.

use crate::message::{Job, Report};
use rustix::{
    io::Errno,
    net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
        recvmsg, sendmsg,
    },
};
use std::{
    io::{self, IoSlice, IoSliceMut, Read, Write},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
};

/// The maximum size of a job. Arguments and environment are bounded to far less.
const JOB: u32 = 8 << 20;

/// Sends the job with the streams of the command: stdin, stdout and stderr.
pub fn send(job: &Job, mut socket: &UnixStream, streams: [OwnedFd; 3]) -> io::Result<()> {
    let written = serde_json::to_vec(job)?;
    let length = u32::try_from(written.len()).ok().filter(|length| *length <= JOB).ok_or(Errno::TOOBIG)?.to_le_bytes();
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
    socket.write_all(&written)
}

/// Receives a job and the streams of the command.
pub fn receive(mut socket: &UnixStream) -> io::Result<(Job, [OwnedFd; 3])> {
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

/// Sends a report to the server.
pub fn report(report: &Report, mut socket: &UnixStream) -> io::Result<()> {
    let mut line = serde_json::to_vec(report)?;
    line.push(b'\n');
    socket.write_all(&line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::KernelLimits;
    use std::{fs::File, time::Duration};

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
        send(&job, &ours, [null(), write.into(), null()]).unwrap();
        let (received, streams) = receive(&theirs).unwrap();
        assert_eq!(serde_json::to_value(&received).unwrap(), serde_json::to_value(&job).unwrap());
        let [_, stdout, _] = streams;
        File::from(stdout).write_all(b"through").unwrap();
        let mut text = String::new();
        read.read_to_string(&mut text).unwrap();
        assert_eq!(text, "through");

        drop(ours);
        assert!(receive(&theirs).is_err());
    }
}
