//! Manifests that are emptied, misnamed, unreadable or gone: their module never serves without its rules, also after a
//! restart.

use super::{builder, public, said, says, until};
use distillery_tests::{Server, log::Line, program::failed};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use std::{fs, os::unix::fs::symlink, path::Path};

/// A name, a way to spoil a manifest, and the expected message.
type Spoiled = (&'static str, fn(&Path), &'static str);

const SPOILED: [Spoiled; 8] = [
    ("emptied", |file| fs::write(file, "").unwrap(), "plugin.yaml:1:1: it is empty"),
    ("cut off", |file| fs::write(file, "calls:\n").unwrap(), "plugin.yaml:1:1: calls: it has no value"),
    ("gone", |file| fs::remove_file(file).unwrap(), "the plugin had a manifest, and it is gone: put it back"),
    (
        "of another case",
        |file| fs::rename(file, file.with_file_name("Plugin.yaml")).unwrap(),
        "Plugin.yaml: nothing reads a file of this name: rename it to plugin.yaml",
    ),
    (
        "of another ending",
        |file| fs::rename(file, file.with_file_name("plugin.yml")).unwrap(),
        "plugin.yml: nothing reads a file of this name: rename it to plugin.yaml",
    ),
    (
        "a link to nothing",
        |file| {
            fs::remove_file(file).unwrap();
            symlink("nowhere.yaml", file).unwrap();
        },
        "plugin.yaml: a link to a file that does not exist",
    ),
    (
        "a directory",
        |file| {
            fs::remove_file(file).unwrap();
            fs::create_dir(file).unwrap();
        },
        "plugin.yaml: not a regular file",
    ),
    (
        "a pipe",
        |file| {
            fs::remove_file(file).unwrap();
            mknodat(CWD, file, FileType::Fifo, Mode::RWXU, 0).unwrap();
        },
        "plugin.yaml: not a regular file",
    ),
];

/// A manifest by which the call `echo` takes no parameters.
const STRICT: &str = "calls: {echo: {access: public, params: []}}\n";

async fn refuses_parameters(server: &Server) {
    let refused = server.call("echo", &["a"]).await.finish().await.failure();
    assert_eq!(refused, "too many parameters: \"echo\" takes none");
}

#[tokio::test]
async fn spoiled_manifest_never_drops_its_rules() {
    for (what, spoil, told) in SPOILED {
        let mut server = builder().file("plugins/echo/plugin.yaml", STRICT).start().await;
        spoil(&server.plugins().join("echo/plugin.yaml"));
        let refused = |line: &Line| line.message() == "plugin not loaded" && line.field("error").contains(told);
        server.log().line(what, refused).await;
        refuses_parameters(&server).await;
        failed(&server.run(&["reload"]));
        refuses_parameters(&server).await;

        server.crash_and_restart().await;
        server.log().line(what, refused).await;
        assert_eq!(server.call("echo", &["a"]).await.finish().await.failure(), "unknown call \"echo\"", "{what}");
        let checked = server.run(&["check"]);
        assert!(!checked.status.success(), "{what}");
        assert!(String::from_utf8_lossy(&checked.stdout).contains(told), "{what}: {checked:?}");
    }
}

#[tokio::test]
async fn restored_manifest_serves_again() {
    let mut server = builder().file("plugins/echo/plugin.yaml", STRICT).start().await;
    fs::remove_file(server.plugins().join("echo/plugin.yaml")).unwrap();
    server.crash_and_restart().await;
    server.put("plugins/echo/plugin.yaml", STRICT);
    until(&server, "echo", "one", &["unknown call \"echo\""]).await;
    refuses_parameters(&server).await;
}

#[tokio::test]
async fn new_directory_needs_no_manifest() {
    let mut server = builder().set("auth.anonymous", vec!["call:*", "plugins:*"]).start().await;
    server.put("plugins/bare/bare.wat", says("bare"));
    until(&server, "bare", "bare", &["unknown call \"bare\""]).await;
    // The directory is also new if it replaces a removed plugin.
    fs::remove_dir_all(server.plugins().join("echo")).unwrap();
    server.log().line("the removal", |line| line.message() == "plugin removed").await;
    server.put("plugins/echo/echo.wat", says("new"));
    until(&server, "echo", "new", &["unknown call \"echo\""]).await;
    server.crash_and_restart().await;
    for (call, word) in [("bare", "bare"), ("echo", "new")] {
        assert_eq!(said(&server, call).await.as_deref(), Ok(word));
    }
}

#[tokio::test]
async fn renamed_or_copied_plugin_has_a_manifest_of_its_own() {
    let server = builder().set("auth.anonymous", vec!["call:*", "plugins:*"]).start().await;
    // The copy never had a manifest; the name of the original still belongs to a plugin with one.
    fs::create_dir(server.plugins().join("copy")).unwrap();
    server.put("plugins/copy/copy.wat", says("copy"));
    until(&server, "copy", "copy", &["unknown call \"copy\""]).await;
    fs::rename(server.plugins().join("echo"), server.plugins().join("renamed")).unwrap();
    server.put("plugins/renamed/plugin.yaml", public("renamed"));
    until(&server, "renamed", "one", &["unknown call \"renamed\""]).await;
    fs::remove_file(server.plugins().join("renamed/plugin.yaml")).unwrap();
    server.log().line("the refusal", |line| line.field("error").contains("had a manifest, and it is gone")).await;
    assert_eq!(said(&server, "renamed").await.as_deref(), Ok("one"));
}

#[tokio::test]
async fn link_to_a_release_without_a_manifest_is_refused() {
    let server = builder().set("auth.anonymous", vec!["call:*", "plugins:*"]).start().await;
    for (release, word) in [("one", "first"), ("two", "second")] {
        server.put(&format!("releases/{release}/linked.wat"), says(word));
    }
    server.put("releases/one/plugin.yaml", public("linked"));
    let link = |release: &str| {
        let aside = server.directory().join("link");
        symlink(server.directory().join("releases").join(release), &aside).unwrap();
        fs::rename(aside, server.plugins().join("linked")).unwrap();
    };
    link("one");
    until(&server, "linked", "first", &["unknown call \"linked\""]).await;
    link("two");
    server.log().line("the refusal", |line| line.field("error").contains("had a manifest, and it is gone")).await;
    assert_eq!(said(&server, "linked").await.as_deref(), Ok("first"));
}
