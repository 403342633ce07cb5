//! Much output does not freeze the page: what it takes is measured where it is seen.

use crate::{at, builder, open};
use distillery_tests::{Browser, Guest};

/// Before the process runs: watches how long the page ever is without a frame.
const WATCH: &str = "window.longest = 0;
    let last = performance.now();
    const frame = (now) => { longest = Math.max(longest, now - last); last = now; requestAnimationFrame(frame); };
    requestAnimationFrame(frame);";

/// Elements of the page at once. A window of 860 pixels has some forty rows.
const ELEMENTS: u64 = 400;
/// Milliseconds. An eye takes much less for a stutter; this is for machines that do much else at the time.
const LONGEST: f64 = 1000.0;

async fn number(browser: &Browser, expression: &str) -> f64 {
    browser.run(&format!("return {expression}")).await.as_f64().expect("a number")
}

#[tokio::test]
async fn a_hundred_thousand_lines_are_all_there_and_the_page_is_awake() {
    let server = builder().guest(Guest::component("many_lines")).start().await;
    let Some(browser) = open(&server, "calls/many_lines").await else { return };
    browser.press("Add a value").await;
    browser.type_text("100000").await;
    browser.run(WATCH).await;
    browser.press("Run").await;
    browser.sees("line 100000 of 100000").await;
    browser.sees("success").await;
    let (elements, longest) =
        (number(&browser, "document.querySelectorAll('*').length").await, number(&browser, "longest").await);
    println!("100,000 lines: {elements} elements, at most {longest:.0} ms without a frame");
    assert!(elements <= ELEMENTS as f64, "{elements} elements");
    assert!(longest <= LONGEST, "{longest} ms without a frame");
    // The first one as well as the last, and any between.
    browser.run("document.querySelector('.view').scrollTop = 0").await;
    browser.sees("line 1 of 100000").await;
    browser.sees("To the end").await;
    browser.run("const view = document.querySelector('.view'); view.scrollTop = view.scrollHeight / 2").await;
    browser.sees("line 50000 of 100000").await;
    browser.press("To the end").await;
    browser.sees("line 100000 of 100000").await;
    assert!(number(&browser, "document.querySelectorAll('*').length").await <= ELEMENTS as f64);
    assert_eq!(browser.complaints(&[]).await, [""; 0]);
}

#[tokio::test]
async fn a_flood_without_end_is_bounded_and_can_be_stopped() {
    let server = builder().guest(Guest::component("flood")).grace(std::time::Duration::ZERO).start().await;
    let Some(browser) = open(&server, "calls/flood").await else { return };
    browser.run(WATCH).await;
    browser.press("Run").await;
    let last = "Number(document.querySelector('.rows .line:nth-last-child(2)')?.textContent.split(' ')[1])";
    browser.until("more than what is kept", &format!("{last} > 400000")).await;
    browser.press("Cancel").await;
    browser.sees("Cancelled by the client").await;
    let (elements, longest) =
        (number(&browser, "document.querySelectorAll('*').length").await, number(&browser, "longest").await);
    println!("a flood: {elements} elements, at most {longest:.0} ms without a frame");
    assert!(elements <= ELEMENTS as f64, "{elements} elements");
    assert!(longest <= LONGEST, "{longest} ms without a frame");
    // The rest of the console goes on as well.
    browser.go(&at(&server, "")).await;
    browser.sees("A first release").await;
    assert_eq!(browser.complaints(&[]).await, [""; 0]);
}
