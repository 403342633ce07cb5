//! Pages of other origins: listed ones read answers and change state, and others do neither.

use distillery_tests::{Client, Guest, Server, http::Answer, patiently};
use futures_util::{SinkExt, StreamExt};
use hyper::Method;
use serde_json::json;
use tokio::net::TcpStream;
use tokio_tungstenite::{
    client_async,
    tungstenite::{Error, Message, client::IntoClientRequest, http::HeaderName},
};

const LISTED: &str = "https://console.example.org";
const OTHER: &str = "https://evil.example";

async fn preflight(server: &Server, path: &str, origin: &str, method: &str) -> Answer {
    let headers = [
        ("origin", origin),
        ("access-control-request-method", method),
        ("access-control-request-headers", "authorization,content-type"),
    ];
    server.request(Method::OPTIONS, path, &headers).await
}

/// Returns the origin that can read the answer, and whether requests can include credentials of the browser.
fn readers(answer: &Answer) -> (&str, &str) {
    (answer.header("access-control-allow-origin"), answer.header("access-control-allow-credentials"))
}

#[tokio::test]
async fn page_of_a_listed_origin_learns_what_it_can_send() {
    let server = Server::builder().set("http.origins", json!([LISTED])).start().await;
    for (path, method, methods) in [
        ("/api/v1/systems", "POST", "GET,HEAD,POST,OPTIONS"),
        ("/api/v1/http/systems/odd/", "DELETE", "DELETE,OPTIONS"),
        ("/api/v1/auth/session", "POST", "POST,DELETE,OPTIONS"),
        ("/api/v1/processes", "GET", "GET,HEAD,OPTIONS"),
    ] {
        let answer = preflight(&server, path, LISTED, method).await;
        assert_eq!(answer.status, 204, "{path}");
        assert_eq!(readers(&answer), (LISTED, "true"), "{path}");
        assert_eq!(answer.header("access-control-allow-methods"), methods, "{path}");
        for header in ["authorization", "content-type"] {
            assert!(answer.header("access-control-allow-headers").contains(header), "{path}");
        }
        assert_eq!(answer.header("vary"), "origin", "{path}");

        let answer = preflight(&server, path, OTHER, method).await;
        assert_eq!((answer.status.as_u16(), readers(&answer)), (204, ("", "")), "{path}");
        assert_eq!(answer.header("access-control-allow-methods"), "", "{path}");
        assert_eq!(answer.header("vary"), "origin", "{path}");
    }
    assert_eq!(preflight(&server, "/api/v1/nowhere", LISTED, "GET").await.status, 404);
}

#[tokio::test]
async fn page_of_a_listed_origin_reads_all_answers_and_errors() {
    let builder = Server::builder().set("http.origins", json!([LISTED]));
    assert!(builder.run(&["user", "add", "ada"], "correct horse battery\n").status.success());
    let server = builder.start().await;
    let login = json!({"user": "ada", "password": "correct horse battery"});
    let answer = server.send_json(Method::POST, "/api/v1/auth/session", &[("origin", LISTED)], &login).await;
    assert_eq!((answer.status.as_u16(), readers(&answer)), (200, (LISTED, "true")));
    let cookie = answer.header("set-cookie").split(';').next().unwrap_or_default().to_owned();

    for (path, headers, status) in [
        ("/api/v1/auth", &[("cookie", cookie.as_str())][..], 200),
        ("/api/v1/auth", &[("authorization", "Bearer odd")], 401),
        ("/api/v1/plugins", &[], 403),
        ("/api/v1/nowhere", &[], 404),
    ] {
        for (origin, reader) in [(LISTED, (LISTED, "true")), (OTHER, ("", ""))] {
            let answer = server.request(Method::GET, path, &[headers, &[("origin", origin)]].concat()).await;
            assert_eq!((answer.status.as_u16(), readers(&answer)), (status, reader), "{path} for {origin}");
        }
    }
    let answer = server.request(Method::GET, "/api/v1/auth", &[("cookie", &cookie), ("origin", LISTED)]).await;
    assert_eq!(answer.json()["User"], "ada");
    assert!(answer.header("access-control-expose-headers").contains("etag"));
}

#[tokio::test]
async fn only_pages_of_listed_origins_change_anything() {
    let builder = Server::builder().set("http.origins", json!([LISTED]));
    assert!(builder.run(&["user", "add", "ada", "--no-password", "--scope", "*"], "").status.success());
    let made = builder.run(&["token", "add", "--user", "ada"], "");
    let bearer = format!("Bearer {}", String::from_utf8_lossy(&made.stdout).trim_end());
    let server = builder.start().await;
    let own = format!("http://{}", server.address());
    let system = json!({"Slug": "coins", "URL": "https://coins.example"});
    for (origin, status) in [(OTHER, 403), ("null", 403), (LISTED, 201), (&own, 200)] {
        let headers = [("authorization", bearer.as_str()), ("origin", origin)];
        let answer = server.send_json(Method::POST, "/api/v1/systems", &headers, &system).await;
        assert_eq!(answer.status, status, "{origin}");
    }
    for (method, path) in [
        (Method::DELETE, "systems/coins"),
        (Method::POST, "news"),
        (Method::DELETE, "news/odd"),
        (Method::POST, "auth/session"),
        (Method::DELETE, "auth/session"),
        (Method::POST, "auth/tokens"),
        (Method::DELETE, "auth/tokens/odd"),
        (Method::POST, "plugins/reload"),
        (Method::POST, "plugins/odd/rollback"),
        (Method::DELETE, "processes/odd"),
    ] {
        let headers = [("authorization", bearer.as_str()), ("origin", OTHER)];
        let answer = server.request(method.clone(), &format!("/api/v1/{path}"), &headers).await;
        assert_eq!(answer.status, 403, "{method} {path}");
        assert!(answer.json()["message"].as_str().is_some_and(|it| it.contains("http.origins")), "{method} {path}");
    }
}

#[tokio::test]
async fn wildcard_origin_excludes_browser_credentials() {
    let server = Server::builder().set("http.origins", json!(["*"])).start().await;
    let answer = server.request(Method::GET, "/api/v1/systems", &[("origin", OTHER)]).await;
    assert_eq!(readers(&answer), ("*", ""));
    let answer = preflight(&server, "/api/v1/systems", OTHER, "POST").await;
    assert_eq!((answer.status.as_u16(), readers(&answer)), (204, ("*", "")));
}

#[tokio::test]
async fn answers_have_no_origin_headers_by_default() {
    let server = Server::builder().start().await;
    let answer = server.request(Method::GET, "/api/v1/systems", &[("origin", OTHER)]).await;
    assert_eq!((answer.status.as_u16(), readers(&answer), answer.header("vary")), (200, ("", ""), ""));
}

#[tokio::test]
async fn preflight_request_is_answered_at_every_route() {
    let server = Server::builder().set("http.origins", json!([LISTED])).start().await;
    for (path, method, methods) in [
        ("/api/v1/pow/new", "POST", "POST,OPTIONS"),
        ("/api/v1/pow/input/x/", "POST", "POST,OPTIONS"),
        ("/api/v1/pow/status/x", "GET", "GET,HEAD,OPTIONS"),
        ("/api/v1/pow/openapi.json", "GET", "GET,HEAD,OPTIONS"),
        ("/api/v1/ws", "GET", "GET,HEAD,OPTIONS"),
    ] {
        let answer = preflight(&server, path, LISTED, method).await;
        assert_eq!((answer.status.as_u16(), readers(&answer)), (204, (LISTED, "true")), "{path}");
        assert_eq!(answer.header("access-control-allow-methods"), methods, "{path}");
        assert!(answer.body.is_empty(), "{path}");
    }
    let answer = preflight(&server, "/api/v1/pow/new", OTHER, "POST").await;
    assert_eq!((answer.status.as_u16(), readers(&answer)), (204, ("", "")));
}

#[tokio::test]
async fn origins_are_compared_by_scheme_host_and_port() {
    let listed = json!(["https://CONSOLE.example.org:443", "http://localhost:3000"]);
    let server = Server::builder().set("http.origins", listed).start().await;
    let port = server.address().port();
    for (origin, expected) in [
        (LISTED, 204),
        ("https://console.example.org:443", 204),
        ("http://console.example.org", 403),
        ("https://console.example.org:444", 403),
        ("http://localhost:3000", 204),
        (&format!("http://127.0.0.1:{port}"), 204),
        (&format!("https://127.0.0.1:{port}"), 403),
        ("http://127.0.0.1", 403),
        ("null", 403),
        ("", 403),
    ] {
        let answer = server.request(Method::DELETE, "/api/v1/auth/session", &[("origin", origin)]).await;
        assert_eq!(answer.status, expected, "{origin}");
        let opened = Client::connect_to(server.address(), "/api/v1/ws", &[("origin", origin)]).await;
        assert_eq!(opened.err().map_or(204, |it| it.as_u16()), expected, "{origin}");
    }
    // Each origin is logged once.
    let told = server.log().line("a refused origin", |line| line.field("origin") == "null").await;
    assert!(told.message().contains("http.origins"), "{told:?}");
    let lines = server.log().lines();
    assert_eq!(lines.iter().filter(|line| line.field("origin") == "null").count(), 1);
}

#[tokio::test]
async fn page_sends_its_token_as_a_subprotocol() {
    let builder = Server::builder()
        .bare_plugin("args", Guest::component("args"))
        .set("http.origins", json!([LISTED]))
        .set("log.level", "trace");
    let bearer = builder.user("ada", &["call:args"]);
    let token = bearer.trim_start_matches("Bearer ").to_owned();
    let server = builder.start().await;
    let shown = format!("distillery.token.{token}");
    // As a browser sends `new WebSocket(url, ["distillery-1", "distillery.token.…"])`.
    let open = async |protocols: &str, more: &[(&str, &str)]| {
        let stream = TcpStream::connect(server.address()).await.expect("the server takes connections");
        let mut request = format!("ws://{}/api/v1/ws", server.address()).into_client_request().expect("a request");
        for (name, value) in [&[("origin", LISTED), ("sec-websocket-protocol", protocols)], more].concat() {
            let name = HeaderName::from_bytes(name.as_bytes()).expect("a name");
            request.headers_mut().insert(name, value.parse().expect("a value"));
        }
        match patiently("an answer", client_async(request, stream)).await {
            Ok((socket, answer)) => Ok((socket, format!("{answer:?}"))),
            Err(Error::Http(answer)) => Err(answer.status().as_u16()),
            Err(error) => panic!("neither an upgrade nor a refusal: {error}"),
        }
    };
    for protocols in [format!("distillery-1, {shown}"), format!("{shown},distillery-1")] {
        let (mut socket, answer) = open(&protocols, &[]).await.expect("a socket");
        assert!(answer.contains("distillery-1") && !answer.contains(&token), "{answer}");
        socket.send(Message::text(r#"{"type":"call","call":"args"}"#)).await.expect("the call leaves");
        let said = patiently("a message", socket.next()).await.expect("a message").expect("a message");
        assert!(said.to_text().is_ok_and(|it| it.contains("started")), "{said:?}");
    }
    let wrong = format!("distillery-1, {shown}x");
    assert_eq!(open(&wrong, &[]).await.err(), Some(401));
    assert_eq!(open("distillery-1, distillery.token.", &[]).await.err(), Some(401));
    assert_eq!(open(&format!("distillery-1, {shown}, {shown}"), &[]).await.err(), Some(401));
    assert_eq!(open(&format!("distillery-1, {shown}"), &[("authorization", &bearer)]).await.err(), Some(401));
    assert_eq!(open(&format!("distillery-1, {shown}"), &[("origin", OTHER)]).await.err(), Some(403));
    // A plain HTTP request ignores the header.
    let answer = server.request(Method::GET, "/api/v1/auth", &[("sec-websocket-protocol", &shown)]).await;
    assert_eq!(answer.json()["User"], "");
    let log = format!("{:?}", server.log().lines());
    assert!(!log.contains(&token), "the log contains the token");
}
