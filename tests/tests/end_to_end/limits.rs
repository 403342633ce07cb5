//! Limits: the client of an offending call learns which limit, and no other caller is affected.

use distillery_tests::{Client, Guest, Server, log::Line, patiently};
use serde_json::json;
use std::time::Duration;

#[tokio::test]
async fn memory_limit_is_enforced_and_named() {
    let server = Server::builder().guest(Guest::wat("grow")).both("hoard").set("limits.memory", "16MiB").start().await;
    for call in ["grow", "hoard", "hoard.module"] {
        let message = server.call(call, &[]).await.finish().await.failure();
        assert_eq!(message, "memory limit of 16MiB reached", "{call}");
    }
}

#[tokio::test]
async fn module_that_starts_above_its_memory_limit_does_not_load() {
    let server = Server::builder().guest(Guest::wat("too_big")).set("limits.memory", "16MiB").start().await;
    let line = server.log().line("the error of the plugin", |line| line.message() == "plugin not loaded").await;
    let error = line.field("error");
    assert!(error.contains("raise limits.memory in distillery.yaml, which is 16MiB"), "{error}");
}

#[tokio::test]
async fn guest_that_handles_refused_memory_succeeds() {
    let server = Server::builder().guest(Guest::wat("grow_and_live")).set("limits.memory", "16MiB").start().await;
    server.call("grow_and_live", &[]).await.finish().await.success();
}

#[tokio::test]
async fn endless_recursion_ends_at_the_stack_limit() {
    let server = Server::with([Guest::wat("deep")]).await;
    assert_eq!(server.call("deep", &[]).await.finish().await.failure(), "stack limit of 512KiB reached");
}

#[tokio::test]
async fn time_limit_ends_waiting_and_computing_guests() {
    let server = Server::builder().both("sleep").both("spin").set("limits.time", "500ms");
    let server = server.grace(Duration::from_millis(100)).start().await;
    for call in ["sleep", "sleep.module", "spin", "spin.module"] {
        let message = server.call(call, &[]).await.finish().await.failure();
        assert!(message.starts_with("time limit of 500ms reached (forced after "), "{call}: {message}");
    }
    let server = Server::builder().both("says_goodbye").set("limits.time", "1s");
    let server = server.grace(Duration::from_secs(60)).start().await;
    for call in ["says_goodbye", "says_goodbye.module"] {
        let end = server.call(call, &[]).await.finish().await;
        assert_eq!(end.lines, ["ready", "goodbye"], "{call}");
        assert_eq!(end.failure(), "time limit of 1s reached", "{call}");
    }
}

#[tokio::test]
async fn cpu_limit_counts_computing_and_not_waiting() {
    let server = Server::builder()
        .both("spin")
        .both("slow_reader")
        .set("limits.cpu", "300ms")
        .grace(Duration::from_millis(100))
        .start()
        .await;
    for call in ["slow_reader", "slow_reader.module"] {
        let mut client = server.call(call, &[]).await;
        // The guest waits 20 ms for each answer: twice the limit in total.
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
async fn call_beyond_the_process_limit_is_refused() {
    let server = Server::builder()
        .guest(Guest::component("echo_once"))
        .set("limits.processes", 2)
        .set("limits.queue_time", "0s")
        .start()
        .await;
    for _ in 0..3 {
        // Uses another protocol, which reports that the processes run.
        let mut running = [server.talk_to("echo_once", &[]).await, server.talk_to("echo_once", &[]).await];
        for talk in &mut running {
            talk.message("started").await;
        }
        let refused = server.call("echo_once", &[]).await.finish().await.failure();
        assert_eq!(refused, "too many running processes");
        for mut talk in running {
            talk.give("done\n").await;
            assert_eq!(talk.finish().await.success(), b"done\n");
        }
    }
}

#[tokio::test]
async fn call_waits_for_a_slot_if_configured() {
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
async fn call_cancelled_in_the_queue_never_runs() {
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

/// Every limit that a plugin can lower, with a call that breaks a low value and the message for its client.
struct Lowered {
    limit: &'static str,
    low: &'static str,
    /// The limits of the operator in the test that raises them, and values above those.
    allowed: &'static str,
    high: &'static str,
    guest: fn() -> Guest,
    params: &'static [&'static str],
    told: &'static str,
}

fn lowered() -> [Lowered; 12] {
    let limit =
        |limit, low, allowed, high, guest, params, told| Lowered { limit, low, allowed, high, guest, params, told };
    [
        limit("memory", "2MiB", "16MiB", "17MiB", || Guest::wat("grow"), &[], "memory limit of 2MiB reached"),
        limit(
            "time",
            "300ms",
            "1m",
            "61s",
            || Guest::component("sleep"),
            &[],
            "time limit of 300ms reached (forced after ",
        ),
        limit(
            "cpu",
            "200ms",
            "1m",
            "61s",
            || Guest::component("spin"),
            &[],
            "cpu limit of 200ms reached (forced after ",
        ),
        limit("output", "1KiB", "1MiB", "2MiB", || Guest::component("flood"), &[], "output limit of 1KiB reached"),
        limit(
            "input",
            "64KiB",
            "1MiB",
            "2MiB",
            || Guest::component("never_reads"),
            &[],
            "input limit of 64KiB reached: the call does not read its input",
        ),
        limit(
            "line",
            "1KiB",
            "64KiB",
            "65KiB",
            || Guest::component("long_line"),
            &["2000"],
            "line limit of 1KiB reached",
        ),
        limit(
            "params",
            "1",
            "8",
            "9",
            || Guest::component("args"),
            &["a", "b"],
            "too many parameters: a call can have at most 1",
        ),
        limit(
            "params_size",
            "4B",
            "8B",
            "9B",
            || Guest::component("args"),
            &["abcde"],
            "parameters too large: they can have at most 4B in all",
        ),
        limit(
            "tables",
            "5000",
            "8000",
            "8001",
            || Guest::wat("grow_table"),
            &[],
            "table limit of 5000 elements reached",
        ),
        limit("instances", "8", "10", "11", || Guest::wat("nine_instances"), &[], "instance limit of 8 reached"),
        limit(
            "resources",
            "100",
            "200",
            "201",
            || Guest::component("greedy"),
            &["pollables"],
            "resource limit of 100 reached",
        ),
        limit(
            "processes",
            "1",
            "",
            "",
            || Guest::component("says_goodbye"),
            &[],
            "too many running processes of this plugin",
        ),
    ]
}

#[tokio::test]
async fn limits_lowered_by_a_plugin_are_enforced_and_named() {
    let grace = Duration::from_millis(50);
    let mut builder = Server::builder().grace(grace).set("limits.queue_time", "0s");
    builder = builder.set("limits.input_idle", "300ms");
    for Lowered { limit, low, guest, .. } in lowered() {
        let manifest = format!("calls: {{{limit}: {{access: public}}}}\nlimits: {{{limit}: {low}}}\n");
        builder = builder.plugin(limit, guest(), &manifest);
    }
    let server = builder.start().await;
    for Lowered { limit, params, told, .. } in lowered() {
        let mut client = server.call(limit, params).await;
        if limit == "input" {
            // The server can stop reading before all input was sent.
            _ = client.say_all((0..3000).map(|_| "x".repeat(1000))).await;
        }
        if limit == "processes" {
            assert_eq!(client.line().await, "ready");
            let second = server.call(limit, params).await;
            assert_eq!(second.finish().await.failure(), told);
            client.cancel().await;
            client.finish().await.failure();
            continue;
        }
        let message = client.finish().await.failure();
        assert!(message.starts_with(told), "limits.{limit}: {message}");
    }
}

#[tokio::test]
async fn plugin_cannot_raise_the_limits_of_the_operator() {
    let mut builder = Server::builder();
    let all: Vec<_> = lowered().into_iter().filter(|it| !it.high.is_empty()).collect();
    for Lowered { limit, allowed, high, guest, .. } in &all {
        let allowed = allowed.parse::<u64>().map_or_else(|_| json!(allowed), |count| json!(count));
        builder = builder.set(&format!("limits.{limit}"), allowed);
        builder = builder.plugin(limit, guest(), &format!("limits: {{{limit}: {high}}}\n"));
    }
    let server = builder.start().await;
    for Lowered { limit, allowed, .. } in &all {
        let refused = |line: &Line| line.message() == "plugin not loaded" && line.field("plugin") == *limit;
        let error = server.log().line(&format!("the refusal of limits.{limit}"), refused).await.field("error");
        let (asks, more) =
            (format!("limits.{limit} asks for "), format!(", more than the {allowed} that distillery.yaml allows"));
        assert!(error.contains(&asks) && error.contains(&more), "{error}");
    }
}

#[tokio::test]
async fn module_that_never_fits_its_limits_does_not_load() {
    let lowered = |limit: &str| format!("limits: {{{limit}}}\n");
    let server = Server::builder()
        .plugin("memory", Guest::wat("too_big"), &lowered("memory: 2MiB"))
        .plugin("table", Guest::wat("grow_table"), &lowered("tables: 0"))
        .guest(Guest::wat("nine_instances"))
        .set("limits.instances", 8)
        .start()
        .await;
    for (plugin, told) in [
        ("memory", "it never fits: it begins with 64MiB of memory; raise limits.memory in plugin.yaml, which is 2MiB"),
        (
            "table",
            "it never fits: it begins with 1 elements of a table; raise limits.tables in plugin.yaml, which is 0",
        ),
        (
            "nine_instances",
            "it never fits: it is made of more core instances than a process may have; raise limits.instances in \
             distillery.yaml, which is 8",
        ),
    ] {
        let refused = |line: &Line| line.message() == "plugin not loaded" && line.field("plugin") == plugin;
        let error = server.log().line(&format!("the refusal of {plugin}"), refused).await.field("error");
        assert!(error.ends_with(told), "{error}");
    }
}

#[tokio::test]
async fn largest_process_fits_a_server_of_one_slot() {
    let server = Server::builder().guest(Guest::wat("nine_instances")).set("limits.processes", 1).start().await;
    for _ in 0..2 {
        server.call("nine_instances", &[]).await.finish().await.success();
    }
}

/// Returns a small module that takes the compiler much time and memory: each jump carries every one of its variables.
pub fn hard_to_compile() -> String {
    let variables = 20_000;
    let jumps: String = (0..4000)
        .map(|n| {
            let (from, to) = (n * 7 % variables, (n * 13 + 5) % variables);
            format!("(local.set {to} (i32.add (local.get {from}) (local.get {to}))) (br_if 0 (local.get {from}))\n")
        })
        .collect();
    let locals = "i32 ".repeat(variables);
    format!("(module (memory (export \"memory\") 1) (func (export \"_start\") (local {locals}) (loop {jumps})))")
}

async fn refusal_of_hard(server: &Server) -> String {
    let refused = |line: &Line| line.message() == "plugin not loaded" && line.field("plugin") == "hard";
    server.log().line("the refusal of the module", refused).await.field("error")
}

#[tokio::test]
async fn slow_compilation_is_aborted_and_the_server_keeps_serving() {
    let server = Server::builder()
        .guest(Guest::wat("grow_and_live"))
        .file("plugins/hard/hard.wat", hard_to_compile())
        .set("limits.compile_time", "500ms")
        .start()
        .await;
    let error = refusal_of_hard(&server).await;
    let told =
        "compiling takes longer than the 500ms of limits.compile_time: make the module smaller, or raise the limit";
    assert!(error.ends_with(told), "{error}");
    assert_eq!(server.children(), 0, "the compilation is still running");
    server.call("grow_and_live", &[]).await.finish().await.success();
}

#[tokio::test]
async fn compilation_beyond_its_memory_limit_is_aborted() {
    let server = Server::builder()
        .guest(Guest::component("echo_once"))
        .file("plugins/hard/hard.wat", hard_to_compile())
        .set("limits.compile_memory", "128MiB")
        .start()
        .await;
    let error = refusal_of_hard(&server).await;
    let told = "compiling takes more memory than the 128MiB of limits.compile_memory: make the module smaller, or raise the limit";
    assert!(error.ends_with(told), "{error}");
    let mut client = server.call("echo_once", &[]).await;
    client.say("unharmed").await;
    assert_eq!(client.finish().await.success(), ["unharmed"]);
}

#[tokio::test]
async fn modules_compile_without_a_usable_cache() {
    // A file blocks the directory for compiled code.
    let builder = Server::builder().file("cache/compiled", "").guest(Guest::wat("grow_and_live"));
    let cache = builder.directory().join("cache");
    let server = builder.set("cache", cache.to_str().expect("a path in UTF-8")).start().await;
    server.call("grow_and_live", &[]).await.finish().await.success();
    let told = "cannot compile in a process of its own: compiling without limits";
    server.log().line("a warning", |line| line.message() == told && line.level() == "WARN").await;
}

#[tokio::test]
async fn module_beyond_the_size_limit_does_not_load() {
    let server = Server::builder().guest(Guest::component("echo_once")).set("limits.module", "1KiB").start().await;
    let line = server.log().line("the refusal", |line| line.message() == "plugin not loaded").await;
    let error = line.field("error");
    let told = "echo_once.wasm: larger than 1KiB: make it smaller, or raise limits.module in distillery.yaml";
    assert!(error.ends_with(told), "{error}");
}

#[tokio::test]
async fn open_resources_are_counted_for_every_kind_of_guest() {
    let server = Server::builder()
        .guest(Guest::component("greedy"))
        .guest(Guest::wat("many_pollables"))
        .guest(Guest::component3("waits"))
        .set("limits.memory", "64MiB")
        .start()
        .await;
    for (call, params) in
        [("greedy", &["pollables"][..]), ("many_pollables", &[]), ("waits", &["streams"]), ("waits", &["tasks"])]
    {
        let message = server.call(call, params).await.finish().await.failure();
        assert_eq!(message, "resource limit of 1024 reached", "{call} {params:?}");
    }
}

#[tokio::test]
async fn host_memory_of_a_guest_is_bounded() {
    let server = Server::builder()
        .guest(Guest::component("greedy"))
        .guest(Guest::component3("waits"))
        .set("limits.resources", 1_000)
        .set("limits.memory", "128MiB")
        .start()
        .await;
    // The engine and its first process exist before the measurement.
    server.call("greedy", &["nothing"]).await.finish().await.failure();
    let before = server.peak_memory();
    for (params, told) in [
        (["poll"], "host call limit of 16MiB reached"),
        (["random"], "trap: requested len 18446744073709551615 exceeds limit 1048576"),
        (["unpermitted"], "trap: it writes more than it was permitted to"),
        (["zeroes"], "trap: cannot write more zeroes than `check_write` allows"),
        (["pollables"], "resource limit of 1000 reached"),
    ] {
        assert_eq!(server.call("greedy", &params).await.finish().await.failure(), told, "{params:?}");
    }
    // The message depends on how soon the client reads the output.
    let greedy = server.call("greedy", &["permits"]).await;
    server.log().lines_of("the ends of all", 7, |line| line.message() == "process ended").await;
    greedy.hang_up().await;
    for params in [["streams"], ["tasks"]] {
        let message = server.call("waits", &params).await.finish().await.failure();
        assert_eq!(message, "resource limit of 1000 reached", "{params:?}");
    }
    let grown = server.peak_memory() - before;
    // The linear memory of the guest that makes a list of 32 MiB belongs to the guest; the rest is the host's.
    assert!(grown < 96 << 20, "the server grew by {} MiB", grown >> 20);
}

#[tokio::test]
async fn process_limit_applies_to_each_caller() {
    let server = Server::builder()
        .guest(Guest::component("says_goodbye"))
        .set("limits.processes_per_caller", 1)
        .set("limits.queue_time", "0s")
        .start()
        .await;
    let mut first = server.call("says_goodbye", &[]).await;
    assert_eq!(first.line().await, "ready");
    let second = server.call("says_goodbye", &[]).await;
    assert_eq!(second.finish().await.failure(), "too many running processes of this caller");
    let mut other = Client::connect_from([127, 0, 0, 2].into(), server.address()).await;
    other.call("says_goodbye", &[]).await;
    assert_eq!(other.line().await, "ready");
    for mut client in [first, other] {
        client.cancel().await;
        client.finish().await.failure();
    }
    let mut again = server.call("says_goodbye", &[]).await;
    assert_eq!(again.line().await, "ready");
    again.hang_up().await;
}

#[tokio::test]
async fn queue_timeout_names_the_limit_that_was_full() {
    let manifest = "calls: {narrow: {access: public}}\nlimits: {processes: 1}\n";
    let server = Server::builder()
        .guest(Guest::component("says_goodbye"))
        .plugin("narrow", Guest::component("says_goodbye"), manifest)
        .set("limits.processes", 2)
        .set("limits.queue_time", "300ms")
        .start()
        .await;
    let mut narrow = server.call("narrow", &[]).await;
    assert_eq!(narrow.line().await, "ready");
    let refused = server.call("narrow", &[]).await.finish().await.failure();
    assert_eq!(refused, "too many running processes of this plugin");
    let mut other = server.call("says_goodbye", &[]).await;
    assert_eq!(other.line().await, "ready");
    for call in ["narrow", "says_goodbye"] {
        let refused = server.call(call, &[]).await.finish().await.failure();
        assert_eq!(refused, "too many running processes", "{call}");
    }
}

#[tokio::test]
async fn full_queue_refuses_and_a_disconnect_frees_its_slot() {
    let server = Server::builder()
        .guest(Guest::component("says_goodbye"))
        .set("limits.processes", 1)
        .set("limits.queue", 1)
        .set("limits.queue_time", "60s")
        .start()
        .await;
    let mut first = server.call("says_goodbye", &[]).await;
    assert_eq!(first.line().await, "ready");
    // Uses another protocol, which reports that the call waits.
    let mut waiting = server.talk_to("says_goodbye", &[]).await;
    waiting.message("queued").await;
    let refused = server.call("says_goodbye", &[]).await.finish().await.failure();
    assert_eq!(refused, "too many running processes");
    waiting.hang_up().await;
    // Its position in the queue is free as soon as the server notices the disconnect.
    let mut message = refused;
    patiently("the position in the queue to be free", async {
        while message == "too many running processes" {
            let mut next = server.call("says_goodbye", &[]).await;
            next.cancel().await;
            message = next.finish().await.failure();
        }
    })
    .await;
    assert_eq!(message, "cancelled by the client");
    first.cancel().await;
    first.finish().await.failure();
}

#[tokio::test]
async fn cancel_behind_much_text_leaves_the_queue() {
    let server = Server::builder()
        .guest(Guest::component("says_goodbye"))
        .set("limits.processes", 1)
        .set("limits.queue_time", "1h")
        .start()
        .await;
    let mut first = server.call("says_goodbye", &[]).await;
    assert_eq!(first.line().await, "ready");
    let mut second = server.call("says_goodbye", &[]).await;
    second.say_all((0..2000).map(|_| "x".repeat(1000))).await.expect("the server keeps reading");
    second.cancel().await;
    assert_eq!(second.finish().await.failure(), "cancelled by the client");
}

#[tokio::test]
async fn garbage_collected_heap_counts_as_memory() {
    let server = Server::builder().guest(Guest::wat("hoard_arrays")).set("limits.memory", "16MiB").start().await;
    let message = server.call("hoard_arrays", &[]).await.finish().await.failure();
    assert_eq!(message, "memory limit of 16MiB reached");
}
