//! `distillery serve`: builds all parts, serves, drains.

mod signals;

use super::{
    preflight::Preflight,
    readiness::{Readiness, all_loaded},
    reread::Rereader,
    sockets::Sockets,
};
use anyhow::{Context, bail};
use clap::Args;
use distillery_config::Config;
use distillery_core::drain::Drain;
use distillery_http::{
    hooks::Hooks,
    ops::{self, Ops},
    server::{
        Parts, Server,
        local::Local,
        service::{Inherited, Manager},
        takeover::{self, Predecessor},
    },
};
use distillery_observe::{
    health::{Health, Stage},
    metrics::Metrics,
    telemetry::{self, Telemetry},
    traces::{Tracer, export},
};
use distillery_plugin::{Catalog, archive::Archive, first_load::FirstLoad, rebuild::Rebuilding, watch::Watch};
use distillery_process::{
    admission::{Admission, Bounds},
    compute::ComputeThreads,
    detached::registry::{self, Registry},
    dispatch::Dispatcher,
    history::{History, Retention},
};
use distillery_store::Store;
use signals::Signals;
use std::{
    net::TcpListener,
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    thread::available_parallelism,
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;

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
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .thread_name("sockets")
        .event_interval(LOOK)
        .enable_all()
        .build()
        .context("cannot start the threads that serve sockets")?;
    // First of all: a signal that arrives before would end the server without its drain, or instead of a takeover.
    let mut signals = {
        let _context = runtime.enter();
        Signals::listen()?
    };
    let health = Arc::<Health>::default();
    let manager = Arc::new(Manager::new(&config.service));
    let mut sockets = Sockets::from(inherited);
    let mut local = None;
    let mut predecessor = None;
    if takeover {
        let (asked, listeners) = Predecessor::ask(&config.data)?;
        sockets = Sockets::taken_over(config, listeners)?;
        predecessor = Some(asked);
    } else {
        local = Some(Local::bind(&config.data)?);
    }
    let Preflight { tls, capacity, operator, hooks, .. } = Preflight::try_all(config, sockets.given()).passed()?;
    // A socket on which another server still answers is left to that server until this one serves.
    let early = sockets.operator.is_none() || !takeover;
    let managed = sockets.managed;
    let mut ops = (early && (config.ops.listen.is_some() || sockets.operator.is_some()))
        .then(|| start_ops(config, sockets.operator.take(), &health))
        .transpose()?;
    if let Some(lowered) = &capacity.lowered {
        tracing::warn!(processes = capacity.processes, "{lowered}");
    }
    if capacity.sockets < config.http.connections as u64 {
        tracing::info!(
            connections = capacity.sockets,
            "the limit of open files allows fewer connections than http.connections"
        );
    }
    let store = Store::open(config)?;
    super::sweep(&operator);
    let mut loader = super::loader(config, operator, &capacity, Some(&config.cache))?;
    loader.operator.grants.systems = Some(store.public.clone());
    loader.archive = Some(Arc::new(Archive::of(&config.data)));
    let catalog = Arc::<Catalog>::default();
    let first = FirstLoad::find(&config.plugins.directory, &catalog)?;
    if first.is_empty() {
        tracing::warn!(directory = %config.plugins.directory.display(), "there are no plugins");
    }
    let reloaded_tls = tls.clone();
    let metrics = Arc::<Metrics>::default();
    let hooks = Arc::new(Hooks::new(hooks, metrics.hooks.clone()));
    let mut rereader = Rereader::new(config.clone(), path, &loader, hooks.clone(), telemetry.level());
    let watch = Watch {
        root: config.plugins.directory.clone(),
        how: config.plugins.watch,
        loader,
        catalog: catalog.clone(),
        first,
        reread: Box::new(move || {
            reloaded_tls.iter().for_each(|tls| tls.reload());
            rereader.reread()
        }),
    };

    let compute = ComputeThreads::start(threads).context("cannot start the threads that guests compute on")?;
    let limits = &config.limits;
    let retention = Retention { age: config.history.keep, count: config.history.max };
    let history = if takeover { History::start_beside } else { History::start };
    let history = Arc::new(history(&store.database, retention).context("cannot go on with the history")?);
    let drain = Drain::default();
    let bounds =
        registry::Bounds { time: limits.kept_time, output: limits.kept_output, processes: limits.kept_processes };
    let registry = Arc::new(Registry::new(bounds, history.clone(), drain.clone()));
    let (tracer, spans) = config.traces.endpoint.as_ref().map(|_| Tracer::new(config.traces.one_in)).unzip();
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
        registry: Some(registry.clone()),
        metrics,
        tracer,
    });
    let plugins = watch.start().context("cannot start the thread that watches plugins")?;
    let served = runtime.block_on(async {
        if takeover {
            tokio::select! {
                () = all_loaded(&catalog) => {}
                signal = signals.next() => bail!("{signal} while the plugins were loading: nothing was taken over"),
            }
        }
        let readiness = Readiness {
            catalog: catalog.clone(),
            ready: config.plugins.ready,
            health: health.clone(),
            manager: manager.clone(),
            begun,
            compile_time: limits.compile_time,
        };
        let busy = drain.busy();
        tokio::spawn(async move {
            let _busy = busy;
            registry.expire().await;
        });
        let ending = CancellationToken::new();
        let exporting = match (&config.traces.endpoint, spans) {
            (Some(endpoint), Some(spans)) => {
                let endpoint = endpoint.parse().context("traces.endpoint is no address of the web")?;
                Some(tokio::spawn(export::run(endpoint, spans, ending.clone())))
            }
            _ => None,
        };
        let parts = Parts {
            catalog: catalog.clone(),
            dispatcher: dispatcher.clone(),
            history: history.clone(),
            plugins: plugins.clone(),
            hooks,
            drain: drain.clone(),
            tls,
            sockets: capacity.sockets,
            listener: sockets.clients,
        };
        let local = match (local, &mut predecessor) {
            (None, Some(predecessor)) => predecessor.take(&config.data)?,
            (Some(local), _) => local,
            (None, None) => unreachable!("without a predecessor the server has its own socket"),
        };
        let local = Arc::new(local);
        let server = Server::bind(config, &store, &local, parts)?;
        if let Some(operator) = sockets.operator {
            // Calls are accepted during a takeover by one server or the other, so a readiness probe gets the answer for
            // both.
            health.enter(Stage::Serving);
            ops = Some(start_ops(config, Some(operator), &health)?);
        }
        if let Some(ops) = &ops {
            let (history, connections, log) = (history.clone(), server.connections(), telemetry.dropped());
            ops.show(ops::Sources { dispatcher, catalog, history, connections, log });
        }
        let listeners = takeover::Listeners {
            clients: server.listener()?,
            operator: ops.as_mut().and_then(Ops::listener),
            managed,
        };
        let make = || takeover::Offer::make(&config.data, listeners, local.clone()).context("cannot be taken over");
        let (mut later, mut offer) = (None, None);
        match &predecessor {
            // Until this server serves, its predecessor can still be asked by another one.
            Some(_) => later = Some(make),
            None => offer = Some(make()?),
        }
        let address = server.address()?;
        let users = store.accounts.has_users()?;
        let serving = tokio::spawn(server.run());
        let beating = health.clone();
        tokio::spawn(async move { beating.keep_beating().await });
        tokio::spawn(manager.clone().keep_alive(health.clone()));
        health.enter(Stage::Loading);
        tracing::info!(
            %address,
            api = config.http.api,
            processes = capacity.processes,
            loading = readiness.catalog.loading.claims().len(),
            ms = begun.elapsed().as_millis() as u64,
            "listening"
        );
        if !config.http.api {
            tracing::warn!("the API is off: set http.api to true to serve calls");
        }
        if !users {
            tracing::info!("there are no users: make one with `distillery user add NAME --scope 'call:*'`");
        }
        if let Some(predecessor) = predecessor {
            predecessor.retire();
        }
        if let Some(make) = later {
            offer = Some(make()?);
            tracing::info!("took over from the previous server");
        }
        let mut offer = offer.context("cannot be taken over")?;
        tokio::spawn(readiness.grants());
        let end = tokio::select! {
            name = signals.next_end(&plugins, &manager) => Some(name),
            successor = offer.taken() => {
                tracing::info!(successor, "another server has taken over; running calls continue until they end");
                successor.into_iter().for_each(|successor| manager.succeeded_by(successor));
                None
            }
        };
        if end.is_some() {
            health.enter(Stage::Draining);
        }
        plugins.end();
        let name = match end {
            Some(name) => Some(name),
            None => {
                // Readiness is answered for both servers, so this one does not report that it drains.
                drain.retire();
                ops.iter().for_each(Ops::end);
                let name = outlive(&drain, config.cancel.takeover_grace, &mut signals).await;
                if let Some(ops) = &ops {
                    ops.ended().await;
                }
                name
            }
        };
        let code = match name {
            Some(name) => {
                tracing::info!(signal = name, "draining: refusing new calls, telling running ones to stop");
                if !local.is_given_up() {
                    manager.stopping();
                }
                offer.withdraw();
                drain.begin();
                serving.await?;
                wait(&drain, config.cancel.shutdown_grace, &mut signals).await
            }
            None => ExitCode::SUCCESS,
        };
        if let Some(exporting) = exporting {
            ending.cancel();
            // Spans that a collector does not accept in time are lost.
            let _ = tokio::time::timeout(LAST_SPANS, exporting).await;
        }
        // A waiting successor has the lock file open as well, and waits until the process ends.
        local.close();
        Ok(code)
    });
    // A guest's file that never opens, or a name that does not resolve, must not hold up the end of the server.
    runtime.shutdown_timeout(LAST_CALLS);
    history.finish();
    if let Err(error) = store.accounts.write_pending() {
        tracing::warn!(%error, "the latest sessions are lost; their users must log in again");
    }
    served
}

/// Starts to answer the operator, on an inherited socket or at `ops.listen`.
fn start_ops(config: &Config, listener: Option<TcpListener>, health: &Arc<Health>) -> anyhow::Result<Ops> {
    let listener = match (listener, config.ops.listen) {
        (Some(listener), _) => listener,
        (None, Some(address)) => Ops::bind(address)?,
        (None, None) => anyhow::bail!("there is no address to answer the operator on: set ops.listen"),
    };
    Ops::start(listener, config, health.clone()).context("cannot answer the operator")
}

/// The number of task turns after which a thread checks its sockets. A busy session takes turns of up to a millisecond;
/// tokio's default of 61 would let all other sessions wait for that many turns.
const LOOK: u32 = 8;

/// The time limit of the last file system calls when the server ends.
const LAST_CALLS: Duration = Duration::from_secs(1);

/// The time limit for the export of the last spans.
const LAST_SPANS: Duration = Duration::from_secs(2);

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
