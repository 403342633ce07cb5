//! The operator of a running server: the socket in its `data` directory, the commands that use it, and reloads of the
//! configuration.

use super::{builder, public, said, says, until};
use distillery_tests::{
    Server,
    log::Line,
    program::{failed, output, text},
};
use rustix::process::Signal;
use std::{fs, os::unix::fs::PermissionsExt};

#[tokio::test]
async fn command_line_lists_plugins_and_their_generations() {
    // The command needs no scope, and no API for other callers.
    let server = builder().set("auth.anonymous", serde_json::json!([])).set("http.api", false).start().await;
    let listed = server.run(&["plugins"]);
    assert!(listed.status.success(), "{listed:?}");
    let table = text(&listed.stdout);
    let lines: Vec<_> = table.lines().collect();
    assert!(lines[0] == "echo (serving): echo" && lines[1].ends_with("  serving"), "{table}");
    assert_eq!(failed(&server.run(&["plugins", "rollback", "no"])), "distillery: there is no plugin \"no\"\n");
    assert_eq!(failed(&server.run(&["plugins", "rollback", "../x"])), "distillery: there is no plugin \"../x\"\n");
}

#[tokio::test]
async fn command_without_a_server_says_so() {
    let mut server = builder().start().await;
    server.reconfigure("data", server.directory().join("elsewhere").display().to_string());
    for arguments in [&["reload"][..], &["plugins"], &["plugins", "rollback", "echo"]] {
        let said = failed(&server.run(arguments));
        assert!(said.starts_with("distillery: no server is running here ("), "{said}");
    }
}

#[tokio::test]
async fn socket_is_private_and_removed_with_the_server() {
    let server = builder().start().await;
    let socket = server.directory().join("data/control.sock");
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    server.terminate();
    server.wait().await;
    assert!(!socket.exists());
}

#[tokio::test]
async fn second_server_on_the_same_data_is_refused() {
    let first = builder().start().await;
    let data = first.directory().join("data").display().to_string();
    let output = output(&mut builder().set("data", data).command());
    let said = failed(&output);
    assert!(said.contains("another server already uses the directory"), "{said}");
    assert!(first.run(&["plugins"]).status.success());
}

#[tokio::test]
async fn killed_server_does_not_block_the_next() {
    let dead = builder().start().await;
    dead.signal(Signal::KILL);
    dead.wait().await;
    let data = dead.directory().join("data");
    assert!(data.join("control.sock").exists());
    assert!(failed(&dead.run(&["plugins"])).contains("no server is running here"));
    let next = builder().set("data", data.display().to_string()).start().await;
    assert!(dead.run(&["plugins"]).status.success());
    drop(next);
}

async fn reloaded(server: &Server, times: usize) {
    server.log().lines_of("the reload", times, |line| line.message() == "reloaded").await;
}

#[tokio::test]
async fn changed_limit_applies_to_later_loads() {
    let mut server = builder().start().await;
    server.reconfigure("limits.params", 1);
    server.signal(Signal::HUP);
    reloaded(&server, 1).await;
    let params = server.call("echo", &["a", "b"]).await.finish().await.failure();
    assert!(params.contains("too many parameters"), "{params}");
    // A generation with other rules cannot be rolled back to.
    assert_eq!(server.post("/api/v1/plugins/echo/rollback").await.status.as_u16(), 409);

    server.reconfigure("limits.params", 2);
    server.reconfigure("http.max_frame", "2MiB");
    let reload = server.run(&["reload"]);
    let said = text(&reload.stdout);
    assert!(said.starts_with("taken over: limits.params\nneeds a restart: http.max_frame\necho (serving)"), "{said}");
    let mut client = server.call("echo", &["a", "b"]).await;
    assert_eq!(client.line().await, "one");
}

#[tokio::test]
async fn changed_log_level_applies_at_once() {
    let mut server = builder().start().await;
    server.reconfigure("log.level", "warn");
    assert!(server.run(&["reload"]).status.success());
    server.reconfigure("log.level", "info");
    assert!(server.run(&["reload"]).status.success());
    let reloads = server.log().lines_of("the second reload", 1, |line| line.message() == "reloaded").await;
    assert_eq!(reloads.len(), 1);
    let all = server.log().lines().iter().filter(|line| line.message() == "reloading").count();
    assert_eq!(all, 1, "the first reload was logged at a disabled level");
}

#[tokio::test]
async fn invalid_configuration_changes_nothing() {
    let mut server = builder().set("plugins.watch", "off").start().await;
    server.reconfigure("limits.memory", "lots");
    server.put("plugins/echo/echo.wat", says("two"));
    server.signal(Signal::HUP);
    let wrong = |line: &Line| line.level() == "ERROR" && line.field("error").contains("limits.memory");
    server.log().line("the mistake", wrong).await;
    // The plugins are scanned all the same.
    until(&server, "echo", "two", &["one"]).await;
    let reload = server.post("/api/v1/plugins/reload").await.json();
    assert!(reload["error"].as_str().is_some_and(|why| why.contains("limits.memory")), "{reload}");
    // The command itself cannot find the server then.
    assert!(failed(&server.run(&["reload"])).contains("limits.memory"));
}

#[tokio::test]
async fn forbidden_plugin_stops_until_it_obeys_the_new_rules() {
    let limits = "calls: {greedy: {access: public}}\nlimits: {memory: 64MiB}\n";
    let mut server = builder()
        .file("plugins/greedy/plugin.yaml", limits)
        .file("plugins/greedy/greedy.wat", says("here"))
        .start()
        .await;
    server.reconfigure("limits.memory", "32MiB");
    assert_eq!(failed(&server.run(&["reload"])), "");
    server.log().line("the refusal", |line| line.field("error").contains("limits.memory asks for 64MiB")).await;
    assert_eq!(said(&server, "greedy").await, Err("unknown call \"greedy\"".into()));
    server.put("plugins/greedy/plugin.yaml", public("greedy"));
    server.put("plugins/greedy/greedy.wat", says("modest"));
    until(&server, "greedy", "modest", &["unknown call \"greedy\"", "here"]).await;
}
