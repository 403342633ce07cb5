//! Probes of silent TCP connections by the system. Without them, a client that vanished during a long call over plain
//! HTTP would only be missed at the next write.

use rustix::net::sockopt::{set_socket_keepalive, set_tcp_keepcnt, set_tcp_keepidle, set_tcp_keepintvl};
use std::{io, os::fd::AsFd, time::Duration};

/// The number of unanswered probes after which a connection is lost.
const PROBES: u32 = 4;
/// The range of times that the system accepts.
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(32_000);

/// Probes a connection after `interval` of silence. It counts as lost after `timeout` of silence.
pub(super) fn probe(stream: &impl AsFd, interval: Duration, timeout: Duration) -> io::Result<()> {
    set_tcp_keepidle(stream, interval.clamp(SHORTEST, LONGEST))?;
    set_tcp_keepintvl(stream, (timeout.saturating_sub(interval) / PROBES).clamp(SHORTEST, LONGEST))?;
    set_tcp_keepcnt(stream, PROBES)?;
    set_socket_keepalive(stream, true)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::sockopt::{socket_keepalive, tcp_keepcnt, tcp_keepidle, tcp_keepintvl};
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn silent_connection_is_probed_until_its_timeout() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        probe(&stream, Duration::from_secs(20), Duration::from_secs(60)).unwrap();
        let times = (tcp_keepidle(&stream).unwrap(), tcp_keepintvl(&stream).unwrap(), tcp_keepcnt(&stream).unwrap());
        assert_eq!(times, (Duration::from_secs(20), Duration::from_secs(10), PROBES));
        assert!(socket_keepalive(&stream).unwrap());
        for odd in [Duration::from_millis(1), Duration::from_secs(3650 * 24 * 3600)] {
            probe(&stream, odd, odd * 2).unwrap();
        }
    }
}
