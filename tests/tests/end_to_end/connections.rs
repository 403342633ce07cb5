//! Useless connections: slow, silent, half open. Each is bounded in number and in time, and delays no other.

use distillery_tests::{Client, Frame, Guest, Server, patiently, server::Builder};
use std::net::{IpAddr, SocketAddr};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::{Duration, interval},
};

const REQUEST: &[u8] = b"GET /api/v1/auth HTTP/1.1\r\nhost: localhost\r\n\r\n";
const UPGRADE: &[u8] = b"GET /api/v1/ws HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

async fn connect(server: &Server) -> TcpStream {
    patiently("a connection", TcpStream::connect(server.address())).await.expect("the server takes connections")
}

async fn connect_from(last: u8, server: &Server) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(SocketAddr::new(IpAddr::from([127, 0, 0, last]), 0)).expect("an address of this machine");
    patiently("a connection", socket.connect(server.address())).await.expect("the server takes connections")
}

/// Reads from the server until it closes.
async fn everything(stream: &mut TcpStream) -> String {
    let mut said = Vec::new();
    // A server that closes with unread bytes resets the connection, which is a valid end too.
    _ = patiently("the end of a connection", stream.read_to_end(&mut said)).await;
    String::from_utf8_lossy(&said).into_owned()
}

/// Reads the first answer, which ends with a JSON object, as far as it comes.
async fn first_answer(stream: &mut TcpStream) -> String {
    let mut said = Vec::new();
    patiently("an answer", async {
        while !said.ends_with(b"}") && matches!(stream.read_buf(&mut said).await, Ok(read) if read > 0) {}
    })
    .await;
    String::from_utf8_lossy(&said).into_owned()
}

/// Returns a server of one connection: if it accepts another one, the first is over.
fn server_of_one() -> Builder {
    Server::builder().set("http.connections", 1)
}

/// Waits until the one connection is free again.
async fn is_free_again(server: &Server) {
    patiently("a connection to be free again", async {
        loop {
            let mut stream = connect(server).await;
            // A refused connection can be closed before these bytes are sent.
            _ = stream.write_all(REQUEST).await;
            if first_answer(&mut stream).await.starts_with("HTTP/1.1 200") {
                return;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn silent_connection_is_closed() {
    let server = server_of_one().set("http.header_timeout", "200ms").start().await;
    let mut silent = connect(&server).await;
    assert_eq!(everything(&mut silent).await, "");
    is_free_again(&server).await;
}

#[tokio::test]
async fn slow_headers_time_out() {
    let server = server_of_one().set("http.header_timeout", "300ms").start().await;
    let mut slow = connect(&server).await;
    slow.write_all(b"GET /api/v1/auth HTTP/1.1\r\nx: ").await.expect("the server is there");
    let mut drips = interval(Duration::from_millis(20));
    let (mut reads, mut writes) = slow.split();
    patiently("the end of a slow connection", async {
        let mut said = [0; 1];
        loop {
            tokio::select! {
                read = reads.read(&mut said) => match read {
                    Ok(0) | Err(_) => return,
                    Ok(_) => continue,
                },
                _ = drips.tick() => if writes.write_all(b"x").await.is_err() { return },
            }
        }
    })
    .await;
    is_free_again(&server).await;
}

#[tokio::test]
async fn idle_connection_is_closed_after_a_timeout() {
    let server = server_of_one().set("http.header_timeout", "1s").start().await;
    let mut stream = connect(&server).await;
    for _ in 0..2 {
        stream.write_all(REQUEST).await.expect("the server is there");
        assert!(first_answer(&mut stream).await.starts_with("HTTP/1.1 200"));
    }
    assert_eq!(everything(&mut stream).await, "");
    is_free_again(&server).await;
}

#[tokio::test]
async fn missing_body_times_out() {
    let server = server_of_one().set("http.header_timeout", "200ms").start().await;
    let mut stream = connect(&server).await;
    let request = b"POST /api/v1/auth HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000\r\n\r\n";
    stream.write_all(request).await.expect("the server is there");
    assert!(everything(&mut stream).await.starts_with("HTTP/1.1 405"));
    is_free_again(&server).await;
}

#[tokio::test]
async fn client_that_does_not_read_answers_is_disconnected() {
    let news = format!("---\nid: long\ntitle: Long\ndate: 2026-01-01\n---\n{}", "a long story ".repeat(50_000));
    let server = server_of_one()
        .file("news/long.md", news)
        .set("http.write_timeout", "300ms")
        .set("http.header_timeout", "1h")
        .start()
        .await;
    let mut stream = connect(&server).await;
    let requests = b"GET /api/v1/news HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(100);
    stream.write_all(&requests).await.expect("the server is there");
    is_free_again(&server).await;
}

#[tokio::test]
async fn websocket_without_a_call_is_closed() {
    let server = server_of_one().set("http.call_timeout", "200ms").start().await;
    let mut stream = connect(&server).await;
    stream.write_all(UPGRADE).await.expect("the server is there");
    // No client answers its close frame, and the server does not wait for long.
    let said = everything(&mut stream).await;
    assert!(said.starts_with("HTTP/1.1 101") && said.contains("no call message within 200ms"), "{said}");
    is_free_again(&server).await;
}

#[tokio::test]
async fn client_that_reads_nothing_is_disconnected_after_a_timeout() {
    let server = server_of_one()
        .guest(Guest::component("flood"))
        .set("http.write_timeout", "300ms")
        .grace(Duration::ZERO)
        .start()
        .await;
    let _client = server.call("flood", &[]).await;
    let ended = server.process_ended("flood").await;
    assert!(ended.field("outcome").starts_with("the client disconnected"), "{ended:?}");
    is_free_again(&server).await;
}

#[tokio::test]
async fn client_that_answers_no_ping_is_disconnected() {
    let server = server_of_one()
        .guest(Guest::component("says_goodbye"))
        .set("http.ping_interval", "100ms")
        .set("http.silence_timeout", "1s")
        .start()
        .await;
    // Behaves like a pulled cable: no data and no end arrive.
    let mut client = server.call("says_goodbye", &[]).await;
    assert_eq!(client.line().await, "ready");
    let ended = server.process_ended("says_goodbye").await;
    assert_eq!(ended.field("outcome"), "the client disconnected");
    is_free_again(&server).await;
}

#[tokio::test]
async fn half_closed_socket_is_a_disconnect() {
    let server = server_of_one().guest(Guest::component("says_goodbye")).start().await;
    let mut stream = connect(&server).await;
    stream.write_all(UPGRADE).await.expect("the server is there");
    let call = br#"{"call":"says_goodbye","params":[]}"#;
    // A binary frame that is masked with zeroes.
    let length = 0x80 | u8::try_from(call.len()).expect("a short call");
    stream.write_all(&[&[0x82, length, 0, 0, 0, 0], &call[..]].concat()).await.expect("the server is there");
    stream.shutdown().await.expect("the server is there");
    let ended = server.process_ended("says_goodbye").await;
    assert_eq!(ended.field("outcome"), "the client disconnected");
    is_free_again(&server).await;
}

#[tokio::test]
async fn client_that_does_not_close_after_its_result_is_dropped() {
    let server = server_of_one().guest(Guest::component("echo_once")).start().await;
    let mut client = server.call("echo_once", &[]).await;
    client.say("hello").await;
    assert_eq!(client.next().await, Frame::Text("hello".into()));
    // The client stops reading, and so answers neither the result nor the close after the result.
    is_free_again(&server).await;
}

#[tokio::test]
async fn connections_beyond_the_limit_are_refused_with_a_reason() {
    let server = Server::builder().guest(Guest::component("echo_once")).set("http.connections", 2).start().await;
    let mut first = server.call("echo_once", &[]).await;
    let silent = connect(&server).await;
    let mut third = connect(&server).await;
    _ = third.write_all(REQUEST).await;
    let refused = everything(&mut third).await;
    assert!(refused.starts_with("HTTP/1.1 503"), "{refused}");
    assert!(refused.ends_with(r#"{"status":503,"message":"too many connections"}"#), "{refused}");
    drop(silent);
    first.say("still here").await;
    assert_eq!(first.finish().await.success(), ["still here"]);
}

#[tokio::test]
async fn one_address_cannot_take_all_connections() {
    let server = Server::builder()
        .guest(Guest::component("echo_once"))
        .set("http.connections", 8)
        .set("http.connections_per_address", 2)
        .start()
        .await;
    let mut held = Vec::new();
    let message = loop {
        let mut stream = connect_from(2, &server).await;
        _ = stream.write_all(REQUEST).await;
        let said = first_answer(&mut stream).await;
        if said.starts_with("HTTP/1.1 503") {
            break said;
        }
        held.push(stream);
    };
    assert_eq!(held.len(), 2);
    assert!(message.ends_with(r#"{"status":503,"message":"too many connections from this address"}"#), "{message}");
    let mut other = Client::connect_from([127, 0, 0, 3].into(), server.address()).await;
    other.call("echo_once", &[]).await;
    other.say("from elsewhere").await;
    assert_eq!(other.finish().await.success(), ["from elsewhere"]);
}
