//! HTTP/2: clients that are silent or read nothing, and websockets (RFC 8441). `conformance` has the rules of its
//! frames.

mod conformance;

use bytes::Bytes;
use distillery_tests::{
    Guest, Server,
    client::call,
    http2::{
        END_HEADERS, END_STREAM, Frame, GOAWAY, HEADERS, PREFACE, RST_STREAM, Raw, WINDOW_UPDATE, block, get, setting,
    },
    patiently,
    tls::{builder, connect_http2},
};
use futures_util::{SinkExt, StreamExt};
use http_body_util::{BodyExt, Empty};
use hyper::{Request, StatusCode, client::conn::http2::SendRequest, ext::Protocol};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, protocol::Role},
};

/// The name of the setting for the first window of each stream.
const INITIAL_WINDOW: u16 = 4;

/// Returns a connection of a well-behaved client.
async fn client(server: &Server) -> SendRequest<Empty<Bytes>> {
    let stream = TokioIo::new(connect_http2(server).await);
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.expect("HTTP/2");
    tokio::spawn(connection);
    sender
}

type Socket = WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>;

/// Opens a websocket over a connection of HTTP/2 with these headers, or returns the status of the refusal.
async fn socket(
    sender: &mut SendRequest<Empty<Bytes>>,
    path: &str,
    headers: &[(&str, &str)],
) -> Result<(Socket, String), StatusCode> {
    let mut request = Request::builder().method("CONNECT").uri(format!("https://localhost{path}"));
    for (name, value) in [&[("sec-websocket-version", "13")][..], headers].concat() {
        request = request.header(name, value);
    }
    let mut request = request.body(Empty::new()).expect("a request");
    request.extensions_mut().insert(Protocol::from_static("websocket"));
    let answer = patiently("the upgrade", sender.send_request(request)).await.expect("an answer");
    if answer.status() != StatusCode::OK {
        return Err(answer.status());
    }
    let protocol = answer.headers().get("sec-websocket-protocol");
    let protocol = protocol.map_or_else(String::new, |it| it.to_str().expect("text").to_owned());
    let upgraded = hyper::upgrade::on(answer).await.expect("a stream");
    Ok((WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Client, None).await, protocol))
}

async fn said(socket: &mut Socket) -> Message {
    patiently("a frame", socket.next()).await.expect("a frame").expect("a frame")
}

#[tokio::test]
async fn websockets_of_all_protocols_run_over_http2() {
    let server = builder().guest(Guest::component("echo_once")).start().await;
    let mut sender = client(&server).await;
    // Several websockets over one connection.
    let (mut lines, protocol) = socket(&mut sender, "/api/v1/ws", &[]).await.expect("a socket");
    assert_eq!(protocol, "");
    let offer = [("sec-websocket-protocol", "distillery-1")];
    let (mut bytes, protocol) = socket(&mut sender, "/api/v1/ws/", &offer).await.expect("a socket");
    assert_eq!(protocol, "distillery-1");
    let offer = [("sec-websocket-protocol", "pow-1")];
    let (mut pow, protocol) = socket(&mut sender, "/api/v1/pow/any", &offer).await.expect("a socket");
    assert_eq!(protocol, "pow-1");
    lines.send(call("echo_once", &[])).await.expect("the call leaves");
    bytes.send(Message::text(r#"{"type":"call","call":"echo_once"}"#)).await.expect("the call leaves");
    pow.send(Message::text(r#"{"call":"echo_once","params":[]}"#)).await.expect("the call leaves");
    lines.send(Message::text("over h2")).await.expect("the line leaves");
    assert_eq!(said(&mut lines).await, Message::text("over h2"));
    assert_eq!(said(&mut lines).await, Message::binary(&br#"{"success":true}"#[..]));
    assert!(matches!(said(&mut lines).await, Message::Close(_)));
    assert!(said(&mut bytes).await.is_text());
    assert!(sender.is_ready(), "the connection stays open");
}

#[tokio::test]
async fn handshake_over_http2_is_checked_too() {
    let server = builder().guest(Guest::component("echo_once")).start().await;
    let mut sender = client(&server).await;
    let refused = async |sender: &mut SendRequest<Empty<Bytes>>, path: &str, headers: &[(&str, &str)]| {
        socket(sender, path, headers).await.err().map(|it| it.as_u16())
    };
    assert_eq!(refused(&mut sender, "/api/v1/ws", &[("sec-websocket-version", "13")]).await, Some(426), "twice");
    assert_eq!(refused(&mut sender, "/api/v1/ws", &[("origin", "https://evil.example")]).await, Some(403));
    assert_eq!(refused(&mut sender, "/api/v1/ws", &[("origin", "http://localhost")]).await, Some(403));
    assert_eq!(refused(&mut sender, "/api/v1/ws", &[("origin", "https://localhost")]).await, None);
    assert_eq!(refused(&mut sender, "/api/v1/ws", &[("authorization", "Bearer odd")]).await, Some(401));
    assert_eq!(refused(&mut sender, "/api/v1/ws", &[("host", "other")]).await, Some(400));
    assert_eq!(refused(&mut sender, "/api/v1/pow/any", &[]).await, Some(400));
    assert_eq!(refused(&mut sender, "/api/v1/auth", &[]).await, Some(405));
    assert_eq!(refused(&mut sender, "/nowhere", &[]).await, Some(404));
    let mut request =
        Request::builder().method("CONNECT").uri("https://localhost/api/v1/ws").body(Empty::new()).unwrap();
    request.extensions_mut().insert(Protocol::from_static("connect-udp"));
    assert_eq!(sender.send_request(request).await.expect("an answer").status(), 501);
    let request = Request::builder().method("CONNECT").uri("localhost:80").body(Empty::new()).unwrap();
    let answer = sender.send_request(request).await.expect("an answer");
    assert_eq!((answer.status().as_u16(), answer.headers().contains_key("allow")), (405, true));
}

#[tokio::test]
async fn cancel_over_http2_never_waits_behind_text() {
    let server = builder().guest(Guest::component("never_reads")).grace(Duration::ZERO).start().await;
    let mut sender = client(&server).await;
    let (mut deaf, _) = socket(&mut sender, "/api/v1/ws", &[]).await.expect("a socket");
    deaf.send(call("never_reads", &[])).await.expect("the call leaves");
    for _ in 0..64 {
        deaf.send(Message::text("x".repeat(32 << 10))).await.expect("a line leaves");
    }
    deaf.send(distillery_tests::client::cancel()).await.expect("the cancel leaves");
    let verdict = patiently("the result", async {
        loop {
            if let Some(Ok(Message::Binary(verdict))) = deaf.next().await {
                return verdict;
            }
        }
    })
    .await;
    assert!(String::from_utf8_lossy(&verdict).contains("cancelled by the client"), "{verdict:?}");
}

/// Connections that stall before their first request, by the bytes that the client sends.
fn silent() -> [Vec<u8>; 5] {
    let settings = Frame::new(distillery_tests::http2::SETTINGS, 0, 0, []).bytes();
    [
        Vec::new(),
        PREFACE[..10].to_vec(),
        PREFACE.to_vec(),
        [PREFACE, &settings].concat(),
        // Half of a block of headers.
        [PREFACE, &settings, &Frame::new(HEADERS, END_STREAM, 1, get("/")).bytes()].concat(),
    ]
}

#[tokio::test]
async fn client_that_stalls_in_any_phase_is_closed() {
    let server = builder().set("http.header_timeout", "300ms").start().await;
    let mut stuck = Vec::new();
    for said in silent() {
        let mut stream = connect_http2(&server).await;
        stream.write_all(&said).await.expect("it leaves");
        stream.flush().await.expect("it leaves");
        stuck.push(stream);
    }
    for mut stream in stuck {
        _ = patiently("the end of a silent connection", stream.read_to_end(&mut Vec::new())).await;
    }
    let mut sender = client(&server).await;
    let request = Request::builder().uri("https://localhost/api/v1/auth").body(Empty::new()).expect("a request");
    assert_eq!(sender.send_request(request).await.expect("an answer").status(), 200);
}

#[tokio::test]
async fn drain_waits_for_no_stalled_client() {
    let server = builder()
        .set("http.header_timeout", "1h")
        .set("http.write_timeout", "1h")
        .set("cancel.shutdown_grace", "1h")
        .start()
        .await;
    let mut stuck = Vec::new();
    for said in silent() {
        let mut stream = connect_http2(&server).await;
        stream.write_all(&said).await.expect("it leaves");
        stream.flush().await.expect("it leaves");
        stuck.push(stream);
    }
    let mut zero = Raw::open(connect_http2(&server).await, setting(INITIAL_WINDOW, 0)).await;
    zero.send(&[Frame::new(HEADERS, END_STREAM | END_HEADERS, 1, get("/api/v1/docs"))]).await;
    assert_eq!(zero.find(|frame| frame.kind == HEADERS).await.and_then(|it| it.status()), Some(200));
    // Half of a request of HTTP/1.1, and a request whose answer is not read.
    let mut half = distillery_tests::tls::connect(&server, distillery_tests::tls::ONE[0], &[]).await.expect("TLS");
    half.write_all(b"GET / HTTP/1.1\r\nhost: ").await.expect("it leaves");
    let mut deaf = distillery_tests::tls::connect(&server, distillery_tests::tls::ONE[0], &[]).await.expect("TLS");
    deaf.write_all(&b"GET /api/v1/docs HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(200)).await.expect("it leaves");
    server.terminate();
    let ended = patiently("the end of the server", server.wait()).await;
    assert!(ended.success(), "{ended:?}");
}

#[tokio::test]
async fn unread_stream_is_reset_and_others_continue() {
    let server = builder().set("http.write_timeout", "500ms").start().await;
    let mut raw = Raw::open(connect_http2(&server).await, setting(INITIAL_WINDOW, 0)).await;
    raw.send(&[Frame::new(HEADERS, END_STREAM | END_HEADERS, 1, get("/api/v1/docs"))]).await;
    let reset = raw.find(|frame| frame.kind == RST_STREAM && frame.stream == 1).await;
    assert!(reset.is_some(), "the stream is reset, and not the connection closed");
    let window = Frame::new(WINDOW_UPDATE, 0, 3, 60_000u32.to_be_bytes());
    raw.send(&[Frame::new(HEADERS, END_STREAM | END_HEADERS, 3, get("/api/v1/auth")), window]).await;
    let answer = raw.find(|frame| frame.kind == distillery_tests::http2::DATA && frame.stream == 3).await;
    assert!(answer.is_some_and(|it| it.payload.starts_with(b"{\"User\"")));
}

#[tokio::test]
async fn clients_that_read_nothing_use_little_server_memory() {
    const MIB: u64 = 1 << 20;
    let server = builder().plugin("flood", Guest::component("flood"), DETACHED).grace(Duration::ZERO).start().await;
    let call = Bytes::from_static(br#"{"call":"flood","params":[]}"#);
    let mut sender = hyper_full(&server).await;
    let request =
        Request::builder().method("POST").uri("https://localhost/api/v1/pow/new").body(http_body_util::Full::new(call));
    let answer = sender.send_request(request.expect("a request")).await.expect("an answer");
    assert_eq!(answer.status(), 200);
    let id = answer.into_body().collect().await.expect("an id").to_bytes();
    let id: String = serde_json::from_slice(&id).expect("an id");
    // Its output is kept, and sent to every client that asks: a megabyte each time.
    let path = format!("/api/v1/pow/status/{id}?offset=0");
    let held = |bytes: usize| bytes as u64 > MIB / 2;
    patiently("the output", async {
        loop {
            let request =
                Request::builder().uri(format!("https://localhost{path}")).body(Default::default()).expect("a request");
            let answer = sender.send_request(request).await.expect("an answer");
            if held(answer.into_body().collect().await.expect("a body").to_bytes().len()) {
                return;
            }
        }
    })
    .await;
    let before = server.memory();
    let mut deaf = Vec::new();
    for _ in 0..3 {
        let mut raw = Raw::open(connect_http2(&server).await, setting(INITIAL_WINDOW, 0)).await;
        let asks = |at: u32| Frame::new(HEADERS, END_STREAM | END_HEADERS, 2 * at + 1, get(&path));
        raw.send(&(0..60).map(asks).collect::<Vec<_>>()).await;
        // Ready output arrives, as far as the window allows.
        for _ in 0..2 {
            assert_eq!(raw.find(|frame| frame.kind == HEADERS).await.and_then(|it| it.status()), Some(200));
        }
        deaf.push(raw);
    }
    // A request over another connection is answered after all of them.
    let request = Request::builder().uri("https://localhost/api/v1/auth").body(Default::default()).expect("a request");
    assert_eq!(sender.send_request(request).await.expect("an answer").status(), 200);
    let more = server.memory().saturating_sub(before);
    eprintln!("{} MiB more for 180 unread answers of a megabyte", more / MIB);
    assert!(more < 40 * MIB, "{} MiB more are held for 180 answers of a megabyte", more / MIB);
}

const DETACHED: &str = "calls:\n  flood: {access: public, on_disconnect: detach}\n";

async fn hyper_full(server: &Server) -> SendRequest<http_body_util::Full<Bytes>> {
    let stream = TokioIo::new(connect_http2(server).await);
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.expect("HTTP/2");
    tokio::spawn(connection);
    sender
}

#[tokio::test]
async fn two_hosts_in_one_request_are_refused() {
    let server = builder().start().await;
    for (headers, expected) in [
        (&[(":authority", "localhost"), ("host", "localhost")][..], 200),
        (&[(":authority", "localhost"), ("host", "localhost:443")], 200),
        (&[(":authority", "localhost"), ("host", "other")], 400),
        (&[(":authority", "localhost"), ("host", "localhost:80")], 400),
        (&[("host", "localhost")], 200),
        (&[("host", "localhost"), ("host", "localhost")], 400),
        (&[], 400),
    ] {
        let all = [&[(":method", "GET"), (":scheme", "https"), (":path", "/api/v1/auth")][..], headers].concat();
        // The pseudo-headers of HTTP/2 come first.
        let (own, other): (Vec<_>, Vec<_>) = all.into_iter().partition(|(name, _)| name.starts_with(':'));
        let mut raw = Raw::open(connect_http2(&server).await, Vec::new()).await;
        raw.send(&[Frame::new(HEADERS, END_STREAM | END_HEADERS, 1, block(&[own, other].concat()))]).await;
        let answer = raw.find(|frame| frame.kind == HEADERS).await.expect("an answer");
        assert_eq!(answer.status(), Some(expected), "{headers:?}");
    }
}

#[tokio::test]
async fn client_gets_a_goaway_before_the_close() {
    let server = builder().set("http.header_timeout", "300ms").start().await;
    let mut raw = Raw::open(connect_http2(&server).await, Vec::new()).await;
    let goodbye = raw.find(|frame| frame.kind == GOAWAY).await.expect("a goodbye");
    assert_eq!(goodbye.error(), Some(0));
    raw.ends().await;
}
