//! A process and the one who talks to it: what it writes, what is typed, how it is ended and how it ended.

use crate::{at, builder, log_in, open, user};
use distillery_tests::{Browser, Guest, Server};

/// What stands on the screen once this does. It is drawn with the next frame of the browser, also when all has ended.
async fn screen(browser: &Browser, last: &str) -> String {
    let last = serde_json::json!(last).to_string();
    let shown = format!(
        "(() => {{ const text = document.querySelector('.rows').innerText; return text.includes({last}) && text; }})()"
    );
    browser.until(&format!("{last} on the screen"), &shown).await.as_str().expect("text").to_owned()
}

/// The colour and the looks of the piece of the screen that says this.
async fn look(browser: &Browser, text: &str) -> (String, String) {
    let script =
        "const span = [...document.querySelectorAll('.rows span')].find((it) => it.textContent === arguments[0]);
                  return [getComputedStyle(span).color, span.className]";
    let found = browser.run_with(script, serde_json::json!([text])).await;
    let part = |at: usize| found[at].as_str().expect("text").to_owned();
    (part(0), part(1))
}

async fn run(browser: &Browser, server: &Server, call: &str) {
    browser.go(&at(server, &format!("calls/{call}"))).await;
    browser.press("Run").await;
    browser.until("its process", "location.hash.startsWith('#/processes/')").await;
}

/// Types a line where the focus is, which is where it is to be typed.
async fn enter(browser: &Browser, line: &str) {
    browser.until("the input to have the focus", "document.activeElement.matches('.input input')").await;
    browser.type_text(line).await;
    browser.stroke("Enter").await;
}

#[tokio::test]
async fn lines_go_there_and_back_until_the_input_ends() {
    let server = builder().guest(Guest::component("prompt")).start().await;
    let Some(browser) = open(&server, "").await else { return };
    run(&browser, &server, "prompt").await;
    browser.sees("name?").await;
    enter(&browser, "Ada").await;
    browser.sees("success").await;
    // What is typed stands behind the question, as in a terminal.
    assert_eq!(screen(&browser, "hello Ada").await.trim_end(), "name? Ada\nhello Ada");

    run(&browser, &server, "conversation").await;
    browser.sees("hello").await;
    enter(&browser, "grüße ☃").await;
    browser.sees("echo: grüße ☃").await;
    browser.stroke("Control+d").await;
    browser.sees("end of input").await;
    browser.sees("success").await;
    assert_eq!(browser.complaints(&[]).await, [""; 0]);
}

#[tokio::test]
async fn lines_that_were_sent_come_back_with_the_arrows() {
    let server = builder().start().await;
    let Some(browser) = open(&server, "").await else { return };
    run(&browser, &server, "conversation").await;
    for line in ["first", "second"] {
        enter(&browser, line).await;
        browser.sees(&format!("echo: {line}")).await;
    }
    browser.type_text("a draft").await;
    let value = async || browser.run("return document.activeElement.value").await;
    for (key, expected) in [
        ("ArrowUp", "second"),
        ("ArrowUp", "first"),
        ("ArrowUp", "first"),
        ("ArrowDown", "second"),
        ("ArrowDown", "a draft"),
    ] {
        browser.stroke(key).await;
        assert_eq!(value().await, expected);
    }
    browser.press("End input").await;
    browser.sees("success").await;
    assert_eq!(browser.complaints(&[]).await, [""; 0]);
}

#[tokio::test]
async fn the_screen_shows_what_a_terminal_would() {
    let server = builder().both("paint").start().await;
    let Some(browser) = open(&server, "").await else { return };
    for call in ["paint", "paint.module"] {
        run(&browser, &server, call).await;
        browser.sees("halves").await;
        browser.stroke("Control+d").await;
        browser.sees("success").await;
        let shown = screen(&browser, "the end").await;
        let lines: Vec<_> = shown.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
        let expected = [
            "red green of 256 true blue plain",
            "bold italic underline struck",
            "loading 100%",
            "this stays",
            "over one",
            "two",
            "halves 🦀 <script>document.title='owned'</script>",
            "end of input",
            "the end",
        ];
        // The end of the input is a remark of the page: it may come before what the guest says last, or behind it.
        let (mut lines, mut expected) = (lines, expected.to_vec());
        lines.sort_unstable();
        expected.sort_unstable();
        assert_eq!(lines, expected, "{shown}");
        assert_eq!(look(&browser, "red").await.0, "rgb(240, 113, 120)");
        assert_eq!(look(&browser, "green of 256").await.0, "rgb(0, 255, 0)");
        // It could not be read on the dark ground, and is made lighter.
        let blue = look(&browser, "true blue").await.0;
        assert!(blue != "rgb(1, 2, 250)" && blue.contains("25"), "{blue}");
        for looks in ["bold", "italic", "underline"] {
            assert_eq!(look(&browser, looks).await.1, looks);
        }
        assert_eq!(look(&browser, "struck").await.1, "strike");
    }
    assert_eq!(browser.complaints(&[]).await, [""; 0]);
}

#[tokio::test]
async fn what_comes_on_stderr_is_told_apart() {
    let manifest = "stderr: forward\ncalls:\n  stderr_words: {access: public}\n";
    let server = builder().plugin("stderr_words", Guest::component("stderr_words"), manifest).start().await;
    let Some(browser) = open(&server, "").await else { return };
    run(&browser, &server, "stderr_words").await;
    browser.sees("failed").await;
    browser.sees("no capacitor at hand").await;
    browser.sees("Exit status").await;
    browser
        .until("a mark beside it", "document.querySelector('.line.err').textContent.includes('the flux is low')")
        .await;
    assert!(
        browser
            .run("return document.querySelector('.line.out').textContent")
            .await
            .as_str()
            .is_some_and(|it| it.contains("trying"))
    );
    assert_eq!(browser.complaints(&[]).await, [""; 0]);
}

#[tokio::test]
async fn a_cancel_is_heard_and_a_second_one_forces() {
    let server = builder().guest(Guest::component("says_goodbye")).guest(Guest::component("hold"));
    let server = server.set("cancel.grace", "60s").start().await;
    let Some(browser) = open(&server, "").await else { return };
    run(&browser, &server, "says_goodbye").await;
    browser.sees("ready").await;
    browser.press("Cancel").await;
    browser.sees("goodbye").await;
    browser.sees("Cancelled by the client").await;

    run(&browser, &server, "hold").await;
    browser.sees("holding").await;
    browser.press("Cancel").await;
    browser.sees("ending").await;
    browser.press("Force to end").await;
    browser.sees("(forced after").await;
    browser.sees("It was stopped while it waited.").await;

    // The same by keys.
    run(&browser, &server, "hold").await;
    browser.sees("holding").await;
    browser.stroke("Control+c").await;
    browser.sees("ending").await;
    browser.stroke("Control+c").await;
    browser.sees("(forced after").await;
    assert_eq!(browser.complaints(&[]).await, [""; 0]);
}

#[tokio::test]
async fn the_value_of_a_call_is_shown() {
    let server = builder().guest(Guest::component("told")).start().await;
    let Some(browser) = open(&server, "calls/told").await else { return };
    for value in ["value", r#"{"instance":"wisski","parts":[1,2]}"#] {
        browser.press("Add a value").await;
        browser.type_text(value).await;
    }
    browser.press("Run").await;
    browser.sees("success").await;
    browser.sees("\"instance\": \"wisski\"").await;
    assert_eq!(browser.complaints(&[]).await, [""; 0]);
}

#[tokio::test]
async fn time_and_memory_are_told_while_it_runs_and_after() {
    let server = builder()
        .guest(Guest::component("spin"))
        .set("http.ping_interval", "200ms")
        .grace(std::time::Duration::ZERO)
        .start()
        .await;
    user(&server, "ada", &[]);
    let Some(browser) = open(&server, "").await else { return };
    log_in(&browser, &server, "ada").await;
    run(&browser, &server, "spin").await;
    for fact in ["Elapsed", "CPU", "Memory"] {
        browser.sees(fact).await;
    }
    let cpu =
        "[...document.querySelectorAll('.facts dt')].find((it) => it.textContent === 'CPU').nextSibling.textContent";
    browser.until("some time of a processor", &format!("/^[0-9.]+ s$/.test({cpu})")).await;
    browser.press("Cancel").await;
    browser.sees("Cancelled by the client").await;
    assert_eq!(browser.complaints(&[]).await, [""; 0]);
}

#[tokio::test]
async fn a_process_goes_on_behind_another_page_of_the_console() {
    let server = builder().start().await;
    let Some(browser) = open(&server, "").await else { return };
    run(&browser, &server, "conversation").await;
    enter(&browser, "one").await;
    browser.sees("echo: one").await;
    browser.press("Overview").await;
    browser.sees("Running here").await;
    browser.press("conversation").await;
    browser.sees("echo: one").await;
    enter(&browser, "two").await;
    browser.sees("echo: two").await;
    browser.press("End input").await;
    browser.sees("success").await;
    browser.press("Overview").await;
    browser.until("nothing that runs", "document.getElementById('here').hidden").await;
    assert_eq!(browser.complaints(&[]).await, [""; 0]);
}

#[tokio::test]
async fn a_process_that_is_kept_is_there_again_after_a_reload() {
    let server = builder().start().await;
    user(&server, "ada", &[]);
    let Some(browser) = open(&server, "").await else { return };
    // Nobody has the key of it, and somebody their name.
    for name in ["", "ada"] {
        if !name.is_empty() {
            log_in(&browser, &server, name).await;
        }
        browser.go(&at(&server, "calls/conversation")).await;
        browser.tick("Keep it running when this page is closed").await;
        browser.press("Run").await;
        browser.sees("kept").await;
        enter(&browser, "before").await;
        browser.sees("echo: before").await;
        browser.reload().await;
        browser.sees("echo: before").await;
        enter(&browser, "after").await;
        browser.sees("echo: after").await;
        browser.press("Leave running").await;
        browser.sees("It goes on without this page.").await;
        browser.press("Attach again").await;
        browser.sees("echo: after").await;
        enter(&browser, "end").await;
        browser.sees("success").await;
        // What is kept of it is there for a while, and how it ended.
        browser.reload().await;
        browser.sees("echo: after").await;
        browser.sees("success").await;
    }
    assert_eq!(browser.complaints(&[]).await, [""; 0]);
}

#[tokio::test]
async fn a_connection_that_is_lost_is_made_again_where_it_was() {
    let server = builder().start().await;
    let Some(browser) = open(&server, "calls/conversation").await else { return };
    browser.tick("Keep it running when this page is closed").await;
    browser.press("Run").await;
    browser.sees("kept").await;
    enter(&browser, "before").await;
    browser.sees("echo: before").await;
    browser.run("sockets.at(-1).close(3000)").await;
    browser.until("another connection", "sockets.length === 2 && document.querySelector('.badge.live')").await;
    enter(&browser, "after").await;
    browser.sees("echo: after").await;
    // Nothing is there twice, and nothing is missing.
    assert_eq!(screen(&browser, "echo: after").await.trim_end(), "hello \nbefore\necho: before\nafter\necho: after");
    enter(&browser, "end").await;
    browser.sees("success").await;
    assert_eq!(browser.complaints(&[]).await, [""; 0]);
}

#[tokio::test]
async fn a_process_that_would_end_with_the_page_is_not_lost_by_a_slip() {
    let server = builder().start().await;
    user(&server, "ada", &[]);
    let Some(browser) = open(&server, "login").await else { return };
    log_in(&browser, &server, "ada").await;
    run(&browser, &server, "conversation").await;
    browser.sees("hello").await;
    let leaving = "const event = new Event('beforeunload', { cancelable: true }); dispatchEvent(event); return event.defaultPrevented";
    assert_eq!(browser.run(leaving).await, true);
    browser.press("Log out").await;
    browser.sees("Processes that end with this page are cancelled: conversation.").await;
    browser.press("Leave it").await;
    // The focus is back on the button that was pressed.
    browser.run("document.querySelector('.input input').focus()").await;
    enter(&browser, "still here").await;
    browser.sees("echo: still here").await;
    browser.press("Log out").await;
    browser.press("Log out").await;
    browser.sees("Not logged in").await;
    server.process_ended("conversation").await;
    assert_eq!(browser.run(leaving).await, false);
    assert!(!browser.text().await.contains("still here"));
    assert_eq!(browser.complaints(&[]).await, [""; 0]);
}

#[tokio::test]
async fn a_process_is_attached_to_from_the_list_and_by_nobody_else() {
    let server = builder().start().await;
    for name in ["ada", "bob"] {
        user(&server, name, &[]);
    }
    let Some(browser) = open(&server, "").await else { return };
    log_in(&browser, &server, "ada").await;
    browser.go(&at(&server, "calls/conversation")).await;
    browser.tick("Keep it running when this page is closed").await;
    browser.press("Run").await;
    browser.sees("kept").await;
    enter(&browser, "of ada").await;
    browser.sees("echo: of ada").await;
    let process = browser.run("return location.hash").await;
    let process = process.as_str().expect("text").trim_start_matches("#/").to_owned();

    let Some(other) = Browser::open().await else { return };
    log_in(&other, &server, "bob").await;
    other.press("Processes").await;
    other.sees("No process has run yet.").await;
    other.go(&at(&server, &process)).await;
    other.sees("This process cannot be shown").await;
    assert!(!other.text().await.contains("of ada"));
    // The same one, on another screen.
    other.press("Log out").await;
    other.sees("Not logged in").await;
    log_in(&other, &server, "ada").await;
    other.press("Processes").await;
    other.sees("running").await;
    other.press("conversation").await;
    other.sees("echo: of ada").await;
    enter(&other, "from there").await;
    browser.sees("echo: from there").await;
    other.press("Cancel").await;
    browser.sees("Cancelled by the client").await;
    other.sees("Cancelled by the client").await;
    assert_eq!(other.complaints(&["404"]).await, [""; 0]);
    assert_eq!(browser.complaints(&[]).await, [""; 0]);
}

#[tokio::test]
async fn a_process_of_another_client_is_cancelled_from_the_list() {
    let server = builder().guest(Guest::component("hold")).grace(std::time::Duration::ZERO).start().await;
    user(&server, "eve", &["processes:*"]);
    let mut client = server.call("hold", &[]).await;
    assert_eq!(client.line().await, "holding");
    let Some(browser) = open(&server, "").await else { return };
    log_in(&browser, &server, "eve").await;
    browser.press("Processes").await;
    browser.sees("nobody").await;
    browser.press("hold").await;
    browser.sees("Another client talks to it").await;
    browser.press("Cancel").await;
    browser.sees("Cancelled by an operator").await;
    assert!(client.finish().await.failure().starts_with("cancelled by an operator"));
    assert_eq!(browser.complaints(&[]).await, [""; 0]);
}

#[tokio::test]
async fn a_call_that_waits_for_a_place_says_so() {
    let server = builder().guest(Guest::component("hold")).set("limits.processes", 1).set("limits.queue_time", "60s");
    let server = server.grace(std::time::Duration::ZERO).start().await;
    let mut first = server.call("hold", &[]).await;
    assert_eq!(first.line().await, "holding");
    let Some(browser) = open(&server, "calls/conversation").await else { return };
    browser.press("Run").await;
    browser.sees("All places are taken. Waiting as number 1.").await;
    first.cancel().await;
    first.finish().await;
    browser.sees("hello").await;
    browser.press("End input").await;
    browser.sees("success").await;
    assert_eq!(browser.complaints(&[]).await, [""; 0]);
}
