//! Scripts and the interpreters that run them: one module for all plugins, installed once by the operator.

use distillery_tests::{
    Guest, Server,
    log::Line,
    patiently,
    program::{output, program, text},
    server::Builder,
};
use std::{fs, path::Path, process::Command, time::Instant};

/// The manifest of an interpreter that prints its script: the guest `files`.
const MANIFEST: &str = "description: Prints a script\narguments: ['read {script}']\nenv: {WHERE: here}\n";

fn public(name: &str) -> String {
    format!(
        "{{interpreter: cat, script: a.txt, calls: {{{name}: {{access: public}}, {name}.b: {{access: public, script: b/b.txt}}}}}}\n"
    )
}

/// Returns the files of the interpreter `cat` in a directory of this name.
fn interpreter(directory: &str) -> [(String, Vec<u8>); 3] {
    [
        (format!("{directory}/interpreter.yaml"), MANIFEST.into()),
        (format!("{directory}/cat.wasm"), fs::read(Guest::module("files").file).unwrap()),
        (format!("{directory}/files/library"), b"books".to_vec()),
    ]
}

/// Returns a server with the script plugins `one` and `two`, without their interpreter.
fn plugins() -> Builder {
    let builder = Server::builder().set("auth.anonymous", vec!["plugins:*"]);
    ["one", "two"].into_iter().fold(builder, |builder, name| {
        builder
            .file(&format!("plugins/{name}/plugin.yaml"), public(name))
            .file(&format!("plugins/{name}/files/a.txt"), format!("a of {name}"))
            .file(&format!("plugins/{name}/files/b/b.txt"), format!("b of {name}"))
    })
}

fn builder() -> Builder {
    interpreter("interpreters/cat").into_iter().fold(plugins(), |builder, (file, content)| builder.file(&file, content))
}

async fn done(server: &Server, call: &str, params: &[&str]) -> Vec<String> {
    server.call(call, params).await.finish().await.success()
}

/// Waits until a plugin is loaded as the generation with this number. Returns the line of the log.
async fn loaded(server: &Server, plugin: &str, generation: u64) -> Line {
    let is = |line: &Line| {
        line.message() == "plugin loaded"
            && line.field("plugin") == plugin
            && line.field("generation") == generation.to_string()
    };
    server.log().line(&format!("generation {generation} of {plugin}"), is).await
}

/// Replaces a file by another one.
fn replace(server: &Server, path: &str, content: impl AsRef<[u8]>) -> Instant {
    let beside = server.directory().join("beside");
    fs::write(&beside, content).unwrap();
    let renamed = Instant::now();
    fs::rename(beside, server.directory().join(path)).unwrap();
    renamed
}

#[tokio::test]
async fn scripts_of_several_calls_share_an_interpreter() {
    let server = builder().start().await;
    for name in ["one", "two"] {
        assert_eq!(done(&server, name, &[]).await, [format!("a of {name}")]);
        let lines = done(&server, &format!("{name}.b"), &["read /interpreter/library", "write /interpreter/x 1"]).await;
        assert_eq!(lines[..2], [format!("b of {name}"), "books".into()]);
        assert!(["PermissionDenied", "NotFound"].contains(&lines[2].as_str()), "{lines:?}");
    }
    let listed = server.get("/api/v1/plugins").await.json();
    assert_eq!(listed[0]["interpreter"], "cat");
    assert_eq!(listed[0]["env"]["WHERE"], "here");
}

/// The goal is 100 ms from the rename to serving. The time is printed, as other work of the machine counts.
#[tokio::test]
async fn saved_script_serves_without_compilation() {
    let server = builder().set("cache", "cache").start().await;
    let notes = server.directory().join("cache/compiled");
    assert!(notes.is_dir(), "the interpreter was compiled");
    fs::remove_dir_all(&notes).unwrap();
    let renamed = replace(&server, "plugins/one/files/a.txt", "changed");
    loaded(&server, "one", 2).await;
    println!("serving {} ms after the rename", renamed.elapsed().as_millis());
    assert_eq!(done(&server, "one", &[]).await, ["changed"]);
    assert_eq!(done(&server, "two", &[]).await, ["a of two"]);
    assert!(!notes.exists(), "something was compiled");
}

#[tokio::test]
async fn changed_interpreter_reloads_its_plugins() {
    let server = builder().plugin("other", Guest::module("files"), "{calls: {other: {access: public}}}").start().await;
    let mut old = server.call("one", &["wait", "read /interpreter/library"]).await;
    assert_eq!((old.line().await, old.line().await), ("a of one".into(), "waiting".into()));
    replace(&server, "interpreters/cat/files/library", "more books");
    for name in ["one", "two"] {
        loaded(&server, name, 2).await;
        assert_eq!(done(&server, name, &["read /interpreter/library"]).await[1], "more books");
    }
    replace(&server, "interpreters/cat/interpreter.yaml", "arguments: ['size {script}']");
    for name in ["one", "two"] {
        loaded(&server, name, 3).await;
        assert_eq!(done(&server, name, &[]).await, ["8"]);
    }
    // A process keeps the interpreter of its generation.
    old.end_input().await;
    assert_eq!(old.finish().await.success(), ["ok", "books"]);
    let listed = server.get("/api/v1/plugins").await.json();
    let other = listed.as_array().unwrap().iter().find(|it| it["name"] == "other").unwrap();
    assert_eq!(other["generation"], 1);
}

#[tokio::test]
async fn plugins_load_when_their_interpreter_is_added() {
    let server = plugins().start().await;
    let why = |line: &Line| {
        line.message() == "plugin not loaded"
            && line.field("error").contains(
                "the interpreter \"cat\" is not installed (none is): install it with `distillery interpreter add DIRECTORY`",
            )
    };
    server.log().line("why they do not load", why).await;
    for (file, content) in interpreter("cat") {
        server.put(&file, content);
    }
    let added = server.run(&["interpreter", "add", "cat"]);
    let said = text(&added.stdout);
    assert!(added.status.success(), "{added:?}");
    assert!(said.contains("copying 3 files") && said.contains("compiled in") && said.contains("installed: "), "{said}");
    // Nothing tells the server of a directory that was not there: the next look does.
    loaded(&server, "one", 2).await;
    loaded(&server, "two", 2).await;
    assert_eq!(done(&server, "two", &[]).await, ["a of two"]);

    let again = server.run(&["interpreter", "add", "cat"]);
    assert!(text(&again.stderr).contains("exists already: replace it with --replace"), "{again:?}");
    fs::write(server.directory().join("cat/files/library"), "new books").unwrap();
    assert!(server.run(&["interpreter", "add", "--replace", "cat"]).status.success());
    loaded(&server, "one", 3).await;
    assert_eq!(done(&server, "one", &["read /interpreter/library"]).await[1], "new books");
    let listed = text(&server.run(&["interpreter", "list"]).stdout);
    assert!(listed.contains("cat (Prints a script), ") && listed.contains("used by one, two"), "{listed}");
    assert_eq!(fs::read_dir(server.directory().join("interpreters")).unwrap().count(), 1, "nothing is left over");
}

#[tokio::test]
async fn interpreter_is_installed_from_a_module() {
    let here = tempfile::tempdir().unwrap();
    let module = here.path().join("cat.wasm");
    fs::copy(Guest::module("files").file, &module).unwrap();
    let run = |arguments: &[&str]| output(Command::new(program()).args(arguments).current_dir(here.path()));
    assert!(run(&["interpreter", "add", "cat.wasm", "--name", "prints"]).status.success());
    assert!(here.path().join("interpreters/prints/cat.wasm").is_file());
    let checked = run(&["interpreter", "check"]);
    let said = text(&checked.stdout);
    assert!(checked.status.success() && said.contains("runs: CALL SCRIPT PARAMETERS"), "{checked:?}");
    fs::remove_file(here.path().join("interpreters/prints/cat.wasm")).unwrap();
    let checked = run(&["interpreter", "check", "prints"]);
    assert!(!checked.status.success() && text(&checked.stdout).contains("no module: put one .wasm"), "{checked:?}");
    let missing = run(&["interpreter", "add", "nowhere"]);
    assert!(!missing.status.success() && text(&missing.stderr).contains("nowhere"), "{missing:?}");
}

#[tokio::test]
async fn rolled_back_script_runs_with_its_interpreter() {
    let mut server = builder().start().await;
    replace(&server, "interpreters/cat/files/library", "more books");
    loaded(&server, "one", 2).await;
    assert_eq!(server.post("/api/v1/plugins/one/rollback").await.status, 200);
    assert_eq!(done(&server, "one", &["read /interpreter/library"]).await, ["a of one", "books"]);
    // The archive has the interpreter of the version, and the other plugin has the installed one.
    server.crash_and_restart().await;
    assert_eq!(done(&server, "one", &["read /interpreter/library"]).await, ["a of one", "books"]);
    assert_eq!(done(&server, "two", &["read /interpreter/library"]).await, ["a of two", "more books"]);
}

#[tokio::test]
async fn signature_covers_the_interpreter() {
    let builder = builder();
    let root = builder.directory().to_owned();
    let run = |arguments: &[&str]| {
        let done = output(Command::new(program()).args(arguments).current_dir(&root));
        assert!(done.status.success(), "{done:?}");
    };
    run(&["keygen", "team"]);
    for name in ["one", "two"] {
        run(&["sign", "--key", "team.key", Path::new("plugins").join(name).to_str().unwrap()]);
    }
    let server = builder.set("plugins.keys", vec!["team.pub"]).start().await;
    assert_eq!(done(&server, "one", &[]).await, ["a of one"]);
    replace(&server, "interpreters/cat/files/library", "other books");
    let refused = |line: &Line| {
        line.message() == "plugin not loaded" && line.field("error").contains("plugin.sig is no signature")
    };
    server.log().line("the changed interpreter is refused", refused).await;
    patiently("the served version to go on", async {
        assert_eq!(done(&server, "one", &["read /interpreter/library"]).await[1], "books");
    })
    .await;
}
