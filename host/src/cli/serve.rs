//! `distillery serve`: build everything, serve, drain.

use crate::{
    config::Config,
    dispatch::Dispatcher,
    drain::Drain,
    plugin::{Catalog, Snapshot, State, load::snapshot},
    process::{admission::Admission, compute::ComputeThreads},
    runtime::Capacity,
    server::Server,
    store::Store,
    telemetry,
};
use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use std::{
    process::ExitCode,
    sync::Arc,
    thread::available_parallelism,
    time::{Duration, Instant},
};
use tokio::signal::unix::{Signal, SignalKind, signal};

pub fn run(config: &Config) -> anyhow::Result<ExitCode> {
    let begun = Instant::now();
    let _telemetry = telemetry::start(&config.log)?;
    let served = serve(config, begun);
    if let Err(error) = &served {
        tracing::error!("{error:#}");
    }
    served
}

fn serve(config: &Config, begun: Instant) -> anyhow::Result<ExitCode> {
    let capacity = Capacity::find(config.limits.processes);
    if let Some(lowered) = &capacity.lowered {
        tracing::warn!(processes = capacity.processes, "{lowered}");
    }
    let catalog = Arc::new(Catalog::new(load_plugins(config, &capacity)?));
    let store = Store::open(config)?;

    let threads = available_parallelism().map_or(1, usize::from);
    let compute = ComputeThreads::start(threads).context("cannot start the threads that guests compute on")?;
    let limits = &config.limits;
    let dispatcher = Arc::new(Dispatcher {
        catalog: catalog.clone(),
        admission: Admission::new(capacity.processes, limits.queue, limits.queue_time),
        compute: Arc::new(compute),
        grace: config.cancel.grace,
        cleanup_time: config.cancel.cleanup_time,
    });
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .thread_name("sockets")
        .enable_all()
        .build()
        .context("cannot start the threads that serve sockets")?
        .block_on(async {
            let drain = Drain::default();
            let mut signals = Signals::listen()?;
            let server = Server::bind(config, &store, catalog, dispatcher, drain.clone()).await?;
            let address = server.address()?;
            tracing::info!(
                %address,
                api = config.http.api,
                processes = capacity.processes,
                ms = begun.elapsed().as_millis() as u64,
                "listening"
            );
            if !config.http.api {
                tracing::warn!("the API is off: set http.api to true to serve calls");
            }
            let serving = tokio::spawn(server.run());
            let name = signals.next().await;
            tracing::info!(signal = name, "draining: no new calls, running ones are told");
            drain.begin();
            serving.await?;
            Ok(wait(&drain, config.cancel.shutdown_grace, &mut signals).await)
        })
}

/// Waits for those that run, until all have ended, the time is up, or a second signal says that nobody wants to wait.
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

/// The signals that end the server.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

fn load_plugins(config: &Config, capacity: &Capacity) -> anyhow::Result<Snapshot> {
    let loader = super::loader(config, capacity)?;
    // Drawn on a terminal only, and gone once the log goes on.
    let progress = ProgressBar::no_length().with_style(
        ProgressStyle::with_template("{spinner} loading plugins: {pos} done, last {msg} ({elapsed})")
            .expect("the template is well-formed"),
    );
    progress.enable_steady_tick(Duration::from_millis(100));
    let loaded = loader.load_all(&config.plugins.directory, |loaded| {
        progress.set_message(loaded.name.clone());
        progress.inc(1);
    });
    progress.finish_and_clear();
    let loaded = loaded?;
    if loaded.is_empty() {
        tracing::warn!(directory = %config.plugins.directory.display(), "there are no plugins");
    }
    let took: Vec<_> = loaded.iter().map(|loaded| (loaded.name.clone(), loaded.took)).collect();
    // Only the snapshot knows of plugins that provide the same call.
    let snapshot = snapshot(loaded);
    for (name, took) in took {
        report(&name, &snapshot.plugins()[&name], took);
    }
    Ok(snapshot)
}

fn report(name: &str, state: &State, took: Duration) {
    let ms = took.as_millis() as u64;
    if let Some(error) = &state.error {
        tracing::error!(plugin = name, %error, ms, "plugin not loaded");
    }
    if let Some(plugin) = &state.serving {
        tracing::info!(
            plugin = name,
            kind = %plugin.program.kind(),
            calls = plugin.manifest.calls.len(),
            on_demand = plugin.program.is_on_demand(),
            ms,
            "plugin loaded"
        );
    }
}
