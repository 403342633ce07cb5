//! The output of ended processes, and typed input that nobody else must see.

use crate::{at, builder, log_in, open, user};
use distillery_tests::{Browser, Guest, Server, browser::Scheme};
use serde_json::json;

/// Runs a call of a user that is logged in.
async fn run(browser: &Browser, server: &Server, call: &str) {
    browser.go(&at(server, &format!("calls/{call}"))).await;
    browser.press("Run").await;
}

/// Forgets the processes that the page holds, as another tab or a restarted browser does.
async fn start_afresh(browser: &Browser, page: &str) {
    browser.run(&format!("sessionStorage.clear(); location.hash = {}", json!(page))).await;
    browser.reload().await;
}

const PICTURE: &str = "
calls:
  picture:
    access: public
";

/// Writes the first bytes of a PNG, with bytes that are no text.
const PNG: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\10\00\00\00\0c\00\00\00")
  (data (i32.const 16) "\89PNG\0d\0a\1a\0a\00\ff\fe\0d")
  (func (export "_start") (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#;

#[tokio::test]
async fn output_is_shown_and_searched_after_the_end() {
    let server =
        Server::builder().set("limits.kept_processes", 1).guest(Guest::component("conversation")).start().await;
    user(&server, "ada", &["call:*"]);
    let Some(browser) = open(&server, "login").await else { return };
    log_in(&browser, &server, "ada").await;
    run(&browser, &server, "conversation").await;
    browser.sees("hello").await;
    browser.type_text("needle").await;
    browser.stroke("Enter").await;
    browser.sees("echo: needle").await;
    let page = browser.run("return location.hash").await;
    browser.stroke("Control+d").await;
    browser.sees("success").await;
    // Another process takes the place of the kept one.
    run(&browser, &server, "conversation").await;
    browser.sees("hello").await;
    browser.stroke("Control+d").await;
    browser.sees("success").await;
    start_afresh(&browser, page.as_str().expect("a page")).await;
    browser.sees("echo: needle").await;
    browser.write("Lines with", "NEEDLE").await;
    browser.sees("1 line of").await;
    for (scheme, width) in [(Scheme::Light, 1366), (Scheme::Dark, 360)] {
        browser.prefer(scheme).await;
        browser.window(width, 768).await;
        assert_eq!(browser.axe().await, [""; 0]);
        let wide = browser.run("return document.documentElement.scrollWidth <= innerWidth").await;
        assert_eq!(wide, json!(true), "{width}");
    }
    assert_eq!(browser.complaints(&[]).await, [""; 0]);
}

#[tokio::test]
async fn picture_is_downloaded_byte_for_byte() {
    let server = Server::builder()
        .file("plugins/picture/plugin.yaml", PICTURE)
        .file("plugins/picture/picture.wat", PNG)
        .start()
        .await;
    user(&server, "ada", &["call:*"]);
    let Some(browser) = open(&server, "login").await else { return };
    log_in(&browser, &server, "ada").await;
    run(&browser, &server, "picture").await;
    browser.sees("success").await;
    // The file that the browser would save.
    let keep = "window.saved = null; const make = URL.createObjectURL; \
                URL.createObjectURL = (blob) => { window.saved = blob; return make.call(URL, blob); };";
    browser.run(keep).await;
    browser.press("Download").await;
    browser.until("the file", "window.saved !== null").await;
    browser.run("window.saved.arrayBuffer().then((it) => { window.bytes = [...new Uint8Array(it)]; })").await;
    browser.until("its bytes", "window.bytes !== undefined").await;
    let bytes = browser.run("return window.bytes").await;
    assert_eq!(bytes, json!(b"\x89PNG\r\n\x1a\n\x00\xff\xfe\r".to_vec()));
    assert_eq!(browser.run("return window.saved.type").await, json!("image/png"));
    assert_eq!(browser.complaints(&[]).await, [""; 0]);
}

#[tokio::test]
async fn password_is_hidden_and_not_recalled() {
    let server = builder().start().await;
    let Some(browser) = open(&server, "").await else { return };
    run(&browser, &server, "conversation").await;
    browser.sees("hello").await;
    browser.type_text("visible").await;
    browser.stroke("Enter").await;
    browser.sees("echo: visible").await;
    browser.press("Hide input").await;
    browser.type_text("hunter2").await;
    assert_eq!(browser.run("return document.activeElement.type").await, json!("password"));
    browser.stroke("ArrowUp").await;
    assert_eq!(browser.run("return document.activeElement.value").await, json!("hunter2"));
    browser.stroke("Enter").await;
    browser.sees("•••").await;
    browser.sees("echo: hunter2").await;
    // The next line is visible again, and only the visible line comes back.
    browser.stroke("ArrowUp").await;
    let now = browser.run("return [document.activeElement.type, document.activeElement.value]").await;
    assert_eq!(now, json!(["text", "visible"]));
    // Another process recalls nothing.
    run(&browser, &server, "conversation").await;
    browser.sees("hello").await;
    browser.stroke("ArrowUp").await;
    assert_eq!(browser.run("return document.activeElement.value").await, json!(""));
    assert_eq!(browser.complaints(&[]).await, [""; 0]);
}

#[tokio::test]
async fn prefilled_link_survives_a_login() {
    let server = builder().start().await;
    user(&server, "ada", &["call:*"]);
    let Some(browser) = open(&server, "calls/provision?slug=coins&modules=a&modules=b&password=leaked").await else {
        return;
    };
    let values = "return [...document.querySelectorAll('.fields input')].map((it) => it.value).join()";
    browser.sees("Run").await;
    assert_eq!(browser.run(values).await, json!("coins,,a,b"), "a link sets no secret");
    browser.press("Log in").await;
    browser.write("User", "ada").await;
    browser.write("Password", crate::PASSWORD).await;
    browser.stroke("Enter").await;
    browser.sees("Logged in as ada").await;
    browser.sees("Creates the instance").await;
    assert_eq!(browser.run(values).await, json!("coins,,a,b"));
    assert_eq!(browser.complaints(&[]).await, [""; 0]);
}

#[tokio::test]
async fn ended_session_says_so_and_returns_after_the_login() {
    let server = builder().start().await;
    user(&server, "ada", &["call:*"]);
    let Some(browser) = open(&server, "login").await else { return };
    log_in(&browser, &server, "ada").await;
    server.run(&["user", "remove", "ada"]);
    user(&server, "ada", &["call:*"]);
    browser.press("Processes").await;
    browser.sees("Your session has ended.").await;
    browser.write("User", "ada").await;
    browser.write("Password", crate::PASSWORD).await;
    browser.stroke("Enter").await;
    browser.sees("No process has run yet.").await;
    assert_eq!(browser.run("return location.hash").await, json!("#/processes"));
    assert_eq!(browser.complaints(&["401"]).await, [""; 0]);
}
