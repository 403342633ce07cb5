//! The look at a connection that is not read: whether its client has closed its side already.
//!
//! The end of a stream waits behind its data. A client that is held back and goes away would only be missed once all that
//! it has sent is read.

use crate::platform::has_hung_up;
use rustix::fd::AsFd;
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

/// A question to the owner of a connection, which looks at its next flush. Between the two may lie other streams, which pass
/// flushes on.
#[derive(Clone, Debug, Default)]
pub struct HangUp(Arc<State>);

#[derive(Debug, Default)]
struct State {
    asked: AtomicBool,
    found: AtomicBool,
}

impl HangUp {
    /// Asks for a look at the next flush.
    pub(crate) fn ask(&self) {
        self.0.asked.store(true, Relaxed);
    }

    /// Returns whether the client had closed its side at the last look.
    pub(crate) fn is_found(&self) -> bool {
        self.0.found.load(Relaxed)
    }

    /// Looks at the socket `fd`, if that was asked for.
    pub fn look(&self, fd: &impl AsFd) {
        if self.0.asked.swap(false, Relaxed) && has_hung_up(fd) {
            self.0.found.store(true, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::Write,
        net::{TcpListener, TcpStream},
    };

    #[test]
    fn end_behind_unread_data_is_found() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        client.write_all(b"unread").unwrap();
        let hang_up = HangUp::default();
        hang_up.ask();
        hang_up.look(&server);
        assert!(!hang_up.is_found());
        drop(client);
        hang_up.look(&server);
        assert!(!hang_up.is_found(), "a look needs a question");
        while !hang_up.is_found() {
            hang_up.ask();
            hang_up.look(&server);
        }
    }
}
