//! One request, one answer: the part of HTTP that the JSON API needs.

use crate::{patiently, server::Server};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Full};
use hyper::{HeaderMap, Method, Request, StatusCode, body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::net::SocketAddr;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
};

/// The answer of the server.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub trailers: HeaderMap,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }

    /// Returns a header as text, empty if there is none of that name.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|it| it.to_str().ok()).unwrap_or_default()
    }
}

/// A stream of server-sent events, as far as it was read.
#[derive(Debug)]
pub struct Events {
    body: Incoming,
    read: String,
    connection: tokio::task::JoinHandle<hyper::Result<()>>,
}

impl Drop for Events {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Events {
    /// Returns the next event: its name and its data. `None` when the stream has ended.
    pub async fn next(&mut self) -> Option<(String, Value)> {
        patiently("an event", self.read_one()).await
    }

    async fn read_one(&mut self) -> Option<(String, Value)> {
        loop {
            if let Some((event, rest)) = self.read.split_once("\n\n") {
                let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
                let (name, data) = (field("event: "), field("data: "));
                self.read = rest.to_owned();
                // An event without a name is a sign of life.
                let Some((name, data)) = name.zip(data) else { continue };
                return Some((name, serde_json::from_str(&data).expect("the data of events is JSON")));
            }
            match self.body.frame().await {
                Some(frame) => {
                    let data = frame.expect("the stream continues").into_data().unwrap_or_default();
                    self.read += std::str::from_utf8(&data).expect("events are text");
                }
                None => return None,
            }
        }
    }

    /// Returns the next event that matches.
    pub async fn wait(&mut self, what: &str, wanted: impl Fn(&str, &Value) -> bool) -> Value {
        loop {
            let (name, data) = self.next().await.unwrap_or_else(|| panic!("the stream ended without {what}"));
            if wanted(&name, &data) {
                return data;
            }
        }
    }
}

impl Server {
    /// Follows the events of plugins. The first event has their current state.
    pub async fn plugin_events(&self) -> Events {
        self.plugin_events_as(&[]).await
    }

    /// Follows the events of plugins with the credentials of these headers.
    pub async fn plugin_events_as(&self, headers: &[(&str, &str)]) -> Events {
        let request = Request::builder().uri("/api/v1/plugins/events").header("host", self.address().to_string());
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let request = request.body(Empty::<Bytes>::new()).expect("a request");
        let stream = TcpStream::connect(self.address()).await.expect("the server takes connections");
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.expect("a connection");
        let connection = tokio::spawn(connection);
        let answer = patiently("the stream of events", sender.send_request(request)).await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::OK);
        Events { body: answer.into_body(), read: String::new(), connection }
    }

    pub async fn post(&self, path: &str) -> Answer {
        self.request(Method::POST, path, &[]).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.request(Method::GET, path, &[]).await
    }

    pub async fn request(&self, method: Method, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.send(method, path, headers, Bytes::new()).await
    }

    /// Sends a request with a body of JSON.
    pub async fn send_json(&self, method: Method, path: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
        let headers = [headers, &[("content-type", "application/json")]].concat();
        self.send(method, path, &headers, body.to_string().into()).await
    }

    /// Sends a request with any body.
    pub async fn send(&self, method: Method, path: &str, headers: &[(&str, &str)], body: Bytes) -> Answer {
        let mut request = Request::builder().method(method).uri(path).header("host", self.address().to_string());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body)).expect("a request");
        patiently(&format!("an answer to {path}"), async {
            let stream = TcpStream::connect(self.address()).await.expect("the server takes connections");
            exchange(stream, request).await
        })
        .await
    }

    /// Sends a request of the operator: over the socket in the server's directory.
    pub async fn operator(&self, method: Method, path: &str) -> Answer {
        let request = Request::builder().method(method).uri(path).header("host", "localhost");
        let request = request.body(Full::default()).expect("a request");
        patiently(&format!("an answer to {path}"), async {
            let socket = UnixStream::connect(self.data().join("control.sock")).await;
            exchange(socket.expect("the server takes connections"), request).await
        })
        .await
    }
}

/// Sends a GET to any address, over plain HTTP.
pub async fn get_at(address: SocketAddr, path: &str) -> Answer {
    patiently(&format!("an answer to {path}"), async {
        let stream = TcpStream::connect(address).await.expect("the address accepts connections");
        get_over(stream, path, &[]).await
    })
    .await
}

/// Sends a GET over an existing connection.
pub async fn get_over(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    path: &str,
    headers: &[(&str, &str)],
) -> Answer {
    let mut request = Request::builder().uri(path).header("host", "localhost");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    exchange(stream, request.body(Full::default()).expect("a request")).await
}

pub(crate) async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
) -> Answer {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.expect("a connection");
    let connection = tokio::spawn(connection);
    let answer = sender.send_request(request).await.expect("an answer");
    let (head, body) = answer.into_parts();
    let body = body.collect().await.expect("the whole body");
    connection.abort();
    let trailers = body.trailers().cloned().unwrap_or_default();
    Answer { status: head.status, headers: head.headers, body: body.to_bytes(), trailers }
}
