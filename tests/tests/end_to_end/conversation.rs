//! The same conversation with every kind of guest: components of 0.2 and 0.3, preview 1 modules, hand-written modules
//! and modules made by Go behave alike.

use distillery_tests::{Guest, Server};

/// Returns a server with every kind of guest, and the names of their calls.
async fn server() -> (Server, Vec<&'static str>) {
    let mut kinds = vec![
        ("component", Guest::component("conversation")),
        ("component3", Guest::component3("conversation")),
        ("module", Guest::module("conversation")),
        ("text", Guest::wat("conversation")),
    ];
    match Guest::go() {
        Some(go) => kinds.push(("go", go)),
        None => eprintln!("SKIPPED: the conversation with a Go guest: run `make go-guest`"),
    }
    let calls = kinds.iter().map(|(call, _)| *call).collect();
    let builder = kinds.into_iter().fold(Server::builder(), |builder, (call, guest)| builder.guest_as(call, guest));
    (builder.start().await, calls)
}

#[tokio::test]
async fn call_answers_before_the_next_line_is_sent() {
    let (server, calls) = server().await;
    for call in calls {
        let mut client = server.call(call, &["wörld ☃"]).await;
        assert_eq!(client.line().await, "hello wörld ☃", "{call}");
        for line in ["one", "", "zażółć gęślą jaźń", "endive", "🦀", " three "] {
            client.say(line).await;
            assert_eq!(client.line().await, format!("echo: {line}"), "{call}");
        }
        client.say("end").await;
        let end = client.finish().await;
        assert_eq!(end.close, 1000, "{call}");
        assert_eq!(end.success(), [""; 0], "{call}");
    }
}

#[tokio::test]
async fn exit_status_arrives_unchanged() {
    let (server, calls) = server().await;
    for call in calls {
        let end = server.call(call, &["fail"]).await.finish().await;
        assert_eq!(end.lines, ["hello fail"], "{call}");
        assert_eq!(end.failure(), "exit status 3", "{call}");
    }
}

#[tokio::test]
async fn missing_argument_is_not_an_empty_one() {
    let (server, calls) = server().await;
    for call in calls {
        let mut client = server.call(call, &[]).await;
        assert_eq!(client.line().await, "hello ", "{call}");
    }
}

#[tokio::test]
async fn twenty_thousand_lines_come_back_in_order() {
    let (server, calls) = server().await;
    for call in calls {
        let client = server.call(call, &["many"]).await;
        let (mut speaker, listener) = client.split();
        let lines = || (0..20_000).map(|number| format!("line {number} {}", "x".repeat(number % 200)));
        let speak = async {
            speaker.say_all(lines().chain(["end".to_owned()])).await.expect("the server reads it all");
            speaker
        };
        let (end, _speaker) = tokio::join!(listener.finish(), speak);
        let heard = end.success();
        assert_eq!(heard[0], "hello many", "{call}");
        assert_eq!(heard.len(), 20_001, "{call}");
        let wrong = heard[1..].iter().zip(lines()).find(|(heard, said)| **heard != format!("echo: {said}"));
        assert_eq!(wrong, None, "{call}");
    }
}

#[tokio::test]
async fn line_of_300000_bytes_comes_back_whole() {
    let (server, calls) = server().await;
    let long = "äöü€".repeat(300_000 / "äöü€".len());
    for call in calls {
        let mut client = server.call(call, &["long"]).await;
        client.line().await;
        client.say(long.as_str()).await;
        assert!(client.line().await == format!("echo: {long}"), "{call}");
        client.say("end").await;
        client.finish().await.success();
    }
}
