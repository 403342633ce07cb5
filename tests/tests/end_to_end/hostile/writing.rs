//! Guests that abuse their streams: their output is bounded everywhere, and a closed stream stays closed.

use distillery_tests::{Guest, Server};
use std::time::Duration;

const GRACE: Duration = Duration::from_millis(100);

#[tokio::test]
async fn stderr_flood_is_bounded_in_the_log_and_not_sent() {
    let server = Server::builder().both("flood_stderr").grace(GRACE).start().await;
    for call in ["flood_stderr", "flood_stderr.module"] {
        let mut client = server.call(call, &[]).await;
        assert_eq!(client.line().await, "complaining", "{call}");
        let of_it = |line: &distillery_tests::log::Line| line.message() == "stderr" && line.field("call") == call;
        server.log().lines_of("the last line that is given on", 1000, of_it).await;
        client.cancel().await;
        let end = client.finish().await;
        assert_eq!(end.lines, [""; 0], "{call}");
        assert!(end.failure().starts_with("cancelled by the client (forced after "), "{call}");
        server.process_ended(call).await;
        assert_eq!(server.log().lines().iter().filter(|line| of_it(line)).count(), 1000, "{call}");
    }
}

#[tokio::test]
async fn endless_stderr_line_uses_no_memory() {
    let server = Server::builder().both("endless_stderr").set("limits.cpu", "1s").grace(GRACE).start().await;
    for call in ["endless_stderr", "endless_stderr.module"] {
        let before = server.peak_memory();
        let message = server.call(call, &[]).await.finish().await.failure();
        assert!(message.starts_with("cpu limit of 1s reached"), "{call}: {message}");
        let grown = server.peak_memory() - before;
        assert!(grown < 16 << 20, "{call}: memory grew by {grown} bytes");
    }
}

#[tokio::test]
async fn buffer_outside_guest_memory_is_refused() {
    // 48 is `nomem`: more than one host call can take.
    let server = Server::with([Guest::hostile("lie_about_buffers")]).await;
    let before = server.peak_memory();
    let lies = [
        "trap: Pointer out of bounds: Region { start: 16, len: 4294967295 }",
        "trap: Pointer out of bounds: Region { start: 1048560, len: 4 }",
        "exit status 48",
        "exit status 48",
        "trap: Pointer out of bounds: Region { start: 16777200, len: 4 }",
        "trap: requested len 4294967295 exceeds limit ",
        "exit status 48",
    ];
    for (params, told) in lies.into_iter().enumerate() {
        let end = server.call("lie_about_buffers", &["lie"; 7][..params]).await.finish().await;
        assert_eq!(end.lines, [""; 0], "{told}");
        let message = end.failure();
        assert!(message.starts_with(told), "{message:?} instead of {told:?}");
    }
    let grown = server.peak_memory() - before;
    assert!(grown < 32 << 20, "memory grew by {grown} bytes");
}

#[tokio::test]
async fn closed_stream_accepts_nothing_more() {
    let server = Server::with([Guest::hostile("write_after_close")]).await;
    let end = server.call("write_after_close", &[]).await.finish().await;
    assert_eq!(end.lines, [""; 0]);
    // The number of `badf`.
    assert_eq!(end.failure(), "exit status 8");
}

#[tokio::test]
async fn refused_host_calls_do_not_fill_the_log() {
    let server = Server::with([Guest::hostile("flood_the_log")]).await;
    server.call("flood_the_log", &[]).await.finish().await.success();
    server.process_ended("flood_the_log").await;
    let lines = server.log().lines();
    assert!(lines.len() < 20, "{} lines, the last of them {:?}", lines.len(), lines.last());
}
