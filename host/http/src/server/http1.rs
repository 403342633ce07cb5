//! An HTTP/1.1 connection: one request after the other.

use super::front::{Front, HEADERS, Told};
use axum::http::{HeaderValue, StatusCode, header::CONNECTION};
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use tokio::io::{AsyncRead, AsyncWrite};

impl Front {
    pub(super) async fn http1<S>(&self, io: S, told: Told)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (front, retired, activity) = (self.clone(), self.drain.retired(), told.connection.activity.clone());
        // Data about the connection is added to each request.
        let service = service_fn(move |request: Request<Incoming>| {
            let (front, retired, told) = (front.clone(), retired.clone(), told.clone());
            async move {
                let work = told.connection.activity.work();
                let mut answer = front.answer(&told, request).await;
                drop(work);
                // The next request goes to the successor. A connection that is idle at this moment stays open: a
                // request can be in transit.
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
                tokio::select! {
                    ended = connection => ended,
                    () = self.over(&activity) => return,
                }
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "connection ended");
        }
    }
}
