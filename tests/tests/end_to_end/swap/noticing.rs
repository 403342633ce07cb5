//! Every way in which a plugin can be added, changed and removed.

use super::{builder, errors, public, said, says, until};
use distillery_tests::{Server, log::Line, patiently};
use rustix::process::Signal;
use std::{
    fs::{self, File},
    io::Write,
    os::unix::fs::symlink,
};

#[tokio::test]
async fn new_directory_is_served() {
    let server = builder().start().await;
    // Moved into place at once.
    server.put("aside/new/new.wat", says("one"));
    server.put("aside/new/plugin.yaml", public("new"));
    fs::rename(server.directory().join("aside/new"), server.plugins().join("new")).unwrap();
    until(&server, "new", "one", &["unknown call \"new\""]).await;
    // Written in place.
    fs::create_dir(server.plugins().join("other")).unwrap();
    fs::write(server.plugins().join("other/plugin.yaml"), public("other")).unwrap();
    fs::write(server.plugins().join("other/other.wat"), says("one")).unwrap();
    until(&server, "other", "one", &["unknown call \"other\""]).await;
    assert_eq!(errors(&server), 0);
}

#[tokio::test]
async fn call_outlives_the_swap_of_its_plugin() {
    let server = builder().start().await;
    let mut running = server.call("echo", &[]).await;
    assert_eq!(running.line().await, "one");
    server.put("plugins/echo/echo.wat", says("two"));
    until(&server, "echo", "two", &["one"]).await;
    running.say("").await;
    assert_eq!(running.finish().await.success(), ["one"]);
    let ended = server.log().line("the end of the old process", |line| {
        line.message() == "process ended" && line.field("call") == "echo" && line.field("ms").parse::<u64>().is_ok()
    });
    assert_eq!(ended.await.field("generation"), "1");
}

#[tokio::test]
async fn changed_manifest_is_loaded() {
    let server = builder().start().await;
    server.put("plugins/echo/plugin.yaml", "calls: {echo: {access: public}, again: {access: public}}\n");
    until(&server, "again", "one", &["unknown call \"again\""]).await;
    assert_eq!(said(&server, "echo").await.as_deref(), Ok("one"));
}

#[tokio::test]
async fn renamed_directory_keeps_its_calls() {
    let server = builder().start().await;
    let at = |name: &str| server.plugins().join(name);
    fs::rename(at("echo"), at("renamed")).unwrap();
    let loaded = server.log().line("the plugin under its new name", |line| {
        line.message() == "plugin loaded" && line.field("plugin") == "renamed"
    });
    // No call fails meanwhile.
    tokio::select! {
        _ = loaded => {}
        () = until(&server, "echo", "never", &["one"]) => {}
    }
    assert_eq!(said(&server, "echo").await.as_deref(), Ok("one"));
    server.log().line("the end of the old name", |line| line.message() == "plugin removed").await;
    assert_eq!((said(&server, "echo").await.as_deref(), errors(&server)), (Ok("one"), 0));
}

#[tokio::test]
async fn removed_directory_ends_its_calls_but_no_processes() {
    let server = builder().start().await;
    let mut running = server.call("echo", &[]).await;
    assert_eq!(running.line().await, "one");
    fs::remove_dir_all(server.plugins().join("echo")).unwrap();
    until(&server, "echo", "unknown call \"echo\"", &["one"]).await;
    running.say("").await;
    assert_eq!(running.finish().await.success(), ["one"]);
    server.log().line("the end of the plugin", |line| line.message() == "generation freed").await;
    // The numbers of its generations continue.
    server.put("plugins/echo/plugin.yaml", public("echo"));
    server.put("plugins/echo/echo.wat", says("two"));
    until(&server, "echo", "two", &["unknown call \"echo\""]).await;
    let loaded = server.log().lines_of("the plugin again", 2, |line| line.message() == "plugin loaded").await;
    assert_eq!(loaded[1].field("generation"), "2");
}

#[tokio::test]
async fn saves_by_rename_are_noticed() {
    let server = builder().start().await;
    let at = |name: &str| server.plugins().join("echo").join(name);
    for word in ["two", "three"] {
        // As vim saves: a swap file throughout, and the old file kept as a backup until the new one is written.
        fs::write(at(".echo.wat.swp"), "b0VIM").unwrap();
        fs::rename(at("echo.wat"), at("echo.wat~")).unwrap();
        fs::write(at("echo.wat"), says(word)).unwrap();
        fs::remove_file(at("echo.wat~")).unwrap();
        fs::remove_file(at(".echo.wat.swp")).unwrap();
        until(&server, "echo", word, &["one", "two"]).await;
        // As other editors save: written beside the file, then moved over it.
        fs::write(at(".echo.wat.tmp"), says("between")).unwrap();
        fs::rename(at(".echo.wat.tmp"), at("echo.wat")).unwrap();
        until(&server, "echo", "between", &[word]).await;
        fs::write(at("echo.wat"), says(word)).unwrap();
        until(&server, "echo", word, &["between"]).await;
    }
    assert_eq!(errors(&server), 0);
}

/// Returns the number of the generation of `echo` that serves.
async fn generation(server: &Server) -> u64 {
    server.get("/api/v1/plugins").await.json()[0]["generation"].as_u64().expect("a number")
}

/// Returns how often the server began to load the plugin `echo`.
fn loads(server: &Server) -> usize {
    let load = |line: &&Line| line.message() == "loading" && line.field("plugin") == "echo";
    server.log().lines().iter().filter(load).count()
}

#[tokio::test]
async fn partial_module_is_no_error_while_it_is_written() {
    let server = builder().start().await;
    let file = server.plugins().join("echo/echo.wat");
    let module = says("two");
    // Each piece has a writer of its own, so the server cannot know that more follows.
    let pieces: Vec<_> = module.as_bytes().chunks(module.len() / 3 + 1).collect();
    File::create(&file).unwrap();
    for tried in 1..=pieces.len() {
        let not_yet = |line: &Line| line.message() == "a plugin does not load yet";
        server.log().lines_of("what is there to be tried", tried, not_yet).await;
        File::options().append(true).open(&file).unwrap().write_all(pieces[tried - 1]).unwrap();
    }
    until(&server, "echo", "two", &["one"]).await;
    assert_eq!(errors(&server), 0);
}

#[tokio::test]
async fn file_that_is_being_written_is_not_loaded() {
    let server = builder()
        .file("plugins/other/plugin.yaml", public("other"))
        .file("plugins/other/other.wat", says("before"))
        .start()
        .await;
    let before = loads(&server);
    let module = says("two");
    let mut copy = File::create(server.plugins().join("echo/echo.wat")).unwrap();
    for (number, piece) in module.as_bytes().chunks(module.len() / 3 + 1).enumerate() {
        copy.write_all(piece).unwrap();
        // A later change of another plugin is loaded long before.
        let word = format!("after{number}");
        server.put("plugins/other/other.wat", says(&word));
        patiently(&word, async { while said(&server, "other").await.as_ref() != Ok(&word) {} }).await;
        assert_eq!((said(&server, "echo").await.as_deref(), loads(&server)), (Ok("one"), before));
    }
    drop(copy);
    until(&server, "echo", "two", &["one"]).await;
    assert_eq!((generation(&server).await, errors(&server)), (2, 0));
}

#[tokio::test]
async fn manifest_and_module_change_together() {
    // As Kubernetes mounts a ConfigMap: links to files in a hidden directory, which is itself a link that is replaced
    // in one step.
    let server = builder().start().await;
    let at = |path: &str| server.plugins().join("config").join(path);
    let version = |word: &str| {
        server.put(&format!("plugins/config/..{word}/plugin.yaml"), format!("calls: {{{word}: {{access: public}}}}\n"));
        server.put(&format!("plugins/config/..{word}/config.wat"), says(word));
        symlink(format!("..{word}"), at("..data_tmp")).unwrap();
        fs::rename(at("..data_tmp"), at("..data")).unwrap();
    };
    version("first");
    for file in ["plugin.yaml", "config.wat"] {
        symlink(format!("..data/{file}"), at(file)).unwrap();
    }
    until(&server, "first", "first", &["unknown call \"first\""]).await;
    for (old, new) in [("first", "second"), ("second", "third")] {
        version(new);
        fs::remove_dir_all(at(&format!("..{old}"))).unwrap();
        until(&server, new, new, &[&format!("unknown call {new:?}")]).await;
        assert_eq!(said(&server, old).await, Err(format!("unknown call {old:?}")));
    }
    assert_eq!(errors(&server), 0);
}

#[tokio::test]
async fn replaced_directory_link_is_followed() {
    let server = builder().start().await;
    let link = |release: &str| {
        server.put(&format!("releases/{release}/plugin.yaml"), public("linked"));
        server.put(&format!("releases/{release}/linked.wat"), says(release));
        symlink(server.directory().join("releases").join(release), server.plugins().join(".link")).unwrap();
        fs::rename(server.plugins().join(".link"), server.plugins().join("linked")).unwrap();
    };
    link("r1");
    until(&server, "linked", "r1", &["unknown call \"linked\""]).await;
    link("r2");
    until(&server, "linked", "r2", &["r1"]).await;
    server.put("releases/r2/linked.wat", says("r3"));
    until(&server, "linked", "r3", &["r2"]).await;
}

#[tokio::test]
async fn last_of_a_hundred_changes_wins() {
    let server = builder().start().await;
    for number in 0..100 {
        server.put("plugins/echo/echo.wat", says(&format!("n{number}")));
        server.put(&format!("plugins/p{number}/plugin.yaml"), public(&format!("p{number}")));
        server.put(&format!("plugins/p{number}/x.wat"), says("here"));
    }
    for number in 0..100 {
        let call = format!("p{number}");
        until(&server, &call, "here", &[&format!("unknown call {call:?}")]).await;
    }
    patiently("the last change", async { while said(&server, "echo").await.as_deref() != Ok("n99") {} }).await;
    assert_eq!(errors(&server), 0);
}

#[tokio::test]
async fn change_during_a_compilation_is_loaded_afterwards() {
    // Compiled code of another run would leave nothing to do.
    let builder = builder();
    let cache = builder.directory().join("cache").display().to_string();
    let server = builder.set("cache", cache).start().await;
    // Some seconds of work for the compiler.
    let functions: String = (0..6000)
        .map(|n| {
            let steps = "local.get 0 i32.const 3 i32.mul local.get 0 i32.xor local.set 0 ".repeat(20);
            format!("(func $f{n} (param i32) (result i32) {steps} local.get 0)\n")
        })
        .collect();
    let slow = says("slow");
    let slow = format!("{}\n{functions})", slow.strip_suffix(')').expect("the end of the module"));
    server.put("plugins/echo/echo.wat", &slow);
    // A separate process compiles the module, which has been read by then: an earlier change would only make the server
    // read it again.
    patiently("the compiler", async {
        while server.children() == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    for number in 0..5 {
        server.put("plugins/echo/echo.wat", says(&format!("later{number}")));
    }
    until(&server, "echo", "later4", &["one", "slow"]).await;
    // Of the overtaken changes, only the first, which was read before, can have become a generation.
    assert!((2..=3).contains(&generation(&server).await));
}

#[tokio::test]
async fn changes_are_found_without_file_events() {
    let server = builder().set("plugins.watch", "poll").start().await;
    server.put("plugins/echo/echo.wat", says("two"));
    server.put("plugins/new/plugin.yaml", public("new"));
    server.put("plugins/new/new.wat", says("here"));
    until(&server, "echo", "two", &["one"]).await;
    until(&server, "new", "here", &["unknown call \"new\""]).await;
    fs::remove_dir_all(server.plugins().join("new")).unwrap();
    until(&server, "new", "unknown call \"new\"", &["here"]).await;
    assert_eq!(errors(&server), 0);
}

#[tokio::test]
async fn server_that_does_not_watch_loads_on_reload() {
    let server = builder().set("plugins.watch", "off").start().await;
    server.put("plugins/echo/echo.wat", says("two"));
    server.signal(Signal::HUP);
    until(&server, "echo", "two", &["one"]).await;
    server.put("plugins/echo/echo.wat", says("three"));
    let reload = server.run(&["reload"]);
    assert!(reload.status.success(), "{reload:?}");
    // When the command has ended, the new generation serves.
    assert_eq!(said(&server, "echo").await.as_deref(), Ok("three"));
    assert!(String::from_utf8_lossy(&reload.stdout).starts_with("echo (serving): echo\n"), "{reload:?}");
}

#[tokio::test]
async fn bad_version_changes_nothing_and_is_logged_once() {
    let server = builder().start().await;
    let bad = |line: &Line| line.message() == "plugin not loaded";
    for (count, file, text) in
        [(1, "echo.wat", "(module (func"), (2, "plugin.yaml", "cals: {}"), (3, "plugin.yaml", "limits: {memory: 1TiB}")]
    {
        server.put(&format!("plugins/echo/{file}"), text);
        let line = server.log().lines_of("an error", count, bad).await.remove(count - 1);
        assert_eq!((line.level(), line.field("serving")), ("ERROR", "1".to_owned()));
        assert_eq!(line.field("generation"), (count + 1).to_string());
        assert_eq!(said(&server, "echo").await.as_deref(), Ok("one"));
    }
    // The same error again is not logged again.
    server.put("plugins/echo/plugin.yaml", "limits: {memory: 1TiB}");
    server.put("plugins/echo/plugin.yaml", public("echo"));
    server.put("plugins/echo/echo.wat", says("two"));
    until(&server, "echo", "two", &["one"]).await;
    assert_eq!(errors(&server), 3);
}

#[tokio::test]
async fn reverted_change_serves_as_before() {
    let server = builder().start().await;
    let mut events = server.plugin_events().await;
    server.put("plugins/echo/echo.wat", "(module (func");
    events.wait("the failure", |name, _| name == "failed").await;
    server.put("plugins/echo/echo.wat", says("one"));
    patiently("the error to be gone", async {
        while !server.get("/api/v1/plugins").await.json()[0]["error"].is_null() {}
    })
    .await;
    let plugin = &server.get("/api/v1/plugins").await.json()[0];
    assert_eq!((&plugin["generation"], &plugin["state"]), (&1.into(), &"serving".into()));
}

#[tokio::test]
async fn missing_plugin_directory_removes_no_plugin() {
    let server = builder().start().await;
    let aside = server.directory().join("aside");
    fs::rename(server.plugins(), &aside).unwrap();
    server.log().line("a word about it", |line| line.message().starts_with("the directory of plugins is gone")).await;
    assert_eq!(said(&server, "echo").await.as_deref(), Ok("one"));
    // An empty directory removes no plugin either, such as one where a disk was mounted.
    fs::create_dir(server.plugins()).unwrap();
    let empty = |line: &Line| line.field("error").contains("which is empty");
    server.log().line("a word about the empty one", empty).await;
    assert_eq!(said(&server, "echo").await.as_deref(), Ok("one"));

    fs::remove_dir(server.plugins()).unwrap();
    fs::write(aside.join("echo/echo.wat"), says("two")).unwrap();
    fs::rename(&aside, server.plugins()).unwrap();
    until(&server, "echo", "two", &["one"]).await;
    server.put("plugins/echo/echo.wat", says("three"));
    until(&server, "echo", "three", &["two"]).await;
    assert_eq!(errors(&server), 0);
}

#[tokio::test]
async fn call_moves_to_the_next_plugin_when_its_own_is_removed() {
    let server = builder()
        .file("plugins/second/plugin.yaml", public("echo"))
        .file("plugins/second/second.wat", says("second"))
        .start()
        .await;
    server.log().line("the conflict", |line| line.field("error").contains("already provided")).await;
    fs::remove_dir_all(server.plugins().join("echo")).unwrap();
    // The call is available at every moment.
    until(&server, "echo", "second", &["one"]).await;
}

#[tokio::test]
async fn many_removals_need_few_scans_and_snapshots() {
    const MANY: usize = 120;
    let mut builder = builder().set("log.level", "info,distillery_plugin=trace");
    for number in 0..MANY {
        builder = builder.file(&format!("plugins/p{number}/p{number}.wat"), says("many"));
    }
    let server = builder.start().await;
    let count = |message: &str| server.log().lines().iter().filter(|line| line.message() == message).count();
    let work = || count("looking at all plugins") + count("the next snapshot");
    let before = work();
    for number in 0..MANY {
        fs::remove_dir_all(server.plugins().join(format!("p{number}"))).unwrap();
    }
    server.log().lines_of("the removals", MANY, |line| line.message() == "plugin removed").await;
    let work = work() - before;
    assert!(work < MANY, "{work} looks and snapshots for {MANY} removals");
    // A reload that loads nothing needs few, too.
    let before = count("the next snapshot");
    assert!(server.run(&["reload"]).status.success());
    assert!(count("the next snapshot") - before <= 2);
}
