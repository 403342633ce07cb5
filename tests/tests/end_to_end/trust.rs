//! Whose plugins load, where the operator has said whom he trusts.

use distillery_tests::{Guest, Server, server::program};
use std::{path::Path, process::Command};

fn distillery(directory: &Path, arguments: &[&str]) -> String {
    let output = Command::new(program()).args(arguments).current_dir(directory).output().expect("it can be started");
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
async fn a_key_that_cannot_be_read_stops_the_start() {
    let output = Server::builder().set("plugins.keys", vec!["nowhere.pub"]).command().output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("plugins.keys") && said.contains("nowhere.pub"), "{said}");
}
