//! Much output does not freeze the page: what it takes is measured where it is seen.

use crate::{at, builder, open};
use distillery_tests::{Browser, Guest};

/// Before the process runs: watches how long the page ever is without a frame.
const WATCH: &str = "window.longest = 0;
    let last = performance.now();
    const frame = (now) => { longest = Math.max(longest, now - last); last = now; requestAnimationFrame(frame); };
    requestAnimationFrame(frame);";

/// Elements of the page at once. A window of 860 pixels has some forty rows.
const ELEMENTS: f64 = 400.0;
/// Seconds of a processor that a hundred thousand lines may take the page.
const BUSY: f64 = 4.0;
/// Milliseconds. An eye takes much less for a stutter; this is for machines that do much else at the time.
const LONGEST: f64 = 10_000.0;

async fn number(browser: &Browser, expression: &str) -> f64 {
    browser.run(&format!("return {expression}")).await.as_f64().expect("a number")
}

/// Prints what it took, and holds it to its bounds.
async fn within_bounds(browser: &Browser, what: &str, busy: f64) {
    let elements = number(browser, "document.querySelectorAll('*').length").await;
    let longest = number(browser, "longest").await;
    println!("{what}: {elements} elements, {busy:.2} s of a processor, at most {longest:.0} ms without a frame");
    assert!(elements <= ELEMENTS, "{elements} elements");
    assert!(longest <= LONGEST, "{longest} ms without a frame");
}

#[tokio::test]
async fn a_hundred_thousand_lines_are_all_there_and_the_page_is_awake() {
    let server = builder().guest(Guest::component("many_lines")).start().await;
    let Some(browser) = open(&server, "calls/many_lines").await else { return };
    browser.press("Add a value").await;
    browser.type_text("100000").await;
    browser.run(WATCH).await;
    let before = browser.busy().await;
    browser.press("Run").await;
    browser.sees("line 100000 of 100000").await;
    browser.sees("success").await;
    let busy = browser.busy().await - before;
    within_bounds(&browser, "100,000 lines", busy).await;
    assert!(busy <= BUSY, "{busy} s of a processor");
    // The first one as well as the last, and any between.
    browser.run("document.querySelector('.view').scrollTop = 0").await;
    browser.sees("line 1 of 100000").await;
    browser.sees("To the end").await;
    browser.run("const view = document.querySelector('.view'); view.scrollTop = view.scrollHeight / 2").await;
    browser.sees("line 50000 of 100000").await;
    browser.press("To the end").await;
    browser.sees("line 100000 of 100000").await;
    assert!(number(&browser, "document.querySelectorAll('*').length").await <= ELEMENTS);
    assert_eq!(browser.complaints(&[]).await, [""; 0]);
}

#[tokio::test]
async fn a_flood_without_end_is_bounded_and_can_be_stopped() {
    let server = builder().guest(Guest::component("flood")).grace(std::time::Duration::ZERO).start().await;
    let Some(browser) = open(&server, "calls/flood").await else { return };
    browser.run(WATCH).await;
    let before = browser.busy().await;
    browser.press("Run").await;
    let last = "Number(document.querySelector('.rows .line:nth-last-child(2)')?.textContent.split(' ')[1])";
    browser.until("more than what is kept", &format!("{last} > 400000")).await;
    browser.press("Cancel").await;
    browser.sees("Cancelled by the client").await;
    let busy = browser.busy().await - before;
    within_bounds(&browser, &format!("a flood of {} lines", number(&browser, last).await), busy).await;
    // The rest of the console goes on as well.
    browser.go(&at(&server, "")).await;
    browser.sees("A first release").await;
    assert_eq!(browser.complaints(&[]).await, [""; 0]);
}
