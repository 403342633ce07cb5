//! A running command, on the side of the server.

use super::{Command, message::Status, platform};
use distillery_core::control::Control;
use rustix::net::send;
use std::{
    net::Shutdown,
    os::unix::net::UnixStream,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};
use tokio::{sync::watch, task::AbortHandle};

/// A bound of the grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    Time,
    Output,
}

impl Bound {
    pub fn name(self) -> &'static str {
        match self {
            Self::Time => "time",
            Self::Output => "output",
        }
    }
}

/// The end of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    pub status: Status,
    /// The bound that stopped the command. `None` if it ended by itself or by a signal.
    pub bound: Option<Bound>,
}

/// A signal for a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    Hangup,
    Interrupt,
    Terminate,
    Kill,
    User1,
    User2,
}

impl Signal {
    /// Returns the number on Linux.
    fn number(self) -> u8 {
        let signal = match self {
            Self::Hangup => rustix::process::Signal::HUP,
            Self::Interrupt => rustix::process::Signal::INT,
            Self::Terminate => rustix::process::Signal::TERM,
            Self::Kill => rustix::process::Signal::KILL,
            Self::User1 => rustix::process::Signal::USR1,
            Self::User2 => rustix::process::Signal::USR2,
        };
        signal.as_raw() as u8
    }
}

/// A running command. Dropping it kills the command and everything that it started.
#[derive(Debug)]
pub struct Running {
    state: Arc<State>,
    /// Sends SIGTERM when the call is told to stop.
    tells: Option<AbortHandle>,
}

/// The state that a command, its streams and the thread of its supervisor share.
#[derive(Debug)]
pub(super) struct State {
    pub command: Arc<Command>,
    socket: UnixStream,
    ended: watch::Sender<Option<Ended>>,
    written: AtomicU64,
    wrote_too_much: AtomicBool,
}

impl State {
    pub fn new(command: Arc<Command>, socket: UnixStream) -> Self {
        Self {
            command,
            socket,
            ended: watch::Sender::new(None),
            written: AtomicU64::new(0),
            wrote_too_much: AtomicBool::new(false),
        }
    }

    /// Asks the supervisor for a signal. A supervisor that is gone needs none.
    fn signal(&self, signal: Signal) {
        _ = send(&self.socket, &[signal.number()], platform::SEND);
    }

    /// Makes the supervisor kill the command.
    pub fn kill(&self) {
        _ = self.socket.shutdown(Shutdown::Write);
    }

    /// Counts bytes of output. Returns how many of them are within the bound. Kills a command that wrote more.
    pub fn count(&self, bytes: usize) -> usize {
        let most = self.command.output.get();
        let before = self.written.fetch_add(bytes as u64, Relaxed);
        let within = most.saturating_sub(before).min(bytes as u64) as usize;
        if within < bytes {
            self.wrote_too_much.store(true, Relaxed);
            self.kill();
        }
        within
    }

    /// Returns the bytes of output that were read.
    pub fn written(&self) -> u64 {
        self.written.load(Relaxed).min(self.command.output.get())
    }

    /// Records the end, and wakes everything that waits for it.
    pub fn end(&self, status: Status, timed_out: bool) -> Ended {
        let bound = match (self.wrote_too_much.load(Relaxed), timed_out) {
            (true, _) => Some(Bound::Output),
            (false, true) => Some(Bound::Time),
            (false, false) => None,
        };
        let ended = Ended { status, bound };
        self.ended.send_replace(Some(ended));
        ended
    }
}

/// The end of a running command, to wait for. It does not keep the command alive.
#[derive(Clone, Debug)]
pub struct End(watch::Receiver<Option<Ended>>);

impl End {
    /// Returns whether the command has ended.
    pub fn is_over(&self) -> bool {
        self.0.borrow().is_some()
    }

    /// Waits for the end.
    pub async fn wait(&mut self) -> Ended {
        loop {
            if let Some(ended) = *self.0.borrow_and_update() {
                return ended;
            }
            if self.0.changed().await.is_err() {
                // The thread of its supervisor is gone without a record of the end.
                return Ended { status: Status::Signalled(9), bound: None };
            }
        }
    }
}

impl Running {
    pub(super) fn new(state: Arc<State>) -> Self {
        Self { state, tells: None }
    }

    /// Sends SIGTERM when the call is told to stop, or now if it was told while the command started.
    pub(super) fn stop_with(&mut self, control: &Arc<Control>) {
        let (state, control) = (Arc::downgrade(&self.state), control.clone());
        let tells = tokio::spawn(async move {
            control.told().await;
            if let Some(state) = state.upgrade() {
                state.signal(Signal::Terminate);
            }
        });
        self.tells = Some(tells.abort_handle());
    }

    /// Returns how the command ended. `None` if it runs.
    pub fn ended(&self) -> Option<Ended> {
        *self.state.ended.borrow()
    }

    /// Returns its end, to wait for.
    pub fn end(&self) -> End {
        End(self.state.ended.subscribe())
    }

    pub fn signal(&self, signal: Signal) {
        self.state.signal(signal);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(tells) = &self.tells {
            tells.abort();
        }
        self.state.kill();
    }
}
