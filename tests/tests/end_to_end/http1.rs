//! HTTP/1.1 by the RFCs: invalid requests, byte by byte, and the hosts that the server answers for.

use distillery_tests::{Guest, Server, patiently};
use hyper::Method;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// Sends a request of these lines and reads until the server closes; each request asks for the close.
async fn said_to(address: std::net::SocketAddr, request: &str) -> String {
    let mut stream =
        patiently("a connection", TcpStream::connect(address)).await.expect("the server takes connections");
    stream.write_all(request.as_bytes()).await.expect("the request leaves");
    let mut said = Vec::new();
    // A server that closes with unread bytes resets the connection, which is a valid end too.
    _ = patiently("the end of a connection", stream.read_to_end(&mut said)).await;
    String::from_utf8_lossy(&said).into_owned()
}

fn status(said: &str) -> u16 {
    said.split(' ').nth(1).and_then(|it| it.parse().ok()).unwrap_or_else(|| panic!("no answer: {said:?}"))
}

/// Returns a header of an answer.
fn header<'a>(said: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = said.split("\r\n\r\n").next().unwrap_or_default().lines().skip(1);
    lines.find_map(|line| line.split_once(": ").filter(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, it)| it))
}

#[tokio::test]
async fn request_without_exactly_one_host_is_refused() {
    let server = Server::builder().start().await;
    let address = server.address();
    for (line, headers, expected) in [
        ("GET /api/v1/auth HTTP/1.1", &["Host: localhost"][..], 200),
        ("GET /api/v1/auth HTTP/1.1", &["Host: LOCALHOST.:80"], 200),
        ("GET /api/v1/auth HTTP/1.1", &["Host: [::1]:8080"], 200),
        ("GET /api/v1/auth HTTP/1.1", &[], 400),
        ("GET /api/v1/auth HTTP/1.1", &["Host:"], 400),
        ("GET /api/v1/auth HTTP/1.1", &["Host: localhost", "Host: localhost"], 400),
        ("GET /api/v1/auth HTTP/1.1", &["Host: u@localhost"], 400),
        ("GET /api/v1/auth HTTP/1.1", &["Host: localhost:99999"], 400),
        ("GET /api/v1/auth HTTP/1.1", &["Host: localhost:http"], 400),
        ("GET /api/v1/auth HTTP/1.1", &["Host: [fe80::1%25eth0]"], 400),
        ("GET /api/v1/auth HTTP/1.1", &["Host: local host"], 400),
        ("GET http://localhost/api/v1/auth HTTP/1.1", &["Host: localhost"], 200),
        ("GET http://localhost/api/v1/auth HTTP/1.1", &["Host: evil.example"], 200),
        ("GET http://evil.example/api/v1/auth HTTP/1.1", &["Host: localhost"], 421),
        ("GET http://localhost/api/v1/auth HTTP/1.1", &[], 400),
        ("GET ftp://localhost/api/v1/auth HTTP/1.1", &["Host: localhost"], 400),
        ("GET /api/v1/auth HTTP/1.0", &[], 200),
        ("GET /api/v1/auth HTTP/1.0", &["Host: evil.example"], 421),
        ("GET /api/v1/auth HTTP/1.1", &["Host: evil.example"], 421),
        ("GET / HTTP/1.1", &["Host: evil.example"], 421),
    ] {
        let headers: String = headers.iter().map(|it| format!("{it}\r\n")).collect();
        let said = said_to(address, &format!("{line}\r\n{headers}connection: close\r\n\r\n")).await;
        assert_eq!(status(&said), expected, "{line} {headers}: {said}");
    }
}

#[tokio::test]
async fn unknown_host_is_answered_with_the_setting_that_allows_it() {
    let server = Server::builder().set("http.hosts", json!(["calls.example", "*.calls.example"])).start().await;
    for (host, expected) in [("calls.example:8443", 200), ("a.calls.example", 200), ("evil.example", 421)] {
        let request = format!("GET /api/v1/auth HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        let said = said_to(server.address(), &request).await;
        assert_eq!(status(&said), expected, "{said}");
        assert_eq!(said.contains("http.hosts"), expected == 421, "{said}");
    }
    // Also for a websocket that a page opens in the user's browser.
    let upgrade = "GET /api/v1/ws HTTP/1.1\r\nhost: evil.example\r\norigin: http://evil.example\r\nconnection: upgrade\r\n\
                   upgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    assert_eq!(status(&said_to(server.address(), upgrade).await), 421);
}

#[tokio::test]
async fn operator_listener_answers_for_the_same_hosts() {
    let server =
        Server::builder().set("ops.listen", "127.0.0.1:0").set("http.hosts", json!(["metrics.example"])).start().await;
    let ops = server.operators_address().await;
    for (host, expected) in
        [("localhost", 200), ("127.0.0.1:1", 200), ("metrics.example", 200), ("evil.example", 421), ("a b", 400)]
    {
        let request = format!("GET /metrics HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        let said = said_to(ops, &request).await;
        assert_eq!(status(&said), expected, "{said}");
    }
    assert_eq!(status(&said_to(ops, "GET /healthz HTTP/1.1\r\nconnection: close\r\n\r\n").await), 400);
    // As simple health checks ask.
    assert_eq!(status(&said_to(ops, "GET /healthz HTTP/1.0\r\n\r\n").await), 200);
    assert_eq!(header(&said_to(ops, "POST /metrics HTTP/1.0\r\n\r\n").await, "allow"), Some("GET,HEAD"));
}

#[tokio::test]
async fn invalid_handshake_is_explained() {
    let server = Server::builder().guest(Guest::component("echo_once")).start().await;
    let key = "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==";
    let version = "sec-websocket-version: 13";
    let (upgrade, connection) = ("upgrade: websocket", "connection: upgrade");
    for (method, headers, expected, advice) in [
        ("GET", &[upgrade, connection, version, key][..], 101, None),
        ("GET", &["upgrade: h2c, WebSocket", "connection: keep-alive, Upgrade", version, key], 101, None),
        ("GET", &["upgrade: h2c", upgrade, "connection: keep-alive", connection, version, key], 101, None),
        ("GET", &[upgrade, connection, "sec-websocket-version: 8", key], 426, Some(("sec-websocket-version", "13"))),
        ("GET", &[upgrade, connection, key], 426, Some(("sec-websocket-version", "13"))),
        ("GET", &[upgrade, connection, version], 400, None),
        ("GET", &[upgrade, connection, version, key, key], 400, None),
        ("GET", &[upgrade, connection, version, "sec-websocket-key:"], 400, None),
        ("GET", &[upgrade, connection, version, "sec-websocket-key: c2hvcnQ="], 400, None),
        ("GET", &[upgrade, connection, version, "sec-websocket-key: ????????????????????????"], 400, None),
        ("GET", &[upgrade, connection, version, key, "content-length: 3"], 400, None),
        ("GET", &[connection, version, key], 426, Some(("upgrade", "websocket"))),
        ("GET", &[upgrade, "connection: close", version, key], 426, Some(("upgrade", "websocket"))),
        ("HEAD", &[upgrade, connection, version, key], 426, Some(("upgrade", "websocket"))),
        ("POST", &[upgrade, connection, version, key], 405, Some(("allow", "GET,HEAD,OPTIONS"))),
    ] {
        for path in ["/api/v1/ws", "/api/v1/pow/any"] {
            let is_pow = path.ends_with("any");
            if is_pow && expected != 101 && expected != 400 {
                continue;
            }
            let headers = headers.iter().map(|it| format!("{it}\r\n")).collect::<String>();
            let protocol = if is_pow { "sec-websocket-protocol: pow-1\r\n" } else { "" };
            let request = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\n{headers}{protocol}\r\n");
            let mut stream = TcpStream::connect(server.address()).await.expect("the server takes connections");
            stream.write_all(request.as_bytes()).await.expect("the request leaves");
            let mut said = Vec::new();
            patiently("the head of an answer", async {
                while !said.windows(4).any(|it| it == b"\r\n\r\n")
                    && stream.read_buf(&mut said).await.is_ok_and(|it| it > 0)
                {}
            })
            .await;
            let said = String::from_utf8_lossy(&said).into_owned();
            assert_eq!(status(&said), expected, "{request}{said}");
            if let Some((name, value)) = advice {
                assert_eq!(header(&said, name), Some(value), "{request}{said}");
            }
        }
    }
}

#[tokio::test]
async fn every_wrong_method_is_answered_with_the_allowed_ones() {
    let server = Server::builder().start().await;
    for (method, target, expected, allow) in [
        ("POST", "/", 405, "GET,HEAD,OPTIONS"),
        ("TRACE", "/", 405, "GET,HEAD,OPTIONS"),
        ("POST", "/api/v1/ws", 405, "GET,HEAD,OPTIONS"),
        ("DELETE", "/api/v1/pow/new", 405, "POST,OPTIONS"),
        ("GET", "/api/v1/pow/input/x", 405, "POST,OPTIONS"),
        ("BREW", "/api/v1/systems", 405, "GET,HEAD,POST,OPTIONS"),
        ("CONNECT", "localhost:80", 405, "GET,HEAD,POST,DELETE,OPTIONS"),
        ("OPTIONS", "*", 204, "GET,HEAD,POST,DELETE,OPTIONS"),
        ("OPTIONS", "/api/v1/ws", 204, "GET,HEAD,OPTIONS"),
        ("OPTIONS", "/api/v1/pow/new", 204, "POST,OPTIONS"),
        ("OPTIONS", "/", 204, "GET,HEAD,OPTIONS"),
    ] {
        let request = format!("{method} {target} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        let said = said_to(server.address(), &request).await;
        assert_eq!((status(&said), header(&said, "allow")), (expected, Some(allow)), "{request}{said}");
    }
}

#[tokio::test]
async fn malformed_body_is_an_explained_error() {
    let server = Server::builder().start().await;
    let json = "content-type: application/json";
    for (framing, body, expected) in [
        ("transfer-encoding: chunked", "zz\r\n{}\r\n0\r\n\r\n", 400),
        ("transfer-encoding: chunked", "2\r\n{}xx0\r\n\r\n", 400),
        ("transfer-encoding: chunked", "-1\r\n{}\r\n0\r\n\r\n", 400),
        ("transfer-encoding: chunked", "fffffffffffffffff\r\n", 400),
        ("transfer-encoding: gzip", "{}", 400),
        ("transfer-encoding: chunked, gzip", "{}", 400),
        ("content-length: 2\r\ncontent-length: 3", "{}", 400),
        ("content-length: +2", "{}", 400),
        ("content-length: 70000", &"x".repeat(70_000), 413),
        ("content-length: 2\r\n folded: x", "{}", 400),
        ("name with space: x", "", 400),
    ] {
        let path = "/api/v1/auth/session";
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\n{json}\r\n{framing}\r\nconnection: close\r\n\r\n{body}"
        );
        let said = said_to(server.address(), &request).await;
        assert_eq!(status(&said), expected, "{framing} {}: {said}", &body[..body.len().min(20)]);
    }
    // Of two lengths the chunked one counts, and later bytes are not read as a request.
    let request = format!(
        "POST /api/v1/auth/session HTTP/1.1\r\nhost: localhost\r\n{json}\r\ncontent-length: 5\r\ntransfer-encoding: \
         chunked\r\n\r\n0\r\n\r\nGET /api/v1/auth HTTP/1.1\r\nhost: localhost\r\n\r\n"
    );
    let said = said_to(server.address(), &request).await;
    assert_eq!(said.matches("HTTP/1.1 ").count(), 1, "{said}");
}

#[tokio::test]
async fn endless_headers_are_refused() {
    let server = Server::builder().start().await;
    let many: String = (0..5000).map(|at| format!("x-{at}: y\r\n")).collect();
    let large = format!("x: {}\r\n", "y".repeat(200_000));
    for headers in [many, large] {
        let said = said_to(server.address(), &format!("GET / HTTP/1.1\r\nhost: localhost\r\n{headers}\r\n")).await;
        assert!(said.is_empty() || status(&said) == 431, "{said}");
    }
    // HTTP/2 requires TLS.
    let said = said_to(server.address(), "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    assert!(said.is_empty() || status(&said) >= 400, "{said}");
}

#[tokio::test]
async fn invalid_session_is_refused_on_every_path() {
    let server = Server::builder().start().await;
    for cookie in [
        "distillery_session=odd",
        "other=1; distillery_session=odd",
        "distillery_session=",
        "distillery_session = odd",
        "distillery_session=\"odd\"",
    ] {
        for (method, path) in [
            (Method::GET, "/api/v1/auth"),
            (Method::GET, "/api/v1/http/calls/"),
            (Method::GET, "/api/v1/ws"),
            (Method::GET, "/api/v1/nowhere"),
            (Method::POST, "/api/v1/pow/new"),
            (Method::GET, "/api/v1/pow/status/x"),
            (Method::POST, "/api/v1/pow/auth/session"),
            (Method::GET, "/api/v1/pow/x/auth/session"),
            (Method::GET, "/api/auth/session"),
        ] {
            let answer = server.request(method.clone(), path, &[("cookie", cookie)]).await;
            assert_eq!(answer.status, 401, "{method} {path} with {cookie}");
            assert!(answer.header("set-cookie").contains("Max-Age=0"), "{method} {path}");
        }
    }
    // Bytes that are not text are no session either.
    let request = "GET /api/v1/auth HTTP/1.1\r\nhost: localhost\r\ncookie: distillery_session=\u{e4}\r\nconnection: close\r\n\r\n";
    assert_eq!(status(&said_to(server.address(), request).await), 401);
    // A login or logout is allowed to carry an expired session.
    for path in ["/api/v1/auth/session", "/api/v1/http/auth/session/"] {
        let answer = server.request(Method::DELETE, path, &[("cookie", "distillery_session=odd")]).await;
        assert_eq!(answer.status, 204, "{path}");
    }
    let both = [("authorization", "Bearer a"), ("authorization", "Bearer b")];
    assert_eq!(server.request(Method::GET, "/api/v1/auth", &both).await.status, 401);
}
