//! The door to what only Linux has: credentials and files over Unix sockets, abstract socket names, half-closed connections,
//! `/proc`. `linux.rs` and `other.rs` have the same functions. On Linux the tests run both.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(any(not(target_os = "linux"), test))]
mod other;

#[cfg(target_os = "linux")]
pub use linux::*;
#[cfg(not(target_os = "linux"))]
pub use other::*;

use rustix::process::Uid;

/// The process at the other end of a Unix socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerProcess {
    pub user: Uid,
    pub id: Option<u32>,
}
