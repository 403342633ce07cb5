//! Slow clients and slow guests: each stays responsive and gets its result.

use distillery_tests::{
    Client, Guest, Server,
    distillery1::Heard,
    patiently,
    raw::{BINARY, PING, Raw, TEXT},
    server::Builder,
};
use hyper::Method;
use serde_json::json;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Far longer than any test waits: an end within this time was not waited for.
const NEVER: &str = "10m";

fn reader() -> Builder {
    Server::builder().guest(Guest::component("reads_slowly")).grace(Duration::from_millis(100))
}

/// Returns a client of a guest that reads this many bytes at a time, with this pause in milliseconds.
async fn slow(server: &Server, bytes: &str, millis: &str) -> Client {
    let mut client = server.call("reads_slowly", &[bytes, millis]).await;
    assert_eq!(client.line().await, "ready");
    client
}

fn lines(many: usize) -> impl Iterator<Item = String> {
    // With its end, each line is 1 KiB.
    (0..many).map(|_| "x".repeat(1023))
}

#[tokio::test]
async fn cancel_behind_less_than_the_limit_acts_within_the_grace() {
    let server = reader().set("limits.input_idle", NEVER).start().await;
    let mut client = slow(&server, "1", "500").await;
    client.say_all(lines(12 << 10)).await.expect("the server keeps reading");
    let begin = Instant::now();
    client.cancel().await;
    let message = client.finish().await.failure();
    assert!(message.starts_with("cancelled by the client"), "{message}");
    assert!(begin.elapsed() < Duration::from_secs(60), "{:?}", begin.elapsed());
}

#[tokio::test]
async fn slow_reader_with_full_input_gets_all_of_it_and_a_result() {
    // The guest pauses for longer than its client can be silent, while the server does not read from the client.
    let server = reader()
        .set("limits.input", "4KiB")
        .set("http.ping_interval", "100ms")
        .set("http.silence_timeout", "1s")
        .start()
        .await;
    let mut client = slow(&server, "4096", "1500").await;
    client.say_all(lines(20)).await.expect("the kernel takes it");
    client.end_input().await;
    assert_eq!(client.finish().await.success(), ["read 20480"]);
}

#[tokio::test]
async fn guest_that_reads_nothing_of_full_input_is_cancelled() {
    let server = reader().set("limits.input", "4KiB").set("limits.input_idle", "300ms").start().await;
    let (mut speaker, listener) = slow(&server, "1", "60000").await.split();
    let speak = async { _ = speaker.say_all(lines(40)).await };
    let (end, ()) = tokio::join!(listener.finish(), speak);
    let message = end.failure();
    let expected = "input limit of 4KiB reached: the call does not read its input";
    assert!(message.starts_with(expected), "{message}");
}

#[tokio::test]
async fn guest_that_reads_anything_in_time_is_not_idle() {
    let server = reader().set("limits.input", "1KiB").set("limits.input_idle", "10s").start().await;
    let mut client = slow(&server, "100", "100").await;
    client.say_all(lines(4)).await.expect("the kernel takes it");
    client.end_input().await;
    assert_eq!(client.finish().await.success(), ["read 4096"]);
}

#[tokio::test]
async fn guest_that_waits_for_its_client_is_not_idle() {
    let server = Server::builder()
        .example("echo")
        .guest(Guest::component("says_goodbye"))
        .set("limits.input", "64KiB")
        .set("limits.input_idle", "500ms")
        .set("http.ping_interval", "200ms")
        .start()
        .await;
    // Another client, whose pings measure the time.
    let mut clock = server.call("says_goodbye", &[]).await;
    assert_eq!(clock.line().await, "ready");
    const MANY: usize = 16 << 10;
    let (mut speaker, listener) = server.call("echo", &[&MANY.to_string()]).await.split();
    let speak = async { speaker.say_all(lines(MANY)).await.expect("the server keeps reading") };
    let listen = async {
        // The client reads nothing until the guest was blocked for longer than the idle timeout.
        for _ in 0..10 {
            clock.pinged().await;
        }
        listener.finish().await
    };
    let ((), end) = tokio::join!(speak, listen);
    assert_eq!(end.success().len(), MANY);
}

#[tokio::test]
async fn call_in_the_queue_is_not_idle() {
    let server = reader()
        .guest(Guest::component("says_goodbye"))
        .set("limits.processes", 1)
        .set("limits.queue_time", "60s")
        .set("limits.input", "1KiB")
        .set("limits.input_idle", "300ms")
        .set("http.ping_interval", "200ms")
        .start()
        .await;
    let mut first = server.call("says_goodbye", &[]).await;
    assert_eq!(first.line().await, "ready");
    let mut second = server.call("reads_slowly", &["4096", "1"]).await;
    second.say_all(lines(4)).await.expect("the kernel takes it");
    for _ in 0..5 {
        first.pinged().await;
    }
    first.cancel().await;
    first.finish().await.failure();
    second.end_input().await;
    assert_eq!(second.finish().await.success(), ["ready", "read 4096"]);
}

#[tokio::test]
async fn cancel_from_outside_acts_while_the_client_waits() {
    let builder = reader();
    let bearer = builder.user("ada", &["call:*"]);
    let server = builder.set("limits.input", "4KiB").set("limits.input_idle", NEVER).start().await;
    let headers = [("authorization", bearer.as_str())];
    let mut talk = server.talk_with(&headers).await;
    talk.say(json!({"type": "call", "call": "reads_slowly", "params": ["1", "600000"]})).await;
    let id = talk.message("started").await["id"].as_str().expect("an id").to_owned();
    for _ in 0..16 {
        talk.give(vec![b'x'; 1 << 10]).await;
    }
    // This cancel waits behind data.
    talk.signal("cancel").await;
    let answer = server.request(Method::DELETE, &format!("/api/v1/processes/{id}"), &headers).await;
    assert_eq!(answer.status, 202);
    assert_eq!(talk.message("cancelling").await["reason"], "operator");
    assert_eq!(talk.finish().await.outcome["reason"], "operator");
}

#[tokio::test]
async fn silent_client_still_gets_its_result() {
    let server = Server::builder()
        .guest(Guest::component("says_goodbye"))
        .set("http.ping_interval", "100ms")
        .set("http.silence_timeout", "500ms")
        .start()
        .await;
    let mut talk = server.talk_to("says_goodbye", &[]).await;
    talk.message("started").await;
    // A client answers pings only when it reads, and this one reads nothing until the end.
    server.process_ended("says_goodbye").await;
    let whole = talk.finish().await;
    assert_eq!((whole.failure("cancelled"), whole.close), ("the client disconnected", 1000));
}

#[tokio::test]
async fn partial_frame_is_a_sign_of_life() {
    let server = Server::builder()
        .guest(Guest::component("echo_once"))
        .set("http.ping_interval", "100ms")
        .set("http.silence_timeout", "1s")
        .start()
        .await;
    let mut raw = Raw::connect(server.address(), "").await;
    raw.send(BINARY, br#"{"call":"echo_once"}"#).await;
    raw.bytes(&[TEXT, 0x80 | 40, 0, 0, 0, 0]).await;
    for _ in 0..40 {
        raw.wait(PING).await;
        raw.bytes(b"x").await;
    }
    assert_eq!(raw.wait(TEXT).await, [b'x'; 40]);
}

#[tokio::test]
async fn clients_that_wait_for_one_process_all_continue() {
    let server = reader().set("limits.input", "1KiB").start().await;
    let mut talk = server.talk().await;
    let call = json!({"type": "call", "call": "reads_slowly", "params": ["512", "20"], "on_disconnect": "detach"});
    talk.say(call).await;
    let started = talk.message("started").await;
    let attach = json!({"type": "attach", "id": started["id"], "key": started["key"]});
    let mut others = Vec::new();
    for _ in 0..3 {
        let mut other = server.talk().await;
        other.say(attach.clone()).await;
        other.message("attached").await;
        for _ in 0..8 {
            other.give(vec![b'x'; 1 << 10]).await;
        }
        // The answer comes once all input was read.
        other.signal("list").await;
        others.push(other);
    }
    for other in &mut others {
        other.message("processes").await;
    }
    talk.signal("end").await;
    let mut said = Vec::new();
    loop {
        match talk.next().await {
            Heard::Stdout(bytes) => said.extend(bytes),
            Heard::Close(code) => break assert_eq!(code, 1000),
            Heard::Message(_) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(String::from_utf8(said).unwrap(), "ready\nread 24576\n");
}

/// Returns a client that has sent more than the server reads while the guest reads nothing.
async fn held_back(server: &Server) -> Raw {
    let mut raw = Raw::connect(server.address(), "").await;
    raw.send(BINARY, br#"{"call":"reads_slowly","params":["1","600000"]}"#).await;
    assert_eq!(raw.wait(TEXT).await, b"ready");
    for _ in 0..64 {
        raw.send(TEXT, &[b'x'; 1000]).await;
    }
    raw
}

#[tokio::test]
async fn reset_is_noticed_while_the_server_does_not_read() {
    let server = reader()
        .set("limits.input", "1KiB")
        .set("limits.input_idle", NEVER)
        .set("http.ping_interval", "100ms")
        .start()
        .await;
    let stream = held_back(&server).await.into_stream();
    stream.set_zero_linger().expect("a connection that is reset when it is dropped");
    drop(stream);
    let outcome = server.process_ended("reads_slowly").await.field("outcome");
    assert!(outcome.starts_with("the client disconnected"), "{outcome}");
}

#[tokio::test]
async fn end_of_a_connection_is_noticed_behind_unread_data() {
    // Pings are rare, so that none notices the end first.
    let server = reader()
        .set("limits.input", "1KiB")
        .set("limits.input_idle", NEVER)
        .set("http.ping_interval", NEVER)
        .set("http.silence_timeout", "1h")
        .start()
        .await;
    // An orderly end: the kernel still delivers all of the data first.
    drop(held_back(&server).await.into_stream());
    let outcome = server.process_ended("reads_slowly").await.field("outcome");
    assert!(outcome.starts_with("the client disconnected"), "{outcome}");
}

#[tokio::test]
async fn pings_of_a_client_that_reads_nothing_take_no_memory() {
    const PINGS: usize = 400_000;
    const LONGEST: usize = 125;
    let server =
        Server::builder().guest(Guest::component("says_goodbye")).set("http.ping_interval", "200ms").start().await;
    // Another client, whose pings measure the time.
    let mut clock = server.call("says_goodbye", &[]).await;
    assert_eq!(clock.line().await, "ready");
    let mut raw = Raw::connect(server.address(), "").await;
    raw.send(BINARY, br#"{"call":"says_goodbye"}"#).await;
    raw.wait(TEXT).await;
    let before = server.peak_memory();
    let (mut reads, mut writes) = raw.into_stream().into_split();
    let ping = [&[PING, 0x80 | LONGEST as u8, 0, 0, 0, 0][..], &[b'x'; LONGEST]].concat();
    let speak = async {
        let many = ping.repeat(1000);
        for _ in 0..PINGS / 1000 {
            patiently("pings to leave", writes.write_all(&many)).await.expect("the server keeps reading");
        }
    };
    let listen = async {
        for _ in 0..10 {
            clock.pinged().await;
        }
        let grown = server.peak_memory() - before;
        // 49 MB of answers, of which the kernel holds some.
        assert!(grown < 8 << 20, "{grown}");
        let (mut heard, mut piece) = (0, vec![0; 64 << 10]);
        // Pings of the server are among them.
        while heard < PINGS * (2 + LONGEST) {
            heard += patiently("pongs", reads.read(&mut piece)).await.expect("the server is there");
        }
    };
    tokio::join!(speak, listen);
}
