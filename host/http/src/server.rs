//! The HTTP server: listens, limits connections, answers, and hands websockets to sessions.

mod activity;
mod answers;
pub mod authority;
pub mod connection;
mod exchanges;
pub mod forwarded;
mod front;
mod gate;
mod hooks;
mod http1;
mod http2;
mod keep_alive;
pub mod local;
pub mod peer;
pub mod service;
mod sockets;
pub mod takeover;
pub mod tls;

use crate::{
    api::{self, ApiState, auth::Door, cross_origin::Origins},
    console,
    hooks::Hooks,
    mcp,
    session::Timing,
};
use axum::{Router, middleware, routing::get};
use connection::{Connections, Refused};
use distillery_config::Config;
use distillery_core::{drain::Drain, hosts::Hosts};
use distillery_plugin::{Catalog, watch::Watcher};
use distillery_process::{dispatch::Dispatcher, history::History, schedules::Scheduler};
use distillery_store::{Store, identity::Identity};
use front::Front;
use gate::{Gate, Open, Who};
use local::Local;
use peer::{Peer, Trust};
use sockets::Sockets;
use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::fd::AsFd,
    sync::Arc,
    time::Duration,
};
use tls::Terminator;
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener};

pub struct Server {
    listener: TcpListener,
    front: Front,
    connections: Arc<Connections>,
    tls: Option<Arc<Terminator>>,
    local: UnixListener,
    local_front: Front,
    local_connections: Arc<Connections>,
    identity: Arc<Identity>,
    drain: Drain,
}

/// The maximum number of concurrent commands on the control socket.
const LOCAL_CONNECTIONS: usize = 64;

/// The services that requests are answered from.
pub struct Parts {
    pub catalog: Arc<Catalog>,
    pub dispatcher: Arc<Dispatcher>,
    pub history: Arc<History>,
    pub scheduler: Arc<Scheduler>,
    pub plugins: Watcher,
    pub hooks: Arc<Hooks>,
    pub drain: Drain,
    pub tls: Option<Arc<Terminator>>,
    /// The number of connections for which there are descriptors.
    pub sockets: u64,
    /// A socket that already listens, instead of one at `http.listen`.
    pub listener: Option<std::net::TcpListener>,
}

#[derive(Debug, thiserror::Error)]
pub enum CannotServe {
    #[error(transparent)]
    Listen(#[from] CannotListen),
    #[error("cannot listen on the control socket: {0}")]
    Local(io::Error),
}

#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {error}; choose another address with http.listen or DISTILLERY_HTTP__LISTEN")]
pub struct CannotListen {
    pub address: SocketAddr,
    pub error: io::Error,
}

impl Server {
    /// Listens for clients as `config` says, and for the operator on `local`.
    pub fn bind(config: &Config, store: &Store, local: &Local, parts: Parts) -> Result<Self, CannotServe> {
        let Parts { catalog, dispatcher, history, scheduler, plugins, hooks, drain, tls, sockets, listener } = parts;
        let http = &config.http;
        let tracer = dispatcher.tracer.clone();
        let listener = match listener {
            Some(listener) => listener.set_nonblocking(true).and_then(|()| TcpListener::from_std(listener)),
            None => listen(http.listen),
        };
        let listener = listener.map_err(|error| CannotListen { address: http.listen, error })?;
        let timing = Timing {
            call_timeout: http.call_timeout,
            write_timeout: http.write_timeout,
            ping_interval: http.ping_interval,
            silence_timeout: http.silence_timeout,
            max_frame: http.max_frame,
        };
        let origins = Arc::new(Origins::new(&http.origins));
        let listens = listener.local_addr().map_err(|error| CannotListen { address: http.listen, error })?;
        let registry = dispatcher.registry.clone();
        let connections = Connections::new(http.connections.min(sockets as usize).max(1), http.connections_per_address);
        let auth = &config.auth;
        let identity = Identity::new(store.accounts.clone(), auth.anonymous.clone(), auth.session_time);
        let identity = Arc::new(identity);
        let sockets = Arc::new(Sockets {
            identity: identity.clone(),
            dispatcher: dispatcher.clone(),
            timing: Arc::new(timing),
            origins: origins.clone(),
            max_frame: http.max_frame,
            early: config.limits.process.input,
            connections: connections.clone(),
            drain: drain.clone(),
        });
        let pow = api::pow::router(dispatcher, http.max_frame)
            .layer(middleware::from_fn_with_state(sockets.clone(), sockets::or_request));
        let websocket =
            sockets::PATHS.into_iter().fold(Router::new(), |router, path| router.route(path, get(sockets::upgrade)));
        let sockets_and_pow = websocket.with_state(sockets.clone()).merge(pow);
        let door = Door { identity: identity.clone(), secure_cookies: auth.secure_cookies };
        let runs = sockets.clone();
        let state = ApiState {
            enabled: http.api,
            history,
            registry,
            scheduler: Some(scheduler),
            catalog,
            plugins,
            drain: drain.clone(),
            public: store.public.clone(),
            door: door.clone(),
            run: Arc::new(move |asked| Box::pin(exchanges::run(runs.clone(), asked))),
        };
        let websocket = sockets_and_pow.merge(mcp::router(&state));
        // The operator is served even if the API is off for clients.
        let local_router = api::router(ApiState { enabled: true, ..state.clone() }, websocket.clone());
        let mut router = api::router(state, websocket);
        if http.console {
            router = router.merge(console::router());
        }
        router = router.merge(self::hooks::router(hooks, sockets.clone()));
        let open = http.api.then(|| Open { who: Who::Anyone(door), sockets: sockets.clone() });
        let front = |gate| Front {
            gate: Arc::new(gate),
            hosts: Hosts::new(listens.ip(), http.hosts.clone()),
            trust: Trust { proxies: http.trusted_proxies.clone().into(), users: auth.forwarded_users },
            header_timeout: http.header_timeout,
            write_timeout: http.write_timeout,
            ping_interval: http.ping_interval,
            silence_timeout: http.silence_timeout,
            drain: drain.clone(),
        };
        let local_gate = Gate {
            router: local_router,
            open: Some(Open { who: Who::Operator, sockets }),
            origins: Arc::default(),
            tracer: None,
        };
        Ok(Self {
            listener,
            front: front(Gate { router, open, origins, tracer }),
            connections,
            tls,
            local: local.listener().map_err(CannotServe::Local)?,
            local_front: front(local_gate),
            local_connections: Connections::new(LOCAL_CONNECTIONS, LOCAL_CONNECTIONS),
            identity,
            drain,
        })
    }

    /// Checks whether a server can listen at `address`, without listening.
    pub fn try_listen(address: SocketAddr) -> Result<(), CannotListen> {
        bound(address).map(drop).map_err(|error| CannotListen { address, error })
    }

    /// Returns the connections of the clients.
    pub fn connections(&self) -> Arc<Connections> {
        self.connections.clone()
    }

    /// Returns a duplicate of the listening socket for another server.
    pub fn listener(&self) -> io::Result<std::net::TcpListener> {
        Ok(self.listener.as_fd().try_clone_to_owned()?.into())
    }

    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Accepts connections until the server retires.
    pub async fn run(self) {
        let retired = self.drain.retired();
        // Continues for open connections after the server stops accepting new ones.
        let identity = self.identity.clone();
        tokio::spawn(async move { identity.keep_writing().await });
        if let Some(tls) = self.tls.clone() {
            let retired = retired.clone();
            tokio::spawn(async move { retired.run_until_cancelled(tls.keep_up()).await });
        }
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted.map(|(stream, from)| self.take(stream, from)),
                accepted = self.local.accept() => accepted.map(|(stream, _)| {
                    // A connection beyond the limit is closed without an answer; the command line reports that.
                    let operator = IpAddr::from(Ipv4Addr::LOCALHOST);
                    if let Ok(guard) = self.local_connections.enter(operator, false) {
                        self.local_front.serve(stream, guard, None, None);
                    }
                }),
                () = retired.cancelled() => return,
            };
            if let Err(error) = accepted {
                // Most likely the process is out of file descriptors, and some may become free soon.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }

    fn take(&self, stream: TcpStream, from: SocketAddr) {
        let is_proxy = self.front.trust.trusts(from.ip());
        match self.connections.enter(from.ip(), is_proxy) {
            Ok(guard) => {
                // Otherwise each line and its answer wait for acknowledgements.
                let _ = stream.set_nodelay(true);
                let (interval, timeout) = (self.front.ping_interval, self.front.silence_timeout);
                if let Err(error) = keep_alive::probe(&stream, interval, timeout) {
                    tracing::debug!(%error, "a connection is not probed");
                }
                // A failure means that the connection is already closed.
                let local = stream.local_addr().map_or(from.ip(), |local| local.ip());
                let peer = Peer { address: from.ip(), local, tls: self.tls.is_some() };
                self.front.serve(stream, guard, Some(peer), self.tls.as_ref().map(|tls| tls.acceptor()));
            }
            // A client that expects TLS cannot read the refusal.
            Err(_) if self.tls.is_some() => {}
            Err(refused) => refuse(stream, refused),
        }
    }
}

/// Listens with a queue for bursts: thousands of clients can reconnect at once after a restart.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    bound(address)?.listen(4096)
}

/// Binds a socket without listening. Fails if another socket listens at the address.
pub(crate) fn bound(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// Refuses a connection with one answer that states the reason, without reading its request.
fn refuse(stream: TcpStream, refused: Refused) {
    let body = format!("{{\"status\":503,\"message\":\"{refused}\"}}");
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: \
         close\r\nretry-after: 1\r\n\r\n{body}",
        body.len()
    );
    // The send buffer of a new connection always has room for this answer, so the write does not block.
    let _ = stream.try_write(answer.as_bytes());
}
