//! A new program in place of the old one, under load: no connection is refused, no call is lost.

use super::metrics;
use distillery_tests::{
    Client, Guest, Server,
    http::{get_at, get_over},
    log::Line,
    patiently,
    program::output,
};
use rustix::process::Signal;
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};
use tokio::{net::TcpStream, task::JoinSet};

/// Calls repeatedly, each time over a new connection, until `stop` is set. Every call must succeed.
async fn call_on(address: SocketAddr, stop: Arc<AtomicBool>) -> usize {
    let mut calls = 0;
    while !stop.load(Relaxed) {
        let mut client = Client::connect(address).await;
        client.call("echo_once", &[]).await;
        client.say("x").await;
        assert_eq!(client.finish().await.success(), ["x"]);
        calls += 1;
    }
    calls
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn consecutive_takeovers_lose_no_call() {
    let mut server = metrics::builder().guest(Guest::component("echo_once")).start().await;
    let (address, ops) = (server.address(), server.operators_address().await);
    let stop = Arc::<AtomicBool>::default();
    let mut callers = JoinSet::new();
    for _ in 0..8 {
        callers.spawn(call_on(address, stop.clone()));
    }
    for _ in 0..3 {
        // A running call belongs to the old server, and does not notice the new one.
        let mut old_call = server.call("echo_once", &[]).await;
        let before = server.pid();
        let old = server.take_over().await;
        assert_eq!((server.address(), server.operators_address().await), (address, ops));
        assert_ne!(server.pid(), before);
        assert_eq!(get_at(ops, "/readyz").await.status.as_u16(), 200);
        // The command line speaks to the new server, and a third one is refused.
        assert!(server.run(&["plugins"]).status.success());
        let third = String::from_utf8_lossy(&server.run(&["serve"]).stderr).into_owned();
        assert!(third.contains("another server already uses the directory"), "{third}");
        old_call.say("old").await;
        assert_eq!(old_call.finish().await.success(), ["old"]);
        assert_eq!(old.wait().await.code(), Some(0));
        let forced = |line: &Line| line.message().contains("the time for draining is up");
        assert!(!old.log().lines().iter().any(forced));
    }
    stop.store(true, Relaxed);
    let mut calls = 0;
    while let Some(caller) = patiently("the callers", callers.join_next()).await {
        calls += caller.expect("every call has succeeded");
    }
    assert!(calls > 50, "{calls}");
}

#[tokio::test]
async fn silent_connection_is_answered_after_a_takeover() {
    let mut server = metrics::builder().guest(Guest::component("echo_once")).start().await;
    let ops = server.operators_address().await;
    let silent = TcpStream::connect(server.address()).await.expect("a connection");
    let of_the_operator = TcpStream::connect(ops).await.expect("a connection");
    // The server had accepted these connections when it answers later ones.
    server.get("/api/v1/auth").await;
    get_at(ops, "/healthz").await;
    let old = server.take_over().await;
    assert_eq!(get_over(of_the_operator, "/healthz", &[]).await.status.as_u16(), 200);
    let mut client = Client::upgrade(silent, server.address(), "/api/v1/ws", &[]).await.expect("a socket");
    client.call("echo_once", &[]).await;
    client.say("late").await;
    assert_eq!(client.finish().await.success(), ["late"]);
    assert_eq!(old.wait().await.code(), Some(0));
}

#[tokio::test]
async fn signal_starts_the_successor() {
    let mut server = Server::builder().guest(Guest::component("echo_once")).start().await;
    let old = server.pid();
    let mut call = server.call("echo_once", &[]).await;
    server.signal(Signal::USR2);
    // The new server writes into the log of the server that started it.
    let taken = |line: &Line| line.message().starts_with("another server has taken over");
    let successor = server.log().line("the successor", taken).await.field("successor");
    assert_ne!(successor, old.to_string());
    assert!(server.run(&["plugins"]).status.success());
    call.say("x").await;
    assert_eq!(call.finish().await.success(), ["x"]);
    let new = server.get("/api/v1/auth").await;
    assert_eq!(new.status.as_u16(), 200);
    server.follow(successor.parse().expect("the number of a process"));
    server.terminate();
    server.wait().await;
}

#[tokio::test]
async fn failed_successor_changes_nothing() {
    let mut server = Server::builder().guest(Guest::component("echo_once")).start().await;
    server.reconfigure("limits.memory", "lots");
    let failed = server.run(&["serve", "--takeover"]);
    assert!(String::from_utf8_lossy(&failed.stderr).contains("limits.memory"), "{failed:?}");
    server.reconfigure("limits.memory", "64MiB");
    // This successor gets the sockets, and then fails.
    server.reconfigure("http.tls_certificate", "none.pem");
    server.reconfigure("http.tls_key", "none.key");
    let failed = server.run(&["serve", "--takeover"]);
    assert!(String::from_utf8_lossy(&failed.stderr).contains("cannot set up TLS"), "{failed:?}");
    let on = |line: &Line| line.message() == "takeover failed: this server goes on";
    server.log().line("the server to go on", on).await;
    let mut client = server.call("echo_once", &[]).await;
    client.say("x").await;
    client.finish().await.success();
    assert!(server.run(&["plugins"]).status.success());
}

#[tokio::test]
async fn takeover_requires_a_running_server() {
    let output = output(&mut Server::builder().argument("--takeover").command());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("no server is running here that could be taken over"), "{said}");
}

#[tokio::test]
async fn takeover_waits_no_longer_than_the_grace_period() {
    let mut server =
        Server::builder().guest(Guest::component("says_goodbye")).set("cancel.takeover_grace", "100ms").start().await;
    let mut call = server.call("says_goodbye", &[]).await;
    assert_eq!(call.line().await, "ready");
    let old = server.take_over().await;
    let end = call.finish().await;
    assert_eq!(end.lines, ["goodbye"]);
    assert_eq!(end.failure(), "the server is shutting down");
    assert_eq!(old.wait().await.code(), Some(0));
    // The end of the old server removed nothing of the new one.
    assert!(server.run(&["plugins"]).status.success());
    let _again = server.take_over().await;
}

#[tokio::test]
async fn old_server_stops_on_request() {
    let mut server = Server::builder().guest(Guest::component("says_goodbye")).start().await;
    let mut call = server.call("says_goodbye", &[]).await;
    assert_eq!(call.line().await, "ready");
    let old = server.take_over().await;
    old.signal(Signal::TERM);
    assert_eq!(call.finish().await.failure(), "the server is shutting down");
    assert_eq!(old.wait().await.code(), Some(0));
}

#[tokio::test]
async fn new_server_has_the_history_of_the_old_one() {
    let mut server =
        Server::builder().guest(Guest::component("echo_once")).set("auth.anonymous", vec!["processes:*"]).start().await;
    let mut call = server.call("echo_once", &[]).await;
    server.get("/api/v1/processes").await;
    let old = server.take_over().await;
    call.say("x").await;
    call.finish().await.success();
    assert_eq!(old.wait().await.code(), Some(0));
    let processes = server.get("/api/v1/processes").await.json().to_string();
    assert!(processes.contains("\"success\"") && !processes.contains("interrupted"), "{processes}");
}

#[tokio::test]
async fn takeover_listens_on_changed_addresses() {
    let mut server = metrics::builder().guest(Guest::component("echo_once")).start().await;
    let (address, ops) = (server.address(), server.operators_address().await);
    // Another address of this machine, so that every port is new.
    server.reconfigure("http.listen", "127.0.0.2:0");
    server.reconfigure("ops.listen", "127.0.0.3:0");
    let old = server.take_over().await;
    let changed =
        |key: &'static str| move |line: &Line| line.field("key") == key && line.message().contains("has changed");
    for key in ["http.listen", "ops.listen"] {
        server.log().line("the change of the address", changed(key)).await;
    }
    assert_eq!(server.address().ip().to_string(), "127.0.0.2");
    let mut client = server.call("echo_once", &[]).await;
    client.say("x").await;
    assert_eq!(client.finish().await.success(), ["x"]);
    let new_ops = server.operators_address().await;
    assert_eq!(new_ops.ip().to_string(), "127.0.0.3");
    server.log().line("the server to be ready", |line| line.message() == "ready").await;
    assert_eq!(get_at(new_ops, "/readyz").await.status.as_u16(), 200);
    assert_eq!(old.wait().await.code(), Some(0));
    for closed in [address, ops] {
        assert!(TcpStream::connect(closed).await.is_err(), "{closed} is still open");
    }
}

#[tokio::test]
async fn wider_address_on_the_same_port_is_refused_at_a_takeover() {
    let mut server = Server::builder().guest(Guest::component("echo_once")).start().await;
    server.reconfigure("http.listen", format!("0.0.0.0:{}", server.address().port()));
    let failed = server.run(&["serve", "--takeover"]);
    let said = String::from_utf8_lossy(&failed.stderr).into_owned();
    assert!(!failed.status.success() && said.contains("restart instead of taking over"), "{said}");
    server.get("/api/v1/auth").await;
}
