//! The HTTP side: listens, bounds how many are connected, answers, and hands websockets to sessions.

pub mod connection;
mod front;
pub mod local;
pub mod peer;
pub mod service;
pub mod takeover;
pub mod tls;

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
    traces::Tracer,
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
use connection::{ClientAddress, Connections, Guard, Refused};
use front::Front;
use local::Local;
use peer::{Peer, Trust};
use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::fd::AsFd,
    sync::Arc,
    time::Duration,
};
use tls::Terminator;
use tokio::net::{TcpListener, TcpStream, UnixListener};

pub struct Server {
    listener: TcpListener,
    front: Front,
    connections: Arc<Connections>,
    tls: Option<Arc<Terminator>>,
    local: UnixListener,
    local_front: Front,
    local_connections: Arc<Connections>,
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
    pub tls: Option<Arc<Terminator>>,
    /// A socket that listens already, instead of one at `http.listen`.
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
    address: SocketAddr,
    error: io::Error,
}

/// What the websocket route needs.
struct Sockets {
    dispatcher: Arc<Dispatcher>,
    timing: Arc<Timing>,
    origins: Arc<[String]>,
    max_frame: Size,
    /// How much may come before a call.
    early: Size,
    connections: Arc<Connections>,
    drain: Drain,
}

impl Server {
    /// Listens for everyone as `config` says, and for the operator on `local`.
    pub fn bind(config: &Config, store: &Store, local: &Local, parts: Parts) -> Result<Self, CannotServe> {
        let Parts { catalog, dispatcher, history, plugins, drain, tls, listener } = parts;
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
        let origins: Arc<[String]> = http.origins.clone().into();
        let shelf = dispatcher.shelf.clone();
        let connections = Connections::new(http.connections, http.connections_per_address);
        let sockets = Arc::new(Sockets {
            dispatcher: dispatcher.clone(),
            timing: Arc::new(timing),
            origins: origins.clone(),
            max_frame: http.max_frame,
            early: config.limits.process.input,
            connections: connections.clone(),
            drain: drain.clone(),
        });
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
        let front = |router| Front {
            router,
            trust: Trust { proxies: http.trusted_proxies.clone().into(), users: auth.forwarded_users },
            header_timeout: http.header_timeout,
            write_timeout: http.write_timeout,
            ping_interval: http.ping_interval,
            silence_timeout: http.silence_timeout,
            drain: drain.clone(),
        };
        if let Some(tracer) = tracer {
            router = router.layer(middleware::from_fn_with_state(tracer, traced));
        }
        Ok(Self {
            listener,
            front: front(router.layer(middleware::from_fn_with_state(origins, cross_origin::check))),
            connections,
            tls,
            local: local.listener().map_err(CannotServe::Local)?,
            local_front: front(local_router.layer(Extension(Caller::operator()))),
            local_connections: Connections::new(LOCAL_CONNECTIONS, LOCAL_CONNECTIONS),
            drain,
        })
    }

    /// The connections of the clients.
    pub fn connections(&self) -> Arc<Connections> {
        self.connections.clone()
    }

    /// The listening socket once more, for another server.
    pub fn listener(&self) -> io::Result<std::net::TcpListener> {
        Ok(self.listener.as_fd().try_clone_to_owned()?.into())
    }

    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Takes connections until the server retires.
    pub async fn run(self) {
        let retired = self.drain.retired();
        if let Some(tls) = self.tls.clone() {
            let retired = retired.clone();
            tokio::spawn(async move { retired.run_until_cancelled(tls.keep_up()).await });
        }
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted.map(|(stream, from)| self.take(stream, from)),
                accepted = self.local.accept() => accepted.map(|(stream, _)| {
                    // Beyond that many the connection is closed without a word, which the command line tells.
                    let operator = IpAddr::from(Ipv4Addr::LOCALHOST);
                    if let Ok(guard) = self.local_connections.enter(operator, false) {
                        self.local_front.serve(stream, guard, None, None);
                    }
                }),
                () = retired.cancelled() => return,
            };
            if let Err(error) = accepted {
                // Out of files, most likely: those that are open now may close in a moment.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }

    fn take(&self, stream: TcpStream, from: SocketAddr) {
        let is_proxy = self.front.trust.trusts(from.ip());
        match self.connections.enter(from.ip(), is_proxy) {
            Ok(guard) => {
                // Without this, one line there and back waits for acknowledgements.
                let _ = stream.set_nodelay(true);
                let peer = Peer { address: from.ip(), tls: self.tls.is_some() };
                self.front.serve(stream, guard, Some(peer), self.tls.as_ref().map(|tls| tls.acceptor()));
            }
            // Who expects TLS does not understand a word.
            Err(_) if self.tls.is_some() => {}
            Err(refused) => refuse(stream, refused),
        }
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
async fn socket_or_request(State(sockets): State<Arc<Sockets>>, request: Request, next: Next) -> Response {
    let wanted = request.headers().get(header::UPGRADE).and_then(|it| it.to_str().ok());
    if wanted.is_some_and(|it| it.eq_ignore_ascii_case("websocket")) {
        return upgrade.call(request, sockets).await;
    }
    next.run(request).await
}

/// What a request knows of the connection that it came over, and of the client behind a proxy.
type OfConnection = (Extension<Arc<connection::Meter>>, Extension<Guard>, Option<Extension<ClientAddress>>);

async fn upgrade(
    State(sockets): State<Arc<Sockets>>,
    caller: Caller,
    uri: Uri,
    (Extension(meter), Extension(guard), address): OfConnection,
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
    // Whom a proxy brings counts by their own address for as long as the socket is theirs.
    let seat = match address {
        Some(Extension(ClientAddress(address))) if guard.is_of_proxy() => match sockets.connections.sit(address) {
            Ok(seat) => Some(seat),
            Err(refused) => return ApiError::new(StatusCode::SERVICE_UNAVAILABLE, refused.to_string()).into_response(),
        },
        _ => None,
    };
    let (busy, drain) = (sockets.drain.busy(), sockets.drain.signal());
    let offered = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|list| list.to_str().ok());
    let offered = offered.flat_map(|list| list.split(',')).map(str::trim);
    let is_pow = uri.path().starts_with(api::pow::ROOT);
    let (name, protocol) = Protocol::choose(offered.filter(|name| !is_pow || *name == POW_1), sockets.early);
    if is_pow && name.is_none() {
        return ApiError::new(StatusCode::BAD_REQUEST, "offer the subprotocol pow-1, or use /api/v1/ws")
            .into_response();
    }
    socket::sized(upgrade, sockets.max_frame)
        .protocols(name)
        .on_upgrade(move |websocket| async move {
            let _held = (guard, seat, busy);
            let socket = Socket::new(websocket, meter);
            let (dispatcher, timing) = (sockets.dispatcher.clone(), sockets.timing.clone());
            drop(sockets);
            Session::new(socket, protocol, caller, dispatcher, timing).run(drain).await;
        })
        .into_response()
}

/// Tells how a request went, where it is traced. That of a websocket is over with the upgrade; what runs over it is below.
async fn traced(State(tracer): State<Arc<Tracer>>, mut request: Request, next: Next) -> Response {
    let above = request.headers().get("traceparent").and_then(|it| it.to_str().ok());
    let Some(mut span) = tracer.request("request", above) else { return next.run(request).await };
    if let Some(context) = span.context() {
        request.extensions_mut().insert(context);
    }
    span.set("http.request.method", request.method().as_str());
    span.set("url.path", request.uri().path());
    let answer = next.run(request).await;
    span.set("http.response.status_code", u64::from(answer.status().as_u16()));
    if answer.status().is_server_error() {
        span.fail(answer.status().to_string());
    }
    answer
}
