//! Plugin directories, and the effect of a broken plugin on others: none.

use distillery_tests::{Guest, Server};

#[tokio::test]
async fn broken_plugin_is_logged_and_others_keep_serving() {
    let public = "calls: {%: {access: public}}\n";
    let server = Server::builder()
        .guest(Guest::component("echo_once"))
        .file("plugins/garbage/garbage.wasm", b"\0asm, but not really")
        .file("plugins/garbage/plugin.yaml", public.replace('%', "garbage"))
        .file("plugins/half/half.wat", "(module (func")
        .plugin("mistyped", Guest::component("echo_once"), "cals: {}\n")
        .plugin("missing", Guest::component("echo_once"), "component: other.wasm\n")
        .plugin("no_entry", Guest::wat("no_entry"), &public.replace('%', "no_entry"))
        .plugin("missing_import", Guest::wat("missing_import"), &public.replace('%', "missing_import"))
        .plugin(
            "greedy",
            Guest::component("echo_once"),
            "calls: {greedy: {access: public}}\ncapabilities: {env: [HOME]}\n",
        )
        .start()
        .await;

    let mut client = server.call("echo_once", &[]).await;
    client.say("unharmed").await;
    assert_eq!(client.finish().await.success(), ["unharmed"]);

    for bad in ["garbage", "half", "mistyped", "missing", "no_entry", "missing_import", "greedy"] {
        assert_eq!(server.call(bad, &[]).await.finish().await.failure(), format!("unknown call {bad:?}"));
        let tells = |line: &distillery_tests::log::Line| {
            ["WARN", "ERROR"].contains(&line.level()) && format!("{line:?}").contains(bad)
        };
        server.log().line(&format!("a word about {bad}"), tells).await;
    }
}

#[tokio::test]
async fn plugin_provides_several_calls_and_learns_the_requested() {
    let manifest = "calls:\n  start: {access: public}\n  stop: {access: public, params: []}\n";
    let server = Server::builder().plugin("service", Guest::component("args"), manifest).start().await;
    assert_eq!(server.call("start", &["now"]).await.finish().await.success(), ["start", "now"]);
    assert_eq!(server.call("stop", &[]).await.finish().await.success(), ["stop"]);
    assert_eq!(
        server.call("stop", &["now"]).await.finish().await.failure(),
        "too many parameters: \"stop\" takes none"
    );
    assert_eq!(server.call("service", &[]).await.finish().await.failure(), "unknown call \"service\"");
}

#[tokio::test]
async fn parameters_are_checked_against_the_manifest() {
    let manifest = r#"
calls:
  provision:
    access: public
    params:
      - {name: slug, description: Its name, pattern: "[a-z][a-z0-9-]{0,30}"}
      - {name: flavor, choices: [ten, eleven], default: eleven}
"#;
    let server = Server::builder().plugin("provision", Guest::component("args"), manifest).start().await;
    let ran = async |params: &[&str]| server.call("provision", params).await.finish().await;
    assert_eq!(ran(&["site"]).await.success(), ["provision", "site", "eleven"]);
    assert_eq!(ran(&["site", "ten"]).await.success(), ["provision", "site", "ten"]);
    assert_eq!(ran(&[]).await.failure(), "parameter \"slug\" is missing");
    assert_eq!(ran(&["Site"]).await.failure(), "parameter \"slug\" does not match [a-z][a-z0-9-]{0,30}");
    assert_eq!(ran(&["site\n"]).await.failure(), "parameter \"slug\" does not match [a-z][a-z0-9-]{0,30}");
    assert_eq!(ran(&["site", "nine"]).await.failure(), "parameter \"flavor\" must be one of ten, eleven");
    assert_eq!(ran(&["site", "ten", "x"]).await.failure(), "too many parameters: \"provision\" takes at most 2");
}

#[tokio::test]
async fn manifest_forwards_stderr_to_the_client() {
    let manifest = "calls: {complain: {access: public}}\nstderr: forward\n";
    let server = Server::builder().plugin("complain", Guest::component("stderr_words"), manifest).start().await;
    let end = server.call("complain", &[]).await.finish().await;
    for line in ["trying", "warning: the flux is low", "no capacitor at hand"] {
        assert!(end.lines.iter().any(|it| it == line), "{line:?} in {:?}", end.lines);
    }
}

#[tokio::test]
async fn log_names_the_plugin_whose_call_is_already_provided() {
    let manifest = "calls:\n  same:\n    access: public\n";
    let server = Server::builder()
        .plugin("first", Guest::wat("conversation"), manifest)
        .plugin("second", Guest::wat("conversation"), manifest)
        .start()
        .await;
    let line = server.log().line("the error of the plugin", |line| line.message() == "plugin not loaded").await;
    assert_eq!(line.field("plugin"), "second");
    assert!(line.field("error").contains("already provided by the plugin \"first\""), "{}", line.field("error"));
}

#[tokio::test]
async fn owner_of_a_call_is_stable_across_check_and_restart() {
    let manifest = |name: &str| format!("calls: {{same: {{access: public}}, only-{name}: {{access: public}}}}\n");
    let mut server = Server::builder().plugin("second", Guest::component("args"), &manifest("second")).start().await;
    assert_eq!(server.call("same", &[]).await.finish().await.success(), ["same"]);
    // A later plugin with an earlier name provides the call.
    let module = std::fs::read(server.plugins().join("second/second.wasm")).unwrap();
    server.put("aside/first.wasm", module);
    server.put("aside/plugin.yaml", manifest("first"));
    std::fs::rename(server.directory().join("aside"), server.plugins().join("first")).unwrap();
    let refused = "the call \"same\" is already provided by the plugin \"first\": rename one of them";
    let told =
        |line: &distillery_tests::log::Line| line.field("plugin") == "second" && line.field("error").contains(refused);
    server.log().line("the plugin that has to yield", told).await;
    for restarted in [false, true] {
        if restarted {
            server.crash_and_restart().await;
            server.log().line("the plugin that has to yield", told).await;
        }
        for (call, there) in [("same", true), ("only-first", true), ("only-second", false)] {
            let end = server.call(call, &[]).await.finish().await;
            assert_eq!(end.verdict == distillery_tests::Verdict::Success, there, "{call}: {end:?}");
        }
        let checked = server.run(&["check"]);
        let printed = String::from_utf8_lossy(&checked.stdout).into_owned();
        assert!(printed.contains(&format!("plugin second: {refused}")), "{printed}");
    }
}

#[tokio::test]
async fn server_without_plugins_starts() {
    let server = Server::builder().start().await;
    assert_eq!(server.call("echo", &[]).await.finish().await.failure(), "unknown call \"echo\"");
}
