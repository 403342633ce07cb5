//! Behind a proxy: only trusted proxies can name the client and the user.

use distillery_tests::{Client, Guest, Server, patiently, program::output, server::Builder};
use hyper::Method;
use serde_json::json;
use std::{
    net::{IpAddr, SocketAddr},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};
use tokio::net::{TcpSocket, TcpStream};

/// Returns a server that trusts 127.0.0.1, from which the tests connect, and 10.0.0.0/8 as proxies.
fn builder() -> Builder {
    Server::builder().set("http.trusted_proxies", vec!["127.0.0.1", "10.0.0.0/8"])
}

async fn from(last: u8, server: &Server) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(SocketAddr::new(IpAddr::from([127, 0, 0, last]), 0)).expect("an address of this machine");
    patiently("a connection", socket.connect(server.address())).await.expect("the server takes connections")
}

async fn user(server: &Server, headers: &[(&str, &str)]) -> (u16, String) {
    let answer = server.request(Method::GET, "/api/v1/auth", headers).await;
    let user = answer.json()["User"].as_str().unwrap_or_default().to_owned();
    (answer.status.as_u16(), user)
}

#[tokio::test]
async fn clients_behind_a_proxy_count_by_their_own_addresses() {
    let server = builder()
        .guest(Guest::component("hold"))
        .set("limits.processes_per_caller", 1)
        .set("limits.queue_time", "0s")
        .start()
        .await;
    let call = |forwarded: &'static str| {
        let address = server.address();
        async move {
            let headers = [("x-forwarded-for", forwarded)];
            let client = Client::connect_to(address, "/api/v1/ws", if forwarded.is_empty() { &[] } else { &headers });
            let mut client = client.await.expect("a socket");
            client.call("hold", &[]).await;
            client
        }
    };
    let mut one = call("192.0.2.1").await;
    assert_eq!(one.line().await, "holding");
    // Earlier entries are invented by the client, and our own proxies after the entry are skipped.
    let full = call("203.0.113.9, 192.0.2.1, 10.0.0.3").await.finish().await.failure();
    assert!(full.contains("too many running processes"), "{full}");
    let mut two = call("192.0.2.2").await;
    assert_eq!(two.line().await, "holding");
    let mut proxy = call("").await;
    assert_eq!(proxy.line().await, "holding");
}

#[tokio::test]
async fn untrusted_peer_cannot_name_another_client() {
    let server = builder()
        .guest(Guest::component("hold"))
        .set("auth.forwarded_users", true)
        .set("limits.processes_per_caller", 1)
        .set("limits.queue_time", "0s")
        .start()
        .await;
    let call = |forwarded: &'static str| {
        let server = &server;
        async move {
            let headers = [("x-forwarded-for", forwarded), ("x-forwarded-user", forwarded)];
            let client = Client::upgrade(from(2, server).await, server.address(), "/api/v1/ws", &headers).await;
            let mut client = client.expect("a socket");
            client.call("hold", &[]).await;
            client
        }
    };
    let mut one = call("192.0.2.1").await;
    assert_eq!(one.line().await, "holding");
    let full = call("192.0.2.2").await.finish().await.failure();
    assert!(full.contains("too many running processes"), "{full}");
    let headers = [("x-forwarded-user", "ada"), ("x-forwarded-proto", "https"), ("x-forwarded-host", "a.example")];
    let answer = distillery_tests::http::get_over(from(2, &server).await, "/api/v1/auth", &headers).await;
    assert_eq!(answer.json()["User"], "");
}

#[tokio::test]
async fn one_client_cannot_take_all_sockets_of_a_proxy() {
    let server = builder().set("http.connections_per_address", 2).start().await;
    let connect = |forwarded: &'static str| {
        let address = server.address();
        async move { Client::connect_to(address, "/api/v1/ws", &[("x-forwarded-for", forwarded)]).await }
    };
    let _open = [connect("192.0.2.1").await.expect("a socket"), connect("192.0.2.1").await.expect("a socket")];
    assert_eq!(connect("192.0.2.1").await.err().map(|it| it.as_u16()), Some(503));
    assert!(connect("192.0.2.2").await.is_ok());
}

#[tokio::test]
async fn tls_proxy_makes_cookies_secure_and_origins_its_own() {
    let server = builder().start().await;
    let log_out = |headers: Vec<(&'static str, &'static str)>| {
        let server = &server;
        async move { server.request(Method::DELETE, "/api/v1/auth/session", &headers).await }
    };
    let behind = vec![
        ("origin", "https://calls.example"),
        ("x-forwarded-host", "calls.example"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-for", "192.0.2.1"),
    ];
    let answer = log_out(behind.clone()).await;
    assert_eq!(answer.status.as_u16(), 204);
    assert!(answer.header("set-cookie").ends_with("; Secure"), "{}", answer.header("set-cookie"));
    let mut elsewhere = behind.clone();
    elsewhere[0].1 = "https://evil.example";
    assert_eq!(log_out(elsewhere).await.status.as_u16(), 403);
    let plain = log_out(vec![("x-forwarded-proto", "http")]).await;
    assert!(!plain.header("set-cookie").contains("Secure"), "{}", plain.header("set-cookie"));
}

#[tokio::test]
async fn trusted_proxy_names_the_user() {
    let server =
        builder().bare_plugin("args", Guest::component("args")).set("auth.forwarded_users", true).start().await;
    let added = server.run_with(&["user", "add", "ada", "--scope", "call:args"], "a long enough password");
    assert!(added.status.success(), "{added:?}");
    assert_eq!(user(&server, &[]).await, (200, String::new()));
    assert_eq!(user(&server, &[("x-forwarded-user", "ada")]).await, (200, "ada".into()));
    assert_eq!(user(&server, &[("x-forwarded-user", "")]).await, (200, String::new()));
    // The login of another user has no effect behind the proxy.
    let basic = [("x-forwarded-user", "ada"), ("authorization", "Basic eDp5")];
    assert_eq!(user(&server, &basic).await, (200, "ada".into()));
    // One of the two can be the client's own: the server uses neither.
    assert_eq!(user(&server, &[("x-forwarded-user", "bob"), ("x-forwarded-user", "ada")]).await.0, 400);
    for name in ["operator", "two names", "ada,bob"] {
        assert_eq!(user(&server, &[("x-forwarded-user", name)]).await.0, 400, "{name}");
    }
    let call = |name: &'static str| {
        let address = server.address();
        async move {
            let headers = [("x-forwarded-user", name)];
            let mut client = Client::connect_to(address, "/api/v1/ws", &headers).await.expect("a socket");
            client.call("args", &[]).await;
            client.finish().await
        }
    };
    call("ada").await.success();
    assert!(call("bob").await.failure().starts_with("not authorized"), "he has no account here");
    let processes = server.request(Method::GET, "/api/v1/processes", &[("x-forwarded-user", "ada")]).await.json();
    assert!(processes.to_string().contains("\"ada\""), "{processes}");
}

#[tokio::test]
async fn user_named_by_a_proxy_is_ignored_unless_configured() {
    let server = builder().start().await;
    assert_eq!(user(&server, &[("x-forwarded-user", "ada")]).await, (200, String::new()));
    let output = output(&mut Server::builder().set("auth.forwarded_users", true).command());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("auth.forwarded_users: whom to believe is not said"), "{said}");
}

#[tokio::test]
async fn password_guesses_are_counted_by_client_address() {
    let server = builder().start().await;
    // Each guess uses another user, so that no guess has to wait.
    let users = AtomicUsize::default();
    let guess = async |forwarded: &str| {
        let user = format!("user{}", users.fetch_add(1, Relaxed));
        let body = json!({ "user": user, "password": "wrong" });
        let headers = [("x-forwarded-for", forwarded)];
        server.send_json(Method::POST, "/api/v1/auth/session", &headers, &body).await.status.as_u16()
    };
    patiently("too many tries", async { while guess("192.0.2.1").await != 429 {} }).await;
    assert_eq!(guess("192.0.2.2").await, 401, "others behind the same proxy can try");
}
