//! Signatures: the plugins that load if the operator has set trusted keys.

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
        assert!(said.contains(&format!("plugins/{name}/plugin.sig")), "{said}");
    }
    let server = builder
        .file("plugins/changed/plugin.yaml", "calls: {changed: {access: public}}\narguments: [surprise]\n")
        .set("plugins.keys", vec![directory.join("team.pub").display().to_string()])
        .start()
        .await;
    assert_eq!(server.call("signed", &[]).await.finish().await.success(), ["signed"]);
    assert_eq!(server.call("bare", &[]).await.finish().await.failure(), "not authorized to run \"bare\"");
    for (name, why) in [("unsigned", "it is not signed"), ("changed", "is another than when it was signed")] {
        assert_eq!(server.call(name, &[]).await.finish().await.failure(), format!("unknown call {name:?}"));
        let refused = |line: &distillery_tests::log::Line| {
            line.message() == "plugin not loaded" && line.field("plugin") == name && line.field("error").contains(why)
        };
        server.log().line(&format!("why {name} is not trusted"), refused).await;
    }
}

#[tokio::test]
async fn plugin_signed_while_the_server_runs_loads() {
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
async fn signature_binds_the_name_and_the_manifest() {
    let manifest = "calls: {vault: {access: public, params: []}}\n";
    let builder = Server::builder()
        .plugin("vault", Guest::component("args"), manifest)
        .plugin("other", Guest::component("args"), "calls: {other: {access: public}}\n")
        .set("auth.anonymous", vec!["call:*", "plugins:*"]);
    let directory = builder.directory().to_owned();
    distillery(&directory, &["keygen", "team"]);
    for plugin in ["plugins/vault", "plugins/other"] {
        distillery(&directory, &["sign", "--key", "team.key", plugin]);
    }
    let mut server = builder.set("plugins.keys", vec![directory.join("team.pub").display().to_string()]).start().await;
    let refused = |plugin: &'static str, why: &'static str| {
        move |line: &distillery_tests::log::Line| {
            let told = line.message() == "plugin not loaded" && line.field("plugin") == plugin;
            told && line.field("error").contains(why)
        }
    };
    // A signed plugin in the place of another does not get the grants of the other.
    for file in ["plugin.yaml", "plugin.sig", "other.wasm"] {
        let from = std::fs::read(server.plugins().join("other").join(file)).unwrap();
        server.put(&format!("plugins/copy/{file}"), from);
    }
    server
        .log()
        .line("the copy", refused("copy", "its name, its manifest, its module or one of its files is another"))
        .await;
    // Without manifest and signature the module is not a signed plugin, also after a restart.
    for file in ["plugin.yaml", "plugin.sig"] {
        std::fs::remove_file(server.plugins().join("vault").join(file)).unwrap();
    }
    server.log().line("the bare module", refused("vault", "the plugin had a manifest, and it is gone")).await;
    let strict = server.call("vault", &["a"]).await.finish().await.failure();
    assert_eq!(strict, "too many parameters: \"vault\" takes none");
    std::fs::remove_dir_all(server.data().join("plugins")).unwrap();
    server.crash_and_restart().await;
    server.log().line("the bare module", refused("vault", "it is not signed")).await;
    assert_eq!(server.call("vault", &[]).await.finish().await.failure(), "unknown call \"vault\"");
}

#[tokio::test]
async fn removed_key_is_no_longer_trusted() {
    let manifest = "calls: {vault: {access: public}}\n";
    let builder =
        Server::builder().plugin("vault", Guest::component("args"), manifest).set("auth.anonymous", vec!["plugins:*"]);
    let directory = builder.directory().to_owned();
    for name in ["team", "next"] {
        distillery(&directory, &["keygen", name]);
    }
    distillery(&directory, &["sign", "--key", "team.key", "plugins/vault"]);
    let mut server = builder.start().await;
    let key = |name: &str| directory.join(name).display().to_string();
    let runs = async |server: &Server| server.call("vault", &[]).await.finish().await;
    // The plugin was signed before the key was required, so it continues without a gap.
    server.reconfigure("plugins.keys", vec![key("team.pub")]);
    assert!(server.run(&["reload"]).status.success());
    assert_eq!(runs(&server).await.success(), ["vault"]);
    let generation = server.get("/api/v1/plugins").await.json()[0]["generation"].clone();
    assert_eq!(generation, 1);

    server.reconfigure("plugins.keys", vec![key("next.pub")]);
    assert!(!server.run(&["reload"]).status.success());
    assert_eq!(runs(&server).await.failure(), "unknown call \"vault\"");
    // Another key in the file of the same name is another key.
    std::fs::copy(directory.join("team.pub"), directory.join("next.pub")).unwrap();
    assert!(server.run(&["reload"]).status.success());
    assert_eq!(runs(&server).await.success(), ["vault"]);
    // A removed signature is noticed, and signed plugins continue.
    std::fs::remove_file(server.plugins().join("vault/plugin.sig")).unwrap();
    server.log().line("the refusal", |line| line.field("error").contains("it is not signed")).await;
    assert_eq!(runs(&server).await.success(), ["vault"]);
}

#[tokio::test]
async fn unreadable_key_stops_the_start() {
    let output = output(&mut Server::builder().set("plugins.keys", vec!["nowhere.pub"]).command());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("plugins.keys") && said.contains("nowhere.pub"), "{said}");
}
