//! Serves: binds the sockets, reports readiness, and goes on until the server ends.

use super::{
    super::readiness::{Readiness, all_loaded},
    Signals,
    build::Built,
    entry::Entry,
    exit::{self, Exit},
};
use anyhow::{Context, bail};
use distillery_config::Config;
use distillery_http::{
    ops,
    server::{
        Parts, Server,
        local::Local,
        takeover::{Listeners, Offer},
    },
};
use distillery_observe::{health::Stage, telemetry::Telemetry, traces::export};
use std::{
    net::SocketAddr,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;

/// The time limit for the export of the last spans.
const LAST_SPANS: Duration = Duration::from_secs(2);

/// Everything that serving starts from.
pub(super) struct Circumstances<'a> {
    pub config: &'a Config,
    pub telemetry: &'a Telemetry,
    /// The time of the start.
    pub begun: Instant,
    pub signals: Signals,
    pub entry: Entry,
    pub built: Built,
}

pub(super) async fn run(circumstances: Circumstances<'_>) -> anyhow::Result<ExitCode> {
    let Circumstances { config, telemetry, begun, mut signals, mut entry, mut built } = circumstances;
    if entry.is_takeover() {
        tokio::select! {
            () = all_loaded(&built.catalog) => {}
            signal = signals.next() => bail!("{signal} while the plugins were loading: nothing was taken over"),
        }
    }
    let readiness = Readiness {
        catalog: built.catalog.clone(),
        ready: config.plugins.ready,
        health: entry.health.clone(),
        manager: entry.manager.clone(),
        begun,
        compile_time: config.limits.compile_time,
    };
    expire_detached(&built);
    let exporting = Exporting::start(config, &mut built)?;
    let local = entry.take_local(config)?;
    let server = bind(config, &mut entry, &built, &local)?;
    entry.answer_operator_late(config)?;
    show_ops(&entry, &built, &server, telemetry);
    let mut listeners = Some(entry.listeners(server.listener()?));
    let offer =
        |listeners: Listeners| Offer::make(&config.data, listeners, local.clone()).context("cannot be taken over");
    // Until this server serves, its predecessor can still be asked by another one.
    let early = listeners.take_if(|_| !entry.is_takeover()).map(offer).transpose()?;
    let address = server.address()?;
    let users = built.store.accounts.has_users()?;
    let serving = tokio::spawn(server.run());
    begin_to_live(&entry);
    announce(config, &built, address, users, begun);
    if let Some(predecessor) = entry.predecessor.take() {
        predecessor.retire();
    }
    let late = listeners.map(offer).transpose()?;
    if late.is_some() {
        tracing::info!("took over from the previous server");
    }
    let offer = early.or(late).context("cannot be taken over")?;
    tokio::spawn(readiness.report());
    let code =
        exit::when_over(config, Exit { entry, built, local: local.clone(), offer, serving }, &mut signals).await?;
    exporting.end().await;
    // A waiting successor has the lock file open as well, and waits until the process ends.
    local.close();
    Ok(code)
}

/// Lets the output of ended processes expire.
fn expire_detached(built: &Built) {
    let (busy, registry) = (built.drain.busy(), built.registry.clone());
    tokio::spawn(async move {
        let _busy = busy;
        registry.expire().await;
    });
}

/// Binds the server to its sockets.
fn bind(config: &Config, entry: &mut Entry, built: &Built, local: &Arc<Local>) -> anyhow::Result<Server> {
    let parts = Parts {
        catalog: built.catalog.clone(),
        dispatcher: built.dispatcher.clone(),
        history: built.history.clone(),
        plugins: built.plugins.clone(),
        hooks: built.hooks.clone(),
        drain: built.drain.clone(),
        tls: built.tls.clone(),
        sockets: built.capacity.sockets,
        listener: entry.sockets.clients.take(),
    };
    Ok(Server::bind(config, &built.store, local, parts)?)
}

/// Gives the operator's listener everything that it shows.
fn show_ops(entry: &Entry, built: &Built, server: &Server, telemetry: &Telemetry) {
    if let Some(ops) = &entry.ops {
        ops.show(ops::Sources {
            dispatcher: built.dispatcher.clone(),
            catalog: built.catalog.clone(),
            history: built.history.clone(),
            connections: server.connections(),
            log: telemetry.dropped(),
        });
    }
}

/// Tells the operator and the service manager from now on that the server lives.
fn begin_to_live(entry: &Entry) {
    let beating = entry.health.clone();
    tokio::spawn(async move { beating.keep_beating().await });
    tokio::spawn(entry.manager.clone().keep_alive(entry.health.clone()));
    entry.health.enter(Stage::Loading);
}

/// Logs that the server listens, and what keeps it from serving.
fn announce(config: &Config, built: &Built, address: SocketAddr, users: bool, begun: Instant) {
    tracing::info!(
        %address,
        api = config.http.api,
        processes = built.capacity.processes,
        loading = built.catalog.loading.claims().len(),
        ms = begun.elapsed().as_millis() as u64,
        "listening"
    );
    if !config.http.api {
        tracing::warn!("the API is off: set http.api to true to serve calls");
    }
    if !users {
        tracing::info!("there are no users: make one with `distillery user add NAME --scope 'call:*'`");
    }
}

/// The export of spans; nothing if tracing is disabled.
struct Exporting(Option<(JoinHandle<()>, CancellationToken)>);

impl Exporting {
    fn start(config: &Config, built: &mut Built) -> anyhow::Result<Self> {
        let (Some(endpoint), Some(spans)) = (&config.traces.endpoint, built.spans.take()) else {
            return Ok(Self(None));
        };
        let endpoint = endpoint.parse().context("traces.endpoint is not an http or https address")?;
        let ending = CancellationToken::new();
        Ok(Self(Some((tokio::spawn(export::run(endpoint, spans, ending.clone())), ending))))
    }

    /// Exports the last spans. Spans that a collector does not accept in time are lost.
    async fn end(self) {
        if let Some((exporting, ending)) = self.0 {
            ending.cancel();
            let _ = timeout(LAST_SPANS, exporting).await;
        }
    }
}
