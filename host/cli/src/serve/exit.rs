//! The end of a server: it drains, or outlives a takeover until its last call has ended.

use super::{Signals, build::Built, entry::Entry};
use anyhow::Context;
use distillery_config::Config;
use distillery_core::drain::Drain;
use distillery_http::{
    ops::Ops,
    server::{local::Local, takeover::Offer},
};
use distillery_observe::health::Stage;
use std::{process::ExitCode, sync::Arc, time::Duration};
use tokio::task::JoinHandle;

/// Everything that has to end.
pub(super) struct Exit {
    pub entry: Entry,
    pub built: Built,
    pub local: Arc<Local>,
    pub offer: Offer,
    /// The server that accepts connections.
    pub serving: JoinHandle<()>,
}

/// Waits for a signal or a successor, and then until running calls have ended.
pub(super) async fn when_over(config: &Config, exit: Exit, signals: &mut Signals) -> anyhow::Result<ExitCode> {
    let Exit { entry, built, local, mut offer, serving } = exit;
    let signal = tokio::select! {
        name = signals.next_end(&built.plugins, &entry.manager) => Some(name),
        successor = offer.taken() => {
            tracing::info!(successor, "another server has taken over; running calls continue until they end");
            successor.into_iter().for_each(|successor| entry.manager.succeeded_by(successor));
            None
        }
    };
    if signal.is_some() {
        entry.health.enter(Stage::Draining);
    }
    built.plugins.end();
    let signal = match signal {
        Some(name) => Some(name),
        None => retire(config, &entry, &built.drain, signals).await,
    };
    let Some(name) = signal else { return Ok(ExitCode::SUCCESS) };
    tracing::info!(signal = name, "draining: refusing new calls, telling running ones to stop");
    if !local.is_given_up() {
        entry.manager.stopping();
    }
    offer.withdraw();
    built.drain.begin();
    serving.await.context("the task that accepts connections has failed")?;
    Ok(wait(&built.drain, config.cancel.shutdown_grace, signals).await)
}

/// Leaves new calls to the successor and waits for the running ones. Returns why they must be told to stop, if they must.
async fn retire(config: &Config, entry: &Entry, drain: &Drain, signals: &mut Signals) -> Option<&'static str> {
    // Readiness is answered for both servers, so this one does not report that it drains.
    drain.retire();
    entry.ops.iter().for_each(Ops::end);
    let name = outlive(drain, config.cancel.takeover_grace, signals).await;
    if let Some(ops) = &entry.ops {
        ops.ended().await;
    }
    name
}

/// Waits until all running calls have ended, or returns the reason for which they are to be told to stop.
async fn outlive(drain: &Drain, limit: Duration, signals: &mut Signals) -> Option<&'static str> {
    tokio::select! {
        left = drain.wait(limit) => {
            if left > 0 {
                return Some("the end of cancel.takeover_grace");
            }
            tracing::info!("drained");
            None
        }
        name = signals.next() => Some(name),
    }
}

/// Waits for running calls until all have ended, the time is up, or a second signal ends the wait.
async fn wait(drain: &Drain, limit: Duration, signals: &mut Signals) -> ExitCode {
    tokio::select! {
        left = drain.wait(limit) => {
            match left {
                0 => tracing::info!("drained"),
                left => tracing::warn!(connections = left, "the time for draining is up: cutting what is left"),
            }
            ExitCode::SUCCESS
        }
        name = signals.next() => {
            tracing::warn!(signal = name, "a second signal: exiting at once");
            ExitCode::FAILURE
        }
    }
}
