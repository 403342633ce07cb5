//! Builds the parts of the server that need no socket: database, plugins, history, processes.

use super::super::{
    preflight::Preflight,
    reread::Rereader,
    setup::{loader, sweep},
};
use anyhow::Context;
use distillery_config::Config;
use distillery_core::drain::Drain;
use distillery_http::{hooks::Hooks, server::tls::Terminator};
use distillery_observe::{
    metrics::Metrics,
    telemetry::Telemetry,
    traces::{Span, Tracer},
};
use distillery_plugin::{
    Catalog,
    archive::Archive,
    first_load::FirstLoad,
    load::Loader,
    watch::{Watch, Watcher},
};
use distillery_process::{
    admission::{Admission, Bounds},
    compute::ComputeThreads,
    detached::registry::{self, Registry},
    dispatch::Dispatcher,
    history::{History, Retention},
    schedules::{self, Scheduler},
};
use distillery_runtime::Capacity;
use distillery_store::Store;
use std::{path::PathBuf, sync::Arc};
use tokio::sync::mpsc::Receiver;

/// The parts of a server that is about to serve.
pub(super) struct Built {
    pub store: Store,
    pub catalog: Arc<Catalog>,
    pub dispatcher: Arc<Dispatcher>,
    pub history: Arc<History>,
    pub registry: Arc<Registry>,
    pub scheduler: Arc<Scheduler>,
    pub plugins: Watcher,
    pub hooks: Arc<Hooks>,
    pub drain: Drain,
    pub tls: Option<Arc<Terminator>>,
    pub capacity: Capacity,
    /// The spans to export; `None` if tracing is disabled.
    pub spans: Option<Receiver<Span>>,
}

/// The circumstances that decide how parts are built.
#[derive(Clone, Copy)]
pub(super) struct Way {
    /// The number of threads for guests.
    pub threads: usize,
    pub takeover: bool,
}

pub(super) fn build(
    config: &Config,
    path: Option<PathBuf>,
    telemetry: &Telemetry,
    preflight: Preflight,
    way: Way,
) -> anyhow::Result<Built> {
    let Preflight { tls, capacity, operator, hooks, .. } = preflight;
    warn_of(&capacity, config);
    let store = Store::open(config)?;
    sweep(&operator);
    let mut loader = loader(config, operator, &capacity, Some(&config.cache))?;
    loader.operator.grants.systems = Some(store.public.clone());
    loader.archive = Some(Arc::new(Archive::of(&config.data)));
    let catalog = Arc::<Catalog>::default();
    let compute = ComputeThreads::start(way.threads).context("cannot start the threads that guests compute on")?;
    let retention = Retention {
        age: config.history.keep,
        count: config.history.max,
        output: config.history.output.get(),
        output_each: config.history.output_each.get(),
    };
    let history = if way.takeover { History::start_beside } else { History::start };
    let history = Arc::new(history(&store.database, retention).context("cannot continue the history")?);
    let drain = Drain::default();
    let limits = &config.limits;
    let bounds =
        registry::Bounds { time: limits.kept_time, output: limits.kept_output, processes: limits.kept_processes };
    let registry = Arc::new(Registry::new(bounds, history.clone(), drain.clone()));
    let (tracer, spans) = config.traces.endpoint.as_ref().map(|_| Tracer::new(config.traces.one_in)).unzip();
    let metrics = Arc::<Metrics>::default();
    let hooks = Arc::new(Hooks::new(hooks, metrics.hooks.clone()));
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
    let scheduler = scheduler(config, &store, &dispatcher, &registry, &drain)?;
    let rereader = Rereader::new(config.clone(), path, &loader, scheduler.clone(), hooks.clone(), telemetry.level());
    let watch = watch(config, loader, &catalog, &tls, rereader)?;
    let plugins = watch.start().context("cannot start the thread that watches plugins")?;
    Ok(Built { store, catalog, dispatcher, history, registry, scheduler, plugins, hooks, drain, tls, capacity, spans })
}

fn scheduler(
    config: &Config,
    store: &Store,
    dispatcher: &Arc<Dispatcher>,
    registry: &Arc<Registry>,
    drain: &Drain,
) -> anyhow::Result<Arc<Scheduler>> {
    let parts = schedules::Parts {
        dispatcher: dispatcher.clone(),
        registry: registry.clone(),
        accounts: store.accounts.clone(),
        anonymous: config.auth.anonymous.clone(),
        drain: drain.clone(),
    };
    let scheduler = Scheduler::new(&store.database, config.schedules.clone(), parts);
    Ok(Arc::new(scheduler.context("cannot continue the schedules")?))
}

/// Warns of what the machine cannot hold.
fn warn_of(capacity: &Capacity, config: &Config) {
    if let Some(lowered) = &capacity.lowered {
        tracing::warn!(processes = capacity.processes, "{lowered}");
    }
    if capacity.sockets < config.http.connections as u64 {
        tracing::info!(
            connections = capacity.sockets,
            "the limit of open files allows fewer connections than http.connections"
        );
    }
}

/// Prepares the thread that loads plugins, and loads them again when they or the configuration change.
fn watch(
    config: &Config,
    loader: Loader,
    catalog: &Arc<Catalog>,
    tls: &Option<Arc<Terminator>>,
    mut rereader: Rereader,
) -> anyhow::Result<Watch> {
    let first = FirstLoad::find(&config.plugins.directory, catalog)?;
    if first.is_empty() {
        tracing::warn!(directory = %config.plugins.directory.display(), "there are no plugins");
    }
    let reloaded_tls = tls.clone();
    Ok(Watch {
        root: config.plugins.directory.clone(),
        how: config.plugins.watch,
        loader,
        catalog: catalog.clone(),
        first,
        reread: Box::new(move || {
            reloaded_tls.iter().for_each(|tls| tls.reload());
            rereader.reread()
        }),
    })
}
