//! Revocations by the operator: a revoked right is gone when reload returns, for every call that starts afterwards,
//! whatever version serves and why.

use super::{builder, public, said, says, until};
use distillery_tests::{
    Guest, Server,
    program::{failed, text},
    server::Builder,
};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::fs;

fn asking(name: &str, capabilities: &str) -> String {
    format!("{}capabilities: {capabilities}\n", public(name))
}

/// Returns a server whose plugin `echo` requests a secret, and is granted it.
fn with_secret() -> Builder {
    let builder = builder().file("key", "one\n").file("plugins/echo/plugin.yaml", asking("echo", "{secrets: [KEY]}"));
    let key = builder.directory().join("key");
    builder.set("plugins.grants", json!({"echo": {"secrets": {"KEY": {"file": key}}}}))
}

fn grants(server: &Server) -> Value {
    json!({"echo": {"secrets": {"KEY": {"file": server.directory().join("key")}}}})
}

/// Returns why the files in the directory of the plugin do not serve.
async fn error(server: &Server, plugin: &str) -> String {
    let plugins = server.get("/api/v1/plugins").await.json();
    let found = plugins.as_array().expect("a list").iter().find(|it| it["name"] == plugin).expect("the plugin");
    found["error"].as_str().unwrap_or_default().to_owned()
}

fn unknown(call: &str) -> Result<String, String> {
    Err(format!("unknown call {call:?}"))
}

#[tokio::test]
async fn revoked_grant_is_gone_when_reload_returns() {
    let mut server = with_secret().start().await;
    let mut running = server.call("echo", &[]).await;
    assert_eq!(running.line().await, "one");
    let grants = grants(&server);
    server.reconfigure("plugins.grants", json!({}));
    let reload = server.run(&["reload"]);
    let printed = text(&reload.stdout);
    assert_eq!(said(&server, "echo").await, unknown("echo"));
    assert!(error(&server, "echo").await.contains("not granted: the secret KEY: grant it in plugins.grants.echo"));

    // The process continues, and the operator learns how to end it.
    assert!(!reload.status.success(), "{printed}");
    let holds = printed.lines().find(|line| line.starts_with("1 process of echo, generation 1, still holds: "));
    assert!(holds.is_some_and(|line| line.contains("not granted: the secret KEY")), "{printed}");
    let warned = server.log().line("the warning", |it| it.message().starts_with("processes still hold revoked rights"));
    assert_eq!(warned.await.field("processes"), "1");
    let command = printed.lines().find_map(|line| line.strip_prefix("  to end it: distillery ")).expect("a command");
    assert!(server.run(&command.split(' ').collect::<Vec<_>>()).status.success());
    assert!(running.finish().await.failure().contains("operator"));
    let again = server.post("/api/v1/plugins/reload").await.json();
    assert_eq!(again["holders"], json!([]));

    server.reconfigure("plugins.grants", grants);
    assert!(server.run(&["reload"]).status.success());
    assert_eq!(said(&server, "echo").await.as_deref(), Ok("one"));
}

#[tokio::test]
async fn every_kind_of_right_is_revoked() {
    let builder = builder();
    let data = builder.directory().join("shared");
    fs::create_dir(&data).unwrap();
    let asked = [
        ("env", "{env: [LANG]}", "the environment variable LANG"),
        ("http", "{http: ['https://api.example.org']}", "http to https://api.example.org"),
        ("mount", "{mounts: [{name: in, at: /in}]}", "the mount in at /in to read"),
        ("narrowed", "{mounts: [{name: in, at: /in, write: true}]}", "to write (it is granted to read)"),
        ("systems", "{systems: read}", "the systems to read"),
        ("changes", "{systems: write}", "the systems to write (they are granted to read)"),
        ("scratch", "{scratch: 2MiB}", "2MiB of scratch space (1MiB is granted)"),
    ];
    let of = |it: &str| (format!("plugins/{it}/{it}.wat"), format!("plugins/{it}/plugin.yaml"));
    let builder = asked.iter().fold(builder, |builder, (name, asks, _)| {
        let (module, manifest) = of(name);
        builder.file(&module, says(name)).file(&manifest, asking(name, asks))
    });
    let builder = builder
        .file("plugins/limit/plugin.yaml", public("limit") + "limits: {memory: 64MiB}\n")
        .file("plugins/limit/limit.wat", says("limit"))
        .file("plugins/grace/plugin.yaml", public("grace") + "cancel: {grace: 5s}\n")
        .file("plugins/grace/grace.wat", says("grace"));
    let mount = |write: bool| json!({"mounts": {"in": {"path": data, "write": write}}});
    let mut server = builder
        .set(
            "plugins.grants",
            json!({
                "env": {"env": ["LANG"]}, "http": {"http": ["https://api.example.org"]}, "mount": mount(false),
                "narrowed": mount(true), "systems": {"systems": "read"}, "changes": {"systems": "write"},
                "scratch": {"scratch": "2MiB"},
            }),
        )
        .start()
        .await;
    let limited = [("limit", "", "limits.memory asks for 64MiB"), ("grace", "", "cancel.grace asks for 5s")];
    for (name, ..) in asked.iter().chain(&limited) {
        assert_eq!(said(&server, name).await.as_deref(), Ok(*name));
    }
    let left = json!({"narrowed": mount(false), "changes": {"systems": "read"}, "scratch": {"scratch": "1MiB"}});
    server.reconfigure("plugins.grants", left);
    server.reconfigure("limits.memory", "32MiB");
    server.reconfigure("cancel.grace_max", "1s");
    server.reconfigure("cancel.grace", "1s");
    // Both ways to request a reload are equal.
    server.signal(Signal::HUP);
    server.log().line("the reload", |line| line.message() == "reloaded").await;
    for (name, _, why) in asked.iter().chain(&limited) {
        assert_eq!(said(&server, name).await, unknown(name), "{name}");
        assert!(error(&server, name).await.contains(why), "{name}: {}", error(&server, name).await);
    }
    assert_eq!(said(&server, "echo").await.as_deref(), Ok("one"));
}

#[tokio::test]
async fn last_good_generation_loses_what_is_revoked() {
    let mut server = with_secret().start().await;
    server.put("plugins/echo/plugin.yaml", "cals: {}\n");
    server.log().line("the failure", |line| line.message() == "plugin not loaded").await;
    assert_eq!(said(&server, "echo").await.as_deref(), Ok("one"));
    server.reconfigure("limits.params", 0);
    failed(&server.run(&["reload"]));
    let refused = server.call("echo", &["a"]).await.finish().await.failure();
    assert!(refused.contains("too many parameters"), "{refused}");
    server.reconfigure("plugins.grants", json!({}));
    failed(&server.run(&["reload"]));
    assert_eq!(said(&server, "echo").await, unknown("echo"));
    let error = error(&server, "echo").await;
    assert!(
        error.contains("cals: unknown key") && error.contains("stopped serving: ") && error.contains("not granted"),
        "{error}"
    );
}

#[tokio::test]
async fn rollback_does_not_bring_back_a_revoked_right() {
    let mut server = with_secret().start().await;
    server.put("plugins/echo/plugin.yaml", public("echo"));
    server.put("plugins/echo/echo.wat", says("two"));
    until(&server, "echo", "two", &["one"]).await;
    let grants = grants(&server);
    server.reconfigure("plugins.grants", json!({}));
    assert!(server.run(&["reload"]).status.success());
    assert_eq!(said(&server, "echo").await.as_deref(), Ok("two"));
    let refused = failed(&server.run(&["plugins", "rollback", "echo"]));
    assert!(refused.contains("not granted: the secret KEY"), "{refused}");

    server.reconfigure("plugins.grants", grants.clone());
    assert!(server.run(&["reload"]).status.success());
    assert!(server.run(&["plugins", "rollback", "echo"]).status.success());
    assert_eq!(said(&server, "echo").await.as_deref(), Ok("one"));
    // Revoked after the rollback: neither version serves, as the other one was rolled back.
    server.reconfigure("plugins.grants", json!({}));
    failed(&server.run(&["reload"]));
    assert_eq!(said(&server, "echo").await, unknown("echo"));
    assert!(error(&server, "echo").await.contains("not granted: the secret KEY"));
    server.reconfigure("plugins.grants", grants);
    assert!(server.run(&["reload"]).status.success());
    assert_eq!(said(&server, "echo").await.as_deref(), Ok("one"));
}

#[tokio::test]
async fn rotated_secret_and_replaced_directory_are_picked_up() {
    let builder = Server::builder().file("key", "one\n").file("shared/file", "first");
    let (key, shared) = (builder.directory().join("key"), builder.directory().join("shared"));
    let manifest = |name: &str, asks: &str| format!("calls: {{{name}: {{access: public}}}}\ncapabilities: {asks}\n");
    let server = builder
        .plugin("told", Guest::component("env"), &manifest("told", "{secrets: [KEY]}"))
        .plugin("reader", Guest::component("files"), &manifest("reader", "{mounts: [{name: in, at: /in}]}"))
        .set("auth.anonymous", vec!["plugins:*"])
        .set(
            "plugins.grants",
            json!({"told": {"secrets": {"KEY": {"file": key}}}, "reader": {"mounts": {"in": {"path": shared}}}}),
        )
        .start()
        .await;
    let told = async |server: &Server| {
        let lines = server.call("told", &[]).await.finish().await.success();
        lines.into_iter().find(|line| line.starts_with("KEY=")).expect("the secret")
    };
    let read = async |server: &Server| server.call("reader", &["read /in/file"]).await.finish().await.success();
    assert_eq!((told(&server).await, read(&server).await), ("KEY=one".into(), vec!["first".into()]));
    server.put("key", "two\n");
    fs::rename(&shared, server.directory().join("before")).unwrap();
    server.put("shared/file", "second");
    assert!(server.run(&["reload"]).status.success());
    assert_eq!((told(&server).await, read(&server).await), ("KEY=two".into(), vec!["second".into()]));

    // An invalid configuration delays neither.
    server.put("key", "three\n");
    fs::remove_dir_all(&shared).unwrap();
    let config = server.directory().join("distillery.yaml");
    let right = fs::read_to_string(&config).unwrap();
    fs::write(&config, "nonsense: 1\n").unwrap();
    assert!(server.post("/api/v1/plugins/reload").await.json()["error"].is_string());
    assert_eq!(told(&server).await, "KEY=three");
    assert_eq!(server.call("reader", &[]).await.finish().await.failure(), "unknown call \"reader\"");
    let error = error(&server, "reader").await;
    assert!(error.contains("the mount in: ") && error.contains("No such file or directory"), "{error}");
    server.put("shared/file", "third");
    fs::write(&config, right).unwrap();
    assert!(server.run(&["reload"]).status.success());
    assert_eq!(read(&server).await, ["third"]);
}

#[tokio::test]
async fn queued_call_does_not_start_with_a_revoked_right() {
    let server = with_secret().set("limits.processes", 1).set("limits.queue_time", "60s").start().await;
    let mut running = server.call("echo", &[]).await;
    running.line().await;
    let mut waiting = server.talk_to("echo", &[]).await;
    waiting.message("queued").await;
    server.put("key", "another\n");
    assert!(server.run(&["reload"]).status.success());
    running.say("").await;
    running.finish().await.success();
    let end = waiting.finish().await;
    assert_eq!(end.outcome["message"], "the rights of \"echo\" were changed while it waited: call it again");
    assert_eq!(said(&server, "echo").await.as_deref(), Ok("one"));
}

#[tokio::test]
async fn reload_without_a_change_keeps_every_generation() {
    let server = with_secret().start().await;
    for _ in 0..2 {
        assert!(server.run(&["reload"]).status.success());
    }
    let plugins = server.get("/api/v1/plugins").await.json();
    assert_eq!((&plugins[0]["generation"], plugins[0]["generations"].as_array().map(Vec::len)), (&json!(1), Some(1)));
}
