//! Every row of the protocol: each action of the client and the answer of the server.

use distillery_tests::{Client, Frame, Guest, Server, Verdict};
use hyper::StatusCode;
use tokio_tungstenite::tungstenite::Message;

async fn server() -> Server {
    Server::with([Guest::component("echo_once"), Guest::component("says_goodbye")]).await
}

/// Starts a call and waits until its guest is ready.
async fn running(server: &Server) -> Client {
    let mut client = server.call("says_goodbye", &[]).await;
    assert_eq!(client.line().await, "ready");
    client
}

#[tokio::test]
async fn call_gets_its_lines_one_result_and_a_normal_close() {
    let server = server().await;
    let mut client = server.call("echo_once", &[]).await;
    client.say("hello").await;
    assert_eq!(client.next().await, Frame::Text("hello".into()));
    assert_eq!(client.next().await, Frame::Result(Verdict::Success));
    assert_eq!(client.next().await, Frame::Close(1000));
    assert_eq!(client.next().await, Frame::Gone);
}

#[tokio::test]
async fn websocket_path_allows_a_trailing_slash() {
    let server = server().await;
    for path in ["/api/v1/ws", "/api/v1/ws/"] {
        let mut client = Client::connect_to(server.address(), path, &[]).await.expect("a socket");
        client.call("echo_once", &[]).await;
        client.say(path).await;
        assert_eq!(client.finish().await.success(), [path]);
    }
}

#[tokio::test]
async fn lines_sent_with_the_call_wait_for_the_process() {
    let server = server().await;
    let mut client = server.call("echo_once", &[]).await;
    client.say_all(["first", "second", "third"].map(str::to_owned)).await.expect("the server reads");
    assert_eq!(client.finish().await.success(), ["first"]);
}

#[tokio::test]
async fn connection_without_a_call_fails_after_the_timeout() {
    let server = Server::builder().set("http.call_timeout", "300ms").start().await;
    let end = server.connect().await.finish().await;
    assert_eq!(end.close, 1000);
    assert_eq!(end.failure(), "no call message within 300ms");
}

#[tokio::test]
async fn invalid_first_message_is_an_explained_protocol_error() {
    let server = server().await;
    let wrong: [(&[u8], &str); 9] = [
        (b"", "JSON"),
        (b"echo", "JSON"),
        (b"[]", "JSON object"),
        (b"\xff\xfe", "UTF-8"),
        (b"{}", "call message"),
        (br#"{"call": 1, "params": []}"#, "call"),
        (br#"{"call": "echo_once", "params": [1]}"#, "params"),
        (br#"{"call": "echo_once", "signal": "cancel"}"#, "both a call message and a signal message"),
        (br#"{"signal": "cancel"}"#, "before the call message"),
    ];
    for (content, what) in wrong {
        let mut client = server.connect().await;
        client.control(content.to_vec()).await;
        let end = client.finish().await;
        assert_eq!(end.close, 1000);
        let message = end.failure();
        assert!(message.starts_with("protocol error: ") && message.contains(what), "{what:?} in {message:?}");
    }
}

#[tokio::test]
async fn text_before_a_call_is_a_protocol_error() {
    let server = server().await;
    let mut client = server.connect().await;
    client.say("hello?").await;
    let end = client.finish().await;
    assert_eq!(end.close, 1000);
    let message = "protocol error: text before the call message: send the call first, as a binary frame";
    assert_eq!(end.failure(), message);
}

#[tokio::test]
async fn null_params_and_unknown_keys_are_accepted() {
    let server = server().await;
    for message in [r#"{"call":"echo_once","params":null}"#, r#"{"id":7,"call":"echo_once","params":[],"more":{}}"#] {
        let mut client = server.connect().await;
        client.control(message).await;
        client.say("hello").await;
        assert_eq!(client.finish().await.success(), ["hello"], "{message}");
    }
    let mut client = running(&server).await;
    client.control(r#"{"signal":"cancel","why":"because"}"#).await;
    assert_eq!(client.finish().await.failure(), "cancelled by the client");
}

#[tokio::test]
async fn close_signal_ends_the_input_of_a_filter() {
    let server = Server::builder().both("sort").start().await;
    for call in ["sort", "sort.module"] {
        let mut client = server.call(call, &[]).await;
        client.say_all(["pear", "apple", "fig"].map(str::to_owned)).await.expect("the server reads");
        client.end_input().await;
        client.end_input().await;
        // Input after the end is dropped.
        client.offer(Message::text("too late")).await;
        assert_eq!(client.finish().await.success(), ["apple", "fig", "pear"], "{call}");
    }
}

#[tokio::test]
async fn close_signal_is_harmless_in_every_phase() {
    let server = Server::builder()
        .guest(Guest::component("sort"))
        .guest(Guest::component("says_goodbye"))
        .guest(Guest::component("hold"))
        .set("limits.processes", 1)
        .set("limits.queue_time", "60s")
        .grace(std::time::Duration::from_millis(300))
        .start()
        .await;
    let mut before = server.connect().await;
    before.end_input().await;
    assert_eq!(before.finish().await.failure(), "protocol error: a signal before the call message");

    let mut first = running(&server).await;
    let mut queued = server.call("sort", &[]).await;
    queued.say("waits").await;
    queued.end_input().await;
    first.cancel().await;
    first.end_input().await;
    assert_eq!(first.finish().await.failure(), "cancelled by the client");
    assert_eq!(queued.finish().await.success(), ["waits"]);

    let mut ended = server.call("sort", &[]).await;
    ended.end_input().await;
    server.process_ended("sort").await;
    ended.offer(Message::binary(r#"{"signal":"close"}"#)).await;
    assert_eq!(ended.finish().await.success(), [""; 0]);

    let mut held = server.call("hold", &[]).await;
    assert_eq!(held.line().await, "holding");
    held.cancel().await;
    held.end_input().await;
    let message = held.finish().await.failure();
    assert!(message.starts_with("cancelled by the client (forced after "), "{message}");
}

#[tokio::test]
async fn unknown_call_is_named() {
    let server = server().await;
    for name in ["no_such_call", "", "../../etc", "ECHO_ONCE", "né"] {
        let end = server.call(name, &[]).await.finish().await;
        assert_eq!(end.close, 1000);
        assert_eq!(end.failure(), format!("unknown call {name:?}"));
    }
}

#[tokio::test]
async fn protected_call_is_refused_to_anonymous_callers() {
    let server = Server::builder().bare_plugin("secret", Guest::component("echo_once")).start().await;
    let end = server.call("secret", &[]).await.finish().await;
    assert_eq!(end.close, 1000);
    assert_eq!(end.failure(), "not authorized to run \"secret\"");
}

#[tokio::test]
async fn invalid_later_message_cancels_the_process() {
    let server = server().await;
    let wrong: [(&[u8], &str); 4] = [
        (br#"{"call": "echo_once", "params": []}"#, "protocol error: a second call message"),
        (br#"{"signal": "hangup"}"#, "protocol error: unknown signal \"hangup\""),
        (b"{", "protocol error: a binary frame is not a JSON object: "),
        (b"{}", "protocol error: a binary frame is neither a call message nor a signal message"),
    ];
    for (content, what) in wrong {
        let mut client = running(&server).await;
        client.control(content.to_vec()).await;
        let end = client.finish().await;
        assert_eq!((end.close, end.lines.as_slice()), (1000, ["goodbye".to_owned()].as_slice()));
        let message = end.failure();
        assert!(message.starts_with(what), "{what:?} in {message:?}");
    }
}

#[tokio::test]
async fn cancel_before_the_start_is_no_error() {
    let server = server().await;
    for _ in 0..50 {
        let mut client = server.call("says_goodbye", &[]).await;
        client.cancel().await;
        let end = client.finish().await;
        assert_eq!(end.close, 1000);
        assert_eq!(end.failure(), "cancelled by the client");
    }
}

#[tokio::test]
async fn second_cancel_is_no_error() {
    let server = server().await;
    let mut client = running(&server).await;
    client.cancel().await;
    client.cancel().await;
    let message = client.finish().await.failure();
    // The second cancel can find the process still running and force it.
    assert!(message.starts_with("cancelled by the client"), "{message}");
}

#[tokio::test]
async fn cancel_after_the_end_changes_nothing() {
    let server = server().await;
    let mut client = server.call("echo_once", &[]).await;
    client.say("done").await;
    server.process_ended("echo_once").await;
    client.cancel().await;
    let end = client.finish().await;
    assert_eq!(end.close, 1000);
    assert_eq!(end.success(), ["done"]);
}

#[tokio::test]
async fn text_with_line_breaks_is_several_lines() {
    let server = Server::with([Guest::component("conversation")]).await;
    let mut client = server.call("conversation", &["you"]).await;
    client.say("one\ntwo\n\nend").await;
    assert_eq!(client.finish().await.success(), ["hello you", "echo: one", "echo: two", "echo: "]);
}

#[tokio::test]
async fn text_in_several_frames_is_one_line() {
    let server = server().await;
    let mut client = server.call("echo_once", &[]).await;
    client.say_in_frames(&["one ", "li", "ne"]).await;
    assert_eq!(client.finish().await.success(), ["one line"]);
}

#[tokio::test]
async fn text_that_is_not_utf8_is_a_protocol_error() {
    let server = server().await;
    let mut client = running(&server).await;
    client.say_bytes(b"caf\xe9").await;
    let end = client.finish().await;
    assert_eq!(end.close, 1007);
    assert_eq!(end.failure(), "protocol error: text that is not UTF-8");
}

#[tokio::test]
async fn frame_over_the_limit_fails_and_closes_with_1009() {
    let server = Server::builder().guest(Guest::component("says_goodbye")).set("http.max_frame", "4KiB").start().await;
    let mut before = server.connect().await;
    before.control(vec![b' '; 5000]).await;
    let mut later = running(&server).await;
    later.say("x".repeat(5000)).await;
    for client in [before, later] {
        let end = client.finish().await;
        assert_eq!(end.close, 1009);
        assert_eq!(end.failure(), "protocol error: a frame is larger than 4KiB");
    }
}

#[tokio::test]
async fn frame_of_exactly_the_limit_is_a_line() {
    let server = Server::builder().guest(Guest::component("echo_once")).set("http.max_frame", "4KiB").start().await;
    let mut client = server.call("echo_once", &[]).await;
    client.say("x".repeat(4096)).await;
    assert_eq!(client.finish().await.success(), ["x".repeat(4096)]);
}

#[tokio::test]
async fn browser_of_another_origin_is_refused_before_the_upgrade() {
    let server = Server::builder().set("http.origins", vec!["https://friend.example"]).start().await;
    let from = |origin| {
        let address = server.address();
        async move { Client::connect_to(address, "/api/v1/ws", &[("origin", origin)]).await.map(drop) }
    };
    assert_eq!(from("https://evil.example").await, Err(StatusCode::FORBIDDEN));
    assert_eq!(from("null").await, Err(StatusCode::FORBIDDEN));
    assert_eq!(from("http://friend.example").await, Err(StatusCode::FORBIDDEN));
    assert_eq!(from("https://friend.example").await, Ok(()));
}

#[tokio::test]
async fn browser_of_the_same_origin_is_allowed() {
    let server = Server::builder().start().await;
    // Headers are static, as in nearly all tests.
    let origin: &'static str = format!("http://{}", server.address()).leak();
    Client::connect_to(server.address(), "/api/v1/ws", &[("origin", origin)]).await.expect("a socket");
}

#[tokio::test]
async fn unread_text_never_delays_a_cancel() {
    let server =
        Server::builder().guest(Guest::component("sleep")).grace(std::time::Duration::from_millis(100)).start().await;
    let mut client = server.call("sleep", &[]).await;
    client.say_all((0..4000).map(|_| "x".repeat(1000))).await.expect("the server keeps reading");
    client.cancel().await;
    let message = client.finish().await.failure();
    assert!(message.starts_with("cancelled by the client (forced after "), "{message}");
}

#[tokio::test]
async fn unread_text_ends_at_the_input_limit() {
    let server = Server::builder()
        .guest(Guest::component("sleep"))
        .guest(Guest::component("never_reads"))
        .set("limits.input", "1MiB")
        .set("limits.input_idle", "1s")
        .grace(std::time::Duration::from_millis(100))
        .start()
        .await;
    for call in ["sleep", "never_reads"] {
        let (mut speaker, listener) = server.call(call, &[]).await.split();
        // The server can close before the client has sent everything.
        let speak = async { _ = speaker.say_all((0..3000).map(|_| "x".repeat(1000))).await };
        let (end, ()) = tokio::join!(listener.finish(), speak);
        let message = end.failure();
        let expected = "input limit of 1MiB reached: the call does not read its input";
        assert!(message.starts_with(expected), "{call}: {message}");
    }
}

#[tokio::test]
async fn client_that_does_not_read_is_disconnected_after_a_timeout() {
    let server = Server::builder()
        .guest(Guest::component("flood"))
        .set("http.write_timeout", "500ms")
        .grace(std::time::Duration::from_millis(100))
        .start()
        .await;
    let _client = server.call("flood", &[]).await;
    let end = server.process_ended("flood").await;
    assert!(end.field("outcome").starts_with("the client disconnected"), "{end:?}");
}

#[tokio::test]
async fn client_that_answers_no_ping_is_disconnected() {
    let server = Server::builder()
        .guest(Guest::component("says_goodbye"))
        .set("http.ping_interval", "100ms")
        .set("http.silence_timeout", "1s")
        .start()
        .await;
    // A client answers pings only while it reads, and this one does not read.
    let _client = running(&server).await;
    let end = server.process_ended("says_goodbye").await;
    assert_eq!(end.field("outcome"), "the client disconnected");
}

#[tokio::test]
async fn silent_client_that_answers_pings_stays_connected() {
    let server = Server::builder()
        .guest(Guest::component("echo_once"))
        .set("http.ping_interval", "200ms")
        .set("http.silence_timeout", "2s")
        .start()
        .await;
    let mut client = server.call("echo_once", &[]).await;
    for _ in 0..15 {
        client.pinged().await;
    }
    client.say("still here").await;
    assert_eq!(client.finish().await.success(), ["still here"]);
}
