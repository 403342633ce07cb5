//! An exporter that sends spans to a collector in batches: OTLP over HTTP, encoded as JSON.
//!
//! Spans that cannot be sent are dropped, and the log reports them: no call waits for a collector.

use super::{Span, Value};
use bytes::Bytes;
use distillery_core::redact;
use http::{HeaderValue, Request, StatusCode, Uri, header};
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::json;
use std::{
    io,
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::mpsc::Receiver,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, RootCertStore, crypto, pki_types::ServerName},
};
use tokio_util::sync::CancellationToken;

/// Maximum number of spans in a batch.
const BATCH: usize = 512;
/// Time that spans gather before they are sent.
const GATHER: Duration = Duration::from_secs(1);
/// Timeout of a request to the collector.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, thiserror::Error)]
pub enum CannotExport {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Http(#[from] hyper::Error),
    #[error("{0} is no name for TLS")]
    Name(String),
    #[error("the collector says {0}")]
    Refused(StatusCode),
    #[error("the collector does not answer")]
    Silent,
}

/// Sends spans until `ending`, and then the remaining ones.
pub async fn run(endpoint: Uri, mut spans: Receiver<Span>, ending: CancellationToken) {
    let mut failing = false;
    let shown = redact::url(&endpoint);
    loop {
        let mut batch = Vec::new();
        tokio::select! {
            biased;
            received = spans.recv_many(&mut batch, BATCH) => if received == 0 { return },
            () = ending.cancelled(), if !spans.is_closed() => {
                // Spans that are already queued can still be received.
                spans.close();
                continue;
            }
        }
        // Spans of the next moment join the batch, unless the channel is closed.
        let gather = tokio::time::sleep(GATHER);
        tokio::pin!(gather);
        while batch.len() < BATCH {
            let room = BATCH - batch.len();
            tokio::select! {
                more = spans.recv_many(&mut batch, room) => if more == 0 { break },
                () = &mut gather => break,
                () = ending.cancelled() => break,
            }
        }
        let sent = tokio::time::timeout(PATIENCE, send(&endpoint, &batch)).await.unwrap_or(Err(CannotExport::Silent));
        match &sent {
            Ok(()) if failing => tracing::info!(endpoint = shown, "traces are sent again"),
            // Logged once: as long as it fails, each second would add another line.
            Err(error) if !failing => {
                tracing::warn!(endpoint = shown, %error, spans = batch.len(), "traces cannot be sent: these are lost");
            }
            _ => {}
        }
        failing = sent.is_err();
    }
}

async fn send(endpoint: &Uri, spans: &[Span]) -> Result<(), CannotExport> {
    let host = endpoint.host().unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let tls = endpoint.scheme_str() == Some("https");
    let port = endpoint.port_u16().unwrap_or(if tls { 443 } else { 80 });
    let stream = TcpStream::connect((bare, port)).await?;
    if tls {
        let name = ServerName::try_from(bare.to_owned()).map_err(|_| CannotExport::Name(bare.to_owned()))?;
        let roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        let config = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()));
        let config = config.with_safe_default_protocol_versions().map_err(io::Error::other)?;
        let config = config.with_root_certificates(roots).with_no_client_auth();
        post(TlsConnector::from(Arc::new(config)).connect(name, stream).await?, endpoint, spans).await
    } else {
        post(stream, endpoint, spans).await
    }
}

async fn post<S>(stream: S, endpoint: &Uri, spans: &[Span]) -> Result<(), CannotExport>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let mut request = Request::post(endpoint.path_and_query().map_or("/", |path| path.as_str()))
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::<Bytes>::new(encoded(spans).into()))
        .map_err(io::Error::other)?;
    let host = HeaderValue::from_str(redact::place(endpoint)).map_err(io::Error::other)?;
    request.headers_mut().insert(header::HOST, host);
    let answer = sender.send_request(request).await;
    connection.abort();
    let status = answer?.status();
    if status.is_success() { Ok(()) } else { Err(CannotExport::Refused(status)) }
}

fn encoded(spans: &[Span]) -> Vec<u8> {
    let spans: Vec<_> = spans.iter().map(of_span).collect();
    let about = [("service.name", "distillery".into()), ("service.version", env!("CARGO_PKG_VERSION").into())];
    let all = json!({
        "resourceSpans": [{
            "resource": { "attributes": attributes(&about) },
            "scopeSpans": [{ "scope": { "name": "distillery" }, "spans": spans }],
        }],
    });
    all.to_string().into_bytes()
}

fn of_span(span: &Span) -> serde_json::Value {
    let nanos = |at: SystemTime| at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos().to_string();
    json!({
        "traceId": format!("{:032x}", span.context.trace),
        "spanId": format!("{:016x}", span.context.span),
        "parentSpanId": span.parent.map_or_else(String::new, |parent| format!("{parent:016x}")),
        "name": span.name,
        // The span kinds of OTLP: server, or internal.
        "kind": if span.is_request { 2 } else { 1 },
        "startTimeUnixNano": nanos(span.from),
        "endTimeUnixNano": nanos(span.to),
        "attributes": attributes(&span.attributes),
        "status": match &span.failure {
            Some(why) => json!({ "code": 2, "message": why }),
            None => json!({}),
        },
    })
}

fn attributes(attributes: &[(&'static str, Value)]) -> serde_json::Value {
    let one = |(key, value): &(&'static str, Value)| {
        let value = match value {
            Value::Text(text) => json!({ "stringValue": text }),
            // JSON numbers cannot hold 64 bits, so OTLP has them as text.
            Value::Number(number) => json!({ "intValue": number.to_string() }),
        };
        json!({ "key": key, "value": value })
    };
    attributes.iter().map(one).collect()
}
