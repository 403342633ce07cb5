//! `distillery serve`: enters (fresh or by takeover), builds all parts, serves, drains. One file for each of these.

mod build;
mod entry;
mod exit;
mod running;
mod signals;

use super::preflight::Preflight;
use anyhow::Context;
use clap::Args;
use distillery_config::Config;
use distillery_http::server::service::Inherited;
use distillery_observe::telemetry::{self, Telemetry};
use distillery_plugin::rebuild::Rebuilding;
use entry::Entry;
use running::Circumstances;
use signals::Signals;
use std::{
    path::PathBuf,
    process::ExitCode,
    thread::available_parallelism,
    time::{Duration, Instant},
};
use tokio::runtime::Runtime;

/// The number of task turns after which a thread checks its sockets. A busy session takes turns of up to a millisecond;
/// tokio's default of 61 would let all other sessions wait for that many turns.
const TURNS_UNTIL_SOCKETS: u32 = 8;

/// The time limit of the last file system calls when the server ends.
const LAST_CALLS: Duration = Duration::from_secs(1);

#[derive(Args)]
pub struct Arguments {
    /// Rebuilds a plugin whenever its sources change, with the build command of its plugin.yaml: for plugin development
    #[arg(long)]
    dev: bool,
    /// Takes over from the server on the same data. The old server refuses new calls and ends with its last one: no
    /// connection is refused, and no call is lost
    #[arg(long)]
    takeover: bool,
}

/// The circumstances of this start.
struct Start {
    begun: Instant,
    inherited: Inherited,
    /// Whether this server takes over from another one.
    takeover: bool,
}

/// Serves as `config` says; `path` is the file that was named for it, if any.
pub fn run(config: &Config, path: Option<PathBuf>, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let begun = Instant::now();
    // Must happen before there are other threads.
    let inherited = Inherited::take(&config.service).context("cannot use the sockets that the server was given")?;
    let start = Start { begun, inherited, takeover: arguments.takeover };
    let telemetry = telemetry::start(&config.log)?;
    let rebuilding = arguments.dev.then(|| Rebuilding::start(config.plugins.directory.clone())).transpose();
    let rebuilding = rebuilding.context("cannot start the thread that builds plugins")?;
    let served = serve(config, path, &telemetry, start);
    if let Some(rebuilding) = rebuilding {
        rebuilding.end();
    }
    if let Err(error) = &served {
        tracing::error!("{error:#}");
    }
    served
}

fn serve(config: &Config, path: Option<PathBuf>, telemetry: &Telemetry, start: Start) -> anyhow::Result<ExitCode> {
    let Start { begun, inherited, takeover } = start;
    let threads = available_parallelism().map_or(1, usize::from);
    let runtime = socket_threads(threads)?;
    // First of all: a signal that arrives before would end the server without its drain, or instead of a takeover.
    let signals = {
        let _context = runtime.enter();
        Signals::listen()?
    };
    let mut entry = Entry::make(config, inherited, takeover)?;
    let preflight = Preflight::try_all(config, entry.sockets.given()).passed()?;
    entry.answer_operator_early(config)?;
    let built = build::build(config, path, telemetry, preflight, build::Way { threads, takeover })?;
    let (history, accounts) = (built.history.clone(), built.store.accounts.clone());
    let served = runtime.block_on(running::run(Circumstances { config, telemetry, begun, signals, entry, built }));
    // A guest's file that never opens, or a name that does not resolve, must not hold up the end of the server.
    runtime.shutdown_timeout(LAST_CALLS);
    history.finish();
    if let Err(error) = accounts.write_pending() {
        tracing::warn!(%error, "the latest sessions are lost; their users must log in again");
    }
    served
}

fn socket_threads(threads: usize) -> anyhow::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .thread_name("sockets")
        .event_interval(TURNS_UNTIL_SOCKETS)
        .enable_all()
        .build()
        .context("cannot start the threads that serve sockets")
}
