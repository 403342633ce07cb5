//! A client of a server, over its control socket or over the network.
//!
//! This module knows addresses, tokens, requests and the protocols of sockets, but no terminals.
#![forbid(unsafe_code)]
// They panic where stdout or stderr cannot be written: only the command line prints.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

pub mod address;
pub mod conversation;
pub mod mcp;
pub mod token;

use address::Address;
use anyhow::{Context, anyhow, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{HeaderMap, Method, Request, Response, StatusCode, body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::{
    fmt::Debug,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use token::Token;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    time::timeout,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, ServerName, pem::PemObject},
    },
};
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{
        self,
        client::IntoClientRequest,
        error::ProtocolError,
        http::{HeaderValue, header},
        protocol::WebSocketConfig,
    },
};

/// The maximum size of an answer.
const ANSWER: usize = 64 << 20;
/// The timeout for a connection, and for the start of an answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// A server, and the credential for it.
#[derive(Clone, Debug)]
pub struct Peer {
    pub place: Place,
    pub token: Option<Token>,
    /// Certificate authorities to trust in addition to the usual ones.
    pub authorities: Option<PathBuf>,
}

/// The place of a server.
#[derive(Clone, Debug)]
pub enum Place {
    /// Its control socket; a process that can use the socket is the operator.
    Local(PathBuf),
    Remote(Address),
}

/// A connection over any transport.
pub trait Connection: AsyncRead + AsyncWrite + Debug + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Debug + Send + Unpin> Connection for T {}

pub type Socket = WebSocketStream<Box<dyn Connection>>;

/// The host name for requests over the control socket; the server requires no other.
const LOCALHOST: &str = "localhost";

impl Peer {
    /// Sends a request to `route` below `/api/v1/`, and reads the answer.
    pub async fn ask<T: DeserializeOwned>(&self, method: Method, route: &str) -> anyhow::Result<T> {
        let answer = self.send(method, route, &[], Bytes::new()).await?;
        let status = answer.status();
        let body = self.whole(answer).await?;
        if !status.is_success() {
            bail!(self.refused(status, &body));
        }
        serde_json::from_slice(&body)
            .context("the server speaks another version of the API: use the command of its release")
    }

    /// Sends a request to `route` below `/api/v1/`, and passes the bytes of the answer on as they arrive. Returns its
    /// headers.
    pub async fn read(
        &self,
        route: &str,
        mut each: impl FnMut(&HeaderMap, &[u8]) -> io::Result<()>,
    ) -> anyhow::Result<HeaderMap> {
        let answer = self.send(Method::GET, route, &[], Bytes::new()).await?;
        if !answer.status().is_success() {
            let status = answer.status();
            bail!(self.refused(status, &self.whole(answer).await?));
        }
        let (head, mut body) = answer.into_parts();
        while let Some(frame) = body.frame().await {
            let frame = frame.context("the server broke off its answer")?;
            if let Some(bytes) = frame.data_ref() {
                each(&head.headers, bytes)?;
            }
        }
        Ok(head.headers)
    }

    /// Reads the whole body of an answer.
    async fn whole(&self, answer: Response<Incoming>) -> anyhow::Result<Bytes> {
        let body = Limited::new(answer.into_body(), ANSWER).collect().await;
        Ok(body.map_err(anyhow::Error::from_boxed).context("the server broke off its answer")?.to_bytes())
    }

    /// Sends a request to `route` below `/api/v1/`, and returns the answer once it begins. Dropping its body closes the
    /// connection.
    async fn send(
        &self,
        method: Method,
        route: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> anyhow::Result<Response<Incoming>> {
        let stream = self.connect().await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let (host, prefix) = self.names();
        let mut request =
            Request::builder().method(method).uri(format!("{prefix}/api/v1/{route}")).header(header::HOST, host);
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, token.header());
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = timeout(PATIENCE, sender.send_request(request.body(Full::new(body))?)).await;
        let answer = answer.map_err(|_| anyhow!("the server did not answer within {}s", PATIENCE.as_secs()))?;
        answer.context("the server did not answer: it may be ending, or too many commands ask at once")
    }

    /// Opens a websocket. Returns whether the server accepted `protocol`; an older server continues without a
    /// subprotocol.
    pub async fn open(&self, protocol: &'static str) -> anyhow::Result<(Socket, bool)> {
        let stream = self.connect().await?;
        match self.upgrade(stream, Some(protocol)).await {
            Err(tungstenite::Error::Protocol(ProtocolError::SecWebSocketSubProtocolError(_))) => {
                let stream = self.connect().await?;
                let socket = self.upgrade(stream, None).await.map_err(|error| self.no_socket(error))?;
                Ok((socket, false))
            }
            Ok(socket) => Ok((socket, true)),
            Err(error) => Err(self.no_socket(error)),
        }
    }

    async fn upgrade(
        &self,
        stream: Box<dyn Connection>,
        protocol: Option<&'static str>,
    ) -> Result<Socket, tungstenite::Error> {
        let (host, prefix) = self.names();
        let mut request = format!("ws://{host}{prefix}/api/v1/ws").into_client_request()?;
        if let Some(protocol) = protocol {
            request.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
        }
        if let Some(token) = &self.token {
            request.headers_mut().insert(header::AUTHORIZATION, token.header());
        }
        // The server bounds its messages: a line can be as long as its limits allow.
        let config = WebSocketConfig::default().max_message_size(None).max_frame_size(None);
        let upgraded = timeout(PATIENCE, client_async_with_config(request, stream, Some(config))).await;
        let late = |_| tungstenite::Error::Io(io::Error::new(ErrorKind::TimedOut, "the server did not answer"));
        Ok(upgraded.map_err(late)??.0)
    }

    fn no_socket(&self, error: tungstenite::Error) -> anyhow::Error {
        match error {
            tungstenite::Error::Http(answer) => {
                let body = answer.body().as_deref().unwrap_or_default();
                anyhow!(self.refused(answer.status(), body))
            }
            error => anyhow!("cannot open a websocket: {error}"),
        }
    }

    /// Formats the server's error answer.
    fn refused(&self, status: StatusCode, body: &[u8]) -> String {
        let said: Value = serde_json::from_slice(body).unwrap_or_default();
        match said["message"].as_str() {
            Some(message) => message.to_owned(),
            None => format!("{} answered {status}: is it a distillery, and is its path right?", self.shown()),
        }
    }

    /// Returns the server's name for messages.
    pub fn shown(&self) -> String {
        match &self.place {
            Place::Local(socket) => socket.display().to_string(),
            Place::Remote(address) => address.to_string(),
        }
    }

    /// Returns the host for a request, and the prefix of the API's paths.
    fn names(&self) -> (&str, &str) {
        match &self.place {
            Place::Local(_) => (LOCALHOST, ""),
            Place::Remote(address) => (&address.authority, &address.prefix),
        }
    }

    async fn connect(&self) -> anyhow::Result<Box<dyn Connection>> {
        match &self.place {
            Place::Local(socket) => {
                Ok(Box::new(UnixStream::connect(socket).await.map_err(|error| no_server(socket, error))?))
            }
            Place::Remote(address) => {
                let connected = timeout(PATIENCE, TcpStream::connect((address.host.as_str(), address.port))).await;
                let stream = connected
                    .unwrap_or_else(|_| Err(io::Error::new(ErrorKind::TimedOut, "no answer")))
                    .with_context(|| format!("cannot connect to {address}"))?;
                let _ = stream.set_nodelay(true);
                if address.tls { Ok(Box::new(self.encrypted(address, stream).await?)) } else { Ok(Box::new(stream)) }
            }
        }
    }

    async fn encrypted(
        &self,
        address: &Address,
        stream: TcpStream,
    ) -> anyhow::Result<tokio_rustls::client::TlsStream<TcpStream>> {
        let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        if let Some(file) = &self.authorities {
            let read = || format!("cannot read certificates from {}", file.display());
            for certificate in CertificateDer::pem_file_iter(file).with_context(read)? {
                roots.add(certificate.with_context(read)?).with_context(read)?;
            }
        }
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from(address.host.clone()).context("the host of the URL is no name for TLS")?;
        let connecting = TlsConnector::from(Arc::new(config)).connect(name, stream);
        let connected = timeout(PATIENCE, connecting).await.map_err(|_| anyhow!("no answer"));
        connected
            .and_then(|connected| Ok(connected?))
            .with_context(|| format!("cannot speak TLS with {address}: name its authority with --ca if it is your own"))
    }
}

fn no_server(socket: &Path, error: io::Error) -> anyhow::Error {
    let at = socket.display();
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => anyhow!(
            "no server is running here ({at}): start one with `distillery serve`, or name the configuration of the one \
             that is meant with --config"
        ),
        ErrorKind::PermissionDenied => {
            anyhow!("the server's socket {at} is not yours to use: run this as the user that runs the server")
        }
        _ => anyhow::Error::new(error).context(format!("cannot speak to the server at {at}")),
    }
}
