//! `distillery-1`: unchanged bytes, separate stdout and stderr, and a typed result.

use distillery_tests::{Client, Guest, Server, Verdict, distillery1::Heard, server::Builder};
use serde_json::json;
use std::time::Duration;
use tokio_tungstenite::tungstenite::Message;

fn forwarding(builder: Builder, name: &str, more: &str) -> Builder {
    let manifest = format!("stderr: forward\n{more}calls:\n  {name}:\n    access: public\n");
    builder.plugin(name, Guest::component(name), &manifest)
}

#[tokio::test]
async fn bytes_pass_through_a_call_unchanged() {
    let server = Server::builder().example("echo").start().await;
    let mut talk = server.talk_to("echo", &[]).await;
    let started = talk.message("started").await;
    assert_eq!(
        (&started["call"], &started["generation"], &started["kept"]),
        (&json!("echo"), &json!(1), &json!(false))
    );
    let sent: Vec<u8> = (0..100_000u32).map(|at| (at * 7 + at / 251) as u8).collect();
    for part in sent.chunks(3333) {
        talk.give(part).await;
    }
    assert!(talk.stdout(sent.len()).await == sent, "the bytes differ from those sent");
    talk.signal("end").await;
    let whole = talk.finish().await;
    assert_eq!(
        (whole.close, &whole.outcome),
        (
            1000,
            &json!({
                "success": true, "kind": "exited", "message": null, "status": 0, "reason": null, "stop": null,
                "cleanup": null, "value": null,
            })
        )
    );
    assert_eq!(server.process_ended("echo").await.field("bytes_out"), "100000");
}

#[tokio::test]
async fn partial_line_is_sent_as_soon_as_written() {
    let server = Server::builder().both("prompt").start().await;
    for call in ["prompt", "prompt.module"] {
        let mut talk = server.talk_to(call, &[]).await;
        assert_eq!(talk.stdout(6).await, b"name? ");
        talk.give("Ada\n").await;
        assert_eq!(talk.finish().await.success(), b"\nhello Ada\n".trim_ascii_start());
    }
}

#[tokio::test]
async fn stderr_is_sent_only_if_the_manifest_forwards_it() {
    let builder = forwarding(Server::builder(), "stderr_words", "");
    let server = builder.guest_as("quiet", Guest::component("stderr_words")).start().await;
    let whole = server.talk_to("stderr_words", &[]).await.finish().await;
    assert_eq!(
        (&whole.stdout[..], &whole.stderr[..]),
        (&b"trying\n"[..], &b"warning: the flux is low\nno capacitor at hand\n\n\n"[..],)
    );
    assert_eq!(whole.failure("exited"), "exit status 7: no capacitor at hand");
    assert_eq!(whole.outcome["status"], 7);
    // The log has the line anyway.
    server.log().line("a line of stderr", |line| line.field("line") == "no capacitor at hand").await;
    let whole = server.talk_to("quiet", &[]).await.finish().await;
    assert_eq!((whole.stderr.len(), whole.failure("exited")), (0, "exit status 7: no capacitor at hand"));
}

#[tokio::test]
async fn stderr_flood_waits_and_ends_at_the_output_limit() {
    let server = forwarding(Server::builder(), "endless_stderr", "limits: {output: 300KiB}\n").start().await;
    let whole = server.talk_to("endless_stderr", &[]).await.finish().await;
    assert_eq!(whole.stderr.len(), 300 << 10);
    assert_eq!(whole.failure("cancelled").split(" (").next(), Some("output limit of 300KiB reached"));
    assert_eq!(whole.outcome["reason"], "output limit");
}

#[tokio::test]
async fn every_refusal_is_one_result_and_a_close() {
    let builder = Server::builder().example("echo").bare_plugin("args", Guest::component("args"));
    let picky = "calls: {hold: {access: public, params: [{name: word, choices: [a]}]}}";
    let builder = builder.plugin("hold", Guest::component("hold"), picky);
    let server = builder.set("http.max_frame", "64KiB").start().await;
    for (message, said, close) in [
        (Message::text(r#"{"type":"call","call":"nothing"}"#), r#"unknown call "nothing""#, 1000),
        (Message::text(r#"{"type":"call","call":"args"}"#), r#"not authorized to run "args""#, 1000),
        (
            Message::text(r#"{"type":"call","call":"hold","params":["b"]}"#),
            r#"parameter "word" must be one of a"#,
            1000,
        ),
        (Message::text("hello"), "protocol error: a text frame is not a JSON object", 1000),
        (Message::binary("hello"), "protocol error: data before the call message", 1000),
        (Message::text(r#"{"type":"detach"}"#), "protocol error: a signal before the call message", 1000),
        (Message::text(r#"{"type":"attach","id":"7"}"#), r#"there is no process "7" that you may attach to"#, 1000),
        (Message::text("x".repeat(70_000)), "protocol error: a frame is larger than 64KiB", 1009),
    ] {
        let mut talk = server.talk().await;
        talk.send(message).await;
        let whole = talk.finish().await;
        assert!(whole.failure("refused").starts_with(said), "{whole:?}");
        assert_eq!((whole.close, whole.messages.len()), (close, 0), "{whole:?}");
    }
}

#[tokio::test]
async fn silent_client_is_refused_also_after_a_list() {
    let server = Server::builder().set("http.call_timeout", "1s").start().await;
    let mut talk = server.talk().await;
    talk.signal("list").await;
    let whole = talk.finish().await;
    assert_eq!(whole.messages, [json!({"type": "processes", "processes": []})]);
    assert_eq!(whole.failure("refused"), "no call message within 1s");
}

#[tokio::test]
async fn cancel_is_confirmed_and_a_second_one_forces() {
    let builder = Server::builder().both("says_goodbye").both("hold");
    let server = builder.grace(Duration::from_secs(60)).start().await;
    let mut talk = server.talk_to("says_goodbye", &[]).await;
    assert_eq!(talk.stdout(6).await, b"ready\n");
    talk.signal("cancel").await;
    assert_eq!(talk.message("cancelling").await["reason"], "client");
    let whole = talk.finish().await;
    assert_eq!((&whole.stdout[..], &whole.outcome["stop"]), (&b"goodbye\n"[..], &json!("told")));
    assert_eq!(whole.failure("cancelled"), "cancelled by the client");

    let mut talk = server.talk_to("hold", &[]).await;
    assert_eq!(talk.stdout(8).await, b"holding\n");
    talk.signal("cancel").await;
    talk.message("cancelling").await;
    talk.signal("cancel").await;
    let whole = talk.finish().await;
    // The state of the guest at that moment decides whether it is dropped or interrupted.
    assert!(whole.outcome["stop"] != "told" && whole.outcome["reason"] == "client", "{whole:?}");
}

#[tokio::test]
async fn cancel_overtakes_unread_stdin() {
    let server = Server::builder().guest(Guest::component("sleep")).grace(Duration::ZERO).start().await;
    let mut talk = server.talk_to("sleep", &[]).await;
    for _ in 0..100 {
        talk.give(vec![b'x'; 32 << 10]).await;
    }
    talk.signal("cancel").await;
    assert_eq!(talk.finish().await.outcome["reason"], "client");
}

#[tokio::test]
async fn operator_and_drain_are_sent_as_reasons() {
    let server = Server::builder().guest(Guest::component("says_goodbye")).start().await;
    let mut talk = server.talk_to("says_goodbye", &[]).await;
    let id = talk.message("started").await["id"].as_str().expect("an id").to_owned();
    talk.stdout(6).await;
    let mut other = server.talk_to("says_goodbye", &[]).await;
    other.stdout(6).await;
    server.operator(hyper::Method::DELETE, &format!("/api/v1/processes/{id}")).await;
    assert_eq!(talk.message("cancelling").await["reason"], "operator");
    assert_eq!(talk.finish().await.outcome["reason"], "operator");
    server.terminate();
    assert_eq!(other.message("cancelling").await["reason"], "shutdown");
    let whole = other.finish().await;
    assert_eq!((&whole.outcome["reason"], whole.close), (&json!("shutdown"), 1000));
}

#[tokio::test]
async fn result_carries_the_value_of_the_call() {
    let server = Server::builder().guest(Guest::component("told")).start().await;
    let whole = server.talk_to("told", &["value", r#"{"made": ["a", 1e999]}"#, "[[[1]]]"]).await.finish().await;
    assert_eq!(whole.outcome["value"], json!([[[1]]]));
    assert!(!whole.success().is_empty());
}

#[tokio::test]
async fn client_learns_its_changing_queue_position() {
    let builder = Server::builder().guest(Guest::component("echo_once")).example("echo");
    let server = builder.set("limits.processes", 1).set("limits.queue_time", "60s").start().await;
    let mut first = server.talk_to("echo", &[]).await;
    first.message("started").await;
    let mut second = server.talk_to("echo_once", &[]).await;
    assert_eq!(second.message("queued").await["position"], 1);
    let mut third = server.talk_to("echo_once", &[]).await;
    assert_eq!(third.message("queued").await["position"], 2);
    // Input is accepted before the call has started.
    third.give("early\n").await;
    second.hang_up().await;
    assert_eq!(third.message("queued").await["position"], 1);
    first.signal("end").await;
    first.finish().await.success();
    let whole = third.finish().await;
    assert_eq!(whole.messages[0]["type"], "started");
    assert_eq!(whole.success(), b"early\n");
}

#[tokio::test]
async fn running_process_sends_heartbeats() {
    let server = Server::builder().guest(Guest::component("sleep")).set("http.ping_interval", "50ms").start().await;
    let mut talk = server.talk_to("sleep", &[]).await;
    let mut elapsed = 0;
    for _ in 0..3 {
        let beat = loop {
            match talk.next_of_all().await {
                Heard::Message(message) if message["type"] == "heartbeat" => break message,
                Heard::Message(message) if message["type"] == "started" => {}
                Heard::Stdout(_) => {}
                other => panic!("{other:?}"),
            }
        };
        let now = beat["elapsed_ms"].as_u64().expect("a time");
        assert!(now >= elapsed + 40 && beat["memory"].as_u64() > Some(0) && beat["cpu_ms"].is_u64(), "{beat}");
        elapsed = now;
    }
}

#[tokio::test]
async fn list_shows_only_permitted_processes() {
    let server = Server::builder().example("echo").start().await;
    let mut talk = server.talk_to("echo", &[]).await;
    talk.message("started").await;
    talk.signal("list").await;
    assert_eq!(talk.message("processes").await["processes"], json!([]), "an anonymous caller has no processes");
}

#[tokio::test]
async fn unread_answers_are_bounded() {
    let server = Server::builder().example("echo").set("http.write_timeout", "60s").start().await;
    let mut talk = server.talk_to("echo", &[]).await;
    talk.message("started").await;
    let before = server.memory();
    let many = "x".repeat(50_000);
    for _ in 0..2000 {
        talk.signal("list").await;
    }
    for _ in 0..2000 {
        assert_eq!(talk.message("processes").await["processes"], json!([]));
    }
    talk.give(many.clone()).await;
    assert_eq!(talk.stdout(50_000).await, many.as_bytes());
    assert!(server.memory() < before + (64 << 20));
}

#[tokio::test]
async fn unsupported_subprotocol_is_not_promised() {
    let server = Server::builder().example("echo").start().await;
    let headers = [("sec-websocket-protocol", "chat, distillery-1")];
    // The strict client refuses an answer with a subprotocol that the client did not offer, and an answer with none.
    assert!(Client::connect_to(server.address(), "/api/v1/ws/", &headers).await.is_ok());
    let mut client = server.call("echo", &["1"]).await;
    client.say("x").await;
    assert_eq!(client.finish().await.verdict, Verdict::Success);
}
