//! HTTP requests of guests to granted origins.
//!
//! Each request is checked on its own, and redirects are not followed here. This module also resolves names, and
//! connects to exactly the resolved address. An address outside the public network is refused unless the grant names it
//! literally, or as `localhost`.

use super::{
    address::is_public,
    descriptors::{Descriptor, Descriptors, Share},
};
use bytes::Bytes;
use distillery_core::origin::Origin;
use http_body_util::BodyExt;
use hyper::{
    Method, Request, Response, Uri,
    body::{Body, Frame, Incoming, SizeHint},
    client::conn::http1,
};
use hyper_util::rt::TokioIo;
use std::{
    future::poll_fn,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs},
    pin::{Pin, pin},
    sync::{Arc, LazyLock},
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    runtime::{Builder, Runtime},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, Sleep, sleep, timeout},
};
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, RootCertStore, crypto::ring, pki_types::ServerName},
};
use wasmtime::component::ResourceTable;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks};

/// The time from name resolution to the end of the TLS handshake.
const CONNECT: Duration = Duration::from_secs(10);
/// The time from the request to the head of its answer; some answers take long to compute.
const FIRST_BYTE: Duration = Duration::from_secs(300);
/// The time between two pieces of an answer.
const IDLE: Duration = Duration::from_secs(120);
/// The maximum number of concurrent requests of one process; each uses a socket.
const CONNECTIONS: usize = 32;
/// The maximum number of concurrent name resolutions of all processes.
const RESOLVERS: usize = 16;
/// The size of an answer's head, and of the read-ahead.
const BUFFER: usize = 64 << 10;
/// The largest write to the body of a request.
const CHUNK: usize = 64 << 10;
/// The maximum number of headers of one message. A guest can hold as many header sets as resources.
const FIELDS: usize = 16 << 10;

/// The state for sending requests of a process.
pub(super) struct Outgoing {
    context: WasiHttpCtx,
    sender: Sender,
}

struct Sender {
    allowed: Arc<[Origin]>,
    connections: Arc<Semaphore>,
    descriptors: Arc<Descriptors>,
}

/// The resources that a request holds until its answer has ended.
struct Place {
    _connection: OwnedSemaphorePermit,
    _socket: Descriptor,
}

type Ended = Box<dyn Future<Output = Result<(), Error>> + Send>;

impl Outgoing {
    pub fn to(allowed: Arc<[Origin]>, descriptors: Arc<Descriptors>) -> Self {
        let mut context = WasiHttpCtx::new();
        context.set_field_size_limit(FIELDS);
        let connections = Arc::new(Semaphore::new(CONNECTIONS));
        Self { context, sender: Sender { allowed, connections, descriptors } }
    }

    /// Returns the context for the library, which keeps its resources in `table`.
    pub fn view<'a>(&'a mut self, table: &'a mut ResourceTable) -> WasiHttpCtxView<'a> {
        WasiHttpCtxView { hooks: &mut self.sender, table, ctx: &mut self.context }
    }
}

impl WasiHttpHooks for Sender {
    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _answered: Ended,
    ) -> Box<dyn Future<Output = Result<(Response<WasiBody>, Ended), Error>> + Send> {
        let checked = self.check(&request);
        Box::new(async move {
            let (origin, place) = checked?;
            send(&origin, request, Times::of(options), place).await
        })
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        CHUNK
    }

    fn p3_outgoing_body_chunk_size(&mut self) -> usize {
        CHUNK
    }
}

impl Sender {
    fn check(&self, request: &Request<WasiBody>) -> Result<(Origin, Place), Error> {
        let origin = Origin::of(request.uri()).ok_or(Error::HttpRequestUriInvalid)?;
        // A tunnel would bypass the checks.
        if !self.allowed.contains(&origin) || request.method() == Method::CONNECT {
            return Err(Error::HttpRequestDenied);
        }
        let connection = self.connections.clone().try_acquire_owned().map_err(|_| Error::ConnectionLimitReached)?;
        // One process has few connections, so each counts as the first of its share.
        let socket = Share::of(&self.descriptors).take().ok_or(Error::ConnectionLimitReached)?;
        Ok((origin, Place { _connection: connection, _socket: socket }))
    }
}

/// The timeouts. A guest can only shorten them.
struct Times {
    connect: Duration,
    first_byte: Duration,
    idle: Duration,
}

impl Times {
    fn of(options: Option<RequestOptions>) -> Self {
        let least = |wish: Option<Duration>, most: Duration| wish.map_or(most, |wish| wish.min(most));
        let wish = options.unwrap_or_default();
        Self {
            connect: least(wish.connect_timeout, CONNECT),
            first_byte: least(wish.first_byte_timeout, FIRST_BYTE),
            idle: least(wish.between_bytes_timeout, IDLE),
        }
    }
}

async fn send(
    origin: &Origin,
    mut request: Request<WasiBody>,
    times: Times,
    place: Place,
) -> Result<(Response<WasiBody>, Ended), Error> {
    let stream = timeout(times.connect, connect(origin)).await.map_err(|_| Error::ConnectionTimeout)??;
    let mut client = http1::Builder::new();
    let (mut sender, connection) =
        client.max_buf_size(BUFFER).handshake(TokioIo::new(stream)).await.map_err(|error| told(&error))?;
    // Only proxies need scheme and host.
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    *request.uri_mut() = Uri::builder().path_and_query(path).build().map_err(|_| Error::HttpRequestUriInvalid)?;

    let mut connection = Some(connection);
    let mut answer = pin!(timeout(times.first_byte, sender.send_request(request)));
    // The connection must be polled; its failure shows in the answer.
    let answer = poll_fn(|cx| {
        if let Some(driven) = &mut connection
            && Pin::new(driven).poll(cx).is_ready()
        {
            connection = None;
        }
        answer.as_mut().poll(cx)
    });
    let answer = answer.await.map_err(|_| Error::ConnectionReadTimeout)?.map_err(|error| told(&error))?;
    let answer =
        answer.map(|body| Received { body, idle: times.idle, until: Box::pin(sleep(times.idle)) }.boxed_unsync());
    let driven = async move {
        let _place = place;
        match connection {
            Some(connection) => connection.await.map_err(|error| told(&error)),
            None => Ok(()),
        }
    };
    Ok((answer, Box::new(driven)))
}

trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

async fn connect(origin: &Origin) -> Result<Box<dyn Wire>, Error> {
    let stream = grants(&addresses(origin).await?).await?;
    if !origin.is_secure() {
        return Ok(Box::new(stream));
    }
    let name = match origin.address() {
        Some(address) => ServerName::from(address),
        None => ServerName::try_from(origin.host().to_owned()).map_err(|_| Error::HttpRequestUriInvalid)?,
    };
    let secured = TlsConnector::from(TLS.clone()).connect(name, stream).await.map_err(|error| {
        tracing::debug!(%origin, %error, "TLS handshake failed");
        let certificate = error.get_ref().and_then(|it| it.downcast_ref::<tokio_rustls::rustls::Error>());
        match certificate {
            Some(tokio_rustls::rustls::Error::InvalidCertificate(_)) => Error::TlsCertificateError,
            _ => Error::TlsProtocolError,
        }
    })?;
    Ok(Box::new(secured))
}

/// Trusts Mozilla's root certificates.
static TLS: LazyLock<Arc<ClientConfig>> = LazyLock::new(|| {
    let roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.into() };
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider knows the usual versions");
    Arc::new(config.with_root_certificates(roots).with_no_client_auth())
});

/// Returns the allowed addresses of the origin.
async fn addresses(origin: &Origin) -> Result<Vec<SocketAddr>, Error> {
    let port = origin.port();
    let at = |address: IpAddr| SocketAddr::new(address, port);
    if let Some(address) = origin.address() {
        return Ok(vec![at(address)]);
    }
    if origin.is_localhost() {
        return Ok(vec![at(Ipv4Addr::LOCALHOST.into()), at(Ipv6Addr::LOCALHOST.into())]);
    }
    let found = resolve(origin.host().to_owned(), port).await.map_err(|error| {
        tracing::debug!(%origin, %error, "name not resolved");
        Error::DnsError { rcode: None, info_code: None }
    })?;
    if found.is_empty() {
        return Err(Error::DestinationNotFound);
    }
    let public: Vec<SocketAddr> = found.into_iter().filter(|found| is_public(found.ip())).collect();
    if public.is_empty() {
        tracing::debug!(%origin, "name has no public address");
        return Err(Error::DestinationIpProhibited);
    }
    Ok(public)
}

/// Resolves a name on one of the threads for that purpose. An unresponsive name server delays other names, but neither
/// the database nor files.
async fn resolve(name: String, port: u16) -> io::Result<Vec<SocketAddr>> {
    static THREADS: LazyLock<io::Result<Runtime>> =
        LazyLock::new(|| Builder::new_current_thread().max_blocking_threads(RESOLVERS).thread_name("names").build());
    let threads = THREADS.as_ref().map_err(|error| io::Error::from(error.kind()))?;
    let asked = threads.spawn_blocking(move || (name.as_str(), port).to_socket_addrs().map(Iterator::collect));
    asked.await.map_err(io::Error::other)?
}

/// Connects to the first address that accepts a connection.
async fn grants(addresses: &[SocketAddr]) -> Result<TcpStream, Error> {
    let mut last = Error::DestinationNotFound;
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                // Without this option small requests are only slower.
                _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => last = Error::ConnectionRefused,
            Err(error) => {
                tracing::debug!(%address, %error, "connection failed");
                last = Error::DestinationUnavailable;
            }
        }
    }
    Err(last)
}

/// Translates a failure of the HTTP library for the guest.
fn told(error: &hyper::Error) -> Error {
    tracing::debug!(%error, "outgoing request failed");
    if error.is_incomplete_message() {
        Error::HttpResponseIncomplete
    } else if error.is_closed() || error.is_canceled() {
        Error::ConnectionTerminated
    } else if error.is_timeout() {
        Error::HttpResponseTimeout
    } else {
        Error::HttpProtocolError
    }
}

/// The body of an answer, with a timeout while the guest waits for data.
struct Received {
    body: Incoming,
    idle: Duration,
    until: Pin<Box<Sleep>>,
}

impl Body for Received {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(frame) => {
                let until = Instant::now() + self.idle;
                self.until.as_mut().reset(until);
                Poll::Ready(frame.map(|frame| frame.map_err(|error| told(&error))))
            }
            Poll::Pending => self.until.as_mut().poll(cx).map(|()| Some(Err(Error::ConnectionReadTimeout))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn found(origin: &str) -> Result<Vec<SocketAddr>, Error> {
        addresses(&origin.parse().unwrap()).await
    }

    #[tokio::test]
    async fn grant_can_name_a_private_address() {
        assert_eq!(found("http://10.0.0.5:9000").await.unwrap(), ["10.0.0.5:9000".parse().unwrap()]);
        assert_eq!(found("http://localhost").await.unwrap().len(), 2);
        // Resolvers accept these as addresses of this machine.
        for disguised in ["http://127.1", "http://2130706433", "http://0x7f000001", "http://0"] {
            match found(disguised).await {
                Err(Error::DestinationIpProhibited | Error::DnsError { .. }) => {}
                other => panic!("{disguised}: {other:?}"),
            }
        }
    }

    #[test]
    fn guest_can_only_shorten_timeouts() {
        let wish = RequestOptions {
            connect_timeout: Some(Duration::from_secs(1)),
            first_byte_timeout: Some(Duration::from_secs(1_000_000)),
            between_bytes_timeout: None,
        };
        let times = Times::of(Some(wish));
        assert_eq!((times.connect, times.first_byte, times.idle), (Duration::from_secs(1), FIRST_BYTE, IDLE));
    }
}
