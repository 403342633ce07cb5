//! From a connection to requests: TLS where there is some, HTTP/1.1 or HTTP/2 as the client chooses, and what belongs to
//! the connection said in each request. It never knows what is answered.
//!
//! No phase of a connection is without its time:
//!
//! | phase | until |
//! | --- | --- |
//! | the handshake of TLS | `http.header_timeout` |
//! | the headers of a request, the preface of HTTP/2, and the time between two requests | `http.header_timeout` |
//! | the body of a request | `api::request::TIME` |
//! | an answer that the client does not take | `http.write_timeout` |
//! | silence over HTTP/2 and websockets | `http.ping_interval` and `http.silence_timeout` |
//! | the goodbye of HTTP/2 | [`GOODBYE`] |
//! | the end of the server, if nobody works on a request | [`LAST_WORDS`] |

use super::{
    activity::Activity,
    connection::{Guard, Watched},
    gate::Gate,
    peer::{Peer, Trust},
    sockets::Connection,
    tls::HTTP2,
};
use crate::{drain::Drain, hosts::Hosts};
use axum::{
    body::Body,
    http::{HeaderValue, header::CONNECTION},
    response::{IntoResponse, Response},
};
use hyper::{Request, body::Incoming};
use std::{os::fd::AsFd, sync::Arc, time::Duration};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;

/// The largest headers of a request.
pub(super) const HEADERS: u32 = 64 << 10;
/// How long a client of HTTP/2 may take to close a connection that it was told goodbye on, and that nobody uses.
pub(super) const GOODBYE: Duration = Duration::from_secs(5);
/// How long a client may take nothing of what it is sent, or send nothing, once the server ends.
pub(super) const LAST_WORDS: Duration = Duration::from_secs(1);

/// Serves connections that were taken.
#[derive(Clone)]
pub(super) struct Front {
    pub gate: Arc<Gate>,
    pub trust: Trust,
    pub hosts: Hosts,
    /// Until the headers of a request have come, and how long a connection may be idle.
    pub header_timeout: Duration,
    pub write_timeout: Duration,
    pub ping_interval: Duration,
    pub silence_timeout: Duration,
    pub drain: Drain,
}

/// What each request of one connection is told.
#[derive(Clone)]
pub(super) struct Told {
    pub connection: Connection,
    /// `None` for the operator's.
    pub peer: Option<Peer>,
}

impl Front {
    /// Serves a connection to its end, on a task that the end of the server waits for.
    pub(super) fn serve<S>(&self, stream: S, guard: Guard, peer: Option<Peer>, tls: Option<TlsAcceptor>)
    where
        S: AsyncRead + AsyncWrite + AsFd + Unpin + Send + 'static,
    {
        let (io, meter) = Watched::new(stream, self.write_timeout, guard.counters().clone());
        let front = self.clone();
        let busy = self.drain.busy();
        let connection = Connection { guard, activity: Activity::new(meter), hang_up: io.hang_up() };
        let told = Told { connection, peer };
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

    /// Answers a request, unless it is not clear for which host it is.
    pub(super) async fn answer(&self, told: &Told, mut request: Request<Incoming>) -> Response {
        request.extensions_mut().insert(told.connection.clone());
        if let Some(peer) = told.peer
            && let Err(refused) = self.trust.introduce(peer, &self.hosts, &mut request)
        {
            let mut answer = refused.into_response();
            // Two readers may see two requests in what comes behind.
            answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            return answer;
        }
        self.gate.answer(request.map(Body::new)).await
    }

    /// Returns when the server ends, and nothing more is to be waited for over a connection.
    pub(super) async fn over(&self, activity: &Activity) {
        self.drain.signal().cancelled().await;
        activity.stuck(LAST_WORDS).await;
    }
}
