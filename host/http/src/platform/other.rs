//! What replaces Linux on other Unix systems: less, and never with more access.

use super::PeerProcess;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fd::AsFd,
    process::geteuid,
};
use std::{
    fs,
    io::{self, ErrorKind},
    os::{
        fd::{BorrowedFd, OwnedFd},
        unix::{
            fs::MetadataExt,
            net::{SocketAddr, UnixStream},
        },
    },
    path::Path,
};

const NO_TAKEOVER: &str = "taking over needs Linux: restart the server instead";
const NO_ABSTRACT_NAMES: &str = "abstract socket names need Linux: set NOTIFY_SOCKET to a path";

/// Returns why a server cannot take over from another one, if so.
pub fn no_takeover() -> Option<&'static str> {
    Some(NO_TAKEOVER)
}

/// Fails: the process at the other end is unknown, and gets nothing.
pub fn peer_process(_: &UnixStream) -> io::Result<PeerProcess> {
    Err(unsupported(NO_TAKEOVER))
}

/// Returns whether a process of this user answers on the socket at `path`: only the user that made a socket owns its file.
pub fn is_served_by_this_user(path: &Path) -> bool {
    let owner = fs::symlink_metadata(path).map(|it| it.uid());
    owner.is_ok_and(|owner| owner == geteuid().as_raw()) && UnixStream::connect(path).is_ok()
}

/// Fails: open files are only passed on Linux.
pub fn send_files(_: &UnixStream, _: u8, _: &[BorrowedFd<'_>]) -> io::Result<()> {
    Err(unsupported(NO_TAKEOVER))
}

/// Fails: open files are only passed on Linux.
pub fn receive_files(_: &UnixStream) -> io::Result<(Option<u8>, Vec<OwnedFd>)> {
    Err(unsupported(NO_TAKEOVER))
}

/// Returns the address of a service manager, which is a path.
pub fn manager_address(name: &str) -> io::Result<SocketAddr> {
    if name.starts_with('@') { Err(unsupported(NO_ABSTRACT_NAMES)) } else { SocketAddr::from_pathname(name) }
}

/// Returns whether a connection has ended. A client that has only closed its side is noticed once its data is read.
pub fn has_hung_up(fd: &impl AsFd) -> bool {
    // macOS reports a hang-up only to those that wait for input.
    let mut looked_at = [PollFd::new(fd, PollFlags::IN)];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    let ended = PollFlags::HUP | PollFlags::ERR;
    poll(&mut looked_at, Some(&at_once)).is_ok() && looked_at[0].revents().intersects(ended)
}

/// Returns the resident memory of this process: unknown.
pub fn resident_memory() -> Option<u64> {
    None
}

/// Returns the number of open files and sockets of this process: unknown.
pub fn open_files() -> Option<usize> {
    None
}

fn unsupported(why: &'static str) -> io::Error {
    io::Error::new(ErrorKind::Unsupported, why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::Write,
        net::{Shutdown, TcpListener, TcpStream},
        os::unix::net::{UnixDatagram, UnixListener},
    };

    #[test]
    fn unknown_process_gets_no_sockets() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let why = no_takeover().unwrap();
        assert_eq!(why, "taking over needs Linux: restart the server instead");
        assert_eq!(peer_process(&ours).unwrap_err().to_string(), why);
        assert_eq!(send_files(&ours, b'A', &[theirs.as_fd()]).unwrap_err().to_string(), why);
        assert_eq!(receive_files(&ours).unwrap_err().to_string(), why);
        theirs.set_nonblocking(true).unwrap();
        assert_eq!(io::Read::read(&mut &theirs, &mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
    }

    #[test]
    fn server_of_this_user_is_known_by_its_socket() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        assert!(!is_served_by_this_user(&path));
        let listener = UnixListener::bind(&path).unwrap();
        assert!(is_served_by_this_user(&path));
        drop(listener);
        assert!(!is_served_by_this_user(&path), "it is left behind");
    }

    #[test]
    fn socket_of_another_user_is_not_this_users_server() {
        if !geteuid().is_root() {
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let _listener = UnixListener::bind(&path).unwrap();
        std::os::unix::fs::chown(&path, Some(12_345), None).unwrap();
        assert!(!is_served_by_this_user(&path));
    }

    #[test]
    fn abstract_name_is_refused_with_the_way_out() {
        let error = manager_address("@name").unwrap_err().to_string();
        assert_eq!(error, "abstract socket names need Linux: set NOTIFY_SOCKET to a path");
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let _manager = UnixDatagram::bind(&path).unwrap();
        let address = manager_address(path.to_str().unwrap()).unwrap();
        UnixDatagram::unbound().unwrap().connect_addr(&address).unwrap();
    }

    #[test]
    fn ended_connection_is_found_and_an_open_one_is_not() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        client.write_all(b"unread").unwrap();
        assert!(!has_hung_up(&server));
        server.shutdown(Shutdown::Write).unwrap();
        drop(client);
        while !has_hung_up(&server) {
            std::thread::yield_now();
        }
    }

    #[test]
    fn unknown_figures_are_left_out() {
        assert_eq!((resident_memory(), open_files()), (None, None));
    }
}
