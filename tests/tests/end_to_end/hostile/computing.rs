//! Guests that never yield the processor, in each place where they can hold it: each is ended, and others keep running.

use distillery_tests::{Client, Guest, Server, server::Builder};
use std::time::Duration;

const GRACE: Duration = Duration::from_millis(100);

fn builder() -> Builder {
    Server::builder().grace(GRACE).guest(Guest::component("echo_once"))
}

/// Cancels the guest while a good call continues, and returns how the guest was stopped.
async fn is_forced(server: &Server, call: &str, mut client: Client) -> String {
    let mut good = server.call("echo_once", &[]).await;
    good.say("meanwhile").await;
    assert_eq!(good.finish().await.success(), ["meanwhile"], "beside {call}");
    client.cancel().await;
    let message = client.finish().await.failure();
    assert!(message.starts_with("cancelled by the client (forced after "), "{call}: {message}");
    server.process_ended(call).await.field("stop")
}

#[tokio::test]
async fn component_that_spins_in_its_start_function_is_interrupted() {
    let server = builder().guest(Guest::hostile("component_spin_start")).start().await;
    let client = server.call("component_spin_start", &[]).await;
    assert_eq!(is_forced(&server, "component_spin_start", client).await, "interrupted");
}

#[tokio::test]
async fn component_that_spins_in_its_allocator_is_interrupted() {
    let server = builder().guest(Guest::hostile("component_spin_realloc")).start().await;
    let client = server.call("component_spin_realloc", &[]).await;
    assert_eq!(is_forced(&server, "component_spin_realloc", client).await, "interrupted");
}

#[tokio::test]
async fn component_that_spins_after_its_return_is_interrupted() {
    let server = builder().guest(Guest::hostile("component_spin_post_return")).start().await;
    let client = server.call("component_spin_post_return", &[]).await;
    assert_eq!(is_forced(&server, "component_spin_post_return", client).await, "interrupted");
}

#[tokio::test]
async fn guest_that_loops_over_zero_waits_is_ended() {
    let server = builder()
        .guest(Guest::component("polls_without_pause"))
        .guest(Guest::hostile("poll_without_pause"))
        .start()
        .await;
    for call in ["polls_without_pause", "poll_without_pause"] {
        let mut client = server.call(call, &[]).await;
        assert_eq!(client.line().await, "polling", "{call}");
        is_forced(&server, call, client).await;
    }
}

#[tokio::test]
async fn guest_that_loops_over_zero_waits_hits_its_cpu_limit() {
    let server = builder()
        .guest(Guest::component("polls_without_pause"))
        .guest(Guest::hostile("poll_without_pause"))
        .set("limits.cpu", "300ms")
        .start()
        .await;
    for call in ["polls_without_pause", "poll_without_pause"] {
        let message = server.call(call, &[]).await.finish().await.failure();
        assert!(message.starts_with("cpu limit of 300ms reached"), "{call}: {message}");
    }
}

#[tokio::test]
async fn sleep_beyond_the_range_of_the_clock_does_not_panic() {
    let server = builder()
        .guest(Guest::component("sleeps_beyond_the_clock"))
        .guest(Guest::hostile("sleep_beyond_the_clock"))
        .guest_as("sleeps_beyond_the_clock.3", Guest::component3("hostile"))
        .start()
        .await;
    for (call, params) in [
        ("sleeps_beyond_the_clock", &[][..]),
        ("sleep_beyond_the_clock", &[]),
        ("sleeps_beyond_the_clock.3", &["sleep"]),
    ] {
        let client = server.call(call, params).await;
        assert_eq!(is_forced(&server, call, client).await, "dropped", "{call}");
    }
}
