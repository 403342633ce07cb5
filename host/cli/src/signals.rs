//! The signals that end a command at a terminal: SIGINT (Ctrl-C) and SIGTERM.

use anyhow::Context as _;
use distillery_core::call::CancelReason;
use std::task::{Context, Poll};
use tokio::signal::unix::{Signal, SignalKind, signal};

pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub fn listen() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<CancelReason> {
        if self.interrupt.poll_recv(cx).is_ready() {
            return Poll::Ready(CancelReason::Client);
        }
        self.terminate.poll_recv(cx).map(|_| CancelReason::Shutdown)
    }
}
