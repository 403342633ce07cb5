//! The signals that the server listens to, and what each of them begins.

use crate::{plugin::watch::Watcher, server::service::Manager};
use anyhow::Context;
use std::{
    process::{Command, Stdio},
    sync::Arc,
    thread,
};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that the server listens to.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    upgrade: Signal,
}

impl Signals {
    pub fn listen() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hangup: listen(SignalKind::hangup())?,
            upgrade: listen(SignalKind::user_defined2())?,
        })
    }

    /// The next signal that ends the server.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }

    /// The same, while a SIGHUP before it reloads `plugins`, and a SIGUSR2 starts another server to take over.
    pub async fn next_end(&mut self, plugins: &Watcher, manager: &Arc<Manager>) -> &'static str {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return "SIGTERM",
                _ = self.interrupt.recv() => return "SIGINT",
                // What becomes of it stands in the log.
                _ = self.hangup.recv() => {
                    manager.reloading();
                    let (reloaded, manager) = (plugins.reload(), manager.clone());
                    tokio::spawn(async move {
                        let _ = reloaded.await;
                        manager.ready().await;
                    });
                }
                _ = self.upgrade.recv() => start_successor(),
            }
        }
    }
}

/// Starts the program anew, whatever lies under its name by now, to take over from this server.
fn start_successor() {
    let mut arguments = std::env::args_os();
    let Some(program) = arguments.next() else { return tracing::error!("there is no name to start a server by") };
    let mut command = Command::new(program);
    // The watchdog is told for the new process.
    command.args(arguments.filter(|it| it != "--takeover")).arg("--takeover").env_remove("WATCHDOG_PID");
    let started = command.stdin(Stdio::null()).spawn().and_then(|mut child| {
        tracing::info!(process = child.id(), "started a server that takes over");
        // It lives on; only where it does not is there something to tell.
        thread::Builder::new().name("successor".into()).spawn(move || match child.wait() {
            Ok(status) if !status.success() => tracing::error!(%status, "the server that was to take over has failed"),
            _ => {}
        })
    });
    if let Err(error) = started {
        tracing::error!(%error, "no server to take over could be started");
    }
}
