//! Health, readiness and metrics, on the listener of the operator.

use super::exposition::Exposition;
use distillery_tests::{
    Guest, Server,
    http::{Answer, get_at},
    patiently,
    server::Builder,
};
use serde_json::json;
use std::net::SocketAddr;

pub fn builder() -> Builder {
    Server::builder().set("ops.listen", "127.0.0.1:0")
}

async fn numbers(address: SocketAddr) -> Exposition {
    let answer = get_at(address, "/metrics").await;
    assert_eq!(answer.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    Exposition::read(std::str::from_utf8(&answer.body).expect("the numbers are text"))
}

fn said(answer: &Answer) -> (u16, String) {
    (answer.status.as_u16(), String::from_utf8_lossy(&answer.body).into_owned())
}

#[tokio::test]
async fn processes_are_counted_by_call_and_outcome() {
    let server = builder()
        .guest(Guest::component("exit"))
        .guest(Guest::component("echo_once"))
        .guest(Guest::component("hold"))
        .start()
        .await;
    let ops = server.operators_address().await;
    server.call("exit", &["7"]).await.finish().await.failure();
    let mut echo = server.call("echo_once", &[]).await;
    echo.say("twelve bytes").await;
    echo.finish().await.success();
    let mut holding = server.call("hold", &[]).await;
    holding.line().await;
    let now = numbers(ops).await;
    for (series, value) in [
        ("distillery_processes_started_total{call=\"exit\"}", 1.0),
        ("distillery_processes_ended_total{call=\"exit\",outcome=\"exited\"}", 1.0),
        ("distillery_processes_ended_total{call=\"exit\",outcome=\"success\"}", 0.0),
        ("distillery_processes_ended_total{call=\"echo_once\",outcome=\"success\"}", 1.0),
        ("distillery_process_duration_seconds_count{call=\"echo_once\"}", 1.0),
        ("distillery_process_input_bytes_total{call=\"echo_once\"}", 13.0),
        ("distillery_process_output_bytes_total{call=\"echo_once\"}", 13.0),
        ("distillery_processes_running{call=\"exit\"}", 0.0),
        ("distillery_processes_running{call=\"hold\"}", 1.0),
        ("distillery_places_taken", 1.0),
        ("distillery_plugins_serving", 3.0),
        ("distillery_plugins_broken", 0.0),
        ("distillery_history_dropped_total", 0.0),
        ("distillery_ready", 1.0),
    ] {
        assert_eq!(now.value(series), value, "{series}");
    }
    assert!(now.value("process_cpu_seconds_total") > 0.0);
    assert!(now.value("process_resident_memory_bytes") > 1e6);
    assert!(now.value("distillery_connections_total") >= 3.0);
    assert!(now.value("distillery_connection_received_bytes_total") > 100.0);
    assert_eq!(now.series("distillery_build_info").len(), 1);
    holding.cancel().await;
    holding.finish().await.failure();
    let now = numbers(ops).await;
    assert_eq!(now.value("distillery_processes_ended_total{call=\"hold\",outcome=\"cancelled\"}"), 1.0);
}

#[tokio::test]
async fn names_invented_by_clients_are_no_labels() {
    let server = builder().bare_plugin("args", Guest::component("args")).start().await;
    let ops = server.operators_address().await;
    let before = numbers(ops).await.series("").len();
    for number in 0..20 {
        let name = format!("made_up_{number}");
        assert!(server.call(&name, &[]).await.finish().await.failure().starts_with("unknown call"));
    }
    server.call("args", &[]).await.finish().await.failure();
    let mut silent = server.connect().await;
    silent.say("not a call").await;
    silent.finish().await.failure();
    let mut stranger = server.talk().await;
    stranger.say(json!({"type": "attach", "id": "01a20f59-78a6-76fc-ad7f-88bae05a2f90"})).await;
    stranger.finish().await;
    let now = numbers(ops).await;
    for (reason, times) in
        [("unknown_call", 20.0), ("not_authorized", 1.0), ("protocol_error", 1.0), ("unknown_process", 1.0)]
    {
        assert_eq!(now.value(&format!("distillery_calls_refused_total{{reason=\"{reason}\"}}")), times, "{reason}");
    }
    assert_eq!(now.series("").len(), before, "no series is new");
}

#[tokio::test]
async fn waiting_call_is_counted_in_the_queue() {
    let server = builder().guest(Guest::component("hold")).set("limits.processes", 1).start().await;
    let ops = server.operators_address().await;
    let mut first = server.call("hold", &[]).await;
    first.line().await;
    let mut second = server.call("hold", &[]).await;
    patiently("the second call to wait", async { while numbers(ops).await.value("distillery_queue_length") == 0.0 {} })
        .await;
    first.cancel().await;
    first.finish().await.failure();
    second.line().await;
    let now = numbers(ops).await;
    assert_eq!(now.value("distillery_queue_length"), 0.0);
    assert_eq!(now.value("distillery_queue_wait_seconds_count"), 1.0);
    assert_eq!(now.value("distillery_places"), 1.0);
}

#[tokio::test]
async fn plugin_that_does_not_load_is_counted() {
    let server = builder().guest(Guest::component("exit")).start().await;
    let ops = server.operators_address().await;
    server.put("plugins/broken/broken.wat", "(module");
    server.log().line("the error", |line| line.message() == "plugin not loaded").await;
    let now = numbers(ops).await;
    assert_eq!(now.value("distillery_plugins_broken"), 1.0);
    assert!(now.value("distillery_plugin_load_errors_total") >= 1.0);
    assert!(now.value("distillery_plugin_swaps_total") >= 1.0);
}

#[tokio::test]
async fn draining_server_is_alive_and_not_ready() {
    let server = builder()
        .guest(Guest::component("hold"))
        .set("cancel.grace", "60s")
        .set("cancel.shutdown_grace", "10m")
        .start()
        .await;
    let ops = server.operators_address().await;
    assert_eq!(said(&get_at(ops, "/readyz").await), (200, "ready\n".into()));
    let mut holding = server.call("hold", &[]).await;
    holding.line().await;
    server.terminate();
    server.log().line("the drain to begin", |line| line.message().starts_with("draining")).await;
    assert_eq!(said(&get_at(ops, "/readyz").await), (503, "draining: the server ends\n".into()));
    assert_eq!(said(&get_at(ops, "/healthz").await), (200, "ok\n".into()));
    assert_eq!(numbers(ops).await.value("distillery_ready"), 0.0);
}

#[tokio::test]
async fn loading_server_is_alive_and_not_ready() {
    // A module without compiled code takes many times as long as one answer.
    let function =
        format!("(func (result i32) (i32.const 1) {})", "(i32.const 3) (i32.mul) (i32.const 5) (i32.xor) ".repeat(400));
    let module = format!("(module {} (func (export \"_start\")))", function.repeat(400));
    let builder = builder().file("plugins/slow/slow.wat", module);
    let cache = builder.directory().join("cache").display().to_string();
    let mut server = builder.set("cache", cache).begin();
    let ops = server.operators_address().await;
    let (status, words) = said(&get_at(ops, "/readyz").await);
    assert!(status == 503 && (words.starts_with("starting: ") || words.starts_with("loading: ")), "{status} {words}");
    assert_eq!(said(&get_at(ops, "/healthz").await), (200, "ok\n".into()));
    assert_eq!(numbers(ops).await.value("distillery_ready"), 0.0);
    server.listens().await;
    patiently("the server to be ready", async { while get_at(ops, "/readyz").await.status.as_u16() != 200 {} }).await;
}

#[tokio::test]
async fn client_listener_serves_no_operator_routes() {
    let server = builder().start().await;
    for path in ["/metrics", "/healthz", "/readyz"] {
        assert_eq!(server.get(path).await.status.as_u16(), 404, "{path}");
    }
    let ops = server.operators_address().await;
    assert_eq!(get_at(ops, "/api/v1/auth").await.status.as_u16(), 404);
}
