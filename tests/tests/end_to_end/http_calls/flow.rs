//! Bodies and answers that come slowly, are large, or break off.

use super::{ECHO, post};
use bytes::Bytes;
use distillery_tests::{Guest, Server, exchange::Exchange, patiently, tls};
use hyper::Method;
use serde_json::json;
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const MIB: usize = 1 << 20;

/// Returns a piece of lines whose content depends on its number.
fn piece(number: usize) -> Bytes {
    let line = format!("{number:063}\n");
    line.repeat(64 << 10 >> 6).into()
}

/// Opens a connection and sends these bytes.
async fn raw(server: &Server, request: &str) -> TcpStream {
    let mut stream = TcpStream::connect(server.address()).await.expect("the server takes connections");
    stream.write_all(request.as_bytes()).await.expect("the request leaves");
    stream
}

/// Waits until a process runs.
async fn runs(server: &Server) {
    let list = async || server.operator(Method::GET, "/api/v1/processes?outcome=running").await.json();
    while list().await.as_array().is_none_or(Vec::is_empty) {}
}

/// Waits for the end of a process whose client has disconnected.
async fn disconnected(server: &Server, call: &str) {
    let outcome = server.process_ended(call).await.field("outcome");
    assert!(outcome.starts_with("the client disconnected"), "{call}: {outcome}");
}

#[tokio::test]
async fn input_and_output_flow_at_the_same_time() {
    let server = Server::builder().example("echo").start().await;
    let mut exchange = server.exchange(ECHO, &[]).await;
    for word in ["one\n", "two\n", "without an end"] {
        exchange.give(word).await;
        assert_eq!(exchange.bytes(word.len()).await, word.as_bytes());
    }
    exchange.end();
    let (rest, trailers) = exchange.rest().await;
    assert_eq!((rest.len(), trailers["distillery-outcome"].to_str().ok()), (0, Some("success")));
}

/// Sends 100 MiB and reads as much.
async fn echo_much(server: &Server, mut exchange: Exchange) {
    let before = server.peak_memory();
    let pieces = 100 * MIB / piece(0).len();
    let input = exchange.input();
    let giving = tokio::spawn(async move {
        for number in 0..pieces {
            input.send(piece(number)).await.expect("the body is read");
        }
    });
    for number in 0..pieces {
        assert!(exchange.bytes(piece(number).len()).await == piece(number), "piece {number} differs");
    }
    giving.await.expect("all of it left");
    assert_eq!(exchange.rest().await.1["distillery-outcome"], "success");
    assert_eq!(server.process_ended("echo").await.field("bytes_out"), (100 * MIB).to_string());
    let grown = (server.peak_memory() - before) / MIB as u64;
    assert!(grown < 48, "the server has grown by {grown} MiB");
}

#[tokio::test]
async fn large_echo_takes_little_memory() {
    let server = tls::builder().example("echo").start().await;
    let exchange = server.exchange_over_http2(ECHO, &[]).await;
    echo_much(&server, exchange).await;
    let server = Server::builder().example("echo").start().await;
    let exchange = server.exchange(ECHO, &[]).await;
    echo_much(&server, exchange).await;
}

#[tokio::test]
async fn client_that_reads_slowly_slows_down_the_call() {
    let server = Server::with([Guest::component("flood"), Guest::component("echo_once")]).await;
    let mut flood = server.exchange("/api/v1/calls/flood", &[]).await;
    flood.end();
    assert_eq!(flood.bytes(7).await, b"line 0\n");
    let before = server.memory();
    // While it is not read, others are served.
    for _ in 0..20 {
        post(&server, "/api/v1/calls/echo_once", &[], "a\n").await;
    }
    assert!(server.memory() < before + 16 * MIB as u64, "unread output is kept");
    for number in 1..200_000 {
        let line = format!("line {number}\n");
        assert_eq!(flood.bytes(line.len()).await, line.as_bytes());
    }
    drop(flood);
    disconnected(&server, "flood").await;
}

#[tokio::test]
async fn client_that_goes_cancels_its_call() {
    let builder = Server::builder().guest(Guest::component("hold")).guest(Guest::component("sort"));
    let server = builder.guest(Guest::component("never_reads")).grace(Duration::ZERO).start().await;
    // Its body is complete.
    let head = "POST /api/v1/calls/hold HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n";
    let mut stream = raw(&server, head).await;
    stream.read_u8().await.expect("an answer");
    drop(stream);
    disconnected(&server, "hold").await;
    // Its answer has not begun.
    let stream =
        raw(&server, "POST /api/v1/calls/sort HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n\r\nhalf").await;
    runs(&server).await;
    drop(stream);
    disconnected(&server, "sort").await;
    // More of its body has arrived than is read.
    let mut deaf = server.exchange("/api/v1/calls/never_reads", &[]).await;
    for _ in 0..8 {
        deaf.give(vec![b'x'; 32 << 10]).await;
    }
    deaf.bytes(5).await;
    drop(deaf);
    disconnected(&server, "never_reads").await;
}

#[tokio::test]
async fn client_of_http2_that_goes_cancels_its_call() {
    let server = tls::builder().guest(Guest::component("hold")).grace(Duration::ZERO).start().await;
    let mut exchange = server.exchange_over_http2("/api/v1/calls/hold", &[]).await;
    exchange.give("in").await;
    exchange.bytes(8).await;
    drop(exchange);
    disconnected(&server, "hold").await;
}

#[tokio::test]
async fn call_that_reads_nothing_of_a_full_body_is_cancelled() {
    let builder = Server::builder().guest(Guest::component("sleep")).grace(Duration::ZERO);
    let server = builder.set("limits.input", "128KiB").set("limits.input_idle", "200ms").start().await;
    let mut exchange = server.exchange("/api/v1/calls/sleep", &[]).await;
    let input = exchange.input();
    let giving = tokio::spawn(async move { while input.send(vec![b'x'; 64 << 10].into()).await.is_ok() {} });
    let trailers = exchange.rest().await.1;
    let message = trailers["distillery-message"].to_str().expect("text");
    assert!(message.starts_with("input limit of 128KiB reached"), "{message}");
    drop(exchange);
    patiently("the body to end", giving).await.expect("it ends");
}

#[tokio::test]
async fn client_that_sends_more_than_is_read_gets_the_whole_answer() {
    let server = Server::builder().example("echo").start().await;
    let mut exchange = server.exchange("/api/v1/calls/echo?lines=2", &[]).await;
    let input = exchange.input();
    let giving = tokio::spawn(async move {
        for number in 0..128 {
            if input.send(piece(number)).await.is_err() {
                return number;
            }
        }
        128
    });
    let (output, trailers) = exchange.rest().await;
    assert_eq!((output.len(), trailers["distillery-outcome"].to_str().ok()), (128, Some("success")));
    assert_eq!(patiently("the rest of the body to leave", giving).await.expect("it ends"), 128);
}

#[tokio::test]
async fn body_that_breaks_off_cancels_a_detached_call() {
    let server = Server::builder().guest(Guest::component("sort")).start().await;
    let head = "POST /api/v1/calls/sort?detach HTTP/1.1\r\nhost: localhost\r\ncontent-length: 99\r\n\r\nhalf";
    let stream = raw(&server, head).await;
    runs(&server).await;
    drop(stream);
    disconnected(&server, "sort").await;
}

#[tokio::test]
async fn refused_client_is_not_asked_for_its_body() {
    let server = Server::builder().example("echo").start().await;
    let expecting = |call: &str| {
        format!(
            "POST /api/v1/calls/{call} HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n"
        )
    };
    let mut stream = raw(&server, &expecting("nothing")).await;
    let mut said = [0; 12];
    patiently("an answer", stream.read_exact(&mut said)).await.expect("an answer");
    assert_eq!(&said, b"HTTP/1.1 404");
    let mut stream = raw(&server, &expecting("echo")).await;
    patiently("an answer", stream.read_exact(&mut said)).await.expect("an answer");
    assert_eq!(&said, b"HTTP/1.1 100");
    stream.write_all(b"text").await.expect("the body leaves");
    let mut rest = vec![0; 1024];
    let mut whole = String::new();
    while !whole.contains("text\r\n") {
        let read = patiently("the output", stream.read(&mut rest)).await.expect("the output");
        assert!(read > 0, "{whole}");
        whole += std::str::from_utf8(&rest[..read]).expect("text");
    }
}

#[tokio::test]
async fn running_call_is_told_of_the_shutdown() {
    let server = Server::builder().example("echo").start().await;
    let mut exchange = server.exchange(ECHO, &[]).await;
    exchange.give("a\n").await;
    exchange.bytes(2).await;
    server.terminate();
    let (_, trailers) = exchange.rest().await;
    assert_eq!(trailers["distillery-outcome"], "cancelled");
    assert_eq!(trailers["distillery-message"], "the server is shutting down");
    assert!(server.wait().await.success());
}

#[tokio::test]
async fn revoked_credential_refuses_a_waiting_call() {
    let builder = Server::builder().guest(Guest::component("hold")).bare_plugin("sort", Guest::component("sort"));
    let ada = builder.user("ada", &["call:sort"]);
    let builder = builder.set("limits.processes", 1).set("limits.queue_time", "1h");
    let server = builder.start().await;
    let mut holding = server.exchange("/api/v1/calls/hold", &[]).await;
    holding.bytes(8).await;
    let headers = [("authorization", ada.as_str()), ("accept", "application/x-ndjson")];
    let mut waiting = server.exchange("/api/v1/calls/sort", &headers).await;
    assert_eq!(waiting.message().await, json!({"type": "queued", "position": 1}));
    assert!(server.run(&["user", "remove", "ada"]).status.success());
    let outcome = waiting.message().await["outcome"].clone();
    assert_eq!(outcome["kind"], "refused");
    assert!(outcome["message"].as_str().is_some_and(|it| it.contains("no longer valid")), "{outcome}");
}
