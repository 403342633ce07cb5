//! The page of a process: its output, its input, how it is cancelled and how it ended.

use crate::{at, builder, log_in, open, user};
use distillery_tests::{Browser, Guest, Server};

/// Returns the text of the screen once it contains `last`. Output appears with the next frame, also after the end.
async fn screen(browser: &Browser, last: &str) -> String {
    let last = serde_json::json!(last).to_string();
    let shown = format!(
        "(() => {{ const text = document.querySelector('.rows').innerText; return text.includes({last}) && text; }})()"
    );
    browser.until(&format!("{last} on the screen"), &shown).await.as_str().expect("text").to_owned()
}

/// Returns the colour and the classes of the part of the screen with this text.
async fn style_of(browser: &Browser, text: &str) -> (String, String) {
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

/// Types a line into the input, which must have the focus.
async fn enter(browser: &Browser, line: &str) {
    browser.until("the input to have the focus", "document.activeElement.matches('.input input')").await;
    browser.type_text(line).await;
    browser.stroke("Enter").await;
}

#[tokio::test]
async fn input_is_answered_until_stdin_is_closed() {
    let server = builder().guest(Guest::component("prompt")).start().await;
    let Some(browser) = open(&server, "").await else { return };
    run(&browser, &server, "prompt").await;
    browser.sees("name?").await;
    enter(&browser, "Ada").await;
    browser.sees("success").await;
    // Typed text follows the prompt, as in a terminal.
    assert_eq!(screen(&browser, "hello Ada").await.trim_end(), "name? Ada\nhello Ada");

    run(&browser, &server, "conversation").await;
    browser.sees("hello").await;
    enter(&browser, "grüße ☃").await;
    browser.sees("echo: grüße ☃").await;
    browser.stroke("Control+d").await;
    browser.sees("stdin closed").await;
    browser.sees("success").await;
    assert_eq!(browser.complaints(&[]).await, [""; 0]);
}

#[tokio::test]
async fn arrow_keys_recall_sent_lines() {
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
    browser.press("Close stdin").await;
    browser.sees("success").await;
    assert_eq!(browser.complaints(&[]).await, [""; 0]);
}

#[tokio::test]
async fn screen_renders_escape_sequences() {
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
            "stdin closed",
            "the end",
        ];
        // The note about stdin comes from the page: it can stand before or behind the last line of the guest.
        let (mut lines, mut expected) = (lines, expected.to_vec());
        lines.sort_unstable();
        expected.sort_unstable();
        assert_eq!(lines, expected, "{shown}");
        assert_eq!(style_of(&browser, "red").await.0, "rgb(240, 113, 120)");
        assert_eq!(style_of(&browser, "green of 256").await.0, "rgb(0, 255, 0)");
        // Unreadable on the dark background, so that it is lightened.
        let blue = style_of(&browser, "true blue").await.0;
        assert!(blue != "rgb(1, 2, 250)" && blue.contains("25"), "{blue}");
        for looks in ["bold", "italic", "underline"] {
            assert_eq!(style_of(&browser, looks).await.1, looks);
        }
        assert_eq!(style_of(&browser, "struck").await.1, "strike");
    }
    assert_eq!(browser.complaints(&[]).await, [""; 0]);
}

#[tokio::test]
async fn stderr_is_marked() {
    let manifest = "stderr: forward\ncalls:\n  stderr_words: {access: public}\n";
    let server = builder().plugin("stderr_words", Guest::component("stderr_words"), manifest).start().await;
    let Some(browser) = open(&server, "").await else { return };
    run(&browser, &server, "stderr_words").await;
    browser.sees("exited with error").await;
    browser.sees("no capacitor at hand").await;
    browser.sees("Exit status").await;
    browser
        .until("the mark of stderr", "document.querySelector('.line.err').textContent.includes('the flux is low')")
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
async fn second_cancel_forces_the_end() {
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
    browser.sees("cancelling").await;
    browser.press("Force stop").await;
    browser.sees("(forced after").await;
    browser.sees("stopped while it waited").await;

    // The same with the keyboard.
    run(&browser, &server, "hold").await;
    browser.sees("holding").await;
    browser.stroke("Control+c").await;
    browser.sees("cancelling").await;
    browser.stroke("Control+c").await;
    browser.sees("(forced after").await;
    assert_eq!(browser.complaints(&[]).await, [""; 0]);
}

#[tokio::test]
async fn page_shows_the_value_of_a_call() {
    let server = builder().guest(Guest::component("told")).start().await;
    let Some(browser) = open(&server, "calls/told").await else { return };
    for value in ["value", r#"{"instance":"wisski","parts":[1,2]}"#] {
        browser.press("Add value").await;
        browser.type_text(value).await;
    }
    browser.press("Run").await;
    browser.sees("success").await;
    browser.sees("\"instance\": \"wisski\"").await;
    assert_eq!(browser.complaints(&[]).await, [""; 0]);
}

#[tokio::test]
async fn page_shows_time_and_memory_of_a_process() {
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
    browser.until("some CPU time", &format!("/^[0-9.]+ s$/.test({cpu})")).await;
    browser.press("Cancel").await;
    browser.sees("Cancelled by the client").await;
    assert_eq!(browser.complaints(&[]).await, [""; 0]);
}

#[tokio::test]
async fn process_keeps_running_behind_other_pages() {
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
    browser.press("Close stdin").await;
    browser.sees("success").await;
    browser.press("Overview").await;
    browser.until("no running processes", "document.getElementById('here').hidden").await;
    assert_eq!(browser.complaints(&[]).await, [""; 0]);
}

#[tokio::test]
async fn detached_process_survives_a_reload() {
    let server = builder().start().await;
    user(&server, "ada", &[]);
    let Some(browser) = open(&server, "").await else { return };
    // An anonymous caller has its key; a user owns it.
    for name in ["", "ada"] {
        if !name.is_empty() {
            log_in(&browser, &server, name).await;
        }
        browser.go(&at(&server, "calls/conversation")).await;
        // It is what users find.
        if name.is_empty() {
            browser.tick("Keep running after this page is closed").await;
        }
        browser.press("Run").await;
        browser.sees("detachable").await;
        enter(&browser, "before").await;
        browser.sees("echo: before").await;
        browser.reload().await;
        browser.sees("echo: before").await;
        enter(&browser, "after").await;
        browser.sees("echo: after").await;
        browser.press("Detach").await;
        browser.sees("the process keeps running without this page").await;
        browser.press("Reattach").await;
        browser.sees("echo: after").await;
        enter(&browser, "end").await;
        browser.sees("success").await;
        // The output and the outcome stay available for a while.
        browser.reload().await;
        browser.sees("echo: after").await;
        browser.sees("success").await;
    }
    assert_eq!(browser.complaints(&[]).await, [""; 0]);
}

#[tokio::test]
async fn lost_connection_resumes_at_its_offset() {
    let server = builder().start().await;
    let Some(browser) = open(&server, "calls/conversation").await else { return };
    browser.tick("Keep running after this page is closed").await;
    browser.press("Run").await;
    browser.sees("detachable").await;
    enter(&browser, "before").await;
    browser.sees("echo: before").await;
    browser.run("sockets.at(-1).close(3000)").await;
    browser.until("another connection", "sockets.length === 2 && document.querySelector('.badge.live')").await;
    enter(&browser, "after").await;
    browser.sees("echo: after").await;
    // No output is missing or repeated.
    assert_eq!(screen(&browser, "echo: after").await.trim_end(), "hello \nbefore\necho: before\nafter\necho: after");
    enter(&browser, "end").await;
    browser.sees("success").await;
    assert_eq!(browser.complaints(&[]).await, [""; 0]);
}

#[tokio::test]
async fn console_warns_before_ending_a_process() {
    let server = builder().start().await;
    user(&server, "ada", &[]);
    let Some(browser) = open(&server, "login").await else { return };
    log_in(&browser, &server, "ada").await;
    browser.go(&at(&server, "calls/conversation")).await;
    // A process of a user goes on otherwise.
    browser.tick("Keep running after this page is closed").await;
    browser.press("Run").await;
    browser.sees("hello").await;
    let leaving = "const event = new Event('beforeunload', { cancelable: true }); dispatchEvent(event); return event.defaultPrevented";
    assert_eq!(browser.run(leaving).await, true);
    browser.press("Log out").await;
    browser.sees("This cancels the processes of this page: conversation.").await;
    browser.press("Cancel").await;
    // The focus has returned to the button.
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
async fn owner_attaches_from_the_list_and_others_cannot() {
    let server = builder().start().await;
    for name in ["ada", "bob"] {
        user(&server, name, &[]);
    }
    let Some(browser) = open(&server, "").await else { return };
    log_in(&browser, &server, "ada").await;
    browser.go(&at(&server, "calls/conversation")).await;
    browser.press("Run").await;
    browser.sees("detachable").await;
    enter(&browser, "of ada").await;
    browser.sees("echo: of ada").await;
    let process = browser.run("return location.hash").await;
    let process = process.as_str().expect("text").trim_start_matches("#/").to_owned();

    let Some(other) = Browser::open().await else { return };
    log_in(&other, &server, "bob").await;
    other.press("Processes").await;
    other.sees("No process has run yet.").await;
    other.go(&at(&server, &process)).await;
    other.sees("Cannot show this process").await;
    assert!(!other.text().await.contains("of ada"));
    // The same process in another browser.
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
async fn operator_cancels_a_process_of_another_client() {
    let server = builder().guest(Guest::component("hold")).grace(std::time::Duration::ZERO).start().await;
    user(&server, "eve", &["processes:*"]);
    let mut client = server.call("hold", &[]).await;
    assert_eq!(client.line().await, "holding");
    let Some(browser) = open(&server, "").await else { return };
    log_in(&browser, &server, "eve").await;
    browser.press("Processes").await;
    browser.sees("anonymous").await;
    browser.press("hold").await;
    browser.sees("Another client is connected").await;
    browser.press("Cancel").await;
    browser.sees("Cancelled by an operator").await;
    assert!(client.finish().await.failure().starts_with("cancelled by an operator"));
    assert_eq!(browser.complaints(&[]).await, [""; 0]);
}

#[tokio::test]
async fn queued_call_shows_its_position() {
    let server = builder().guest(Guest::component("hold")).set("limits.processes", 1).set("limits.queue_time", "60s");
    let server = server.grace(std::time::Duration::ZERO).start().await;
    let mut first = server.call("hold", &[]).await;
    assert_eq!(first.line().await, "holding");
    let Some(browser) = open(&server, "calls/conversation").await else { return };
    browser.press("Run").await;
    browser.sees("All slots are in use. Position in the queue: 1.").await;
    first.cancel().await;
    first.finish().await;
    browser.sees("hello").await;
    browser.press("Close stdin").await;
    browser.sees("success").await;
    assert_eq!(browser.complaints(&[]).await, [""; 0]);
}
