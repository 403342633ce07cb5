//! The files that a plugin brings along: part of the plugin, read-only, and of one version for each process.

use distillery_tests::{
    Guest, Server, patiently,
    program::{output, program, text},
    server::Builder,
};
use std::{
    fs,
    os::unix::fs::{MetadataExt, symlink},
    path::Path,
    process::Command,
};

fn public(name: &str) -> String {
    format!("calls: {{{name}: {{access: public}}}}\n")
}

/// Returns a server with the plugins `component` and `module`, which bring `files/greeting` along.
fn builder() -> Builder {
    [("component", Guest::component("files")), ("module", Guest::module("files"))]
        .into_iter()
        .fold(Server::builder(), |builder, (name, guest)| {
            let builder = builder.plugin(name, guest, &public(name));
            builder.file(&format!("plugins/{name}/files/greeting"), "hello")
        })
        .set("auth.anonymous", vec!["plugins:*"])
}

/// Returns the output of the guest for each of `todo`.
async fn done(server: &Server, call: &str, todo: &[&str]) -> Vec<String> {
    server.call(call, todo).await.finish().await.success()
}

/// Waits until the call reads `text` in the file at `path`. Every answer until then must be one of `before`.
async fn reads(server: &Server, call: &str, path: &str, text: &str, before: &[&str]) {
    patiently(&format!("{call} to read {text}"), async {
        loop {
            let read = done(server, call, &[&format!("read {path}")]).await.join("");
            if read == text {
                return;
            }
            assert!(before.contains(&read.as_str()), "{read}");
        }
    })
    .await;
}

async fn refusal(server: &Server, plugin: &str, why: &str) {
    let told = |line: &distillery_tests::log::Line| {
        line.message() == "plugin not loaded" && line.field("plugin") == plugin && line.field("error").contains(why)
    };
    server.log().line(&format!("why {plugin} does not load: {why}"), told).await;
}

/// Counts the entries of a directory of the store.
fn kept(server: &Server, what: &str) -> usize {
    fs::read_dir(server.data().join("plugins/.files").join(what)).map_or(0, Iterator::count)
}

#[tokio::test]
async fn files_are_read_only_and_need_no_grant() {
    let server = builder().start().await;
    for call in ["component", "module"] {
        let todo = [
            "read /plugin/greeting",
            "list /plugin",
            "size /plugin/greeting",
            "append /plugin/greeting 1",
            "write /plugin/new 1",
            "remove /plugin/greeting",
            "mkdir /plugin/directory",
            "link /plugin/greeting /plugin/other",
            "rename /plugin/greeting /plugin/other",
            "read /plugin/../../plugin.yaml",
            "read /etc/passwd",
        ];
        let lines = done(&server, call, &todo).await;
        assert_eq!(lines[..3], ["hello", "greeting", "5"], "{call}");
        assert!(lines[3..].iter().all(|line| ["PermissionDenied", "NotFound"].contains(&line.as_str())), "{lines:?}");
    }
    let listed = server.get("/api/v1/plugins").await.json();
    assert_eq!(listed[0]["files"], serde_json::json!({"at": "/plugin", "count": 1, "size": 5}));
    assert!(text(&server.run(&["plugins"]).stdout).contains("files at /plugin: 1, 5 bytes"));
}

#[tokio::test]
async fn files_reach_components_of_wasi_03() {
    let server = Server::builder()
        .plugin("touches", Guest::component3("touches"), &public("touches"))
        .file("plugins/touches/files/greeting", "hello")
        .start()
        .await;
    assert_eq!(done(&server, "touches", &["read /plugin/greeting"]).await, ["hello"]);
}

#[tokio::test]
async fn process_keeps_the_files_of_its_generation() {
    let server = builder().start().await;
    for call in ["component", "module"] {
        let mut old = server.call(call, &["keep /plugin/greeting", "wait", "read /plugin/greeting", "again"]).await;
        assert_eq!((old.line().await, old.line().await), ("ok".into(), "waiting".into()));
        server.put(&format!("plugins/{call}/files/greeting"), "changed");
        reads(&server, call, "/plugin/greeting", "changed", &["hello"]).await;
        // In place, as editors do.
        fs::write(server.plugins().join(call).join("files/greeting"), "in place").unwrap();
        reads(&server, call, "/plugin/greeting", "in place", &["changed", ""]).await;
        fs::remove_dir_all(server.plugins().join(call)).unwrap();
        server
            .log()
            .line("the removal", |line| line.message() == "plugin removed" && line.field("plugin") == call)
            .await;
        old.end_input().await;
        assert_eq!(old.finish().await.success(), ["ok", "hello", "5 bytes"], "{call}");
    }
    patiently("the files to be removed", async {
        while kept(&server, "trees") + kept(&server, "blobs") > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn change_below_files_compiles_nothing() {
    let builder = builder().set("log.level", "info,distillery_runtime=debug");
    let cache = builder.directory().join("cache");
    let server = builder.set("cache", cache.display().to_string()).start().await;
    let compiled =
        || server.log().lines().iter().filter(|it| it.message().starts_with("compiled in a separate")).count();
    assert_eq!(compiled(), 2);
    for (at, word) in ["two", "three"].iter().enumerate() {
        fs::create_dir_all(server.plugins().join("component/files/deep/er")).unwrap();
        fs::write(server.plugins().join("component/files/deep/er/file"), word).unwrap();
        let before = if at == 0 { "NotFound" } else { "two" };
        reads(&server, "component", "/plugin/deep/er/file", word, &[before, ""]).await;
    }
    assert_eq!(compiled(), 2);
}

#[tokio::test]
async fn rollback_and_restart_keep_the_files_of_their_version() {
    let mut server = builder().start().await;
    let digest = |server: &serde_json::Value| server[0]["digest"].clone();
    let first = digest(&server.get("/api/v1/plugins").await.json());
    fs::write(server.plugins().join("component/files/greeting"), "changed").unwrap();
    reads(&server, "component", "/plugin/greeting", "changed", &["hello", ""]).await;
    assert_ne!(digest(&server.get("/api/v1/plugins").await.json()), first);
    assert!(server.run(&["plugins", "rollback", "component"]).status.success());
    reads(&server, "component", "/plugin/greeting", "hello", &[]).await;
    server.crash_and_restart().await;
    reads(&server, "component", "/plugin/greeting", "hello", &[]).await;
    assert_eq!(digest(&server.get("/api/v1/plugins").await.json()), first);
    let before = server.take_over().await;
    reads(&server, "component", "/plugin/greeting", "hello", &[]).await;
    drop(before);
    let checked = server.run(&["check"]);
    assert!(checked.status.success(), "{}", text(&checked.stdout));
    // A change of a file ends the rollback.
    fs::write(server.plugins().join("component/files/greeting"), "third").unwrap();
    reads(&server, "component", "/plugin/greeting", "third", &["hello", "changed"]).await;
}

#[tokio::test]
async fn signature_covers_the_files() {
    let builder = builder();
    let directory = builder.directory().to_owned();
    let distillery = |arguments: &[&str]| {
        let done = output(Command::new(program()).args(arguments).current_dir(&directory));
        assert!(done.status.success(), "{arguments:?}: {}", text(&done.stderr));
    };
    distillery(&["keygen", "team"]);
    for plugin in ["plugins/component", "plugins/module"] {
        distillery(&["sign", "--key", "team.key", plugin]);
    }
    let key = directory.join("team.pub").display().to_string();
    let server = builder.set("plugins.keys", vec![key]).start().await;
    reads(&server, "component", "/plugin/greeting", "hello", &[]).await;
    fs::write(server.plugins().join("component/files/greeting"), "forged").unwrap();
    refusal(&server, "component", "one of its files is another than when it was signed").await;
    fs::write(server.plugins().join("module/files/more"), "added").unwrap();
    refusal(&server, "module", "one of its files is another than when it was signed").await;
    for call in ["component", "module"] {
        reads(&server, call, "/plugin/greeting", "hello", &[]).await;
    }
    distillery(&["sign", "--key", "team.key", "plugins/component"]);
    reads(&server, "component", "/plugin/greeting", "forged", &["hello"]).await;
}

#[tokio::test]
async fn files_beyond_the_limits_do_not_load() {
    let mut server = builder()
        .file("plugins/module/files/second", "x")
        .file("plugins/component/files/large", "x".repeat(2000))
        .set("limits.files", 1)
        .set("limits.files_size", "1KiB")
        .start()
        .await;
    refusal(&server, "module", "more than 1 files, links and directories: remove some, or raise limits.files").await;
    server.reconfigure("limits.files", 10);
    assert!(!server.run(&["reload"]).status.success());
    refusal(&server, "component", "larger than 1KiB together: make the files smaller, or raise limits.files_size")
        .await;
    server.reconfigure("limits.files_size", "1MiB");
    assert!(server.run(&["reload"]).status.success());
    for call in ["component", "module"] {
        reads(&server, call, "/plugin/greeting", "hello", &[]).await;
    }
    // What serves is withdrawn when the limit is lowered.
    server.reconfigure("limits.files", 1);
    assert!(!server.run(&["reload"]).status.success());
    assert_eq!(server.call("module", &[]).await.finish().await.failure(), "unknown call \"module\"");
}

#[tokio::test]
async fn links_and_second_names_lead_nowhere_else() {
    let builder = builder().file("secret", "swordfish");
    let secret = builder.directory().join("secret");
    let files = |plugin: &str| builder.directory().join("plugins").join(plugin).join("files");
    symlink("greeting", files("component").join("inner")).unwrap();
    symlink("deep/up", files("component").join("way")).unwrap();
    fs::create_dir(files("component").join("deep")).unwrap();
    // By names alone it stays inside; where it leads is checked when it is opened.
    symlink("../deep", files("component").join("deep/up")).unwrap();
    symlink(&secret, files("module").join("outside")).unwrap();
    let server = builder.start().await;
    let read = done(&server, "component", &["read /plugin/inner", "read /plugin/way/../greeting"]).await;
    assert_eq!(read, ["hello", "hello"]);
    refusal(&server, "module", "which is outside: put the file itself there").await;
    fs::remove_file(server.plugins().join("module/files/outside")).unwrap();
    // A second name of a file of the same owner counts as a file of its own: later changes do not reach processes.
    fs::hard_link(&secret, server.plugins().join("module/files/second")).unwrap();
    assert_eq!(fs::metadata(&secret).unwrap().nlink(), 2);
    patiently("the file", async {
        while server.call("module", &["read /plugin/second"]).await.finish().await.lines != ["swordfish"] {}
    })
    .await;
    let mut old = server.call("module", &["wait", "read /plugin/second"]).await;
    assert_eq!(old.line().await, "waiting");
    fs::write(&secret, "changed").unwrap();
    old.end_input().await;
    assert_eq!(old.finish().await.success(), ["ok", "swordfish"]);
}

#[tokio::test]
async fn files_replaced_during_reads_are_never_mixed() {
    let server = builder().start().await;
    let put = |word: &str| {
        for name in ["a", "b", "c"] {
            server.put(&format!("plugins/component/files/{name}"), word);
        }
    };
    put("start");
    reads(&server, "component", "/plugin/c", "start", &["NotFound"]).await;
    for word in ["one", "two", "three"] {
        let mut reader = server.call("component", &["read /plugin/a", "wait", "read /plugin/a"]).await;
        let first = reader.line().await;
        put(word);
        reader.end_input().await;
        let lines = reader.finish().await.success();
        assert_eq!(lines, ["waiting", "ok", first.as_str()], "{first}");
        reads(&server, "component", "/plugin/c", word, &["start", "one", "two"]).await;
    }
}

#[tokio::test]
async fn files_can_be_the_root_and_the_working_directory() {
    let manifest = |name: &str, more: &str| public(name) + more;
    let mut builder = Server::builder().set("plugins.grants.both.scratch", "1MiB");
    for (kind, guest) in [("component", Guest::component("files")), ("module", Guest::module("files"))] {
        let root = format!("root.{kind}");
        let here = format!("here.{kind}");
        builder = builder
            .plugin(&root, guest.clone(), &manifest(&root, "files: {directory: lib, at: /}\n"))
            .file(&format!("plugins/{root}/lib/usr/share/text"), "of the root")
            .plugin(&here, guest, &manifest(&here, "directory: /plugin\n"))
            .file(&format!("plugins/{here}/files/sub/text"), "from here");
    }
    let server = builder.start().await;
    for kind in ["component", "module"] {
        let root = done(&server, &format!("root.{kind}"), &["read /usr/share/text", "list /"]).await;
        assert_eq!(root, ["of the root", "usr"], "{kind}");
        let here = done(&server, &format!("here.{kind}"), &["read sub/text", "read /plugin/sub/text"]).await;
        assert_eq!(here, ["from here", "from here"], "{kind}");
    }
}

#[tokio::test]
async fn scratch_space_as_working_directory_has_its_quota() {
    let manifest = public("works") + "directory: /tmp\ncapabilities: {scratch: 64KiB}\n";
    for guest in [Guest::component("files"), Guest::module("files")] {
        let server = Server::builder()
            .plugin("works", guest, &manifest)
            .set("plugins.grants.works.scratch", "64KiB")
            .start()
            .await;
        let lines = done(&server, "works", &["write a 60000", "write /tmp/b 60000", "write c 60000", "list ."]).await;
        assert_eq!((lines[0].as_str(), lines[3].as_str()), ("ok", "a b c"));
        // Some libraries have no word for it.
        assert!(lines[1..3].iter().all(|line| ["StorageFull", "Uncategorized"].contains(&line.as_str())), "{lines:?}");
    }
}

#[tokio::test]
async fn devices_are_there_for_guests_that_ask() {
    for guest in [Guest::component("files"), Guest::module("files")] {
        let server = Server::builder()
            .plugin("dev", guest.clone(), &(public("dev") + "dev: true\n"))
            .plugin("none", guest, &public("none"))
            .start()
            .await;
        let todo = [
            "list /dev",
            "read /dev/null",
            "write /dev/null 10",
            "append /dev/stdout 3",
            "append /dev/stderr 3",
            "write /dev/zero 1",
            "write /dev/sda 1",
            "read /dev/mem",
            "read /dev/../etc/passwd",
            "remove /dev/null",
        ];
        let lines = done(&server, "dev", &todo).await;
        let expected = ["null random stderr stdin stdout urandom zero", "", "ok", "xxxok", "ok"];
        assert_eq!(lines[..5], expected);
        assert!(lines[5..].iter().all(|line| ["PermissionDenied", "NotFound"].contains(&line.as_str())), "{lines:?}");
        let mut reader = server.call("dev", &["read /dev/stdin"]).await;
        reader.say("a line").await;
        reader.end_input().await;
        assert_eq!(reader.finish().await.success(), ["a line", ""]);
        assert_eq!(done(&server, "none", &["read /dev/null"]).await, ["NotFound"]);
    }
}

#[tokio::test]
async fn run_and_check_use_files_and_leave_none_behind() {
    let builder = builder();
    let directory = builder.directory().to_owned();
    let run = |arguments: &[&str]| {
        let mut command = Command::new(program());
        output(command.args(arguments).current_dir(&directory).env("TMPDIR", directory.join("tmp")))
    };
    fs::create_dir(directory.join("tmp")).unwrap();
    let ran = run(&["run", "plugins/component", "read /plugin/greeting"]);
    assert_eq!(text(&ran.stdout), "hello\n", "{}", text(&ran.stderr));
    let checked = text(&run(&["check", "plugins/component"]).stdout).to_owned();
    assert!(checked.contains("  files: 1, 1KiB, at /plugin\n"), "{checked}");
    let left = |path: &Path| fs::read_dir(path).map_or(0, Iterator::count);
    assert_eq!((left(&directory.join("tmp")), left(&directory.join("data"))), (0, 0));
}
