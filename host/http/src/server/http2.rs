//! An HTTP/2 connection: many concurrent requests, including websockets (RFC 8441).

use super::{
    activity::Activity,
    answers::{Answers, Streams},
    front::{Front, GOODBYE, HEADERS, Told},
};
use hyper::{Request, body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use tokio::io::{AsyncRead, AsyncWrite};

/// The maximum number of concurrent requests on one connection.
const STREAMS: u32 = 64;
/// The maximum of unread data on one stream. All streams together fit the connection's window, so a call that does not
/// read its input delays no other stream.
const WINDOW: u32 = 64 << 10;
/// The maximum of unsent data of one stream in the connection's buffers.
const SEND_BUFFER: usize = 64 << 10;

impl Front {
    pub(super) async fn http2<S>(&self, io: S, told: Told)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (front, activity) = (self.clone(), told.connection.activity.clone());
        let answers = Answers::new(activity.clone());
        let service = service_fn(move |request: Request<Incoming>| {
            let (front, told, answers) = (front.clone(), told.clone(), answers.clone());
            async move {
                let answer = answers.answer(request, async |request| front.answer(&told, request).await).await;
                Ok::<_, Infallible>(answer)
            }
        });
        let mut http = http2::Builder::new(Streams { patience: self.write_timeout });
        http.timer(TokioTimer::new())
            .keep_alive_interval(self.ping_interval)
            .keep_alive_timeout(self.silence_timeout)
            .max_concurrent_streams(STREAMS)
            .max_header_list_size(HEADERS)
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW * STREAMS)
            .max_send_buf_size(SEND_BUFFER)
            .enable_connect_protocol();
        let mut connection = std::pin::pin!(http.serve_connection(TokioIo::new(io), service));
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = self.is_to_end(&activity) => {
                connection.as_mut().graceful_shutdown();
                // A stuck client does not answer GOAWAY.
                tokio::select! {
                    ended = connection => ended,
                    () = activity.idle(GOODBYE) => return,
                    () = self.over(&activity) => return,
                }
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "connection ended");
        }
    }

    /// Waits until a connection is unused, or until a successor serves the next requests.
    async fn is_to_end(&self, activity: &Activity) {
        tokio::select! {
            () = activity.idle(self.header_timeout) => {}
            () = self.drain.retired().cancelled_owned() => {}
        }
    }
}
