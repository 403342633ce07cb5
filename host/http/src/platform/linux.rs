//! What Linux offers beyond other Unix systems.

use super::PeerProcess;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fd::AsFd,
    io::Errno,
    net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
        recvmsg, sendmsg, sockopt::socket_peercred,
    },
    process::geteuid,
};
use std::{
    fs,
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::{
        fd::{BorrowedFd, OwnedFd},
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixStream},
    },
    path::Path,
};

/// Returns why a server cannot take over from another one, if so.
pub fn no_takeover() -> Option<&'static str> {
    None
}

/// Returns the process at the other end of a Unix socket.
pub fn peer_process(stream: &UnixStream) -> io::Result<PeerProcess> {
    let peer = socket_peercred(stream)?;
    Ok(PeerProcess { user: peer.uid, id: u32::try_from(peer.pid.as_raw_nonzero().get()).ok() })
}

/// Returns whether a process of this user answers on the socket at `path`.
pub fn is_served_by_this_user(path: &Path) -> bool {
    let peer = UnixStream::connect(path).and_then(|stream| peer_process(&stream));
    peer.is_ok_and(|peer| peer.user == geteuid())
}

/// Sends a byte, and up to two open files.
pub fn send_files(stream: &UnixStream, letter: u8, files: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(files)) {
        return Err(io::Error::other("there is no room for two sockets"));
    }
    sendmsg(stream, &[IoSlice::new(&[letter])], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Receives a byte, or `None` at the end, with up to two open files.
pub fn receive_files(stream: &UnixStream) -> io::Result<(Option<u8>, Vec<OwnedFd>)> {
    let mut letter = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        match recvmsg(stream, &mut [IoSliceMut::new(&mut letter)], &mut control, RecvFlags::CMSG_CLOEXEC) {
            Err(Errno::INTR) => {}
            received => break received?,
        }
    };
    let mut files: Vec<OwnedFd> = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            files.extend(rights);
        }
    }
    Ok((Some(letter[0]).filter(|_| received.bytes == 1), files))
}

/// Returns the address of a service manager: a path, or an abstract name after an `@`.
pub fn manager_address(name: &str) -> io::Result<SocketAddr> {
    match name.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(name),
    }
}

/// Returns whether the client of a connection has closed its side, although data before the end is not read yet.
pub fn has_hung_up(fd: &impl AsFd) -> bool {
    let mut looked_at = [PollFd::new(fd, PollFlags::RDHUP)];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    let ended = PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR;
    poll(&mut looked_at, Some(&at_once)).is_ok() && looked_at[0].revents().intersects(ended)
}

/// Returns the resident memory of this process, in bytes. `None` without `/proc`.
pub fn resident_memory() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"))?;
    resident.parse::<u64>().ok().map(|kib| kib * 1024)
}

/// Returns the number of open files and sockets of this process. `None` without `/proc`.
pub fn open_files() -> Option<usize> {
    fs::read_dir("/proc/self/fd").ok().map(Iterator::count)
}
