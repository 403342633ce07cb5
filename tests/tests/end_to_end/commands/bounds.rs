//! The bounds of a command: its time, its output, its runs at once, and its input that is not read.

use super::{KINDS, builder_of, nothing_is_left, params, something_runs};
use distillery_tests::Server;
use serde_json::json;

async fn end(server: &Server, kind: &str) -> distillery_tests::End {
    let given = params(kind, &[]);
    let given: Vec<_> = given.iter().map(String::as_str).collect();
    server.call(kind, &given).await.finish().await
}

#[tokio::test]
async fn flood_ends_at_the_bound_of_output() {
    let server = builder_of(&["yes"], json!({"output": "1MiB"})).start().await;
    for kind in KINDS {
        let end = end(&server, kind).await;
        let bytes: usize = end.lines.iter().filter(|line| *line == "y").count() * 2;
        assert_eq!(bytes, 1 << 20, "{kind}");
        match kind {
            "builtin" => {
                assert_eq!(end.failure(), "exit status 137: the command wrote 1MiB, as much as it may");
            }
            _ => assert!(end.lines.last().unwrap().ends_with("bound: Some(Bound::Output) }"), "{kind}"),
        }
    }
    nothing_is_left(&server).await;
}

#[tokio::test]
async fn unread_flood_makes_the_command_wait() {
    let server = builder_of(&["yes"], json!({})).start().await;
    let mut client = server.call("component", &["leave", "it"]).await;
    assert_eq!(client.line().await, "started");
    something_runs(&server, 1).await;
    client.cancel().await;
    assert_eq!(client.finish().await.failure(), "cancelled by the client");
    nothing_is_left(&server).await;
    // The guest that leaves it alone reads nothing: the command gets no further than the pipe.
    let ended = server.log().line("the end of the command", |line| line.message() == "command ended").await;
    assert_eq!(ended.field("bytes_out"), "0");
}

#[tokio::test]
async fn command_that_never_reads_can_be_cancelled() {
    let server = builder_of(&["sleep", "1000"], json!({})).start().await;
    for kind in KINDS {
        let given = params(kind, &[]);
        let given: Vec<_> = given.iter().map(String::as_str).collect();
        let mut client = server.call(kind, &given).await;
        for _ in 0..10 {
            client.say("x".repeat(60_000)).await;
        }
        something_runs(&server, 1).await;
        client.cancel().await;
        assert_eq!(client.finish().await.failure(), "cancelled by the client", "{kind}");
        nothing_is_left(&server).await;
    }
}

#[tokio::test]
async fn command_ends_when_its_time_is_over() {
    let script = "trap '' TERM; echo started; while :; do sleep 1000; done";
    let server = builder_of(&["sh", "-c", script], json!({"timeout": "100ms"})).start().await;
    let end = end(&server, "builtin").await;
    assert_eq!(end.lines[0], "started");
    assert_eq!(end.failure(), "exit status 137: the command ran for 100ms, as long as it may");
    nothing_is_left(&server).await;
}

#[tokio::test]
async fn grant_bounds_the_runs_at_once() {
    let server = builder_of(&["sleep", "1000"], json!({"concurrent": 1})).start().await;
    let mut first = server.call("builtin", &[]).await;
    something_runs(&server, 1).await;
    let busy = end(&server, "builtin").await.failure();
    assert_eq!(busy, "exit status 1: it runs as often as it may at once: try again later");
    first.cancel().await;
    first.finish().await;
    nothing_is_left(&server).await;
    let mut again = server.call("builtin", &[]).await;
    something_runs(&server, 1).await;
    again.cancel().await;
    again.finish().await;
}
