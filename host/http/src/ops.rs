//! The operator's listener: liveness, readiness and metrics. It is separate from the clients' listener and has its own
//! thread. So it answers while plugins load, while the server is busy, and while the server drains. There is no
//! authentication: its address must be reachable by the operator only.

use crate::{
    answer::ApiError,
    platform,
    server::{
        authority, bound,
        connection::{Connections, Traffic, Watched},
        peer,
    },
};
use axum::{
    Extension, Router,
    extract::{Request, State},
    http::{HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use distillery_config::Config;
use distillery_core::hosts::Hosts;
use distillery_observe::{
    health::{Health, Stage},
    metrics::text::{Kind, MEDIA_TYPE, Text},
    telemetry::Dropped,
};
use distillery_plugin::{Catalog, loading::Progress};
use distillery_process::{dispatch::Dispatcher, history::History, schedules::Scheduler};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use rustix::time::{ClockId, clock_gettime};
use std::{
    collections::VecDeque,
    io,
    net::{IpAddr, SocketAddr, TcpListener},
    sync::{Arc, OnceLock},
    thread,
    time::{Duration, Instant, SystemTime},
};
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::CancellationToken;

/// The maximum number of concurrent connections. A further one replaces the oldest, so that hung clients block no
/// others.
const CONNECTIONS: usize = 64;
/// The timeout for a request, for reading its answer, and for an idle connection.
const PATIENCE: Duration = Duration::from_secs(30);
/// The time that a server after a takeover waits for its last answers.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// The listener, which runs until [`Ops::end`].
pub struct Ops {
    shared: Arc<Shared>,
    /// A duplicate for a successor. Taken out when used, because it would keep the socket open.
    listener: Option<TcpListener>,
    ending: CancellationToken,
    ended: CancellationToken,
}

struct Shared {
    health: Arc<Health>,
    started: SystemTime,
    sources: OnceLock<Sources>,
}

/// The sources of the metrics.
pub struct Sources {
    pub dispatcher: Arc<Dispatcher>,
    pub catalog: Arc<Catalog>,
    pub history: Arc<History>,
    pub scheduler: Arc<Scheduler>,
    pub connections: Arc<Connections>,
    pub log: Dropped,
}

#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {error}; choose another address with ops.listen or DISTILLERY_OPS__LISTEN")]
pub struct CannotListen {
    pub address: SocketAddr,
    pub error: io::Error,
}

impl Ops {
    /// Opens a socket for [`Ops::start`].
    pub fn bind(address: SocketAddr) -> Result<TcpListener, CannotListen> {
        TcpListener::bind(address).map_err(|error| CannotListen { address, error })
    }

    /// Checks whether `address` is available, without listening.
    pub fn try_listen(address: SocketAddr) -> Result<(), CannotListen> {
        bound(address).map(drop).map_err(|error| CannotListen { address, error })
    }

    /// Starts to answer on `listener`, for the hosts in `config` and those that every listener answers for.
    pub fn start(listener: TcpListener, config: &Config, health: Arc<Health>) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let hosts = Hosts::new(address.ip(), config.http.hosts.clone());
        let shared = Arc::new(Shared { health, started: SystemTime::now(), sources: OnceLock::new() });
        let (ending, ended) = (CancellationToken::new(), CancellationToken::new());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let router = Router::new()
            .route("/healthz", get(healthz))
            .route("/readyz", get(readyz))
            .route("/metrics", get(metrics))
            .layer(middleware::from_fn_with_state(ending.clone(), answer_the_last))
            .layer(middleware::from_fn_with_state(hosts, refuse_other_hosts))
            .with_state(shared.clone());
        let serving = serve(listener.try_clone()?, router, ending.clone());
        let done = ended.clone().drop_guard();
        thread::Builder::new().name("ops".into()).spawn(move || {
            let _done = done;
            runtime.block_on(serving);
        })?;
        tracing::info!(%address, "answering the operator");
        Ok(Self { shared, listener: Some(listener), ending, ended })
    }

    /// Returns a duplicate of the listening socket for a successor, once.
    pub fn listener(&mut self) -> Option<TcpListener> {
        self.listener.take()
    }

    /// Makes the metrics available from now on.
    pub fn show(&self, sources: Sources) {
        // Set once.
        let _ = self.shared.sources.set(sources);
    }

    /// Accepts no more connections, because another process has the listener now. Pending requests are answered.
    pub fn end(&self) {
        self.ending.cancel();
    }

    /// Waits until all requests are answered, for a limited time.
    pub async fn ended(&self) {
        let _ = tokio::time::timeout(LAST_ANSWERS, self.ended.cancelled()).await;
    }
}

async fn serve(listener: TcpListener, router: Router, ending: CancellationToken) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "cannot answer the operator"),
    };
    let mut connections = JoinSet::new();
    let mut oldest: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
            () = ending.cancelled() => break,
        };
        match accepted {
            Ok((stream, from)) => {
                // A closed connection has no known address.
                let local = Local(stream.local_addr().unwrap_or(from).ip());
                oldest.retain(|connection| !connection.is_finished());
                if oldest.len() >= CONNECTIONS
                    && let Some(connection) = oldest.pop_front()
                {
                    connection.abort();
                }
                let service = TowerToHyperService::new(router.clone().layer(Extension(local)));
                let (stream, _) = Watched::new(stream, PATIENCE, Arc::default());
                let mut http = http1::Builder::new();
                http.timer(TokioTimer::new()).header_read_timeout(PATIENCE).max_buf_size(16 << 10);
                let connection = http.serve_connection(TokioIo::new(stream), service);
                // The end of one connection never affects the next.
                oldest.push_back(connections.spawn(async move { drop(connection.await) }));
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept an operator connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// The local address of a client's connection.
#[derive(Clone, Copy)]
struct Local(IpAddr);

/// Refuses other hosts: otherwise a page of any origin could read the metrics by DNS rebinding.
async fn refuse_other_hosts(State(hosts): State<Hosts>, mut request: Request, next: Next) -> Response {
    let local = request.extensions().get::<Local>().map_or(IpAddr::from([0; 4]), |Local(local)| *local);
    let target = authority::take(&mut request, false).map_err(ApiError::from);
    match target.and_then(|target| target.map(|target| peer::allowed(&hosts, target, local)).transpose()) {
        Ok(_) => next.run(request).await,
        Err(refused) => refused.into_response(),
    }
}

/// Closes a connection after its answer, so that the next request goes to the current listener. An idle connection
/// stays open, because a request can be in transit.
async fn answer_the_last(State(ending): State<CancellationToken>, request: Request, next: Next) -> Response {
    let mut answer = next.run(request).await;
    if ending.is_cancelled() {
        answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    answer
}

fn answer(status: StatusCode, what: impl Into<String>) -> Response {
    (status, [(header::CACHE_CONTROL, "no-store")], what.into() + "\n").into_response()
}

async fn healthz(State(shared): State<Arc<Shared>>) -> Response {
    match shared.health.stuck(Instant::now()) {
        None => answer(StatusCode::OK, "ok"),
        Some(stuck) => {
            let what = format!("the threads that serve sockets have been stuck for {}s", stuck.as_secs());
            answer(StatusCode::SERVICE_UNAVAILABLE, what)
        }
    }
}

async fn readyz(State(shared): State<Arc<Shared>>) -> Response {
    match shared.health.stage() {
        Stage::Serving => answer(StatusCode::OK, "ready"),
        Stage::Starting => answer(StatusCode::SERVICE_UNAVAILABLE, "starting: the server does not listen yet"),
        Stage::Loading => answer(StatusCode::SERVICE_UNAVAILABLE, shared.loading()),
        Stage::Draining => answer(StatusCode::SERVICE_UNAVAILABLE, "draining: the server ends"),
    }
}

async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    let headers = [(header::CONTENT_TYPE, MEDIA_TYPE), (header::CACHE_CONTROL, "no-store")];
    (headers, shared.text()).into_response()
}

impl Shared {
    fn text(&self) -> String {
        let mut text = Text::default();
        let name = "distillery_build_info";
        text.family(name, Kind::Gauge, "The version of this server; the value is always 1.");
        text.sample(name, &[("version", env!("CARGO_PKG_VERSION"))], 1.0);
        let ready = f64::from(u8::from(self.health.stage() == Stage::Serving));
        text.single(
            "distillery_ready",
            Kind::Gauge,
            "Whether the server is ready, as defined by plugins.ready.",
            ready,
        );
        self.machine(&mut text);
        if let Some(sources) = self.sources.get() {
            sources.write(&mut text);
        }
        text.finish()
    }

    /// Describes the progress of the first load.
    fn loading(&self) -> String {
        let progress = self.sources.get().map(|sources| *sources.catalog.loading.progress().borrow());
        let Progress { total, left, .. } = progress.unwrap_or_default();
        format!("loading: {left} of {total} plugins are not loaded yet")
    }

    /// Adds the standard process metrics, under their usual names.
    fn machine(&self, text: &mut Text) {
        let started = self.started.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        text.single("process_start_time_seconds", Kind::Gauge, "The start time of the server.", started);
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        let cpu = cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9;
        text.single(
            "process_cpu_seconds_total",
            Kind::Counter,
            "The processor time of the server, including guests.",
            cpu,
        );
        // Where the system does not tell, these metrics are missing.
        if let Some(bytes) = platform::resident_memory() {
            text.single("process_resident_memory_bytes", Kind::Gauge, "The memory of the server.", bytes as f64);
        }
        if let Some(files) = platform::open_files() {
            text.single("process_open_fds", Kind::Gauge, "Open files and sockets.", files as f64);
        }
    }
}

impl Sources {
    fn write(&self, text: &mut Text) {
        self.dispatcher.metrics.write(text);
        let admission = &self.dispatcher.admission;
        let taken = f64::from(admission.running());
        text.single("distillery_places_taken", Kind::Gauge, "Process slots in use.", taken);
        let most = f64::from(admission.most());
        text.single("distillery_places", Kind::Gauge, "Process slots in total.", most);
        let waiting = admission.waiting() as f64;
        text.single("distillery_queue_length", Kind::Gauge, "Calls that wait for a process slot.", waiting);
        self.connections(text);
        self.plugins(text);
        self.scheduler.write_metrics(text);
        text.single(
            "distillery_history_dropped_total",
            Kind::Counter,
            "Processes missing from the history: they ended faster than the history can be written.",
            self.history.dropped() as f64,
        );
        if let Some(tracer) = &self.dispatcher.tracer {
            let help = "Trace spans that were dropped: the collector is too slow.";
            text.single("distillery_spans_dropped_total", Kind::Counter, help, tracer.dropped() as f64);
        }
        text.single(
            "distillery_log_lines_dropped_total",
            Kind::Counter,
            "Log lines that were dropped: the reader of the log is too slow.",
            self.log.lines() as f64,
        );
    }

    fn connections(&self, text: &mut Text) {
        let open = self.connections.open() as f64;
        text.single("distillery_connections_open", Kind::Gauge, "Open connections of clients.", open);
        let Traffic { accepted, full, full_for_address, tls_failed, read, written } = self.connections.traffic();
        text.single("distillery_connections_total", Kind::Counter, "Accepted connections.", accepted as f64);
        let name = "distillery_connections_refused_total";
        text.family(name, Kind::Counter, "Refused connections, by reason.");
        for (reason, count) in [("full", full), ("full_for_address", full_for_address), ("tls", tls_failed)] {
            text.sample(name, &[("reason", reason)], count as f64);
        }
        let help = "Bytes read from connections that have ended.";
        text.single("distillery_connection_received_bytes_total", Kind::Counter, help, read as f64);
        let help = "Bytes written to connections that have ended.";
        text.single("distillery_connection_sent_bytes_total", Kind::Counter, help, written as f64);
    }

    fn plugins(&self, text: &mut Text) {
        let (swaps, failures) = self.catalog.counts();
        let help = "Plugin generations that began to serve.";
        text.single("distillery_plugin_swaps_total", Kind::Counter, help, swaps as f64);
        let help = "Failed loads of plugins.";
        text.single("distillery_plugin_load_errors_total", Kind::Counter, help, failures as f64);
        let snapshot = self.catalog.snapshot();
        let serving = snapshot.plugins().values().filter(|state| state.serving.is_some()).count();
        let broken = snapshot.plugins().values().filter(|state| state.error.is_some()).count();
        text.single("distillery_plugins_serving", Kind::Gauge, "Plugins that are served.", serving as f64);
        let loading = self.catalog.loading.claims().len() as f64;
        text.single(
            "distillery_plugins_loading",
            Kind::Gauge,
            "Plugins of the start that are still to be loaded.",
            loading,
        );
        let help = "Plugins whose newest version does not load.";
        text.single("distillery_plugins_broken", Kind::Gauge, help, broken as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
    };

    #[tokio::test]
    async fn hung_clients_do_not_block_the_next_one() {
        let listener = Ops::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let ops = Ops::start(listener, &Config::default(), Arc::default()).unwrap();
        let mut hung = Vec::new();
        for _ in 0..CONNECTIONS * 2 {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(b"GET /healthz HTTP/1.1\r\n").await.unwrap();
            hung.push(stream);
        }
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        let read = tokio::time::timeout(PATIENCE / 2, stream.read_to_string(&mut answer)).await;
        read.expect("it does not wait for the others").unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
        drop(hung);
        ops.end();
    }
}
