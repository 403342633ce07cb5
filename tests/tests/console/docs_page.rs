//! The page of the API's documents: every operation on it, and requests that are sent from it.

use crate::{builder, user};
use distillery_tests::{Browser, browser::Scheme};

#[tokio::test]
async fn docs_page_shows_operations_and_sends_requests() {
    let server = builder().start().await;
    user(&server, "ada", &["plugins:read"]);
    let made = server.run_with(&["token", "add", "--user", "ada"], "");
    let token = String::from_utf8_lossy(&made.stdout).trim_end().to_owned();
    let Some(browser) = Browser::open().await else { return };
    browser.go(&format!("http://{}/api/v1/docs#listCalls", server.address())).await;
    // The operation of the address is open.
    for text in ["For programs: openapi.json and asyncapi.json.", "EXAMPLE FOR 200", "CallParameter", "curl"] {
        browser.sees(text).await;
    }
    browser.press("Send").await;
    browser
        .until("the calls", "document.querySelector('[aria-label=Response]').textContent.includes('provision')")
        .await;

    // A scope is needed, and the token has it.
    browser.run("location.hash = '#listPlugins'").await;
    browser.until("the operation", "document.querySelector('#listPlugins form')").await;
    let response = "document.querySelector('#listPlugins .status').textContent";
    let send = "document.querySelector('#listPlugins [type=submit]').click()";
    browser.run(send).await;
    browser.until("a refusal", &format!("{response}.startsWith('403')")).await;
    browser.write("Token", &token).await;
    browser.run(send).await;
    browser.until("a success", &format!("{response}.startsWith('200')")).await;

    browser.run("document.querySelectorAll('details').forEach((it) => { it.open = true; })").await;
    browser.until("all operations", "[...document.querySelectorAll('.body')].every((it) => it.children.length)").await;
    for scheme in [Scheme::Light, Scheme::Dark] {
        browser.prefer(scheme).await;
        assert_eq!(browser.axe().await, [""; 0], "{scheme:?}");
    }
    browser.write("Filter", "rollback").await;
    browser.until("one operation", "document.querySelectorAll('details:not([hidden])').length === 1").await;
    assert_eq!(browser.complaints(&["403"]).await, [""; 0]);
}
