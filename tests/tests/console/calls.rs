//! Forms made from the parameters of calls.

use crate::{builder, log_in, open, user};
use distillery_tests::Guest;

#[tokio::test]
async fn form_shows_the_rules_of_each_parameter() {
    let server = builder().start().await;
    let Some(browser) = open(&server, "calls").await else { return };
    browser.write("Filter calls", "creates").await;
    browser.until("one call", "document.querySelectorAll('.list a').length === 1").await;
    browser.press("provision").await;
    for text in
        ["Creates the instance <slug>", "Its name in addresses", "[a-z][a-z0-9-]{0,30}", "optional", "Plugin provision"]
    {
        browser.sees(text).await;
    }
    let run = async |script: &str| browser.run(script).await;
    assert_eq!(run("return document.querySelector('.fields select').value").await, "drupal-11");
    assert_eq!(run("return document.querySelectorAll('.fields option').length").await, 2);
    assert_eq!(run("return document.querySelectorAll('.fields input[type=password]').length").await, 1);
    assert_eq!(browser.complaints(&[]).await, [""; 0]);
}

#[tokio::test]
async fn form_reports_invalid_values_before_running() {
    let server = builder().start().await;
    let Some(browser) = open(&server, "calls/provision").await else { return };
    browser.press("Run").await;
    browser.sees("Required.").await;
    browser.until("the focus on the error", "document.activeElement.getAttribute('aria-invalid') === 'true'").await;
    browser.type_text("Not A Slug").await;
    browser.press("Run").await;
    browser.sees("Does not match [a-z][a-z0-9-]{0,30}.").await;
    browser.write("slug", "wisski").await;
    browser.press("Add value").await;
    browser.type_text("views").await;
    browser.press("Run").await;
    browser.sees("Required if modules is given.").await;
    assert_eq!(browser.complaints(&[]).await, [""; 0]);
}

#[tokio::test]
async fn values_arrive_in_order_and_secrets_stay_hidden() {
    let server = builder().start().await;
    let Some(browser) = open(&server, "calls/provision").await else { return };
    browser.write("slug", "wisski").await;
    browser.choose("flavor", "drupal-10").await;
    browser.write("password", "p w; $(x) \"ü\"").await;
    for module in ["views", "pathbuilder"] {
        browser.press("Add value").await;
        browser.type_text(module).await;
    }
    browser.press("Run").await;
    browser.sees("success").await;
    browser.sees("provision wisski drupal-10 ••• views pathbuilder").await;
    let screen = browser.run("return document.querySelector('.rows').innerText").await;
    assert!(screen.as_str().is_some_and(|it| it.contains(r#"p w; $(x) "ü""#)), "{screen}");
    // "Run again" fills in everything but the secret.
    browser.press("Run again").await;
    browser.until("the same values", "document.querySelector('.fields input').value === 'wisski'").await;
    assert_eq!(browser.run("return document.querySelector('[type=password]').value").await, "");
    assert_eq!(browser.complaints(&[]).await, [""; 0]);
}

#[tokio::test]
async fn form_shows_the_error_of_the_server() {
    // This pattern means something else in a browser, so that only the server can check it.
    let manifest =
        "calls:\n  strict:\n    access: public\n    params:\n      - {name: word, pattern: '(?i)[a-z&&[^x]]+'}\n";
    let server = builder().plugin("strict", Guest::component("args"), manifest).start().await;
    let Some(browser) = open(&server, "calls/strict").await else { return };
    browser.write("word", "xerxes").await;
    browser.press("Run").await;
    browser.sees("Could not run: parameter \"word\" does not match (?i)[a-z&&[^x]]+").await;
    assert_eq!(browser.run("return document.querySelector('.fields input').value").await, "xerxes");
    browser.write("word", "ABEL").await;
    browser.press("Run").await;
    browser.sees("success").await;
    assert_eq!(browser.complaints(&[]).await, [""; 0]);
}

#[tokio::test]
async fn call_without_declared_params_takes_any() {
    let server = builder().guest(Guest::component("args")).start().await;
    let Some(browser) = open(&server, "calls/args").await else { return };
    for value in ["one", "", "two three"] {
        browser.press("Add value").await;
        browser.type_text(value).await;
    }
    browser.press("Remove value 1 of Parameters").await;
    browser.press("Run").await;
    browser.sees(r#"args "" "two three""#).await;
    assert_eq!(browser.complaints(&[]).await, [""; 0]);
}

#[tokio::test]
async fn scoped_call_is_shown_to_holders_of_its_scope() {
    let server = builder().bare_plugin("args", Guest::component("args")).start().await;
    user(&server, "ada", &["call:args"]);
    let Some(browser) = open(&server, "calls/args").await else { return };
    browser.sees("There is no call \"args\" that you can run.").await;
    log_in(&browser, &server, "ada").await;
    browser.press("Calls").await;
    browser.press("args").await;
    browser.sees("needs call:args").await;
    browser.press("Run").await;
    browser.sees("success").await;
    assert_eq!(browser.complaints(&[]).await, [""; 0]);
}
