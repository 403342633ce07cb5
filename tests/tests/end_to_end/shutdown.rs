//! The end of the server: running calls are notified and waited for, new ones are refused.

use distillery_tests::{Client, Guest, Server};
use rustix::process::Signal;
use std::time::Duration;

async fn begun(server: &Server, call: &str) -> Client {
    let mut client = server.call(call, &[]).await;
    client.line().await;
    client
}

async fn draining(server: &Server) {
    server.log().line("the drain to begin", |line| line.message().starts_with("draining")).await;
}

#[tokio::test]
async fn idle_server_ends_with_success() {
    for signal in [Signal::TERM, Signal::INT] {
        let server = Server::builder().start().await;
        server.signal(signal);
        assert_eq!(server.wait().await.code(), Some(0));
    }
}

#[tokio::test]
async fn running_calls_are_notified_and_their_results_sent() {
    for signal in [Signal::TERM, Signal::INT] {
        let server = Server::builder().both("says_goodbye").start().await;
        let clients = [begun(&server, "says_goodbye").await, begun(&server, "says_goodbye.module").await];
        server.signal(signal);
        for client in clients {
            let end = client.finish().await;
            assert_eq!(end.lines, ["goodbye"]);
            assert_eq!(end.close, 1000);
            assert_eq!(end.failure(), "the server is shutting down");
        }
        assert_eq!(server.wait().await.code(), Some(0));
    }
}

#[tokio::test]
async fn calls_that_do_not_end_are_forced() {
    let server = Server::builder().both("hold").both("spin").grace(Duration::from_millis(200)).start().await;
    let mut clients = Vec::new();
    for call in ["hold", "hold.module", "spin", "spin.module"] {
        clients.push(begun(&server, call).await);
    }
    server.terminate();
    for client in clients {
        let message = client.finish().await.failure();
        assert!(message.starts_with("the server is shutting down (forced after "), "{message}");
    }
    assert_eq!(server.wait().await.code(), Some(0));
}

/// Returns a server that drains and cannot finish.
async fn stuck() -> (Server, [Client; 2]) {
    let server = Server::builder()
        .guest(Guest::component("hold"))
        .set("cancel.grace", "60s")
        .set("cancel.shutdown_grace", "10m")
        .start()
        .await;
    let idle = server.connect().await;
    let holding = begun(&server, "hold").await;
    server.terminate();
    draining(&server).await;
    (server, [idle, holding])
}

#[tokio::test]
async fn connection_without_a_call_is_notified_at_once() {
    let (_server, [idle, _holding]) = stuck().await;
    let end = idle.finish().await;
    assert_eq!(end.close, 1000);
    assert_eq!(end.failure(), "the server is shutting down");
}

#[tokio::test]
async fn new_connection_is_refused() {
    let (server, _clients) = stuck().await;
    // A client that connects in time gets a result; every later one finds the port closed, while the server still waits
    // for processes.
    let refused = async {
        while let Ok(stream) = tokio::net::TcpStream::connect(server.address()).await {
            drop(stream);
        }
    };
    distillery_tests::patiently("the port to be closed", refused).await;
    assert!(
        !server.log().lines().iter().any(|line| line.message() == "process ended"),
        "the process ended before the port closed"
    );
}

#[tokio::test]
async fn second_signal_ends_the_server_at_once() {
    let (server, _clients) = stuck().await;
    server.terminate();
    let status = server.wait().await;
    assert_ne!(status.code(), Some(0), "the server had not finished");
    assert!(status.code().is_some(), "the server was killed by a signal: {status}");
}
