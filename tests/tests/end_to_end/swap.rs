//! Plugins that change while the server runs: the server serves the content of the directory, however it got there, and
//! disturbs no process and no caller.

mod generations;
mod load;
mod manifests;
mod noticing;
mod operator;
mod revocation;
mod rollback;

use distillery_tests::{Server, patiently, server::Builder};

/// Returns a guest that prints `word`, reads a line, and prints `word` again.
fn says(word: &str) -> String {
    let length = word.len() + 1;
    format!(
        r#"(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 64) "{word}\n")
  (func $say
    (i32.store (i32.const 0) (i32.const 64))
    (i32.store (i32.const 4) (i32.const {length}))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))
  (func (export "_start")
    (call $say)
    (i32.store (i32.const 16) (i32.const 1024))
    (i32.store (i32.const 20) (i32.const 1024))
    (drop (call $read (i32.const 0) (i32.const 16) (i32.const 1) (i32.const 24)))
    (call $say)))"#
    )
}

/// Returns the manifest of a plugin with the public call `name`.
fn public(name: &str) -> String {
    format!("calls: {{{name}: {{access: public}}}}\n")
}

/// Returns a server with the plugin `echo` that prints `one`, whose callers can list and change plugins.
fn builder() -> Builder {
    Server::builder()
        .file("plugins/echo/plugin.yaml", public("echo"))
        .file("plugins/echo/echo.wat", says("one"))
        .set("auth.anonymous", vec!["plugins:*"])
        .set("log.level", "info,distillery_plugin=debug")
}

/// Returns the first line of the call, or the reason why the call failed.
async fn said(server: &Server, call: &str) -> Result<String, String> {
    let mut client = server.call(call, &[]).await;
    client.say("").await;
    let end = client.finish().await;
    match &end.verdict {
        distillery_tests::Verdict::Success => Ok(end.lines[0].clone()),
        distillery_tests::Verdict::Failure(message) => Err(message.clone()),
    }
}

/// Calls until the answer is `word`. Every answer until then must be one of `before`.
async fn until(server: &Server, call: &str, word: &str, before: &[&str]) {
    let what = format!("{call} to say {word}");
    patiently(&what, async {
        loop {
            let answer = said(server, call).await.unwrap_or_else(|message| message);
            if answer == word {
                return;
            }
            assert!(before.contains(&answer.as_str()), "{answer} instead of {word} or {before:?}");
        }
    })
    .await;
}

/// Counts the lines of the log about plugins that did not load.
fn errors(server: &Server) -> usize {
    server.log().lines().iter().filter(|line| line.message() == "plugin not loaded").count()
}
