//! What is bounded: who goes over a limit is told which, and nobody else notices.

use distillery_tests::{Guest, Server};
use std::time::Duration;

#[tokio::test]
async fn memory_beyond_the_limit_is_refused_and_named() {
    let server = Server::builder().guest(Guest::wat("grow")).both("hoard").set("limits.memory", "16MiB").start().await;
    for call in ["grow", "hoard", "hoard.module"] {
        let message = server.call(call, &[]).await.finish().await.failure();
        assert_eq!(message, "memory limit of 16MiB reached", "{call}");
    }
}

#[tokio::test]
async fn a_module_that_begins_with_more_memory_than_it_may_have_does_not_load() {
    let server = Server::builder().guest(Guest::wat("too_big")).set("limits.memory", "16MiB").start().await;
    let line = server.log().line("the error of the plugin", |line| line.message() == "plugin not loaded").await;
    let error = line.field("error");
    assert!(error.contains("raise limits.memory in distillery.yaml, which is 16MiB"), "{error}");
}

#[tokio::test]
async fn a_guest_that_copes_with_the_memory_it_gets_succeeds() {
    let server = Server::builder().guest(Guest::wat("grow_and_live")).set("limits.memory", "16MiB").start().await;
    server.call("grow_and_live", &[]).await.finish().await.success();
}

#[tokio::test]
async fn endless_recursion_ends_at_the_stack_limit() {
    let server = Server::with([Guest::wat("deep")]).await;
    assert_eq!(server.call("deep", &[]).await.finish().await.failure(), "stack limit of 512KiB reached");
}

#[tokio::test]
async fn time_is_up_for_a_guest_that_waits_and_for_one_that_computes() {
    let server = Server::builder()
        .both("sleep")
        .both("spin")
        .both("says_goodbye")
        .set("limits.time", "500ms")
        .grace(Duration::from_millis(100))
        .start()
        .await;
    for call in ["sleep", "sleep.module", "spin", "spin.module"] {
        let message = server.call(call, &[]).await.finish().await.failure();
        assert!(message.starts_with("time limit of 500ms reached (forced after "), "{call}: {message}");
    }
    for call in ["says_goodbye", "says_goodbye.module"] {
        let end = server.call(call, &[]).await.finish().await;
        assert_eq!(end.lines, ["ready", "goodbye"], "{call}");
        assert_eq!(end.failure(), "time limit of 500ms reached", "{call}");
    }
}

#[tokio::test]
async fn computing_ends_at_the_cpu_limit_and_waiting_does_not_count() {
    let server = Server::builder()
        .both("spin")
        .both("slow_reader")
        .set("limits.cpu", "300ms")
        .grace(Duration::from_millis(100))
        .start()
        .await;
    for call in ["slow_reader", "slow_reader.module"] {
        let mut client = server.call(call, &[]).await;
        // Each takes 20 ms to answer, twice as long as the limit in all.
        for _ in 0..30 {
            client.say("still there?").await;
            assert_eq!(client.line().await, "still there?", "{call}");
        }
    }
    for call in ["spin", "spin.module"] {
        let message = server.call(call, &[]).await.finish().await.failure();
        assert!(message.starts_with("cpu limit of 300ms reached"), "{call}: {message}");
    }
}

#[tokio::test]
async fn a_call_beyond_the_last_process_is_refused_and_later_ones_are_not() {
    let server = Server::builder()
        .guest(Guest::component("echo_once"))
        .set("limits.processes", 2)
        .set("limits.queue_time", "0s")
        .start()
        .await;
    for _ in 0..3 {
        // They wait for their line, so they run: a call that was refused would have a result.
        let mut first = server.call("echo_once", &[]).await;
        let mut second = server.call("echo_once", &[]).await;
        let refused = loop {
            // The first two have begun when a third finds no place; until then it is one of the two.
            let mut third = server.call("echo_once", &[]).await;
            third.say("third").await;
            match third.finish().await.verdict {
                distillery_tests::Verdict::Failure(message) => break message,
                distillery_tests::Verdict::Success => continue,
            }
        };
        assert_eq!(refused, "too many running processes");
        for client in [&mut first, &mut second] {
            client.say("done").await;
        }
        assert_eq!(first.finish().await.success(), ["done"]);
        assert_eq!(second.finish().await.success(), ["done"]);
    }
}

#[tokio::test]
async fn a_call_waits_for_a_place_where_the_operator_lets_it() {
    let server = Server::builder()
        .guest(Guest::component("conversation"))
        .set("limits.processes", 1)
        .set("limits.queue_time", "60s")
        .start()
        .await;
    let mut first = server.call("conversation", &["first"]).await;
    assert_eq!(first.line().await, "hello first");
    let mut second = server.call("conversation", &["second"]).await;
    second.say("sent while waiting").await;
    first.say("end").await;
    first.finish().await.success();
    second.say("end").await;
    assert_eq!(second.finish().await.success(), ["hello second", "echo: sent while waiting"]);
}

#[tokio::test]
async fn a_call_that_is_cancelled_while_it_waits_never_runs() {
    let server = Server::builder()
        .guest(Guest::component("says_goodbye"))
        .set("limits.processes", 1)
        .set("limits.queue_time", "60s")
        .start()
        .await;
    let mut first = server.call("says_goodbye", &[]).await;
    assert_eq!(first.line().await, "ready");
    let mut second = server.call("says_goodbye", &[]).await;
    second.cancel().await;
    let end = second.finish().await;
    assert_eq!(end.lines, [""; 0]);
    assert_eq!(end.failure(), "cancelled by the client");
}

#[tokio::test]
async fn a_plugin_may_lower_its_own_limits() {
    let manifest = "calls: {grow: {access: public}}\nlimits: {memory: 2MiB}\n";
    let server = Server::builder().plugin("grow", Guest::wat("grow"), manifest).start().await;
    assert_eq!(server.call("grow", &[]).await.finish().await.failure(), "memory limit of 2MiB reached");
}
