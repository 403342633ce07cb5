//! `distillery serve`: build everything, serve, drain.

use super::reread::Rereader;
use crate::{
    config::Config,
    dispatch::Dispatcher,
    drain::Drain,
    history::{History, Retention},
    kept::shelf::{self, Shelf},
    plugin::{
        Catalog, Snapshot,
        load::{Loaded, Loader, found},
        rebuild::Rebuilding,
        watch::{Watch, Watcher, report},
    },
    process::{
        admission::{Admission, Bounds},
        compute::ComputeThreads,
    },
    runtime::Capacity,
    server::{Parts, Server, local::Local},
    store::Store,
    telemetry::{self, Level},
};
use anyhow::Context;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use std::{
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    thread::available_parallelism,
    time::{Duration, Instant},
};
use tokio::signal::unix::{Signal, SignalKind, signal};

#[derive(Args)]
pub struct Arguments {
    /// Builds a plugin again whenever its sources change, by the build of its plugin.yaml: for those who write plugins
    #[arg(long)]
    dev: bool,
}

/// Serves as `config` says, which `path` was named for, if any was.
pub fn run(config: &Config, path: Option<PathBuf>, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let begun = Instant::now();
    let telemetry = telemetry::start(&config.log)?;
    let rebuilding = arguments.dev.then(|| Rebuilding::start(config.plugins.directory.clone())).transpose();
    let rebuilding = rebuilding.context("cannot start the thread that builds plugins")?;
    let served = serve(config, path, telemetry.level(), begun);
    if let Some(rebuilding) = rebuilding {
        rebuilding.end();
    }
    if let Err(error) = &served {
        tracing::error!("{error:#}");
    }
    served
}

fn serve(config: &Config, path: Option<PathBuf>, level: Level, begun: Instant) -> anyhow::Result<ExitCode> {
    let local = Local::bind(&config.data)?;
    let capacity = Capacity::find(config.limits.processes);
    if let Some(lowered) = &capacity.lowered {
        tracing::warn!(processes = capacity.processes, "{lowered}");
    }
    let store = Store::open(config)?;
    let mut loader = super::loader(config, &capacity)?;
    loader.operator.grants.systems = Some(store.public.clone());
    let catalog = Arc::<Catalog>::default();
    let loaded = load_plugins(config, &loader, &catalog)?;
    let mut rereader = Rereader::new(config.clone(), path, &loader, level);
    let watch = Watch {
        root: config.plugins.directory.clone(),
        how: config.plugins.watch,
        loader,
        catalog: catalog.clone(),
        loaded,
        reread: Box::new(move || rereader.reread()),
    };

    let threads = available_parallelism().map_or(1, usize::from);
    let compute = ComputeThreads::start(threads).context("cannot start the threads that guests compute on")?;
    let limits = &config.limits;
    let retention = Retention { age: config.history.keep, count: config.history.max };
    let history = Arc::new(History::start(&store.database, retention).context("cannot go on with the history")?);
    let drain = Drain::default();
    let bounds = shelf::Bounds { time: limits.kept_time, output: limits.kept_output, processes: limits.kept_processes };
    let shelf = Arc::new(Shelf::new(bounds, history.clone(), drain.clone()));
    let dispatcher = Arc::new(Dispatcher {
        catalog: catalog.clone(),
        admission: Admission::new(Bounds {
            processes: capacity.processes,
            per_caller: limits.processes_per_caller,
            queue: limits.queue,
            queue_time: limits.queue_time,
        }),
        compute: Arc::new(compute),
        grace: config.cancel.grace,
        cleanup_time: config.cancel.cleanup_time,
        history: Some(history.clone()),
        shelf: Some(shelf.clone()),
    });
    let plugins = watch.start().context("cannot start the thread that watches plugins")?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .thread_name("sockets")
        .enable_all()
        .build()
        .context("cannot start the threads that serve sockets")?;
    let served = runtime.block_on(async {
        let mut signals = Signals::listen()?;
        let busy = drain.busy();
        tokio::spawn(async move {
            let _busy = busy;
            shelf.expire().await;
        });
        let parts =
            Parts { catalog, dispatcher, history: history.clone(), plugins: plugins.clone(), drain: drain.clone() };
        let server = Server::bind(config, &store, &local, parts)?;
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
        if !store.accounts.has_users()? {
            tracing::info!("there are no users: make one with `distillery user add NAME --scope 'call:*'`");
        }
        let serving = tokio::spawn(server.run());
        let name = signals.next_end(&plugins).await;
        tracing::info!(signal = name, "draining: no new calls, running ones are told");
        plugins.end();
        drain.begin();
        serving.await?;
        Ok(wait(&drain, config.cancel.shutdown_grace, &mut signals).await)
    });
    // A guest's file that never opens, or a name that is not resolved, must not keep the server from ending.
    runtime.shutdown_timeout(LAST_CALLS);
    history.finish();
    served
}

/// How long the last calls into the file system may take when the server ends.
const LAST_CALLS: Duration = Duration::from_secs(1);

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

/// The signals that the server listens to.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn listen() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }

    /// The next signal that ends the server.
    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }

    /// The same, while a SIGHUP before it reloads `plugins`.
    async fn next_end(&mut self, plugins: &Watcher) -> &'static str {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return "SIGTERM",
                _ = self.interrupt.recv() => return "SIGINT",
                // What becomes of it stands in the log.
                _ = self.hangup.recv() => drop(plugins.reload()),
            }
        }
    }
}

fn load_plugins(config: &Config, loader: &Loader, catalog: &Catalog) -> anyhow::Result<Vec<Loaded>> {
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
    // Only the snapshot knows of plugins that provide the same call.
    let changes = catalog.swap(Snapshot::default().next(found(&loaded)));
    let took = |name: &str| loaded.iter().find(|loaded| loaded.name == name).map(|loaded| loaded.took);
    report(&changes, &catalog.snapshot(), took);
    Ok(loaded)
}
