//! A rollback outlives the server: it holds until the directory changes.

use super::{builder, public, said, says, until};
use distillery_tests::{Server, program::text};
use serde_json::json;
use std::fs;

/// Returns a server that serves `one` again after `two`.
async fn rolled_back() -> Server {
    let server = builder().start().await;
    server.put("plugins/echo/echo.wat", says("two"));
    until(&server, "echo", "two", &["one"]).await;
    let answer = server.post("/api/v1/plugins/echo/rollback").await.json();
    assert_eq!(answer, json!({"plugin": "echo", "generation": 1}));
    server
}

#[tokio::test]
async fn rollback_survives_restart_crash_and_takeover() {
    let mut server = rolled_back().await;
    server.terminate();
    server.wait().await;
    server.restart().await;
    assert_eq!(said(&server, "echo").await.as_deref(), Ok("one"));
    server.crash_and_restart().await;
    assert_eq!(said(&server, "echo").await.as_deref(), Ok("one"));
    let before = server.take_over().await;
    assert_eq!(said(&server, "echo").await.as_deref(), Ok("one"));
    drop(before);
    // Neither a reload nor the same files again end the rollback.
    server.put("plugins/echo/echo.wat", says("two"));
    assert!(server.run(&["reload"]).status.success());
    assert_eq!(said(&server, "echo").await.as_deref(), Ok("one"));
    let checked = server.run(&["check"]);
    assert!(checked.status.success(), "{}", text(&checked.stdout));

    server.put("plugins/echo/echo.wat", says("three"));
    until(&server, "echo", "three", &["one"]).await;
    server.put("plugins/echo/echo.wat", says("two"));
    until(&server, "echo", "two", &["three"]).await;
    server.crash_and_restart().await;
    assert_eq!(said(&server, "echo").await.as_deref(), Ok("two"));
}

#[tokio::test]
async fn change_while_the_server_is_down_ends_a_rollback() {
    let mut server = rolled_back().await;
    server.terminate();
    server.wait().await;
    server.put("plugins/echo/plugin.yaml", public("echo") + "description: changed\n");
    server.restart().await;
    assert_eq!(said(&server, "echo").await.as_deref(), Ok("two"));
}

#[tokio::test]
async fn rollback_from_a_broken_version_survives_a_restart() {
    for broken in ["(module (func", ""] {
        let mut server = builder().start().await;
        server.put("plugins/echo/echo.wat", says("two"));
        until(&server, "echo", "two", &["one"]).await;
        match broken {
            "" => fs::write(server.plugins().join("echo/plugin.yaml"), "").unwrap(),
            broken => server.put("plugins/echo/echo.wat", broken),
        }
        server.log().line("the failure", |line| line.message() == "plugin not loaded").await;
        assert!(server.run(&["plugins", "rollback", "echo"]).status.success());
        server.crash_and_restart().await;
        assert_eq!(said(&server, "echo").await.as_deref(), Ok("one"), "{broken:?}");
    }
}

#[tokio::test]
async fn rolled_back_version_without_a_copy_is_an_error() {
    let mut server = rolled_back().await;
    server.terminate();
    server.wait().await;
    for entry in fs::read_dir(server.data().join("plugins/echo")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            fs::remove_dir_all(path).unwrap();
        }
    }
    server.restart().await;
    assert_eq!(said(&server, "echo").await, Err("unknown call \"echo\"".into()));
    server.log().line("the reason", |line| line.field("error").contains("no whole copy is left")).await;
    server.put("plugins/echo/echo.wat", says("three"));
    until(&server, "echo", "three", &["unknown call \"echo\""]).await;
}

#[tokio::test]
async fn rollback_that_cannot_be_saved_says_so() {
    let server = builder().start().await;
    server.put("plugins/echo/echo.wat", says("two"));
    until(&server, "echo", "two", &["one"]).await;
    let kept = server.data().join("plugins/echo");
    fs::remove_dir_all(&kept).unwrap();
    fs::write(&kept, "in the way").unwrap();
    let rolled_back = server.run(&["plugins", "rollback", "echo"]);
    assert!(rolled_back.status.success(), "{rolled_back:?}");
    let warning = String::from_utf8_lossy(&rolled_back.stderr).into_owned();
    assert!(warning.starts_with("distillery: a restart will undo this: "), "{warning}");
    assert_eq!(said(&server, "echo").await.as_deref(), Ok("one"));
}
