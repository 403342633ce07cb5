//! Accessibility: keyboard only, narrow screens, light and dark themes, and screen readers.

use crate::{at, builder, log_in, open, user};
use distillery_tests::{Browser, Guest, Server, browser::Scheme};

/// Every page, and a text on it, for a user who can see all of them.
const PAGES: [(&str, &str); 8] = [
    ("", "A first release"),
    ("calls", "Choose a call"),
    ("calls/provision", "What to switch on"),
    ("calls/nothing", "There is no call"),
    ("processes", "conversation"),
    ("plugins", "Failed to load:"),
    ("tokens", "backups"),
    ("login", "You are logged in as"),
];

async fn server() -> Server {
    let server = builder().guest(Guest::component("paint")).file("plugins/broken/broken.wat", "(module").start().await;
    user(&server, "ada", &["*"]);
    let output = server.run_with(&["token", "add", "--user", "ada", "--label", "backups"], "");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    server
}

/// Logs in as a user, and runs a few processes.
async fn used_browser(server: &Server) -> Option<Browser> {
    let browser = open(server, "login").await?;
    log_in(&browser, server, "ada").await;
    for call in ["conversation", "paint"] {
        browser.go(&at(server, &format!("calls/{call}"))).await;
        browser.press("Run").await;
        browser.press("Close stdin").await;
        browser.sees("success").await;
    }
    Some(browser)
}

#[tokio::test]
async fn pages_pass_axe_in_both_themes() {
    let server = server().await;
    let Some(browser) = used_browser(&server).await else { return };
    let terminal = browser.run("return location.hash.slice(2)").await;
    let terminal = (terminal.as_str().expect("text").to_owned(), "halves");
    for (page, sight) in PAGES.map(|(page, sight)| (page.to_owned(), sight)).into_iter().chain([terminal]) {
        browser.go(&at(&server, &page)).await;
        browser.sees(sight).await;
        for scheme in [Scheme::Light, Scheme::Dark] {
            browser.prefer(scheme).await;
            browser
                .until(
                    "the colours",
                    "document.getAnimations().every((it) => it.effect.getTiming().iterations === Infinity)",
                )
                .await;
            assert_eq!(browser.axe().await, [""; 0], "{page} {scheme:?}");
        }
    }
    browser.stroke("?").await;
    browser.sees("Single-key shortcuts").await;
    assert_eq!(browser.axe().await, [""; 0], "settings");
    browser.press("Close").await;
    browser.press("Log out").await;
    browser.sees("Not logged in").await;
    for page in ["", "calls", "processes", "plugins", "tokens", "login", "processes/1"] {
        browser.go(&at(&server, page)).await;
        browser.until("the page", "document.querySelector('h1')").await;
        assert_eq!(browser.axe().await, [""; 0], "{page}, anonymous");
    }
    browser.go(&at(&server, "calls/provision")).await;
    browser.press("Run").await;
    browser.sees("Required.").await;
    assert_eq!(browser.axe().await, [""; 0], "a form with an error");
    assert_eq!(browser.complaints(&[]).await, [""; 0]);
}

#[tokio::test]
async fn running_process_passes_axe() {
    let server = server().await;
    let Some(browser) = open(&server, "calls/paint").await else { return };
    browser.press("Run").await;
    browser.sees("halves").await;
    for scheme in [Scheme::Light, Scheme::Dark] {
        browser.prefer(scheme).await;
        assert_eq!(browser.axe().await, [""; 0], "{scheme:?}");
    }
    browser.press("Close stdin").await;
    browser.sees("success").await;
    assert_eq!(browser.complaints(&[]).await, [""; 0]);
}

#[tokio::test]
async fn pages_fit_a_narrow_screen() {
    let server = server().await;
    let Some(browser) = used_browser(&server).await else { return };
    let terminal = browser.run("return location.hash.slice(2)").await;
    browser.window(360, 740).await;
    let terminal = (terminal.as_str().expect("text").to_owned(), "halves");
    for (page, sight) in PAGES.map(|(page, sight)| (page.to_owned(), sight)).into_iter().chain([terminal]) {
        browser.go(&at(&server, &page)).await;
        browser.sees(sight).await;
        let width = browser.run("return document.documentElement.scrollWidth").await;
        assert_eq!(width, 360, "{page}");
    }
    // Rows are broken at the edge of the screen.
    let cut = "[...document.querySelectorAll('.row-of-text')].filter((it) => it.scrollWidth > it.clientWidth).length";
    assert_eq!(browser.run(&format!("return {cut}")).await, 0);
    assert_eq!(browser.axe().await, [""; 0]);
    assert_eq!(browser.complaints(&[]).await, [""; 0]);
}

#[tokio::test]
async fn keyboard_finds_runs_and_ends_a_call() {
    let server = server().await;
    let Some(browser) = open(&server, "").await else { return };
    browser.sees("A first release").await;
    // The first stop skips the navigation.
    browser.stroke("Tab").await;
    assert_eq!(browser.run("return document.activeElement.textContent").await, "Skip to content");
    browser.stroke("Enter").await;
    assert_eq!(browser.run("return document.activeElement.id").await, "main");
    browser.stroke("g").await;
    browser.stroke("c").await;
    browser.sees("Choose a call").await;
    browser.until("the focus on the new page", "document.activeElement.tagName === 'H1'").await;
    browser.stroke("/").await;
    browser.type_text("instances or lines").await;
    browser.sees("No call matches.").await;
    browser.stroke("Control+a").await;
    browser.type_text("conversation").await;
    browser.until("one call", "document.querySelectorAll('.list a').length === 1").await;
    browser.stroke("Tab").await;
    // Keyboard users see the focus.
    let outline = browser.run("return getComputedStyle(document.activeElement).outlineStyle").await;
    assert_eq!(outline, "solid");
    browser.stroke("Enter").await;
    browser.sees("Keep running").await;
    browser.until("the focus on the call", "document.activeElement.tagName === 'H1'").await;
    until_focus(&browser, "Run").await;
    browser.stroke("Enter").await;
    browser.sees("hello").await;
    browser.until("the focus on its input", "document.activeElement.matches('.input input')").await;
    browser.type_text("typed").await;
    browser.stroke("Enter").await;
    browser.sees("echo: typed").await;
    browser.stroke("Control+d").await;
    browser.sees("success").await;
    // Screen readers hear new output.
    browser.until("the log", "document.querySelector('[role=log]').textContent.includes('echo: typed')").await;
    assert_eq!(browser.complaints(&[]).await, [""; 0]);
}

/// Presses Tab until the element with this text has the focus.
async fn until_focus(browser: &Browser, name: &str) {
    for _ in 0..20 {
        browser.stroke("Tab").await;
        if browser.run("return document.activeElement.textContent.trim()").await == name {
            return;
        }
    }
    panic!("no element is named {name:?}");
}

#[tokio::test]
async fn theme_and_shortcuts_can_be_changed() {
    let server = builder().start().await;
    let Some(browser) = open(&server, "").await else { return };
    browser.sees("A first release").await;
    browser.prefer(Scheme::Light).await;
    let background = async || browser.run("return getComputedStyle(document.body).backgroundColor").await;
    let light = background().await;
    browser.press("Settings").await;
    browser.choose("Theme", "Dark").await;
    assert_ne!(background().await, light);
    browser.tick("Single-key shortcuts").await;
    browser.press("Close").await;
    browser.reload().await;
    browser.sees("A first release").await;
    assert_ne!(background().await, light);
    browser.stroke("g").await;
    browser.stroke("c").await;
    browser.stroke("?").await;
    assert_eq!(
        browser.run("return [location.hash, document.querySelector('dialog')]").await,
        serde_json::json!(["#/", null])
    );
    assert_eq!(browser.complaints(&[]).await, [""; 0]);
}
