//! Much output must not freeze the page. Measured in the browser.

use crate::{at, builder, open};
use distillery_tests::{Browser, Guest};

/// Measures the longest time without a frame. Runs before the process starts.
const WATCH: &str = "window.longest = 0;
    let last = performance.now();
    const frame = (now) => { longest = Math.max(longest, now - last); last = now; requestAnimationFrame(frame); };
    requestAnimationFrame(frame);";

/// Elements on the page at once. A window of 860 pixels has about forty rows.
const MAX_ELEMENTS: f64 = 400.0;
/// Seconds of CPU for a hundred thousand lines.
const MAX_CPU_SECONDS: f64 = 4.0;
/// Milliseconds without a frame. People notice far less; this leaves room for other load on the machine.
const MAX_FRAME_MS: f64 = 10_000.0;

async fn number(browser: &Browser, expression: &str) -> f64 {
    browser.run(&format!("return {expression}")).await.as_f64().expect("a number")
}

/// Prints the measurements, and checks their bounds.
async fn check_bounds(browser: &Browser, what: &str, busy: f64) {
    let elements = number(browser, "document.querySelectorAll('*').length").await;
    let longest = number(browser, "longest").await;
    println!("{what}: {elements} elements, {busy:.2} s of CPU, at most {longest:.0} ms without a frame");
    assert!(elements <= MAX_ELEMENTS, "{elements} elements");
    assert!(longest <= MAX_FRAME_MS, "{longest} ms without a frame");
}

#[tokio::test]
async fn page_shows_all_of_100000_lines() {
    let server = builder().guest(Guest::component("many_lines")).start().await;
    let Some(browser) = open(&server, "calls/many_lines").await else { return };
    browser.press("Add value").await;
    browser.type_text("100000").await;
    browser.run(WATCH).await;
    let before = browser.busy().await;
    browser.press("Run").await;
    browser.sees("line 100000 of 100000").await;
    browser.sees("success").await;
    let busy = browser.busy().await - before;
    check_bounds(&browser, "100,000 lines", busy).await;
    assert!(busy <= MAX_CPU_SECONDS, "{busy} s of CPU");
    // Any line can be scrolled to.
    browser.run("document.querySelector('.view').scrollTop = 0").await;
    browser.sees("line 1 of 100000").await;
    browser.sees("Scroll to end").await;
    browser.run("const view = document.querySelector('.view'); view.scrollTop = view.scrollHeight / 2").await;
    browser.sees("line 50000 of 100000").await;
    browser.press("Scroll to end").await;
    browser.sees("line 100000 of 100000").await;
    assert!(number(&browser, "document.querySelectorAll('*').length").await <= MAX_ELEMENTS);
    assert_eq!(browser.complaints(&[]).await, [""; 0]);
}

#[tokio::test]
async fn endless_flood_is_bounded_and_can_be_cancelled() {
    let server = builder().guest(Guest::component("flood")).grace(std::time::Duration::ZERO).start().await;
    let Some(browser) = open(&server, "calls/flood").await else { return };
    browser.run(WATCH).await;
    let before = browser.busy().await;
    browser.press("Run").await;
    let last = "Number(document.querySelector('.rows .line:nth-last-child(2)')?.textContent.split(' ')[1])";
    browser.until("more than the scrollback", &format!("{last} > 400000")).await;
    browser.press("Cancel").await;
    browser.sees("Cancelled by the client").await;
    let busy = browser.busy().await - before;
    check_bounds(&browser, &format!("a flood of {} lines", number(&browser, last).await), busy).await;
    // The rest of the console still works.
    browser.go(&at(&server, "")).await;
    browser.sees("A first release").await;
    assert_eq!(browser.complaints(&[]).await, [""; 0]);
}
