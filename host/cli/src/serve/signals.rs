//! The signals of the server, and their effects.

use anyhow::Context;
use distillery_http::server::{service::Manager, takeover};
use distillery_plugin::watch::Watcher;
use std::{
    process::{Command, Stdio},
    sync::Arc,
    thread,
};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that the server handles.
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

    /// Waits for the next signal that ends the server.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }

    /// Does the same, and meanwhile reloads `plugins` on SIGHUP, and starts a successor on SIGUSR2.
    pub async fn next_end(&mut self, plugins: &Watcher, manager: &Arc<Manager>) -> &'static str {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return "SIGTERM",
                _ = self.interrupt.recv() => return "SIGINT",
                // The log reports the result of a reload.
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

/// Starts the current program file as a successor that takes over from this server.
fn start_successor() {
    if let Err(error) = takeover::is_possible() {
        return tracing::error!(%error, "cannot start a successor");
    }
    let mut arguments = std::env::args_os();
    let Some(program) = arguments.next() else {
        return tracing::error!("cannot start a successor: the arguments name no program");
    };
    let mut command = Command::new(program);
    // The watchdog variable names this process, not the new one.
    command.args(arguments.filter(|it| it != "--takeover")).arg("--takeover").env_remove("WATCHDOG_PID");
    let started = command.stdin(Stdio::null()).spawn().and_then(|mut child| {
        tracing::info!(process = child.id(), "started a successor");
        // A successor keeps running; an early end is an error.
        thread::Builder::new().name("successor".into()).spawn(move || match child.wait() {
            Ok(status) if !status.success() => tracing::error!(%status, "the successor has failed"),
            _ => {}
        })
    });
    if let Err(error) = started {
        tracing::error!(%error, "cannot start a successor");
    }
}
