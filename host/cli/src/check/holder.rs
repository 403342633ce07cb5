//! Finds the process that listens at an address: the running server of this configuration, or another program.

use distillery_config::Config;
use distillery_http::{platform::peer_process, server::local::SOCKET};
use std::{collections::BTreeSet, fs, net::SocketAddr, os::unix::net::UnixStream};

/// The state of a listening socket in the kernel's tables.
const LISTENS: &str = "0A";

/// The running server in the `data` directory of a configuration.
pub(super) struct Running {
    /// The inodes of its open sockets; `None` if another user runs it, or the system does not tell.
    sockets: Option<BTreeSet<String>>,
}

impl Running {
    /// Finds the server, if one answers.
    pub fn find(config: &Config) -> Option<Self> {
        let control = UnixStream::connect(config.data.join(SOCKET)).ok()?;
        let process = peer_process(&control).ok().and_then(|process| process.id);
        let files = process.and_then(|process| fs::read_dir(format!("/proc/{process}/fd")).ok());
        let links = files.map(|files| files.flatten().filter_map(|file| fs::read_link(file.path()).ok()));
        let inode =
            |link: std::path::PathBuf| Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned());
        Some(Self { sockets: links.map(|links| links.filter_map(inode).collect()) })
    }

    /// Returns whether this server listens at `address`. True if the server's sockets cannot be seen.
    pub fn listens(&self, address: SocketAddr) -> bool {
        let Some(sockets) = &self.sockets else { return true };
        let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|table| fs::read_to_string(table).unwrap_or_default());
        let listening = tables.iter().flat_map(|table| table.lines()).filter_map(|line| inode_at(line, address.port()));
        listening.into_iter().any(|inode| sockets.contains(inode))
    }
}

/// Returns the inode of the socket in a line of the kernel's table, if it listens at `port`.
fn inode_at(line: &str, port: u16) -> Option<&str> {
    let mut fields = line.split_whitespace();
    let (_, its_port) = fields.nth(1)?.rsplit_once(':')?;
    let state = fields.nth(1)?;
    (state == LISTENS && u16::from_str_radix(its_port, 16) == Ok(port)).then(|| fields.nth(5))?
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn servers_own_listener_is_recognized() {
        let directory = tempfile::tempdir().unwrap();
        let config = Config { data: directory.path().to_owned(), ..Config::default() };
        assert!(Running::find(&config).is_none());
        let _control = std::os::unix::net::UnixListener::bind(directory.path().join(SOCKET)).unwrap();
        let own = TcpListener::bind("127.0.0.1:0").unwrap();
        let running = Running::find(&config).unwrap();
        assert!(running.listens(own.local_addr().unwrap()));
        let others = Running { sockets: Some(BTreeSet::from(["1".to_owned()])) };
        assert!(!others.listens(own.local_addr().unwrap()));
        let unseen = Running { sockets: None };
        assert!(unseen.listens(own.local_addr().unwrap()));
    }
}
