//! The HTTP side: listens, bounds how many are connected, answers, and hands websockets to sessions.

pub mod connection;

use crate::{
    api::{self, ApiState, error::ApiError},
    auth::Caller,
    config::Config,
    dispatch::Dispatcher,
    drain::Drain,
    plugin::Catalog,
    session::{Session, Timing},
    size::Size,
    socket::{self, Socket},
    store::Store,
};
use axum::{
    Extension, Router,
    extract::{State, WebSocketUpgrade, ws::rejection::WebSocketUpgradeRejection},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use connection::{Connections, Guard, Refused, Watched};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use std::{io, net::SocketAddr, sync::Arc, time::Duration};
use tokio::net::{TcpListener, TcpStream};

pub struct Server {
    listener: TcpListener,
    router: Router,
    connections: Arc<Connections>,
    header_timeout: Duration,
    drain: Drain,
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
    drain: Drain,
}

impl Server {
    pub async fn bind(
        config: &Config,
        store: &Store,
        catalog: Arc<Catalog>,
        dispatcher: Arc<Dispatcher>,
        drain: Drain,
    ) -> Result<Self, CannotListen> {
        let http = &config.http;
        let listener = listen(http.listen).map_err(|error| CannotListen { address: http.listen, error })?;
        let timing = Timing {
            call_timeout: http.call_timeout,
            write_timeout: http.write_timeout,
            ping_interval: http.ping_interval,
            silence_timeout: http.silence_timeout,
            max_frame: http.max_frame,
        };
        let sockets = Sockets {
            dispatcher,
            timing: Arc::new(timing),
            origins: http.origins.clone().into(),
            max_frame: http.max_frame,
            drain: drain.clone(),
        };
        let websocket =
            Router::new().route("/api/v1/ws", get(upgrade)).route("/api/v1/ws/", get(upgrade)).with_state(sockets);
        let state = ApiState { enabled: http.api, catalog, systems: store.systems.clone(), news: store.news.clone() };
        Ok(Self {
            listener,
            router: api::router(state, websocket),
            connections: Connections::new(http.connections, http.connections_per_address),
            header_timeout: http.header_timeout,
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
                accepted = self.listener.accept() => accepted,
                () = draining.cancelled() => return,
            };
            match accepted {
                Ok((stream, from)) => self.take(stream, from),
                Err(error) => {
                    // Out of files, most likely: those that are open now may close in a moment.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    fn take(&self, stream: TcpStream, from: SocketAddr) {
        let guard = match self.connections.enter(from.ip()) {
            Ok(guard) => guard,
            Err(refused) => return refuse(stream, refused),
        };
        let (io, meter) = Watched::new(stream);
        let service = self.router.clone().layer(Extension(meter)).layer(Extension(guard));
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(self.header_timeout).max_buf_size(64 << 10);
        let connection = http.serve_connection(TokioIo::new(io), TowerToHyperService::new(service)).with_upgrades();
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
                tracing::debug!(%from, %error, "a connection ended");
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

async fn upgrade(
    State(sockets): State<Sockets>,
    caller: Caller,
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
    if !origin_allowed(&headers, &sockets.origins) {
        return ApiError::new(StatusCode::FORBIDDEN, "this origin may not open a websocket: list it in http.origins")
            .into_response();
    }
    let Sockets { dispatcher, timing, max_frame, drain, .. } = sockets;
    let busy = drain.busy();
    socket::sized(upgrade, max_frame)
        .on_upgrade(move |websocket| async move {
            let _held = (guard, busy);
            Session::new(Socket::new(websocket, meter), caller, dispatcher, timing).run(drain.signal()).await;
        })
        .into_response()
}

/// Whether a browser's page may open a websocket here: one of this very host, or one that the operator lists. What sends
/// no origin is not a browser.
fn origin_allowed(headers: &HeaderMap, allowed: &[String]) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else { return true };
    let Ok(origin) = origin.to_str() else { return false };
    if allowed.iter().any(|it| it == "*" || it.eq_ignore_ascii_case(origin)) {
        return true;
    }
    let same = |host: &HeaderValue| {
        let page = origin.split_once("://").map(|(_, page)| page);
        page.is_some_and(|page| host.to_str().is_ok_and(|host| host.eq_ignore_ascii_case(page)))
    };
    headers.get(header::HOST).is_some_and(same)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(origin: Option<&str>, host: &str, list: &[&str]) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.parse().unwrap());
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, origin.parse().unwrap());
        }
        origin_allowed(&headers, &list.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn only_pages_of_this_host_and_of_the_list_open_websockets() {
        assert!(allowed(None, "localhost:8080", &[]));
        assert!(allowed(Some("http://localhost:8080"), "localhost:8080", &[]));
        assert!(!allowed(Some("http://localhost:8081"), "localhost:8080", &[]));
        assert!(!allowed(Some("https://evil.example"), "localhost:8080", &["https://a.example"]));
        assert!(allowed(Some("https://a.example"), "localhost:8080", &["https://a.example"]));
        assert!(allowed(Some("https://any.example"), "localhost:8080", &["*"]));
        assert!(!allowed(Some("null"), "localhost:8080", &[]));
    }
}
