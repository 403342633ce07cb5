//! TLS: the certificate of the server, the protocols over TLS, and certificates that change while the server runs.

use bytes::Bytes;
use distillery_tests::{
    Guest, Server,
    client::call,
    http::get_over,
    patiently,
    program::output,
    tls::{ONE, TWO, builder, connect},
};
use futures_util::{SinkExt, StreamExt};
use http_body_util::{BodyExt, Empty};
use hyper::{Request, StatusCode, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustix::process::Signal;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::{WebSocketStream, client_async, tungstenite::Message};

type Socket = WebSocketStream<TlsStream<TcpStream>>;

/// Returns a socket over which `echo_once` was called.
async fn called(stream: TlsStream<TcpStream>) -> Socket {
    let upgraded = patiently("the upgrade", client_async("wss://localhost/api/v1/ws", stream)).await;
    let (mut socket, _) = upgraded.expect("a socket");
    socket.send(call("echo_once", &[])).await.expect("the call leaves");
    socket
}

/// Sends a line, and returns the answer.
async fn said_to(socket: &mut Socket, line: &str) -> String {
    socket.send(Message::text(line)).await.expect("the line leaves");
    let answer = patiently("an answer", socket.next()).await.expect("an answer").expect("an answer");
    answer.into_text().expect("text").to_string()
}

async fn is(server: &Server, certificate: &str) -> bool {
    connect(server, certificate, &[]).await.is_ok()
}

/// Waits until the server shows this certificate.
async fn becomes(server: &Server, certificate: &str) {
    patiently("the other certificate", async { while !is(server, certificate).await {} }).await;
}

#[tokio::test]
async fn client_chooses_the_protocol() {
    let server = builder().start().await;
    let stream = connect(&server, ONE[0], &["http/1.1"]).await.expect("TLS");
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    assert_eq!(get_over(stream, "/api/v1/auth", &[]).await.status, StatusCode::OK);
    let stream = connect(&server, ONE[0], &[]).await.expect("TLS");
    assert_eq!(get_over(stream, "/api/v1/auth", &[]).await.status, StatusCode::OK);
    let stream = connect(&server, ONE[0], &["h2", "http/1.1"]).await.expect("TLS");
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
}

#[tokio::test]
async fn api_is_served_over_http2() {
    let server = builder().start().await;
    let stream = connect(&server, ONE[0], &["h2"]).await.expect("TLS");
    let (mut sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("a connection");
    tokio::spawn(connection);
    let ask = |method: &str, path: &str, origin: Option<&str>| {
        let mut request = Request::builder().method(method).uri(format!("https://localhost{path}"));
        if let Some(origin) = origin {
            request = request.header("origin", origin);
        }
        request.body(Empty::<Bytes>::new()).expect("a request")
    };
    // Many requests at once over one connection.
    let mut answers = Vec::new();
    for _ in 0..50 {
        answers.push(sender.send_request(ask("GET", "/api/v1/auth", None)));
    }
    for answer in answers {
        let answer = patiently("an answer", answer).await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::OK);
        let body = answer.into_body().collect().await.expect("a body").to_bytes();
        assert_eq!(body, &br#"{"User":"","Token":false,"Scopes":[]}"#[..]);
    }
    // HTTP/2 has the host in another place than HTTP/1.1.
    for (origin, status) in [("https://localhost", 204), ("https://evil.example", 403)] {
        let answer = sender.send_request(ask("DELETE", "/api/v1/auth/session", Some(origin))).await.expect("an answer");
        assert_eq!(answer.status().as_u16(), status, "{origin}");
        let cookie = answer.headers().get("set-cookie").map(|it| it.to_str().expect("text"));
        assert!(status != 204 || cookie.is_some_and(|it| it.ends_with("; Secure")), "{cookie:?}");
    }
    let answer = sender.send_request(ask("GET", "/api/v1/ws", None)).await.expect("an answer");
    assert!(answer.status().is_client_error(), "{answer:?}");
}

#[tokio::test]
async fn idle_http2_connection_is_closed() {
    let server = builder().set("http.header_timeout", "200ms").start().await;
    let stream = connect(&server, ONE[0], &["h2"]).await.expect("TLS");
    let (_sender, connection) =
        http2::handshake::<_, _, Empty<Bytes>>(TokioExecutor::new(), TokioIo::new(stream)).await.expect("a connection");
    patiently("the end of the connection", connection).await.expect("an orderly end");
}

#[tokio::test]
async fn call_runs_over_tls() {
    let server = builder().guest(Guest::component("echo_once")).start().await;
    let stream = connect(&server, ONE[0], &["http/1.1"]).await.expect("TLS");
    let mut socket = called(stream).await;
    assert_eq!(said_to(&mut socket, "secret").await, "secret");
}

#[tokio::test]
async fn plaintext_client_learns_nothing_and_is_counted() {
    let server = builder().set("ops.listen", "127.0.0.1:0").start().await;
    let mut stream = TcpStream::connect(server.address()).await.expect("a connection");
    stream.write_all(b"GET /api/v1/auth HTTP/1.1\r\nhost: localhost\r\n\r\n").await.expect("it leaves");
    let mut said = Vec::new();
    _ = patiently("the end of the connection", stream.read_to_end(&mut said)).await;
    assert!(!said.starts_with(b"HTTP"), "{said:?}");
    let ops = server.operators_address().await;
    let refused = async || {
        let numbers = distillery_tests::http::get_at(ops, "/metrics").await;
        let numbers = super::exposition::Exposition::read(std::str::from_utf8(&numbers.body).expect("text"));
        numbers.value("distillery_connections_refused_total{reason=\"tls\"}")
    };
    // The connection is counted once it is closed.
    patiently("the refusal to be counted", async { while refused().await == 0.0 {} }).await;
    assert_eq!(refused().await, 1.0);
}

#[tokio::test]
async fn missing_tls_handshake_times_out() {
    let server = builder().set("http.header_timeout", "200ms").start().await;
    let mut stream = TcpStream::connect(server.address()).await.expect("a connection");
    let mut said = Vec::new();
    patiently("the end of the connection", stream.read_to_end(&mut said)).await.expect("an orderly end");
    assert!(said.is_empty(), "{said:?}");
}

#[tokio::test]
async fn changed_certificate_is_used_and_calls_continue() {
    let server = builder().guest(Guest::component("echo_once")).start().await;
    let stream = connect(&server, ONE[0], &[]).await.expect("TLS");
    let mut socket = called(stream).await;
    // One file after the other, as programs that renew certificates do.
    server.put("tls/server.pem", TWO[0]);
    server.put("tls/server.key", TWO[1]);
    becomes(&server, TWO[0]).await;
    assert!(!is(&server, ONE[0]).await);
    assert_eq!(said_to(&mut socket, "still here").await, "still here");
}

#[tokio::test]
async fn invalid_certificate_changes_nothing_and_is_logged() {
    let server = builder().start().await;
    let told = |times| {
        let server = &server;
        async move {
            let no_good = |line: &distillery_tests::log::Line| line.message().starts_with("new certificate is invalid");
            server.log().lines_of("the bad pair", times, no_good).await
        }
    };
    server.put("tls/server.key", TWO[1]);
    assert!(told(1).await[0].field("error").contains("are no pair"));
    assert!(is(&server, ONE[0]).await);
    server.put("tls/server.pem", "nonsense");
    assert!(told(2).await[1].field("error").contains("has no certificate"));
    assert!(is(&server, ONE[0]).await);
    // A reload reads the files again, changed or not.
    server.signal(Signal::HUP);
    told(3).await;
    server.put("tls/server.pem", TWO[0]);
    becomes(&server, TWO[0]).await;
}

#[tokio::test]
async fn server_does_not_start_without_its_certificate() {
    for (file, content, why) in [
        ("tls/server.pem", "", "has no certificate: it must be in PEM form"),
        ("tls/server.key", TWO[1], "are no pair"),
        ("tls/server.key", "", "server.key cannot be read"),
    ] {
        let output = output(&mut builder().file(file, content).command());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(why), "{said}");
        assert!(!said.contains("PRIVATE"), "{said}");
    }
}
