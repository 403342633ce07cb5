//! Development of a plugin on a running server: the next call runs the saved source.

use distillery_tests::{Server, log::Line};
use std::fs;

/// Returns a module that prints one line.
fn says(line: &str) -> String {
    let text = format!("{line}\\n");
    let length = line.len() + 1;
    format!(
        r#"(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\08\00\00\00")
  (data (i32.const 8) "{text}")
  (func (export "_start")
    (i32.store (i32.const 4) (i32.const {length}))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 100)))))"#
    )
}

#[tokio::test]
async fn saved_source_is_served_and_a_failed_build_changes_nothing() {
    let manifest = "calls: {hello: {access: public}}\ncomponent: hello.wat\n\
                    build: 'if grep -q nonsense source; then echo no such word >&2; exit 1; fi; date > log; cp source hello.wat'\n";
    let builder = Server::builder()
        .argument("--dev")
        .file("plugins/hello/plugin.yaml", manifest)
        .file("plugins/hello/source", says("one"));
    let source = builder.directory().join("plugins/hello/source");
    let server = builder.start().await;
    // The server can have looked for the module before the first build, which counts as a generation.
    let loaded = async |times| server.log().lines_of("a build", times, |line| line.message() == "plugin loaded").await;
    loaded(1).await;
    assert_eq!(server.call("hello", &[]).await.finish().await.success(), ["one"]);

    fs::write(&source, says("two")).expect("the source can be saved");
    loaded(2).await;
    assert_eq!(server.call("hello", &[]).await.finish().await.success(), ["two"]);

    fs::write(&source, says("nonsense")).expect("the source can be saved");
    let failed = |line: &Line| line.message().starts_with("the build failed");
    server.log().line("the failed build", failed).await;
    server.log().line("what the tools said", |line| line.message() == "no such word").await;
    assert_eq!(server.call("hello", &[]).await.finish().await.success(), ["two"]);

    fs::write(&source, says("three")).expect("the source can be saved");
    loaded(3).await;
    assert_eq!(server.call("hello", &[]).await.finish().await.success(), ["three"]);
    server.terminate();
    assert!(server.wait().await.success());
}
