//! Turns a connection into requests: optional TLS, HTTP/1.1 or HTTP/2 as the client chooses, and data about the
//! connection added to each request. This module never knows the answers.
//!
//! Each phase of a connection has a timeout:
//!
//! | phase | until |
//! | --- | --- |
//! | the TLS handshake | `http.header_timeout` |
//! | the headers of a request, the preface of HTTP/2, and the time between two requests | `http.header_timeout` |
//! | the body of a request | `api::request::TIME`; that of a call has the time of the call |
//! | a silent TCP connection | `http.ping_interval` and `http.silence_timeout`, by probes of the system |
//! | an answer that the client does not read | `http.write_timeout` |
//! | silence over HTTP/2 and websockets | `http.ping_interval` and `http.silence_timeout` |
//! | the close after GOAWAY in HTTP/2 | [`GOODBYE`] |
//! | the end of the server, without a request in progress | [`LAST_WORDS`] |

use super::{
    activity::Activity,
    connection::{Guard, Watched},
    gate::Gate,
    peer::{Peer, Trust},
    sockets::Connection,
    tls::HTTP2,
};
use axum::{
    body::Body,
    http::{HeaderValue, header::CONNECTION},
    response::{IntoResponse, Response},
};
use distillery_core::{drain::Drain, hosts::Hosts};
use hyper::{Request, body::Incoming};
use std::{os::fd::AsFd, sync::Arc, time::Duration};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;

/// The maximum size of a request's headers.
pub(super) const HEADERS: u32 = 64 << 10;
/// The time that an HTTP/2 client has to close an unused connection after GOAWAY.
pub(super) const GOODBYE: Duration = Duration::from_secs(5);
/// The time for which a client is allowed to read and send nothing once the server ends.
pub(super) const LAST_WORDS: Duration = Duration::from_secs(1);

/// The server of accepted connections.
#[derive(Clone)]
pub(super) struct Front {
    pub gate: Arc<Gate>,
    pub trust: Trust,
    pub hosts: Hosts,
    /// The timeout for the headers of a request, and for an idle connection.
    pub header_timeout: Duration,
    pub write_timeout: Duration,
    pub ping_interval: Duration,
    pub silence_timeout: Duration,
    pub drain: Drain,
}

/// Data about a connection for each of its requests.
#[derive(Clone)]
pub(super) struct Told {
    pub connection: Connection,
    /// `None` for the operator.
    pub peer: Option<Peer>,
}

impl Front {
    /// Serves a connection to its end, on a task that the shutdown waits for.
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
                // Boxed, so that unencrypted connections need no memory for TLS.
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
                tracing::debug!(%error, "TLS handshake failed");
            }
            Err(_) => counters.tls_failed(),
        }
    }

    /// Answers a request, unless its host is ambiguous.
    pub(super) async fn answer(&self, told: &Told, mut request: Request<Incoming>) -> Response {
        request.extensions_mut().insert(told.connection.clone());
        if let Some(peer) = told.peer
            && let Err(refused) = self.trust.introduce(peer, &self.hosts, &mut request)
        {
            let mut answer = refused.into_response();
            // The rest of the connection is ambiguous as well.
            answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            return answer;
        }
        self.gate.answer(request.map(Body::new)).await
    }

    /// Waits until the server ends and no more activity of a connection is to be waited for.
    pub(super) async fn over(&self, activity: &Activity) {
        self.drain.signal().cancelled().await;
        activity.stuck(LAST_WORDS).await;
    }
}
