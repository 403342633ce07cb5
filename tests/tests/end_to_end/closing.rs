//! The end of a websocket: a close frame is answered at once in every protocol and phase, broken frames have their
//! code, and no connection is reset.

use distillery_tests::{
    Guest, Server,
    raw::{BINARY, CLOSE, PING, PONG, Raw, TEXT},
    server::Builder,
};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Far longer than any test waits: an end within this time was not waited for.
const NEVER: Duration = Duration::from_secs(60);
const PROTOCOLS: [&str; 3] = ["", "distillery-1", "pow-1"];
/// A code of the client's own, and a reason.
const GOODBYE: &[u8] = b"\x10\xe1goodbye";

/// Sends a frame that calls `name` by this protocol.
async fn call(raw: &mut Raw, protocol: &str, name: &str, params: &[&str]) {
    match protocol {
        "distillery-1" => {
            let message = json!({"type": "call", "call": name, "params": params});
            raw.send(TEXT, message.to_string().as_bytes()).await;
        }
        _ => raw.send(BINARY, json!({"call": name, "params": params}).to_string().as_bytes()).await,
    }
}

async fn cancel(raw: &mut Raw, protocol: &str) {
    match protocol {
        "distillery-1" => raw.send(TEXT, br#"{"type":"cancel"}"#).await,
        _ => raw.send(BINARY, br#"{"signal":"cancel"}"#).await,
    }
}

/// Returns a socket on which a call has written its first line.
async fn begun(server: &Server, protocol: &str, name: &str, params: &[&str]) -> Raw {
    let mut raw = Raw::connect(server.address(), protocol).await;
    call(&mut raw, protocol, name, params).await;
    raw.wait(if protocol == "distillery-1" { BINARY } else { TEXT }).await;
    raw
}

/// Closes as a client does, and expects the same close frame and then the end of the connection, at once.
async fn closes(mut raw: Raw, when: &str) {
    let begin = Instant::now();
    raw.send(CLOSE, GOODBYE).await;
    assert_eq!(raw.wait(CLOSE).await, GOODBYE, "{when}");
    assert_eq!(raw.rest().await, [], "{when}");
    assert!(begin.elapsed() < NEVER / 2, "{when}: {:?}", begin.elapsed());
}

fn patient() -> Builder {
    let cleaned = "calls: {cleans_up: {access: public}}\ncancel: {cleanup: true, grace: 0s}\n";
    ["echo_once", "says_goodbye", "spin", "hold", "flood"]
        .iter()
        .fold(Server::builder(), |builder, name| builder.guest(Guest::component(name)))
        .plugin("cleans_up", Guest::component("cleans_up"), cleaned)
        .grace(NEVER)
        .set("cancel.cleanup_time", "60s")
}

#[tokio::test]
async fn close_is_answered_at_once_while_a_process_lives() {
    let server = patient().start().await;
    for protocol in PROTOCOLS {
        closes(Raw::connect(server.address(), protocol).await, &format!("{protocol:?} before the call")).await;
        for name in ["says_goodbye", "spin", "hold", "flood"] {
            closes(begun(&server, protocol, name, &[]).await, &format!("{protocol:?} {name}")).await;
        }
        let mut raw = begun(&server, protocol, "spin", &[]).await;
        cancel(&mut raw, protocol).await;
        closes(raw, &format!("{protocol:?} in the grace period")).await;
        let mut raw = begun(&server, protocol, "cleans_up", &["sleeps"]).await;
        cancel(&mut raw, protocol).await;
        raw.wait(if protocol == "distillery-1" { BINARY } else { TEXT }).await;
        closes(raw, &format!("{protocol:?} during the cleanup")).await;
    }
    let outcome = server.process_ended("says_goodbye").await.field("outcome");
    assert_eq!(outcome, "the client disconnected");
}

#[tokio::test]
async fn close_is_answered_at_once_in_the_queue() {
    let server = patient().set("limits.processes", 1).set("limits.queue_time", "60s").start().await;
    let _first = begun(&server, "", "spin", &[]).await;
    for protocol in PROTOCOLS {
        let mut raw = Raw::connect(server.address(), protocol).await;
        call(&mut raw, protocol, "echo_once", &[]).await;
        closes(raw, protocol).await;
    }
}

#[tokio::test]
async fn close_of_a_detached_process_leaves_it_running() {
    let server = Server::builder().example("echo").start().await;
    let mut first = Raw::connect(server.address(), "distillery-1").await;
    first.send(TEXT, br#"{"type":"call","call":"echo","on_disconnect":"detach"}"#).await;
    let started: Value = serde_json::from_slice(&first.wait(TEXT).await).unwrap();
    let attach = json!({"type": "attach", "id": started["id"], "key": started["key"]}).to_string();
    closes(first, "of the client that started it").await;
    for when in ["attached", "attached again"] {
        let mut raw = Raw::connect(server.address(), "distillery-1").await;
        raw.send(TEXT, attach.as_bytes()).await;
        let attached: Value = serde_json::from_slice(&raw.wait(TEXT).await).unwrap();
        assert_eq!((&attached["type"], &attached["running"]), (&json!("attached"), &json!(true)), "{when}");
        closes(raw, when).await;
    }
}

#[tokio::test]
async fn close_after_the_result_ends_in_order() {
    let server = patient().start().await;
    for protocol in PROTOCOLS {
        let mut raw = Raw::connect(server.address(), protocol).await;
        call(&mut raw, protocol, "no_such_call", &[]).await;
        raw.wait(if protocol == "distillery-1" { TEXT } else { BINARY }).await;
        raw.send(CLOSE, &1000_u16.to_be_bytes()).await;
        assert_eq!(raw.rest().await, [(CLOSE, 1000_u16.to_be_bytes().to_vec())], "{protocol:?}");
    }
}

#[tokio::test]
async fn data_after_a_close_frame_is_ignored() {
    let server = patient().start().await;
    for protocol in PROTOCOLS {
        let mut raw = begun(&server, protocol, "says_goodbye", &[]).await;
        // Sent together, so that the data is there when the server closes the connection.
        let text = [&[TEXT, 0x80 | 125, 0, 0, 0, 0][..], &[b'x'; 125]].concat();
        raw.bytes(&[&[CLOSE, 0x80, 0, 0, 0, 0][..], &text.repeat(30)].concat()).await;
        assert_eq!(raw.rest().await, [(CLOSE, Vec::new())], "{protocol:?}");
    }
}

#[tokio::test]
async fn pings_are_answered_while_a_guest_computes() {
    let server = patient().start().await;
    for protocol in PROTOCOLS {
        let mut raw = begun(&server, protocol, "spin", &[]).await;
        for payload in [&b""[..], b"are you there?"] {
            raw.send(PING, payload).await;
            assert_eq!(raw.wait(PONG).await, payload, "{protocol:?}");
        }
        cancel(&mut raw, protocol).await;
        raw.send(PING, b"and in the grace period?").await;
        assert_eq!(raw.wait(PONG).await, b"and in the grace period?", "{protocol:?}");
        closes(raw, protocol).await;
    }
}

/// Frames that no client is allowed to send, each with the code that closes the connection.
fn broken() -> Vec<(&'static str, Vec<u8>, u16)> {
    let masked = |first: u8, payload: &[u8]| [&[first, 0x80 | payload.len() as u8, 0, 0, 0, 0][..], payload].concat();
    let long_ping = [&[PING, 0xfe, 0, 126, 0, 0, 0, 0][..], &[b'x'; 126]].concat();
    let cut = [masked(0x01, b"caf\xc3"), masked(0x80, b"\x28")].concat();
    vec![
        ("a reserved bit", masked(0xc1, b"x"), 1002),
        ("a reserved kind of data", masked(0x83, b"x"), 1002),
        ("a reserved kind of control", masked(0x8b, b"x"), 1002),
        ("a ping in two frames", masked(0x09, b"x"), 1002),
        ("a ping that is too long", long_ping, 1002),
        ("the rest of no message", masked(0x80, b"x"), 1002),
        ("a message within another", [masked(0x01, b"x"), masked(TEXT, b"y")].concat(), 1002),
        ("a frame without a mask", vec![TEXT, 1, b'x'], 1002),
        ("text that is not UTF-8", masked(TEXT, b"caf\xe9"), 1007),
        ("text that is not UTF-8 in two frames", cut, 1007),
        ("a reason for the close that is not UTF-8", masked(CLOSE, b"\x03\xe8\xff"), 1007),
    ]
}

#[tokio::test]
async fn broken_frame_gets_one_result_and_then_its_code() {
    let server = Server::builder().guest(Guest::component("says_goodbye")).start().await;
    for protocol in PROTOCOLS {
        for (what, bytes, code) in broken() {
            for running in [false, true] {
                let mut raw = if running {
                    begun(&server, protocol, "says_goodbye", &[]).await
                } else {
                    Raw::connect(server.address(), protocol).await
                };
                raw.bytes(&bytes).await;
                let rest = raw.rest().await;
                let (last, before) = rest.split_last().expect("a close frame");
                assert_eq!(last, &(CLOSE, code.to_be_bytes().to_vec()), "{protocol:?} {what}, running: {running}");
                let text: Vec<_> = before.iter().map(|(_, payload)| String::from_utf8_lossy(payload)).collect();
                let results = text.iter().filter(|it| it.contains("protocol error")).count();
                assert!(results == 1 || protocol == "distillery-1" && results == 2, "{protocol:?} {what}: {text:?}");
                let result = text.last().expect("a result");
                assert!(result.contains("protocol error"), "{protocol:?} {what}: {text:?}");
            }
        }
    }
}

#[tokio::test]
async fn malformed_close_frame_is_answered_at_once() {
    let server = patient().start().await;
    for protocol in PROTOCOLS {
        for payload in [&[0][..], &999_u16.to_be_bytes(), &1005_u16.to_be_bytes(), &2999_u16.to_be_bytes()] {
            let mut raw = begun(&server, protocol, "spin", &[]).await;
            raw.send(CLOSE, payload).await;
            assert!(raw.wait(CLOSE).await.starts_with(&1002_u16.to_be_bytes()), "{protocol:?} {payload:?}");
            assert_eq!(raw.rest().await, [], "{protocol:?} {payload:?}");
        }
    }
}

#[tokio::test]
async fn frame_far_above_the_limit_is_discarded_and_answered() {
    const SIZE: u64 = 64 << 20;
    let server = Server::builder().guest(Guest::component("says_goodbye")).start().await;
    for protocol in PROTOCOLS {
        for running in [false, true] {
            let mut raw = if running {
                begun(&server, protocol, "says_goodbye", &[]).await
            } else {
                Raw::connect(server.address(), protocol).await
            };
            raw.bytes(&[&[BINARY, 0xff][..], &SIZE.to_be_bytes(), &[0; 4]].concat()).await;
            // A client that reads nothing before its whole frame is sent.
            let piece = vec![b'x'; 1 << 20];
            for _ in 0..SIZE >> 20 {
                raw.bytes(&piece).await;
            }
            let rest = raw.rest().await;
            let [.., (_, result), (CLOSE, code)] = &rest[..] else { panic!("{protocol:?}: {rest:?}") };
            assert_eq!(code[..], 1009_u16.to_be_bytes(), "{protocol:?} {running}");
            let result = String::from_utf8_lossy(result);
            assert!(result.contains("protocol error"), "{protocol:?} {running}: {result}");
        }
    }
}
