//! For everybody: with keys alone, on narrow screens, in the light and in the dark, and for who hears the page.

use crate::{at, builder, log_in, open, user};
use distillery_tests::{Browser, Guest, Server, browser::Scheme};

/// Everything that can be seen, for one who may see it all.
const PAGES: [(&str, &str); 8] = [
    ("", "A first release"),
    ("calls", "Choose a call"),
    ("calls/provision", "What to switch on"),
    ("calls/nothing", "There is no call"),
    ("processes", "conversation"),
    ("plugins", "Does not load:"),
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

/// A browser of a user who has run something.
async fn used(server: &Server) -> Option<Browser> {
    let browser = open(server, "login").await?;
    log_in(&browser, server, "ada").await;
    for call in ["conversation", "paint"] {
        browser.go(&at(server, &format!("calls/{call}"))).await;
        browser.press("Run").await;
        browser.press("End input").await;
        browser.sees("success").await;
    }
    Some(browser)
}

#[tokio::test]
async fn axe_finds_nothing_on_any_page_in_the_light_and_in_the_dark() {
    let server = server().await;
    let Some(browser) = used(&server).await else { return };
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
    browser.sees("Keys without Ctrl are shortcuts").await;
    assert_eq!(browser.axe().await, [""; 0], "settings");
    browser.press("Close").await;
    browser.press("Log out").await;
    browser.sees("Not logged in").await;
    for page in ["", "calls", "processes", "plugins", "tokens", "login", "processes/1"] {
        browser.go(&at(&server, page)).await;
        browser.until("the page", "document.querySelector('h1')").await;
        assert_eq!(browser.axe().await, [""; 0], "{page} for nobody");
    }
    browser.go(&at(&server, "calls/provision")).await;
    browser.press("Run").await;
    browser.sees("This is needed.").await;
    assert_eq!(browser.axe().await, [""; 0], "a form with a mistake");
    assert_eq!(browser.complaints(&[]).await, [""; 0]);
}

#[tokio::test]
async fn a_running_process_is_fine_by_axe() {
    let server = server().await;
    let Some(browser) = open(&server, "calls/paint").await else { return };
    browser.press("Run").await;
    browser.sees("halves").await;
    for scheme in [Scheme::Light, Scheme::Dark] {
        browser.prefer(scheme).await;
        assert_eq!(browser.axe().await, [""; 0], "{scheme:?}");
    }
    browser.press("End input").await;
    browser.sees("success").await;
    assert_eq!(browser.complaints(&[]).await, [""; 0]);
}

#[tokio::test]
async fn no_page_is_wider_than_a_narrow_screen() {
    let server = server().await;
    let Some(browser) = used(&server).await else { return };
    let terminal = browser.run("return location.hash.slice(2)").await;
    browser.window(360, 740).await;
    let terminal = (terminal.as_str().expect("text").to_owned(), "halves");
    for (page, sight) in PAGES.map(|(page, sight)| (page.to_owned(), sight)).into_iter().chain([terminal]) {
        browser.go(&at(&server, &page)).await;
        browser.sees(sight).await;
        let width = browser.run("return document.documentElement.scrollWidth").await;
        assert_eq!(width, 360, "{page}");
    }
    // Rows are broken where the screen ends.
    let cut = "[...document.querySelectorAll('.row-of-text')].filter((it) => it.scrollWidth > it.clientWidth).length";
    assert_eq!(browser.run(&format!("return {cut}")).await, 0);
    assert_eq!(browser.axe().await, [""; 0]);
    assert_eq!(browser.complaints(&[]).await, [""; 0]);
}

#[tokio::test]
async fn a_call_is_found_run_and_ended_with_keys_alone() {
    let server = server().await;
    let Some(browser) = open(&server, "").await else { return };
    browser.sees("A first release").await;
    // The first stop is the way past what stays.
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
    browser.sees("No call is like that.").await;
    browser.stroke("Control+a").await;
    browser.type_text("conversation").await;
    browser.until("one call", "document.querySelectorAll('.list a').length === 1").await;
    browser.stroke("Tab").await;
    // Whoever moves by keys sees where they are.
    let outline = browser.run("return getComputedStyle(document.activeElement).outlineStyle").await;
    assert_eq!(outline, "solid");
    browser.stroke("Enter").await;
    browser.sees("Keep it running").await;
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
    // What is new is said to who hears the page.
    browser.until("what is heard", "document.querySelector('[role=log]').textContent.includes('echo: typed')").await;
    assert_eq!(browser.complaints(&[]).await, [""; 0]);
}

/// Goes on from stop to stop until the one that is named so.
async fn until_focus(browser: &Browser, name: &str) {
    for _ in 0..20 {
        browser.stroke("Tab").await;
        if browser.run("return document.activeElement.textContent.trim()").await == name {
            return;
        }
    }
    panic!("no stop is named {name:?}");
}

#[tokio::test]
async fn colours_can_be_chosen_and_shortcuts_switched_off() {
    let server = builder().start().await;
    let Some(browser) = open(&server, "").await else { return };
    browser.sees("A first release").await;
    browser.prefer(Scheme::Light).await;
    let back = async || browser.run("return getComputedStyle(document.body).backgroundColor").await;
    let light = back().await;
    browser.press("Settings").await;
    browser.choose("Colours", "Dark").await;
    assert_ne!(back().await, light);
    browser.tick("Keys without Ctrl are shortcuts").await;
    browser.press("Close").await;
    browser.reload().await;
    browser.sees("A first release").await;
    assert_ne!(back().await, light);
    browser.stroke("g").await;
    browser.stroke("c").await;
    browser.stroke("?").await;
    assert_eq!(
        browser.run("return [location.hash, document.querySelector('dialog')]").await,
        serde_json::json!(["#/", null])
    );
    assert_eq!(browser.complaints(&[]).await, [""; 0]);
}
