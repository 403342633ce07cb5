//! Cancelled calls: they learn the reason, can report, and get a cleanup.

use distillery_tests::{Client, End, Guest, Server, server::Builder};
use std::time::{Duration, Instant};

const GRACE: Duration = Duration::from_millis(200);

/// Returns a server with `cleans_up` and a manifest that asks for the cleanup.
fn cleaned() -> Builder {
    let manifest = |call: &str| format!("calls: {{{call}: {{access: public}}}}\ncancel: {{cleanup: true}}\n");
    Server::builder()
        .plugin("cleans_up", Guest::component("cleans_up"), &manifest("cleans_up"))
        .plugin("cleans_up.module", Guest::module("cleans_up"), &manifest("cleans_up.module"))
        .grace(GRACE)
}

const BOTH: [&str; 2] = ["cleans_up", "cleans_up.module"];

/// Returns a client of a call whose guest has written its first line.
async fn begun(server: &Server, call: &str, params: &[&str]) -> Client {
    let mut client = server.call(call, params).await;
    assert_eq!(client.line().await, "ready");
    client
}

async fn cancelled(server: &Server, call: &str, params: &[&str]) -> End {
    let mut client = begun(server, call, params).await;
    client.say("a line that nobody reads").await;
    client.cancel().await;
    client.finish().await
}

fn forced(message: &str) -> bool {
    message.starts_with("cancelled by the client (forced after ") && !message.contains("cleanup")
}

#[tokio::test]
async fn fresh_instance_cleans_up_after_a_forced_end() {
    let server = cleaned().start().await;
    for call in BOTH {
        for way in ["sleeps on", "computes"] {
            let end = cancelled(&server, call, &[way]).await;
            assert_eq!(end.lines, ["cleaning up: client, heard None"], "{call} {way}");
            let message = end.failure();
            assert!(forced(&message), "{call} {way}: {message}");
        }
        assert_eq!(server.process_ended(call).await.field("cleanup"), "done");
    }
}

#[tokio::test]
async fn guest_that_ends_by_itself_gets_no_cleanup() {
    let server = cleaned().grace(Duration::from_secs(60)).start().await;
    for call in BOTH {
        let end = cancelled(&server, call, &["goodbye"]).await;
        assert_eq!(end.lines, [""; 0], "{call}");
        assert_eq!(end.failure(), "cancelled by the client", "{call}");
        assert_eq!(server.process_ended(call).await.field("cleanup"), "", "{call}");
    }
}

#[tokio::test]
async fn manifest_without_cleanup_gets_none() {
    let server = Server::builder().both("cleans_up").grace(GRACE).start().await;
    for call in BOTH {
        let end = cancelled(&server, call, &[]).await;
        assert_eq!(end.lines, [""; 0], "{call}");
    }
}

#[tokio::test]
async fn failed_cleanup_is_part_of_the_result() {
    let server = cleaned().set("cancel.cleanup_time", "1s").start().await;
    for call in BOTH {
        for (way, why) in [
            ("fails", "exit status 3: the broom is gone"),
            ("fails silently", "exit status 3"),
            ("traps", "trap: unreachable"),
            ("sleeps", "time limit of 1s reached"),
            ("spins", "time limit of 1s reached"),
            ("floods", "time limit of 1s reached"),
        ] {
            let message = cancelled(&server, call, &[way]).await.failure();
            assert!(message.ends_with(&format!(" (cleanup failed: {why})")), "{call} {way}: {message}");
        }
    }
}

#[tokio::test]
async fn cleanup_runs_for_every_reason_of_a_cancel() {
    // Separate limits, so that a busy machine does not reach the wrong one first.
    let server = cleaned().set("limits.cpu", "200ms").start().await;
    let hasty = cleaned().set("limits.time", "2s").start().await;
    for call in BOTH {
        let end = server.call(call, &["computes"]).await.finish().await;
        assert_eq!(end.lines, ["ready", "cleaning up: cpu limit, heard None"], "{call}");
        let end = hasty.call(call, &[]).await.finish().await;
        assert_eq!(end.lines, ["ready", "cleaning up: time limit, heard None"], "{call}");
        let mut client = begun(&server, call, &[]).await;
        client.control("not json").await;
        let end = client.finish().await;
        assert_eq!(end.lines, ["cleaning up: protocol error, heard None"], "{call}");
    }
}

#[tokio::test]
async fn cleanup_after_an_output_limit_has_its_own_allowance() {
    let server = cleaned().set("limits.output", "1KiB").start().await;
    for call in BOTH {
        let end = server.call(call, &["overflows"]).await.finish().await;
        assert_eq!(end.lines.last().unwrap(), "cleaning up: output limit, heard None", "{call}");
        let message = end.failure();
        assert!(message.starts_with("output limit of 1KiB reached (forced after "), "{call}: {message}");
        assert!(!message.contains("cleanup"), "{call}: {message}");

        let mut talk = server.talk_to(call, &["overflows"]).await;
        talk.message("started").await;
        let whole = talk.finish().await;
        let said = String::from_utf8(whole.stdout).unwrap();
        assert!(said.ends_with("cleaning up: output limit, heard None\n"), "{call}: {said}");
    }
}

#[tokio::test]
async fn cleanup_fails_when_it_writes_beyond_its_allowance() {
    let server = cleaned().set("limits.output", "1KiB").set("cancel.cleanup_time", "60s").start().await;
    for call in BOTH {
        let end = cancelled(&server, call, &["floods"]).await;
        let written: usize = end.lines.iter().map(|line| line.len() + 1).sum();
        assert!((900..=1025).contains(&written), "{call}: {written}");
        let message = end.failure();
        assert!(message.ends_with(" (cleanup failed: output limit of 1KiB reached)"), "{call}: {message}");
    }
}

#[tokio::test]
async fn cleanup_runs_after_a_disconnect_and_at_shutdown() {
    let server = cleaned().start().await;
    drop(begun(&server, "cleans_up", &[]).await);
    assert_eq!(server.process_ended("cleans_up").await.field("cleanup"), "done");
    let client = begun(&server, "cleans_up.module", &[]).await;
    server.terminate();
    assert_eq!(client.finish().await.lines, ["cleaning up: shutdown, heard None"]);
    server.wait().await;
}

#[tokio::test]
async fn second_cancel_starts_the_cleanup_and_a_third_spares_it() {
    let server = cleaned().grace(Duration::from_secs(60)).start().await;
    for call in BOTH {
        let begin = Instant::now();
        let mut client = begun(&server, call, &["computes"]).await;
        for _ in 0..3 {
            client.cancel().await;
        }
        let end = client.finish().await;
        assert_eq!(end.lines, ["cleaning up: client, heard None"], "{call}");
        assert!(begin.elapsed() < Duration::from_secs(30), "{call}");
    }
}

#[tokio::test]
async fn process_holds_its_slot_until_the_cleanup_ends() {
    let server = cleaned()
        .guest(Guest::component("echo_once"))
        .set("limits.processes", 1)
        .set("limits.queue_time", "60s")
        .start()
        .await;
    let mut first = begun(&server, "cleans_up", &[]).await;
    let mut waiting = server.call("echo_once", &[]).await;
    waiting.say("at last").await;
    first.cancel().await;
    assert_eq!(first.finish().await.lines, ["cleaning up: client, heard None"]);
    assert_eq!(waiting.finish().await.success(), ["at last"]);
}

#[tokio::test]
async fn guest_learns_the_reason_of_a_cancel() {
    let server = Server::builder().guest(Guest::component("told")).grace(Duration::from_secs(60)).start().await;
    for (way, said) in [("poll", "told: Reason::Client"), ("wait", "told: Some(Reason::Client)")] {
        let end = cancelled(&server, "told", &[way]).await;
        assert_eq!(end.lines, [said]);
        assert_eq!(end.failure(), "cancelled by the client");
    }
}

#[tokio::test]
async fn async_component_learns_the_reason_of_a_cancel() {
    let server = Server::builder().guest(Guest::component3("told")).grace(Duration::from_secs(60)).start().await;
    let mut client = server.call("told", &["[1, 2]"]).await;
    assert_eq!(client.line().await, "Ok(())");
    assert_eq!(client.line().await, "ready");
    client.cancel().await;
    let end = client.finish().await;
    assert_eq!(end.lines, ["told: Reason::Client"]);
    assert_eq!(end.failure(), "cancelled by the client");
    assert_eq!(server.process_ended("told").await.field("value"), "[1, 2]");
}

#[tokio::test]
async fn preview1_module_learns_the_reason_of_a_cancel() {
    let server = Server::builder().guest(Guest::wat("told")).grace(Duration::from_secs(60)).start().await;
    assert_eq!(cancelled(&server, "told", &[]).await.failure(), "cancelled by the client");
    let ended = server.process_ended("told").await;
    assert_eq!((ended.field("value"), ended.field("stop")), ("{\"told\": true}".into(), "told".into()));
}

#[tokio::test]
async fn value_of_a_call_is_the_last_valid_json_within_the_limit() {
    let server = Server::builder().guest(Guest::component("told")).start().await;
    let lines = server.call("told", &["value", "1", "{\"made\": [\"ä\"]}", "{"]).await.finish().await.success();
    assert_eq!(
        lines,
        [
            "ready",
            "Ok(())",
            "Ok(())",
            "Err(\"not JSON: EOF while parsing an object at line 1 column 1\")",
            "Err(\"larger than 16KiB\")"
        ]
    );
    assert_eq!(server.process_ended("told").await.field("value"), "{\"made\": [\"ä\"]}");
}
