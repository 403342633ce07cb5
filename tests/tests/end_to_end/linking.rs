//! How modules are linked and entered: constants, arguments, other entry points, unknown imports, and the predecessor of
//! preview 1.

use distillery_tests::{Guest, Server, log::Line};

async fn refusal(server: &Server, plugin: &str, why: &str) {
    let told = |line: &Line| {
        line.message() == "plugin not loaded" && line.field("plugin") == plugin && line.field("error").contains(why)
    };
    server.log().line(&format!("why {plugin} does not load: {why}"), told).await;
}

#[tokio::test]
async fn constants_are_in_the_environment_and_in_lists() {
    let manifest = "calls: {env: {access: public}}\nenv: {MODE: loud, EMPTY: \"\"}\n";
    let server = Server::builder()
        .plugin("env", Guest::component("env"), manifest)
        .set("auth.anonymous", vec!["plugins:read"])
        .start()
        .await;
    let lines = server.call("env", &[]).await.finish().await.success();
    assert!(lines.contains(&"MODE=loud".to_owned()) && lines.contains(&"EMPTY=".to_owned()), "{lines:?}");
    let listed = server.get("/api/v1/plugins").await.json();
    assert_eq!(listed[0]["env"], serde_json::json!({"MODE": "loud", "EMPTY": ""}));
    let said = server.run(&["plugins"]).stdout;
    assert!(String::from_utf8_lossy(&said).contains("MODE=loud"));
}

#[tokio::test]
async fn each_call_has_arguments_of_its_own() {
    let manifest =
        "arguments: [-u]\ncalls:\n  one: {access: public, arguments: [/plugin/one.py]}\n  two: {access: public}\n";
    let server = Server::builder().plugin("scripts", Guest::component("args"), manifest).start().await;
    let one = server.call("one", &["a"]).await.finish().await.success();
    assert_eq!(one, ["one", "-u", "/plugin/one.py", "a"]);
    assert_eq!(server.call("two", &["a"]).await.finish().await.success(), ["two", "-u", "a"]);
}

#[tokio::test]
async fn other_export_can_be_the_entry_point() {
    let module = r#"(module
        (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
        (global $ready (mut i32) (i32.const 0))
        (func (export "_initialize") (global.set $ready (i32.const 7)))
        (func (export "work") (call $exit (global.get $ready))))"#;
    let public = |name: &str, more: &str| format!("calls: {{{name}: {{access: public}}}}\n{more}");
    let server = Server::builder()
        .file("plugins/work/x.wat", module)
        .file("plugins/work/plugin.yaml", public("work", "invoke: work\n"))
        .file("plugins/reactor/x.wat", module)
        .file("plugins/reactor/plugin.yaml", public("reactor", ""))
        .file("plugins/other/x.wat", module)
        .file("plugins/other/plugin.yaml", public("other", "invoke: missing\n"))
        .start()
        .await;
    assert_eq!(server.call("work", &[]).await.finish().await.failure(), "exit status 7");
    refusal(&server, "reactor", "it is a reactor: its only entry point `_initialize`").await;
    refusal(&server, "other", "invoke: it exports no function \"missing\"").await;
}

#[tokio::test]
async fn unknown_import_traps_with_its_name() {
    let manifest = "calls: {launch: {access: public}}\nimports: trap\n";
    let server = Server::builder().plugin("launch", Guest::wat("missing_import"), manifest).start().await;
    let failure = server.call("launch", &[]).await.finish().await.failure();
    assert!(failure.contains("env::launch_missiles"), "{failure}");
}

#[tokio::test]
async fn predecessor_of_preview1_runs_with_files() {
    let module = r#"(module
        (import "wasi_unstable" "path_open" (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
        (import "wasi_unstable" "fd_filestat_get" (func $state (param i32 i32) (result i32)))
        (import "wasi_unstable" "path_filestat_get" (func $state_at (param i32 i32 i32 i32 i32) (result i32)))
        (import "wasi_unstable" "fd_seek" (func $seek (param i32 i64 i32 i32) (result i32)))
        (import "wasi_unstable" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
        (import "wasi_unstable" "proc_exit" (func $exit (param i32)))
        (memory (export "memory") 1)
        (data (i32.const 0) "greeting")
        (func $must (param $step i32) (param $holds i32)
            (if (i32.eqz (local.get $holds)) (then (call $exit (local.get $step)))))
        (func $file (result i32) (i32.load (i32.const 128)))
        (func $seeks (param $step i32) (param $offset i64) (param $origin i32) (param $to i64)
            (call $must (local.get $step)
                (i32.eqz (call $seek (call $file) (local.get $offset) (local.get $origin) (i32.const 400))))
            (call $must (local.get $step) (i64.eq (i64.load (i32.const 400)) (local.get $to))))
        (func (export "_start")
            ;; Behind the state of a file, which is 56 bytes long.
            (i64.store (i32.const 312) (i64.const 77))
            (call $must (i32.const 1) (i32.eqz (call $open (i32.const 3) (i32.const 1) (i32.const 0) (i32.const 8)
                (i32.const 0) (i64.const 2097190) (i64.const 0) (i32.const 0) (i32.const 128))))
            (call $must (i32.const 2) (i32.eqz (call $state (call $file) (i32.const 256))))
            (call $must (i32.const 3) (i64.eq (i64.load (i32.const 280)) (i64.const 5)))
            (call $must (i32.const 4) (i32.eq (i32.load8_u (i32.const 272)) (i32.const 4)))
            (i64.store (i32.const 280) (i64.const 0))
            (call $must (i32.const 5) (i32.eqz
                (call $state_at (i32.const 3) (i32.const 1) (i32.const 0) (i32.const 8) (i32.const 256))))
            (call $must (i32.const 6) (i64.eq (i64.load (i32.const 280)) (i64.const 5)))
            (call $must (i32.const 7) (i64.eq (i64.load (i32.const 312)) (i64.const 77)))
            (call $seeks (i32.const 8) (i64.const 0) (i32.const 1) (i64.const 5))
            (call $seeks (i32.const 9) (i64.const 2) (i32.const 2) (i64.const 2))
            (call $seeks (i32.const 10) (i64.const 1) (i32.const 0) (i64.const 3))
            ;; A clock of one millisecond.
            (i64.store (i32.const 512) (i64.const 7))
            (i64.store (i32.const 528) (i64.const 9))
            (i32.store (i32.const 536) (i32.const 1))
            (i64.store (i32.const 544) (i64.const 1000000))
            (call $must (i32.const 11) (i32.eqz
                (call $poll (i32.const 512) (i32.const 640) (i32.const 1) (i32.const 700))))
            (call $must (i32.const 12) (i32.eq (i32.load (i32.const 700)) (i32.const 1)))
            (call $must (i32.const 13) (i64.eq (i64.load (i32.const 640)) (i64.const 7)))))"#;
    let server = Server::builder()
        .file("plugins/old/x.wat", module)
        .file("plugins/old/plugin.yaml", "calls: {old: {access: public}}\n")
        .file("plugins/old/files/greeting", "hello")
        .start()
        .await;
    server.call("old", &[]).await.finish().await.success();
}

#[tokio::test]
async fn wide_arithmetic_is_on() {
    let module = r#"(module
        (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
        (func (export "_start")
            (i64.mul_wide_u (i64.const -1) (i64.const 4))
            (call $exit (i32.wrap_i64))
            drop))"#;
    let server = Server::builder()
        .file("plugins/wide/x.wat", module)
        .file("plugins/wide/plugin.yaml", "calls: {wide: {access: public}}\n")
        .start()
        .await;
    assert_eq!(server.call("wide", &[]).await.finish().await.failure(), "exit status 3");
}
