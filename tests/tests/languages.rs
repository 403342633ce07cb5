//! The same conversation with a plugin in every language that there is a template for, made by `distillery new` and
//! built by `distillery build`. What one language can do, all can.

use distillery_tests::{Client, Server, languages::Language};

/// A server with a plugin in each language.
async fn server() -> Server {
    let plugins = Language::all().iter().fold(Server::builder(), |server, language| {
        let module = std::fs::read(language.module()).expect("a module that was built");
        server
            .file(&format!("plugins/{}/call.wasm", language.name), module)
            .file(&format!("plugins/{}/plugin.yaml", language.name), language.manifest())
    });
    plugins.start().await
}

fn calls() -> impl Iterator<Item = &'static str> {
    Language::all().iter().map(|language| language.name)
}

async fn greeted(server: &Server, call: &str, name: &str) -> Client {
    let mut client = server.call(call, &[name]).await;
    assert_eq!(client.line().await, format!("hello {name}"), "{call}");
    client
}

#[tokio::test]
async fn each_answers_before_it_hears_the_next_line() {
    let server = server().await;
    for call in calls() {
        let mut client = greeted(&server, call, "wörld ☃").await;
        for line in ["one", "", "zażółć gęślą jaźń", "endive", "🦀", " three "] {
            client.say(line).await;
            assert_eq!(client.line().await, format!("echo: {line}"), "{call}");
        }
        client.say("end").await;
        assert_eq!(client.finish().await.success(), [""; 0], "{call}");
    }
}

#[tokio::test]
async fn a_question_is_sent_before_its_answer_comes() {
    let server = server().await;
    for call in calls() {
        let mut client = server.call(call, &[]).await;
        assert_eq!(client.line().await, "What is your name? ", "{call}");
        client.say("Zoë").await;
        assert_eq!(client.line().await, "hello Zoë", "{call}");
        client.say("end").await;
        assert_eq!(client.finish().await.success(), [""; 0], "{call}");
    }
}

#[tokio::test]
async fn an_exit_status_arrives_whole() {
    let server = server().await;
    for call in calls() {
        let mut client = greeted(&server, call, "x").await;
        client.say("fail").await;
        let end = client.finish().await;
        assert_eq!((end.lines.as_slice(), end.close), ([].as_slice(), 1000), "{call}");
        assert_eq!(end.failure(), "exit status 3", "{call}");
    }
}

#[tokio::test]
async fn twenty_thousand_lines_come_back_in_order() {
    let server = server().await;
    for call in calls() {
        let client = greeted(&server, call, "many").await;
        let (mut speaker, listener) = client.split();
        let lines = || (0..20_000).map(|number| format!("line {number} {}", "x".repeat(number % 200)));
        let speak = async {
            speaker.say_all(lines().chain(["end".to_owned()])).await.expect("the server reads it all");
            speaker
        };
        let (end, _speaker) = tokio::join!(listener.finish(), speak);
        let heard = end.success();
        assert_eq!(heard.len(), 20_000, "{call}");
        let wrong = heard.iter().zip(lines()).find(|(heard, said)| **heard != format!("echo: {said}"));
        assert_eq!(wrong, None, "{call}");
    }
}

#[tokio::test]
async fn a_line_of_300000_bytes_comes_back_whole() {
    let server = server().await;
    let long = "äöü€".repeat(300_000 / "äöü€".len());
    for call in calls() {
        let mut client = greeted(&server, call, "long").await;
        client.say(long.as_str()).await;
        assert!(client.line().await == format!("echo: {long}"), "{call}");
        client.say("end").await;
        client.finish().await.success();
    }
}

#[tokio::test]
async fn a_cancel_is_heard_and_answered() {
    let server = server().await;
    for call in calls() {
        let mut client = greeted(&server, call, "x").await;
        client.cancel().await;
        let end = client.finish().await;
        assert_eq!(end.lines, ["goodbye"], "{call}");
        assert_eq!(end.failure(), "cancelled by the client", "{call}");
    }
}
