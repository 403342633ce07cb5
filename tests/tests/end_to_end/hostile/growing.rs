//! Guests that take all they can get: each has its bound, and so has the state that the server keeps for them.

use distillery_tests::{Guest, Server};

/// Largest memory of the server during one of these calls, its own included.
const ALL_SIDES: u64 = 64 << 20;

#[tokio::test]
async fn garbage_collected_structs_count_as_memory() {
    let server = Server::builder().guest(Guest::hostile("grow_heap")).set("limits.memory", "16MiB").start().await;
    let message = server.call("grow_heap", &[]).await.finish().await.failure();
    assert_eq!(message, "memory limit of 16MiB reached");
}

#[tokio::test]
async fn host_state_of_a_guest_is_bounded() {
    let server = Server::builder()
        .guest(Guest::component("hoards_pollables"))
        .guest(Guest::component("hoards_streams"))
        .guest(Guest::hostile("component_hoard_handles"))
        .guest_as("hostile", Guest::component3("hostile"))
        .set("limits.memory", "16MiB")
        .start()
        .await;
    let before = server.occupied().memory;
    for (call, params) in [
        ("hoards_pollables", &[][..]),
        ("hoards_streams", &[]),
        ("component_hoard_handles", &[]),
        ("hostile", &["streams"]),
    ] {
        server.call(call, params).await.finish().await.failure();
        let grown = server.peak_memory().saturating_sub(before);
        assert!(grown < ALL_SIDES, "{call} {params:?}: memory grew by {grown} bytes");
    }
}
