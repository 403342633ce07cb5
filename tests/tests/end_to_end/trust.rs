//! Whose plugins load, where the operator has said whom he trusts.

use distillery_tests::{
    Guest, Server,
    program::{output, program},
};
use std::{path::Path, process::Command};

fn distillery(directory: &Path, arguments: &[&str]) -> String {
    let output = output(Command::new(program()).args(arguments).current_dir(directory));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test]
async fn only_signed_plugins_load_where_keys_are_set() {
    let public = "calls: {%: {access: public}}\n";
    let mut builder = Server::builder();
    for name in ["signed", "unsigned", "changed"] {
        builder = builder.plugin(name, Guest::component("args"), &public.replace('%', name));
    }
    builder = builder.bare_plugin("bare", Guest::module("args"));
    let directory = builder.directory().to_owned();
    distillery(&directory, &["keygen", "team"]);
    for name in ["signed", "changed", "bare"] {
        let said = distillery(&directory, &["sign", "--key", "team.key", &format!("plugins/{name}")]);
        assert!(said.contains(&format!("{name}.wasm")), "{said}");
    }
    let server = builder
        .file("plugins/changed/plugin.yaml", "calls: {changed: {access: public}}\narguments: [surprise]\n")
        .set("plugins.keys", vec![directory.join("team.pub").display().to_string()])
        .start()
        .await;
    assert_eq!(server.call("signed", &[]).await.finish().await.success(), ["signed"]);
    assert_eq!(server.call("bare", &[]).await.finish().await.failure(), "not authorized to run \"bare\"");
    for (name, why) in [("unsigned", "its module is not signed"), ("changed", "changed after it was signed")] {
        assert_eq!(server.call(name, &[]).await.finish().await.failure(), format!("unknown call {name:?}"));
        let refused = |line: &distillery_tests::log::Line| {
            line.message() == "plugin not loaded" && line.field("plugin") == name && line.field("error").contains(why)
        };
        server.log().line(&format!("why {name} is not trusted"), refused).await;
    }
}

#[tokio::test]
async fn a_plugin_that_is_signed_while_the_server_runs_loads() {
    let manifest = "calls: {late: {access: public}}\n";
    let builder = Server::builder().plugin("late", Guest::component("args"), manifest);
    let directory = builder.directory().to_owned();
    distillery(&directory, &["keygen", "team"]);
    let key = directory.join("team.pub").display().to_string();
    let server = builder.set("plugins.keys", vec![key]).start().await;
    assert_eq!(server.call("late", &[]).await.finish().await.failure(), "unknown call \"late\"");
    distillery(&directory, &["sign", "--key", "team.key", "plugins/late"]);
    server.log().line("the plugin", |line| line.message() == "plugin loaded").await;
    assert_eq!(server.call("late", &[]).await.finish().await.success(), ["late"]);
    // The signature of the manifest alone is a change, too.
    server.put("plugins/late/plugin.yaml", "calls: {later: {access: public}}\n");
    server.log().lines_of("the refusal of the new manifest", 2, |line| line.message() == "plugin not loaded").await;
    distillery(&directory, &["sign", "--key", "team.key", "plugins/late"]);
    server.log().lines_of("the plugin again", 2, |line| line.message() == "plugin loaded").await;
    assert_eq!(server.call("later", &[]).await.finish().await.success(), ["later"]);
}

#[tokio::test]
async fn a_key_that_cannot_be_read_stops_the_start() {
    let output = output(&mut Server::builder().set("plugins.keys", vec!["nowhere.pub"]).command());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("plugins.keys") && said.contains("nowhere.pub"), "{said}");
}
