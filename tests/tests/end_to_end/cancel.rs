//! A cancel ends a guest in every state, reports how it ended, and affects no other process.

use distillery_tests::{Client, Guest, Server, server::Builder};
use std::time::{Duration, Instant};

const GRACE: Duration = Duration::from_millis(200);
/// Far longer than any test waits: a process that ends within this time was not waited for.
const NEVER: Duration = Duration::from_secs(60);

/// Returns a client of a call whose guest has written its first line, and so is at work.
async fn begun(server: &Server, call: &str) -> Client {
    let mut client = server.call(call, &[]).await;
    client.line().await;
    client
}

/// Cancels and returns the message of the result.
async fn cancelled(mut client: Client) -> String {
    client.cancel().await;
    client.finish().await.failure()
}

fn forced(message: &str) -> bool {
    message.starts_with("cancelled by the client (forced after ")
}

#[tokio::test]
async fn notified_guest_finishes_its_output_and_still_fails() {
    let server = Server::builder().both("says_goodbye").start().await;
    for call in ["says_goodbye", "says_goodbye.module"] {
        let mut client = begun(&server, call).await;
        client.cancel().await;
        let end = client.finish().await;
        assert_eq!(end.lines, ["goodbye"], "{call}");
        assert_eq!(end.failure(), "cancelled by the client", "{call}");
        let line = server.process_ended(call).await;
        assert_eq!((line.field("kind"), line.field("stop")), ("cancelled".into(), "told".into()));
    }
}

#[tokio::test]
async fn computing_guest_is_interrupted_after_the_grace_period() {
    let server = Server::builder().both("spin").grace(GRACE).start().await;
    for call in ["spin", "spin.module"] {
        let message = cancelled(begun(&server, call).await).await;
        assert!(forced(&message), "{call}: {message}");
        assert_eq!(server.process_ended(call).await.field("stop"), "interrupted", "{call}");
    }
}

#[tokio::test]
async fn guest_that_computes_before_main_is_interrupted() {
    let server = Server::builder().guest(Guest::wat("spin_start")).grace(GRACE).start().await;
    let message = cancelled(server.call("spin_start", &[]).await).await;
    assert!(forced(&message), "{message}");
}

#[tokio::test]
async fn guest_waiting_in_the_host_is_dropped_after_the_grace() {
    let server = Server::builder().both("sleep").both("hold").grace(GRACE).start().await;
    for call in ["sleep", "sleep.module", "hold", "hold.module"] {
        let message = cancelled(begun(&server, call).await).await;
        assert!(forced(&message), "{call}: {message}");
        assert_eq!(server.process_ended(call).await.field("stop"), "dropped", "{call}");
    }
}

#[tokio::test]
async fn guest_that_keeps_writing_after_a_cancel_is_ended() {
    let server = Server::builder().both("writes_after_end").grace(GRACE).start().await;
    for call in ["writes_after_end", "writes_after_end.module"] {
        let message = cancelled(begun(&server, call).await).await;
        assert!(forced(&message), "{call}: {message}");
    }
}

#[tokio::test]
async fn guest_blocked_by_full_output_is_ended() {
    let server = Server::builder().both("flood").grace(GRACE).start().await;
    for call in ["flood", "flood.module"] {
        let mut client = begun(&server, call).await;
        // The client reads nothing until the process has ended: the cancel does not wait for the output.
        client.cancel().await;
        server.process_ended(call).await;
        let message = client.finish().await.failure();
        assert!(forced(&message), "{call}: {message}");
    }
}

#[tokio::test]
async fn async_component_is_cancelled_in_the_same_ways() {
    let server = Server::builder().guest(Guest::component3("waits")).grace(GRACE).start().await;
    for way in ["sleep", "hold", "spin", "flood"] {
        let mut client = server.call("waits", &[way]).await;
        assert_eq!(client.line().await, "ready", "{way}");
        let message = cancelled(client).await;
        assert!(forced(&message), "{way}: {message}");
    }
}

#[tokio::test]
async fn second_cancel_skips_the_grace_period() {
    let server = Server::builder().both("spin").both("sleep").both("hold").grace(NEVER).start().await;
    for call in ["spin", "spin.module", "sleep", "sleep.module", "hold", "hold.module"] {
        let begin = Instant::now();
        let mut client = begun(&server, call).await;
        client.cancel().await;
        let message = cancelled(client).await;
        assert!(forced(&message), "{call}: {message}");
        assert!(begin.elapsed() < NEVER / 2, "{call}: {:?}", begin.elapsed());
    }
}

#[tokio::test]
async fn closing_client_ends_its_process() {
    let server = Server::builder().both("says_goodbye").start().await;
    for call in ["says_goodbye", "says_goodbye.module"] {
        begun(&server, call).await.hang_up().await;
        assert_eq!(server.process_ended(call).await.field("outcome"), "the client disconnected", "{call}");
    }
}

#[tokio::test]
async fn vanished_client_ends_its_process_in_every_state() {
    let server = Server::builder().both("spin").both("sleep").both("flood").grace(GRACE).start().await;
    for call in ["spin", "spin.module", "sleep", "sleep.module", "flood", "flood.module"] {
        drop(begun(&server, call).await);
        let outcome = server.process_ended(call).await.field("outcome");
        assert!(outcome.starts_with("the client disconnected (forced after "), "{call}: {outcome}");
    }
}

#[tokio::test]
async fn cancel_affects_no_other_process_of_the_plugin() {
    let server = Server::builder().both("spin").guest(Guest::component("never_reads")).grace(GRACE).start().await;
    let mut busy = begun(&server, "never_reads").await;
    for call in ["spin", "spin.module"] {
        let (one, other) = (begun(&server, call).await, begun(&server, call).await);
        let message = cancelled(one).await;
        assert!(forced(&message), "{call}: {message}");
        for _ in 0..20 {
            assert_eq!(busy.line().await, "busy");
        }
        // If the first cancel had interrupted this process, its result would already be there, with another message.
        let message = cancelled(other).await;
        assert!(forced(&message), "{call}: {message}");
    }
}

/// Starts more computing guests than there are cores.
async fn crowd(builder: Builder, call: &str) -> (Server, Vec<Client>) {
    let server = builder.start().await;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut crowd = Vec::new();
    for _ in 0..4 * cores {
        crowd.push(server.call(call, &[]).await);
    }
    for client in &mut crowd {
        assert_eq!(client.line().await, "spinning");
    }
    (server, crowd)
}

#[tokio::test]
async fn many_computing_guests_delay_neither_routes_nor_calls() {
    for call in ["spin", "spin.module"] {
        let builder = Server::builder().both("spin").guest(Guest::component("echo_once")).grace(GRACE);
        let (server, _crowd) = crowd(builder, call).await;
        for _ in 0..20 {
            let begin = Instant::now();
            assert_eq!(server.get("/api/v1/auth").await.status, 200);
            let mut client = server.call("echo_once", &[]).await;
            client.say("quick").await;
            assert_eq!(client.finish().await.success(), ["quick"]);
            // Far above the normal duration, and far below the duration if a guest had to finish first.
            assert!(begin.elapsed() < Duration::from_secs(5), "{call}: {:?}", begin.elapsed());
        }
    }
}

#[tokio::test]
async fn many_computing_guests_can_be_cancelled() {
    let (_server, mut crowd) = crowd(Server::builder().both("spin").grace(GRACE), "spin").await;
    for client in &mut crowd {
        client.cancel().await;
    }
    for client in crowd {
        let message = client.finish().await.failure();
        assert!(forced(&message), "{message}");
    }
}
