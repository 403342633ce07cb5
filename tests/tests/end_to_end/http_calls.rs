//! Calls over plain HTTP: what a request says, what its answer says, and its forms. `flow` has bodies and answers that
//! come slowly, are large or break off.

mod flow;

use distillery_tests::{Guest, Server, http::Answer, server::Builder, tls};
use hyper::Method;
use serde_json::{Value, json};

const ECHO: &str = "/api/v1/calls/echo";

async fn post(server: &Server, path: &str, headers: &[(&str, &str)], body: &'static str) -> Answer {
    server.send(Method::POST, path, headers, body.into()).await
}

fn text(answer: &Answer) -> &str {
    std::str::from_utf8(&answer.body).expect("text")
}

fn forwarding(builder: Builder) -> Builder {
    let manifest = "stderr: forward\ncalls:\n  stderr_words:\n    access: public\n";
    builder.plugin("stderr_words", Guest::component("stderr_words"), manifest)
}

#[tokio::test]
async fn posted_text_is_the_input_and_the_answer_the_output() {
    let server = Server::builder().example("echo").start().await;
    for root in ["/api/v1", "/api/v1/http"] {
        for path in [format!("{root}/calls/echo"), format!("{root}/calls/echo/")] {
            // The content type that curl sends with -d.
            let answer = post(&server, &path, &[("content-type", "application/x-www-form-urlencoded")], "text").await;
            assert_eq!((answer.status.as_u16(), text(&answer)), (200, "text"), "{path}");
            assert_eq!(answer.header("content-type"), "text/plain; charset=utf-8");
            assert_eq!(
                (answer.header("cache-control"), answer.header("x-content-type-options")),
                ("no-store", "nosniff")
            );
            assert!(answer.trailers.is_empty(), "they were not asked for");
        }
    }
    let json = r#"{"params":["7"]}"#;
    assert_eq!(text(&post(&server, ECHO, &[("content-type", "application/json")], json).await), json);
    let line = server.process_ended("echo").await;
    assert_eq!((line.field("outcome"), line.field("bytes_in")), ("success".into(), "4".into()));
    // The operator's socket has it too.
    let answer = server.operator(Method::POST, ECHO).await;
    assert_eq!((answer.status.as_u16(), answer.header("distillery-outcome")), (200, "success"));
}

#[tokio::test]
async fn outcome_is_the_status_or_a_trailer() {
    let builder = forwarding(Server::builder()).guest(Guest::component("exit")).guest(Guest::wat("trap_unreachable"));
    let server = builder.start().await;
    let answer = post(&server, "/api/v1/calls/exit?params=7", &[], "").await;
    assert_eq!((answer.status.as_u16(), answer.json()), (500, json!({"status": 500, "message": "exit status 7"})));
    assert_eq!((answer.header("distillery-outcome"), answer.header("distillery-exit-status")), ("exited", "7"));
    assert_eq!(answer.header("distillery-message"), "exit status 7");
    let answer = post(&server, "/api/v1/calls/exit?params=0", &[], "").await;
    assert_eq!((answer.status.as_u16(), text(&answer)), (200, ""));
    assert_eq!((answer.header("distillery-outcome"), answer.header("content-length")), ("success", "0"));
    let answer = post(&server, "/api/v1/calls/trap_unreachable", &[], "").await;
    assert_eq!((answer.status.as_u16(), answer.header("distillery-outcome")), (500, "trapped"));

    let answer = post(&server, "/api/v1/calls/stderr_words", &[("te", "trailers")], "").await;
    assert_eq!((answer.status.as_u16(), text(&answer)), (200, "trying\n"));
    assert_eq!(answer.header("distillery-outcome"), "", "it was not known yet");
    let trailers = |name: &str| answer.trailers[name].to_str().expect("text");
    assert_eq!((trailers("distillery-outcome"), trailers("distillery-exit-status")), ("exited", "7"));
    assert_eq!(trailers("distillery-message"), "exit status 7: no capacitor at hand");
    assert_eq!(answer.header("distillery-process").len(), 36);
}

#[tokio::test]
async fn refused_call_has_the_status_of_its_reason() {
    let builder = Server::builder().example("echo").bare_plugin("private", Guest::component("echo_once"));
    let builder = builder.guest(Guest::component("hold")).set("limits.queue_time", "0s").set("limits.processes", 1);
    let bob = builder.user("bob", &["call:private"]);
    let server = builder.start().await;
    for (path, headers, expected) in [
        ("/api/v1/calls/nothing", &[][..], 404),
        ("/api/v1/calls/private", &[], 403),
        ("/api/v1/calls/private", &[("authorization", bob.as_str())], 200),
        ("/api/v1/calls/private", &[("authorization", "Bearer dst_unknown")], 401),
        ("/api/v1/calls/private", &[("cookie", "distillery_session=unknown")], 401),
        ("/api/v1/calls/private?slug=x", &[("authorization", bob.as_str())], 400),
        ("/api/v1/calls/echo?lines=many", &[], 400),
        ("/api/v1/calls/echo?lines=1&lines=2", &[], 400),
        ("/api/v1/calls/echo?size=1", &[], 400),
        ("/api/v1/calls/echo?lines=1&params=1", &[], 400),
        ("/api/v1/calls/echo?detach=perhaps", &[], 400),
        ("/api/v1/calls/echo?lines=1", &[("origin", "https://evil.example")], 403),
        ("/api/v1/calls/echo?lines=1", &[("origin", "http://localhost")], 403),
    ] {
        let answer = post(&server, path, headers, "a\n").await;
        assert_eq!(answer.status.as_u16(), expected, "{path}: {}", text(&answer));
        if expected != 200 {
            assert_eq!(answer.json()["status"], expected, "{path}");
        }
    }
    // What is private stays unknown, down to its parameters.
    let answer = post(&server, "/api/v1/calls/private?slug=x", &[], "").await;
    assert_eq!(answer.json()["message"], r#"not authorized to run "private""#);
    let mut holding = server.exchange("/api/v1/calls/hold", &[]).await;
    holding.bytes(8).await;
    let answer = post(&server, ECHO, &[], "").await;
    assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (503, "1"));
    assert_eq!(answer.json()["message"], "too many running processes");
}

#[tokio::test]
async fn parameters_are_named_ordered_or_described() {
    let manifest = "calls:\n  args:\n    access: public\n    params:\n      - {name: slug, pattern: '[a-z ]+'}\n      - {name: \
                    flavor, default: plain}\n      - {name: tag, rest: true, required: false}\n";
    let server = Server::builder().plugin("args", Guest::component("args"), manifest).start().await;
    let described = [("content-type", "application/vnd.distillery.call+json")];
    for (query, headers, body, expected) in [
        ("slug=a%20b", &[][..], "", "args\na b\nplain\n"),
        ("tag=1&slug=a&tag=2", &[], "", "args\na\nplain\n1\n2\n"),
        ("params=a&params=b", &[], "", "args\na\nb\n"),
        ("", &described, r#"{"params":["a","b"]}"#, "args\na\nb\n"),
        ("", &described, r#"{"params":{"slug":"a","tag":["1","2"]}}"#, "args\na\nplain\n1\n2\n"),
        ("slug=a", &described, r#"{"stdin":"unread"}"#, "args\na\nplain\n"),
    ] {
        let answer = post(&server, &format!("/api/v1/calls/args?{query}"), headers, body).await;
        assert_eq!((answer.status.as_u16(), text(&answer)), (200, expected), "{query} {body}");
    }
    for (query, body) in [("", "{}"), ("slug=a", r#"{"params":["b"]}"#), ("", "["), ("", r#"{"param":[]}"#)] {
        let answer = post(&server, &format!("/api/v1/calls/args?{query}"), &described, body).await;
        assert_eq!(answer.status, 400, "{query} {body}: {}", text(&answer));
    }
}

/// Returns the messages of an answer, without those whose time is not certain.
fn messages(answer: &Answer, form: &str) -> Vec<Value> {
    assert_eq!(answer.header("content-type"), form);
    if form == "application/x-ndjson" {
        return text(answer).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    }
    let events = text(answer).split_terminator("\n\n").map(|event| {
        let (kind, data) = event.split_once('\n').expect("two lines");
        let data: Value = serde_json::from_str(data.strip_prefix("data: ").expect("data")).expect("JSON");
        assert_eq!(kind.strip_prefix("event: "), data["type"].as_str());
        data
    });
    events.collect()
}

#[tokio::test]
async fn messages_have_separate_streams_status_and_value() {
    let server = forwarding(Server::builder().guest(Guest::component("bad_utf8"))).start().await;
    for form in ["application/x-ndjson", "text/event-stream"] {
        let answer = post(&server, "/api/v1/calls/stderr_words", &[("accept", form)], "").await;
        assert_eq!(answer.status, 200);
        let all = messages(&answer, form);
        let whole = |stream: &str| -> String {
            let of_stream = all.iter().filter(|message| message["type"] == stream);
            of_stream.map(|message| message["text"].as_str().expect("text").to_owned()).collect()
        };
        assert_eq!(
            (all[0]["type"].as_str(), all[0]["id"].as_str()),
            (Some("started"), Some(answer.header("distillery-process")))
        );
        assert_eq!(whole("stdout"), "trying\n");
        assert_eq!(whole("stderr"), "warning: the flux is low\nno capacitor at hand\n\n\n");
        let outcome = &all.last().expect("an end")["outcome"];
        assert_eq!((&outcome["kind"], &outcome["status"]), (&json!("exited"), &json!(7)));
        assert_eq!(outcome["message"], "exit status 7: no capacitor at hand");

        let answer = post(&server, "/api/v1/calls/bad_utf8", &[("accept", form)], "").await;
        let all = messages(&answer, form);
        assert!(all.iter().any(|message| message["base64"].is_string()), "{all:?}");
        // A refusal has no messages.
        let answer = post(&server, "/api/v1/calls/nothing", &[("accept", form)], "").await;
        assert_eq!((answer.status.as_u16(), answer.json()["status"].clone()), (404, json!(404)));
    }
    let answer = post(&server, "/api/v1/calls/bad_utf8", &[("accept", "application/octet-stream")], "").await;
    assert_eq!(answer.header("content-type"), "application/octet-stream");
    assert!(std::str::from_utf8(&answer.body).is_err());
}

#[tokio::test]
async fn detached_call_is_answered_with_its_process() {
    let builder = Server::builder().guest(Guest::component("sort"));
    let ada = builder.user("ada", &["call:sort"]);
    let server = builder.start().await;
    let user = [("authorization", ada.as_str())];
    let answer = post(&server, "/api/v1/calls/sort?detach", &user, "b\na\n").await;
    assert_eq!(answer.status, 202);
    let id = answer.json()["id"].as_str().expect("an id").to_owned();
    assert_eq!((answer.json()["call"].clone(), answer.json()["key"].is_null()), (json!("sort"), true));
    assert_eq!(answer.header("location"), format!("/api/v1/processes/{id}"));
    assert_eq!(answer.header("distillery-process"), id);
    let line = server.process_ended("sort").await;
    assert_eq!(
        (line.field("process"), line.field("outcome"), line.field("bytes_in")),
        (id.clone(), "success".into(), "4".into())
    );
    let process = server.request(Method::GET, answer.header("location"), &user).await;
    assert_eq!((process.json()["outcome"].clone(), process.json()["user"].clone()), (json!("success"), json!("ada")));
    // An anonymous client gets a key.
    let answer = post(
        &server,
        "/api/v1/calls/sort",
        &[("content-type", "application/vnd.distillery.call+json")],
        r#"{"detach":true}"#,
    )
    .await;
    assert_eq!((answer.status.as_u16(), answer.json()["key"].is_string()), (202, true));
}

#[tokio::test]
async fn page_of_a_listed_origin_runs_calls_and_reads_the_outcome() {
    let server = Server::builder().example("echo").set("http.origins", json!(["https://a.example"])).start().await;
    let asked = [("origin", "https://a.example"), ("access-control-request-method", "POST")];
    let preflight = server.request(Method::OPTIONS, ECHO, &asked).await;
    assert_eq!((preflight.status.as_u16(), preflight.header("access-control-allow-methods")), (204, "POST,OPTIONS"));
    let answer = post(&server, ECHO, &asked[..1], "a").await;
    assert_eq!((answer.status.as_u16(), answer.header("access-control-allow-origin")), (200, "https://a.example"));
    for name in ["distillery-process", "distillery-outcome", "distillery-value", "location"] {
        assert!(answer.header("access-control-expose-headers").contains(name), "{name}");
    }
    assert_eq!(post(&server, ECHO, &[("origin", "https://b.example")], "a").await.status, 403);
}

#[tokio::test]
async fn call_over_http2_ends_with_trailers() {
    let server = forwarding(tls::builder().guest(Guest::component("exit"))).start().await;
    let mut exchange = server.exchange_over_http2("/api/v1/calls/stderr_words", &[]).await;
    exchange.end();
    assert_eq!(exchange.head().await.0, 200);
    let (output, trailers) = exchange.rest().await;
    assert_eq!((output.as_slice(), trailers["distillery-exit-status"].to_str().ok()), (&b"trying\n"[..], Some("7")));
    let mut exchange = server.exchange_over_http2("/api/v1/calls/exit?params=3", &[]).await;
    exchange.end();
    let (status, headers) = exchange.head().await;
    assert_eq!((status.as_u16(), headers["distillery-exit-status"].to_str().ok()), (500, Some("3")));
}
