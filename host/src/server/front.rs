//! From a connection to requests: TLS where there is some, HTTP/1.1 or HTTP/2 as the client chooses, and what belongs to
//! the connection said in each request. It never knows what is answered.

use super::{
    connection::{Guard, Watched},
    gate::Gate,
    peer::{Peer, Trust},
    sockets::Connection,
    tls::HTTP2,
};
use crate::drain::Drain;
use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header::CONNECTION},
};
use http_body_util::BodyExt;
use hyper::{
    Request,
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;

/// How many requests one connection of HTTP/2 may have under way.
const STREAMS: u32 = 64;
/// The largest headers of a request.
const HEADERS: u32 = 64 << 10;

/// Serves connections that were taken.
#[derive(Clone)]
pub(super) struct Front {
    pub gate: Arc<Gate>,
    pub trust: Trust,
    /// Until the headers of a request have come, and how long a connection may be idle.
    pub header_timeout: Duration,
    pub write_timeout: Duration,
    pub ping_interval: Duration,
    pub silence_timeout: Duration,
    pub drain: Drain,
}

/// What each request of one connection is told.
#[derive(Clone)]
struct Told {
    connection: Connection,
    /// Nothing for the operator's.
    peer: Option<Peer>,
}

/// Whether a connection of HTTP/2 is in use. Each request holds a clone until its answer is sent.
#[derive(Clone, Default)]
struct Requests(Arc<AtomicU64>);

impl Requests {
    fn begin(&self) -> Self {
        self.0.fetch_add(1, Relaxed);
        self.clone()
    }

    /// Comes when there were no requests for so long.
    async fn idle(&self, patience: Duration) {
        let mut looks = tokio::time::interval(patience / 4);
        let (mut seen, mut quiet) = (0, 0);
        loop {
            looks.tick().await;
            let now = self.0.load(Relaxed);
            // One is the connection's own, and one its service's.
            let busy = Arc::strong_count(&self.0) > 2 || now != seen;
            seen = now;
            quiet = if busy { 0 } else { quiet + 1 };
            if quiet > 4 {
                return;
            }
        }
    }
}

impl Front {
    /// Serves a connection to its end, on a task that the end of the server waits for.
    pub(super) fn serve<S>(&self, stream: S, guard: Guard, peer: Option<Peer>, tls: Option<TlsAcceptor>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (io, meter) = Watched::new(stream, self.write_timeout, guard.counters().clone());
        let front = self.clone();
        let busy = self.drain.busy();
        let told = Told { connection: Connection { meter, guard }, peer };
        tokio::spawn(async move {
            let _busy = busy;
            match tls {
                None => front.http1(io, told).await,
                // Apart, so that what is not encrypted needs no room for it.
                Some(tls) => Box::pin(front.over_tls(io, told, tls)).await,
            }
        });
    }

    async fn over_tls<S>(&self, io: S, told: Told, tls: TlsAcceptor)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let counters = told.connection.guard.counters().clone();
        let agreed = tokio::select! {
            agreed = tokio::time::timeout(self.header_timeout, tls.accept(io)) => agreed,
            () = self.drain.signal().cancelled_owned() => return,
        };
        match agreed {
            Ok(Ok(stream)) if stream.get_ref().1.alpn_protocol() == Some(HTTP2) => self.http2(stream, told).await,
            Ok(Ok(stream)) => self.http1(stream, told).await,
            Ok(Err(error)) => {
                counters.tls_failed();
                tracing::debug!(%error, "no TLS came about");
            }
            Err(_) => counters.tls_failed(),
        }
    }

    async fn http1<S>(&self, io: S, told: Told)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (gate, trust, retired) = (self.gate.clone(), self.trust.clone(), self.drain.retired());
        // What belongs to the connection goes into each request.
        let service = service_fn(move |mut request: Request<Incoming>| {
            told.tell(&trust, &mut request);
            let (gate, retired) = (gate.clone(), retired.clone());
            async move {
                let mut answer = gate.answer(request.map(Body::new)).await;
                // The next request goes to the server that has taken over. A connection that is idle at that moment is
                // not closed: a request may be on its way.
                if retired.is_cancelled() && answer.status() != StatusCode::SWITCHING_PROTOCOLS {
                    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                Ok::<_, Infallible>(answer)
            }
        });
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(self.header_timeout).max_buf_size(HEADERS as usize);
        let connection = http.serve_connection(TokioIo::new(io), service).with_upgrades();
        let mut connection = std::pin::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = self.drain.signal().cancelled_owned() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection ended");
        }
    }

    async fn http2<S>(&self, io: S, told: Told)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (gate, trust) = (self.gate.clone(), self.trust.clone());
        let requests = Requests::default();
        let begun = requests.clone();
        let service = service_fn(move |mut request: Request<Incoming>| {
            told.tell(&trust, &mut request);
            let request_held = begun.begin();
            let gate = gate.clone();
            async move {
                let answer = gate.answer(request.map(Body::new)).await;
                // Until its last byte is sent.
                Ok::<_, Infallible>(answer.map(|body| {
                    Body::new(body.map_frame(move |frame| {
                        let _ = &request_held;
                        frame
                    }))
                }))
            }
        });
        let mut http = http2::Builder::new(TokioExecutor::new());
        http.timer(TokioTimer::new())
            .keep_alive_interval(self.ping_interval)
            .keep_alive_timeout(self.silence_timeout)
            .max_concurrent_streams(STREAMS)
            .max_header_list_size(HEADERS);
        let mut connection = std::pin::pin!(http.serve_connection(TokioIo::new(io), service));
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = requests.idle(self.header_timeout) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
            () = self.drain.retired().cancelled_owned() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection ended");
        }
    }
}

impl Told {
    fn tell<B>(&self, trust: &Trust, request: &mut Request<B>) {
        let extensions = request.extensions_mut();
        extensions.insert(self.connection.clone());
        if let Some(peer) = self.peer {
            trust.introduce(peer, request);
        }
    }
}
