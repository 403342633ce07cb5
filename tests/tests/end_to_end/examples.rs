//! The plugins of the repository, as they are shipped.

use distillery_tests::{Client, Server};

async fn call(name: &str, params: &[&str]) -> (Server, Client) {
    let server = Server::builder().example(name).start().await;
    let client = server.call(name, params).await;
    (server, client)
}

#[tokio::test]
async fn echo_ends_after_the_given_number_of_lines() {
    let (_server, mut client) = call("echo", &["3"]).await;
    client.say_all(["one", "", "three", "four"].map(str::to_owned)).await.expect("the server reads");
    assert_eq!(client.finish().await.success(), ["one", "", "three"]);
}

#[tokio::test]
async fn echo_of_no_lines_ends_at_once() {
    let (_server, client) = call("echo", &["0"]).await;
    assert_eq!(client.finish().await.success(), [""; 0]);
}

#[tokio::test]
async fn echo_continues_until_cancelled() {
    let (_server, mut client) = call("echo", &[]).await;
    for line in ["one", "two"] {
        client.say(line).await;
        assert_eq!(client.line().await, line);
    }
    client.cancel().await;
    assert_eq!(client.finish().await.failure(), "cancelled by the client");
}

#[tokio::test]
async fn echo_refuses_an_invalid_number_of_lines() {
    let (_server, client) = call("echo", &["three"]).await;
    assert_eq!(client.finish().await.failure(), "parameter \"lines\" does not match [0-9]{1,9}");
}

#[tokio::test]
async fn countdown_reaches_liftoff() {
    let (_server, mut client) = call("countdown", &["1"]).await;
    client.say("what it is told is of no interest to it").await;
    assert_eq!(client.finish().await.success(), ["1", "liftoff"]);
}

#[tokio::test]
async fn countdown_says_where_a_cancel_stopped_it() {
    let (_server, mut client) = call("countdown", &[]).await;
    assert_eq!(client.line().await, "10");
    assert_eq!(client.line().await, "9");
    client.cancel().await;
    let end = client.finish().await;
    assert_eq!(end.lines, ["countdown stopped at 9"]);
    assert_eq!(end.failure(), "cancelled by the client");
}

#[tokio::test]
async fn ask_waits_after_its_question_and_greets() {
    let (_server, mut client) = call("ask", &[]).await;
    assert_eq!(client.line().await, "What is your name? ");
    client.say("Zoë").await;
    assert_eq!(client.finish().await.success(), ["Hello, Zoë!"]);
}

#[tokio::test]
async fn ask_fails_with_its_own_message_without_a_name() {
    let (server, mut client) = call("ask", &[]).await;
    assert_eq!(client.line().await, "What is your name? ");
    client.say("").await;
    assert_eq!(client.finish().await.failure(), "exit status 2: a name is needed");
    assert_eq!(server.process_ended("ask").await.field("kind"), "exited");
}

#[tokio::test]
async fn assemble_undoes_its_work_when_cancelled() {
    let (server, mut client) = call("assemble", &["100"]).await;
    for part in ["part 1 is on", "part 2 is on"] {
        assert_eq!(client.line().await, part);
    }
    client.cancel().await;
    let end = client.finish().await;
    assert_eq!(end.lines, ["stopping (Reason::Client)", "part 2 is off", "part 1 is off"]);
    assert_eq!(end.failure(), "cancelled by the client");
    assert_eq!(server.process_ended("assemble").await.field("value"), "{\"parts\": 0}");
}

#[tokio::test]
async fn grind_is_forced_and_cleaned_up() {
    let (_server, mut client) = call("grind", &["1"]).await;
    assert_eq!(client.line().await, "2");
    client.cancel().await;
    let end = client.finish().await;
    assert_eq!(end.lines.last().unwrap(), "cleaning up: stopped because of \"client\", began at 1");
    let message = end.failure();
    assert!(message.starts_with("cancelled by the client (forced after 1"), "{message}");
}
