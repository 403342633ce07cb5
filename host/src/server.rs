//! The HTTP side: listens, bounds how many are connected, answers, and hands websockets to sessions.

pub mod connection;
pub mod local;

use crate::{
    api::{self, ApiState, auth::Door, cross_origin, error::ApiError},
    auth::Caller,
    config::Config,
    console,
    dispatch::Dispatcher,
    drain::Drain,
    history::History,
    identity::Identity,
    plugin::{Catalog, watch::Watcher},
    session::{
        Session, Timing,
        protocol::{POW_1, Protocol},
    },
    size::Size,
    socket::{self, Socket},
    store::Store,
};
use axum::{
    Extension, Router,
    extract::{Request, State, WebSocketUpgrade, ws::rejection::WebSocketUpgradeRejection},
    handler::Handler,
    http::{HeaderMap, StatusCode, Uri, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use connection::{ClientAddress, Connections, Guard, Refused, Watched};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use local::Local;
use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream, UnixListener},
};
use tower::Service;

pub struct Server {
    listener: TcpListener,
    router: Router,
    connections: Arc<Connections>,
    local: UnixListener,
    local_router: Router,
    local_connections: Arc<Connections>,
    header_timeout: Duration,
    write_timeout: Duration,
    drain: Drain,
}

/// How many commands may speak to the server at once over its own socket.
const LOCAL_CONNECTIONS: usize = 64;

/// Everything that requests are answered from.
pub struct Parts {
    pub catalog: Arc<Catalog>,
    pub dispatcher: Arc<Dispatcher>,
    pub history: Arc<History>,
    pub plugins: Watcher,
    pub drain: Drain,
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
    address: SocketAddr,
    error: io::Error,
}

/// What the websocket route needs.
#[derive(Clone)]
struct Sockets {
    dispatcher: Arc<Dispatcher>,
    timing: Arc<Timing>,
    origins: Arc<[String]>,
    max_frame: Size,
    /// How much may come before a call.
    early: Size,
    drain: Drain,
}

impl Server {
    /// Listens for everyone as `config` says, and for the operator on `local`.
    pub fn bind(config: &Config, store: &Store, local: &Local, parts: Parts) -> Result<Self, CannotServe> {
        let Parts { catalog, dispatcher, history, plugins, drain } = parts;
        let http = &config.http;
        let listener = listen(http.listen).map_err(|error| CannotListen { address: http.listen, error })?;
        let timing = Timing {
            call_timeout: http.call_timeout,
            write_timeout: http.write_timeout,
            ping_interval: http.ping_interval,
            silence_timeout: http.silence_timeout,
            max_frame: http.max_frame,
        };
        let origins: Arc<[String]> = http.origins.clone().into();
        let shelf = dispatcher.shelf.clone();
        let sockets = Sockets {
            dispatcher: dispatcher.clone(),
            timing: Arc::new(timing),
            origins: origins.clone(),
            max_frame: http.max_frame,
            early: config.limits.process.input,
            drain: drain.clone(),
        };
        let pow = api::pow::router(dispatcher, http.max_frame)
            .layer(middleware::from_fn_with_state(sockets.clone(), socket_or_request));
        let websocket = Router::new()
            .route("/api/v1/ws", get(upgrade))
            .route("/api/v1/ws/", get(upgrade))
            .with_state(sockets)
            .merge(pow);
        let auth = &config.auth;
        let identity = Identity::new(store.accounts.clone(), auth.anonymous.clone(), auth.session_time);
        let door = Door { identity: Arc::new(identity), secure_cookies: auth.secure_cookies };
        let state = ApiState {
            enabled: http.api,
            history,
            shelf,
            catalog,
            plugins,
            drain: drain.clone(),
            public: store.public.clone(),
            door: door.clone(),
        };
        // The operator is served also where nobody else is.
        let local_router = api::router(ApiState { enabled: true, ..state.clone() }, websocket.clone());
        let mut router = api::router(state, websocket);
        if http.api {
            router = router.layer(middleware::from_fn_with_state(door, api::auth::identify));
        }
        // Who asks does not matter to it: whatever it shows, it asks the API for.
        if http.console {
            router = router.merge(console::router());
        }
        Ok(Self {
            listener,
            router: router.layer(middleware::from_fn_with_state(origins, cross_origin::check)),
            connections: Connections::new(http.connections, http.connections_per_address),
            local: local.listener().map_err(CannotServe::Local)?,
            local_router: local_router.layer(Extension(Caller::operator())),
            local_connections: Connections::new(LOCAL_CONNECTIONS, LOCAL_CONNECTIONS),
            header_timeout: http.header_timeout,
            write_timeout: http.write_timeout,
            drain,
        })
    }

    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Takes connections until the drain begins.
    pub async fn run(self) {
        let draining = self.drain.signal();
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted.map(|(stream, from)| self.take(stream, from)),
                accepted = self.local.accept() => accepted.map(|(stream, _)| {
                    // Beyond that many the connection is closed without a word, which the command line tells.
                    let operator = IpAddr::from(Ipv4Addr::LOCALHOST);
                    if let Ok(guard) = self.local_connections.enter(operator) {
                        self.serve(stream, &self.local_router, guard, None);
                    }
                }),
                () = draining.cancelled() => return,
            };
            if let Err(error) = accepted {
                // Out of files, most likely: those that are open now may close in a moment.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }

    fn take(&self, stream: TcpStream, from: SocketAddr) {
        match self.connections.enter(from.ip()) {
            Ok(guard) => {
                // Without this, one line there and back waits for acknowledgements.
                let _ = stream.set_nodelay(true);
                self.serve(stream, &self.router, guard, Some(ClientAddress(from.ip())));
            }
            Err(refused) => refuse(stream, refused),
        }
    }

    fn serve(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        router: &Router,
        guard: Guard,
        address: Option<ClientAddress>,
    ) {
        let (io, meter) = Watched::new(stream, self.write_timeout);
        let router = router.clone();
        // What belongs to the connection goes into each request. A layer would do the same, and make every route anew for
        // every connection.
        let service = service_fn(move |mut request: hyper::Request<Incoming>| {
            let extensions = request.extensions_mut();
            extensions.insert(meter.clone());
            extensions.insert(guard.clone());
            if let Some(address) = address {
                extensions.insert(address);
            }
            router.clone().call(request)
        });
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(self.header_timeout).max_buf_size(64 << 10);
        let connection = http.serve_connection(TokioIo::new(io), service).with_upgrades();
        let draining = self.drain.signal();
        let busy = self.drain.busy();
        tokio::spawn(async move {
            let _busy = busy;
            let mut connection = std::pin::pin!(connection);
            let ended = tokio::select! {
                ended = connection.as_mut() => ended,
                () = draining.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = ended {
                tracing::debug!(%error, "a connection ended");
            }
        });
    }
}

/// A listener whose queue holds a burst: thousands of clients may come at once after a restart.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => tokio::net::TcpSocket::new_v4()?,
        SocketAddr::V6(_) => tokio::net::TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(4096)
}

/// Says in one answer why a connection is not taken, without reading its request.
fn refuse(stream: TcpStream, refused: Refused) {
    let body = format!("{{\"status\":503,\"message\":\"{refused}\"}}");
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: \
         close\r\nretry-after: 1\r\n\r\n{body}",
        body.len()
    );
    // The send buffer of a new connection always holds this much, so that nothing waits here.
    let _ = stream.try_write(answer.as_bytes());
}

/// Below the paths of `pow-1` every path takes sockets, beside what else it does.
async fn socket_or_request(State(sockets): State<Sockets>, request: Request, next: Next) -> Response {
    let wanted = request.headers().get(header::UPGRADE).and_then(|it| it.to_str().ok());
    if wanted.is_some_and(|it| it.eq_ignore_ascii_case("websocket")) {
        return upgrade.call(request, sockets).await;
    }
    next.run(request).await
}

async fn upgrade(
    State(sockets): State<Sockets>,
    caller: Caller,
    uri: Uri,
    Extension(meter): Extension<Arc<connection::Meter>>,
    Extension(guard): Extension<Guard>,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    let upgrade = match upgrade {
        Ok(upgrade) => upgrade,
        Err(rejection) => {
            let what = format!("this route is for websockets: {}", rejection.body_text());
            return ApiError::new(rejection.status(), what).into_response();
        }
    };
    if !cross_origin::allowed(&headers, &sockets.origins) {
        return ApiError::new(StatusCode::FORBIDDEN, "this origin may not open a websocket: list it in http.origins")
            .into_response();
    }
    let Sockets { dispatcher, timing, max_frame, drain, early, .. } = sockets;
    let busy = drain.busy();
    let offered = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|list| list.to_str().ok());
    let offered = offered.flat_map(|list| list.split(',')).map(str::trim);
    let is_pow = uri.path().starts_with(api::pow::ROOT);
    let (name, protocol) = Protocol::choose(offered.filter(|name| !is_pow || *name == POW_1), early);
    if is_pow && name.is_none() {
        return ApiError::new(StatusCode::BAD_REQUEST, "offer the subprotocol pow-1, or use /api/v1/ws")
            .into_response();
    }
    socket::sized(upgrade, max_frame)
        .protocols(name)
        .on_upgrade(move |websocket| async move {
            let _held = (guard, busy);
            let socket = Socket::new(websocket, meter);
            Session::new(socket, protocol, caller, dispatcher, timing).run(drain.signal()).await;
        })
        .into_response()
}
