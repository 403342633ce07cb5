//! `pow-1`: the behaviour that clients of the original distillery rely on, and its defects, which are fixed here.

use distillery_tests::{Client, Guest, Server, http::Answer, patiently};
use hyper::Method;
use serde_json::{Value, json};
use std::time::Duration;

const POW: &str = "/api/v1/pow";

async fn ask_as(server: &Server, bearer: &str, method: Method, path: &str, body: &str) -> Answer {
    let headers = [("authorization", bearer)];
    let headers: &[_] = if bearer.is_empty() { &[] } else { &headers };
    server.send(method, &format!("{POW}/{path}"), headers, body.to_owned().into()).await
}

async fn post(server: &Server, path: &str, body: &str) -> (u16, String) {
    let answer = ask_as(server, "", Method::POST, path, body).await;
    (answer.status.as_u16(), String::from_utf8(answer.body.to_vec()).expect("an answer is text"))
}

/// Starts a call, and returns its id.
async fn new(server: &Server, name: &str, params: &[&str]) -> String {
    new_as(server, "", name, params).await
}

async fn new_as(server: &Server, bearer: &str, name: &str, params: &[&str]) -> String {
    let body = json!({"call": name, "params": params}).to_string();
    let answer = ask_as(server, bearer, Method::POST, "new", &body).await;
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    answer.json().as_str().expect("an id is a string").to_owned()
}

async fn status(server: &Server, id: &str) -> Value {
    let answer = ask_as(server, "", Method::GET, &format!("status/{id}"), "").await;
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    answer.json()
}

/// Returns the status once it matches.
async fn until(server: &Server, id: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    patiently("another status", async {
        loop {
            let status = status(server, id).await;
            if wanted(&status) {
                return status;
            }
        }
    })
    .await
}

async fn done(server: &Server, id: &str) -> Value {
    until(server, id, |status| status["result"]["status"] != "pending").await
}

#[tokio::test]
async fn text_passes_as_bytes_at_every_path_below_the_root() {
    let server = Server::builder().example("echo").start().await;
    for path in ["/api/v1/pow", "/api/v1/pow/", "/api/v1/pow/any/where", "/api/v1/pow/status/7", "/api/v1/ws"] {
        let mut pow = server.pow(path).await;
        pow.say("be").await;
        pow.control(json!({"call": "echo", "params": null, "more": {}})).await;
        pow.hear("be").await;
        pow.say("fore\n\nä").await;
        pow.hear("fore\n\nä").await;
        pow.control(json!({"signal": "close"})).await;
        assert_eq!(pow.finish().await.value(), Value::Null, "{path}");
    }
    let refused = Client::connect_to(server.address(), "/api/v1/pow/", &[]).await;
    assert_eq!(refused.err().map(|status| status.as_u16()), Some(400), "no pow-1 was offered");
    assert_eq!(server.get("/api/v1/pow/nowhere").await.status, 404);
}

#[tokio::test]
async fn success_carries_the_value_of_the_call() {
    let server = Server::builder().guest(Guest::component("told")).start().await;
    let value = server.pow_call("told", &["value", r#"{"a": [1]}"#]).await.finish().await.value();
    assert_eq!(value, json!({"a": [1]}));
}

#[tokio::test]
async fn first_cancel_notifies_the_call_and_the_second_forces() {
    let builder = Server::builder().guest(Guest::component("says_goodbye")).guest(Guest::component("hold"));
    let server = builder.grace(Duration::from_secs(60)).start().await;
    let mut pow = server.pow_call("says_goodbye", &[]).await;
    pow.hear("ready\n").await;
    pow.control(json!({"signal": "cancel"})).await;
    let told = pow.finish().await;
    assert_eq!((told.text.as_str(), told.reason()), ("goodbye\n", "cancelled by the client"));
    let mut pow = server.pow_call("hold", &[]).await;
    pow.hear("holding\n").await;
    pow.control(json!({"signal": "cancel"})).await;
    pow.control(json!({"signal": "cancel"})).await;
    assert!(pow.finish().await.reason().starts_with("cancelled by the client (forced after "));
}

#[tokio::test]
async fn cancel_overtakes_unread_input() {
    let server = Server::builder().guest(Guest::component("sleep")).grace(Duration::ZERO).start().await;
    let mut pow = server.pow_call("sleep", &[]).await;
    for _ in 0..100 {
        pow.say(&"x".repeat(32 << 10)).await;
    }
    pow.control(json!({"signal": "cancel"})).await;
    assert!(pow.finish().await.reason().starts_with("cancelled by the client"));
}

#[tokio::test]
async fn connection_without_a_call_times_out_after_a_second() {
    let builder = Server::builder().guest(Guest::component("args")).set("http.ping_interval", "1100ms");
    let server = builder.start().await;
    let mut pow = server.pow("/api/v1/pow/").await;
    pow.pinged().await;
    pow.control(json!({"call": "args"})).await;
    pow.finish().await.value();
    let server = Server::builder().set("http.call_timeout", "200ms").start().await;
    assert_eq!(server.pow("/api/v1/pow/").await.finish().await.reason(), "timeout expired");
}

#[tokio::test]
async fn large_form_is_one_parameter() {
    let server = Server::builder().guest(Guest::component("args")).start().await;
    let form = "x".repeat(500_000);
    let told = server.pow_call("args", &[&form]).await.finish().await;
    assert!(told.text.ends_with(&format!("{form}\n")));
}

#[tokio::test]
async fn character_split_by_writes_arrives_whole() {
    let server = Server::builder().guest(Guest::component("cut_char")).start().await;
    let told = server.pow_call("cut_char", &[]).await.finish().await;
    assert_eq!(told.text, "café\n🦀\nhalf a crab \u{fffd}");
}

#[tokio::test]
async fn forwarded_stderr_is_shown_and_the_reason_has_the_status() {
    let manifest = "stderr: forward\ncalls: {stderr_words: {access: public}}";
    let builder = Server::builder().plugin("stderr_words", Guest::component("stderr_words"), manifest);
    let server = builder.guest(Guest::component("exit")).start().await;
    let told = server.pow_call("stderr_words", &[]).await.finish().await;
    assert!(told.text.contains("warning: the flux is low\n") && told.text.contains("trying\n"), "{told:?}");
    assert_eq!(told.reason(), "exit status 7: no capacitor at hand");
    assert_eq!(server.pow_call("exit", &["7"]).await.finish().await.reason(), "exit status 7");
    let id = new(&server, "stderr_words", &[]).await;
    let status = done(&server, &id).await;
    assert_eq!((&status["buffer"], &status["stderr_offset"]), (&json!("trying"), &json!(48)));
    assert_eq!(status["stderr"], "warning: the flux is low\nno capacitor at hand\n\n");
}

#[tokio::test]
async fn protocol_errors_end_with_a_result_and_a_close() {
    let builder = Server::builder().guest(Guest::component("hold")).guest(Guest::component("panics"));
    let server = builder.grace(Duration::ZERO).start().await;
    for message in [json!({"signal": "close"}), json!({"signal": "hup"}), json!([]), json!({"call": 1})] {
        let mut pow = server.pow("/api/v1/pow/").await;
        pow.control(message).await;
        assert_eq!(pow.finish().await.reason(), "protocol error occurred");
    }
    let mut pow = server.pow_call("hold", &[]).await;
    pow.hear("holding\n").await;
    pow.control(json!({"call": "hold"})).await;
    assert_eq!(pow.finish().await.reason(), "protocol error occurred");
    assert_eq!(server.pow_call("odd", &[]).await.finish().await.reason(), "failed to get process: unknown process");
    let told = server.pow_call("panics", &[]).await.finish().await;
    assert!(!told.reason().contains("backtrace") && !told.reason().contains('\n'), "{told:?}");
}

#[tokio::test]
async fn drain_is_a_reason_and_not_a_server_error() {
    let server = Server::builder().guest(Guest::component("says_goodbye")).start().await;
    let mut pow = server.pow_call("says_goodbye", &[]).await;
    pow.hear("ready\n").await;
    server.terminate();
    let told = pow.finish().await;
    assert_eq!((told.text.as_str(), told.reason()), ("goodbye\n", "the server is shutting down"));
}

#[tokio::test]
async fn call_by_requests_takes_input_reports_status_and_ends() {
    let server = Server::builder().guest(Guest::component("conversation")).start().await;
    let id = new(&server, "conversation", &["Ada"]).await;
    assert_eq!(post(&server, &format!("input/{id}"), "one\n").await, (200, "input sent".into()));
    let first = until(&server, &id, |status| status["buffer"] == "hello Ada\necho: one").await;
    assert_eq!((&first["result"], &first["offset"]), (&json!({"status": "pending"}), &json!(20)));
    assert_eq!(post(&server, &format!("input/{id}"), "two").await, (200, "input sent".into()));
    assert_eq!(post(&server, &format!("closeInput/{id}"), "").await, (200, "input closed".into()));
    let last = done(&server, &id).await;
    assert_eq!(last["result"], json!({"status": "fulfilled", "value": null}));
    assert_eq!(last["buffer"], "hello Ada\necho: one\necho: two");
    assert_eq!(status(&server, &format!("{id}?offset=20")).await["buffer"], "echo: two\n");
    let nothing = status(&server, &format!("{id}?offset=30")).await;
    assert!(nothing.get("buffer").is_none() && nothing["offset"] == 30, "{nothing}");
    let (code, _) = post(&server, &format!("input/{id}"), "late\n").await;
    assert_eq!(code, 409);
    // An ended process stays unchanged, however many requests try to end it.
    for _ in 0..3 {
        assert_eq!(post(&server, &format!("cancel/{id}"), "").await, (200, "process cancelled".into()));
        assert_eq!(post(&server, &format!("closeInput/{id}"), "").await, (200, "input closed".into()));
    }
    assert_eq!(done(&server, &id).await, last);
}

#[tokio::test]
async fn input_is_refused_after_its_end_and_beyond_its_limit() {
    let builder = Server::builder().guest(Guest::component("sleep")).example("echo").set("limits.input", "10B");
    let server = builder.grace(Duration::ZERO).start().await;
    let id = new(&server, "sleep", &[]).await;
    assert_eq!(post(&server, &format!("input/{id}"), "12345678").await.0, 200);
    assert_eq!(post(&server, &format!("input/{id}"), "12345678").await.0, 409);
    assert_eq!(post(&server, &format!("input/{id}"), "12345678901").await.0, 413);
    assert_eq!(post(&server, &format!("closeInput/{id}"), "").await.0, 200);
    assert_eq!(post(&server, &format!("input/{id}"), "1").await.0, 409);
    assert_eq!(post(&server, &format!("cancel/{id}"), "").await, (200, "process cancelled".into()));
    let status = done(&server, &id).await;
    assert!(status["result"]["reason"].as_str().unwrap().starts_with("cancelled by the client"), "{status}");
}

#[tokio::test]
async fn unfinished_last_line_is_shown_and_lost_lines_are_counted() {
    let builder = Server::builder().guest(Guest::component("no_newline")).guest(Guest::component("flood"));
    let builder = builder.set("limits.output", "20KiB").set("limits.kept_output", "15KiB").grace(Duration::ZERO);
    let server = builder.start().await;
    let id = new(&server, "no_newline", &[]).await;
    assert_eq!(done(&server, &id).await["buffer"], "first\nlast");
    let id = new(&server, "flood", &[]).await;
    let status = done(&server, &id).await;
    let buffer = status["buffer"].as_str().unwrap();
    assert_eq!(buffer.lines().count(), 1000);
    assert_eq!(status["offset"], 20 << 10);
    // The last line has an end, which the buffer does not show.
    assert_eq!(status["lost"].as_u64().unwrap() as usize + buffer.len() + 1, 20 << 10);
    let late = self::status(&server, &format!("{id}?offset=1000")).await;
    assert_eq!((&late["lost"], late["buffer"].as_str().unwrap().len()), (&json!((5 << 10) - 1000), 15 << 10));
    assert!(late["result"]["reason"].as_str().unwrap().starts_with("output limit of 20KiB reached"));
}

#[tokio::test]
async fn unknown_forbidden_and_malformed_calls_have_own_statuses() {
    let picky = "calls: {picky: {access: public, params: [{name: word, choices: [a]}]}}";
    let builder = Server::builder().bare_plugin("args", Guest::component("args"));
    let builder = builder.plugin("picky", Guest::component("args"), picky).set("http.max_frame", "64KiB");
    let server = builder.start().await;
    assert_eq!(post(&server, "new", r#"{"call":"odd"}"#).await, (404, r#"unknown call "odd""#.into()));
    assert_eq!(post(&server, "new", r#"{"call":"args"}"#).await, (403, r#"not authorized to run "args""#.into()));
    assert_eq!(post(&server, "new", r#"{"call":"picky","params":["b"]}"#).await.0, 400);
    for body in ["", "{", "[]", r#"{"params":[]}"#, r#"{"call":"picky","params":"a"}"#] {
        assert_eq!(post(&server, "new", body).await, (400, "failed to decode call message".into()), "{body}");
    }
    assert_eq!(post(&server, "new", &"x".repeat(70_000)).await.0, 413);
    for path in ["status/7", "status/", "new"] {
        assert!([404, 405].contains(&ask_as(&server, "", Method::GET, path, "").await.status.as_u16()), "{path}");
    }
    assert_eq!(post(&server, "cancel/7", "").await, (404, "process not found".into()));
    assert_eq!(ask_as(&server, "", Method::GET, "status/7", "").await.body, "process not found");
}

#[tokio::test]
async fn process_id_is_usable_only_by_its_owner() {
    let builder = Server::builder().example("echo");
    let [ada, bob, all] = [("ada", &[][..]), ("bob", &["call:*"]), ("root", &["processes:*"])]
        .map(|(name, scopes)| builder.user(name, scopes));
    let server = builder.start().await;
    let adas = new_as(&server, &ada, "echo", &[]).await;
    let nobodys = new(&server, "echo", &[]).await;
    let (bare, key) = nobodys.split_once('.').expect("the id of an anonymous process contains a secret");
    let forged = format!("{bare}.{}", key.replace(|_| true, "0"));
    for (who, id, may) in [
        (ada.as_str(), adas.as_str(), true),
        (&bob, &adas, false),
        ("", &adas, false),
        (&all, &adas, true),
        ("", &nobodys, true),
        ("", bare, false),
        ("", &forged, false),
        (&bob, bare, false),
        (&all, bare, true),
    ] {
        for (method, path) in
            [(Method::GET, "status"), (Method::POST, "input"), (Method::POST, "closeInput"), (Method::POST, "cancel")]
        {
            if may && path != "status" {
                continue;
            }
            let answer = ask_as(&server, who, method, &format!("{path}/{id}"), "").await;
            assert_eq!(answer.status, if may { 200 } else { 404 }, "{path} by {who}");
        }
    }
}

#[tokio::test]
async fn unread_result_is_kept_for_its_time() {
    let builder = Server::builder().guest(Guest::component("args")).set("limits.kept_time", "150ms");
    let server = builder.start().await;
    let id = new(&server, "args", &["x"]).await;
    server.process_ended("args").await;
    patiently("it to be removed", async {
        while ask_as(&server, "", Method::GET, &format!("status/{id}"), "").await.status == 200 {}
    })
    .await;
    let server = Server::builder().guest(Guest::component("args")).start().await;
    let id = new(&server, "args", &["x"]).await;
    server.process_ended("args").await;
    assert_eq!(done(&server, &id).await["result"]["status"], "fulfilled");
}

#[tokio::test]
async fn call_by_requests_without_a_slot_is_refused() {
    let builder = Server::builder().example("echo").set("limits.processes", 1).set("limits.queue_time", "200ms");
    let server = builder.start().await;
    let id = new(&server, "echo", &[]).await;
    assert_eq!(post(&server, "new", r#"{"call":"echo"}"#).await, (503, "too many running processes".into()));
    assert_eq!(post(&server, &format!("closeInput/{id}"), "").await.0, 200);
    done(&server, &id).await;
    new(&server, "echo", &[]).await;
}

#[tokio::test]
async fn pow1_is_documented_and_disabled_with_the_api() {
    let server = Server::builder().start().await;
    let document = server.get("/api/v1/pow/openapi.json").await.json();
    assert_eq!(document["openapi"], "3.1.0");
    let page = server.get("/api/v1/pow/docs").await;
    assert!(String::from_utf8_lossy(&page.body).contains("/api/v1/pow/closeInput/{id}"));
    assert!(page.header("content-security-policy").starts_with("default-src 'none'"));
    assert_eq!(server.request(Method::GET, "/api/v1/pow/new", &[]).await.status, 405);
    let off = Server::builder().set("http.api", false).start().await;
    for path in ["/api/v1/pow", "/api/v1/pow/new", "/api/v1/pow/status/7", "/api/v1/pow/docs"] {
        assert_eq!(off.get(path).await.status, 501, "{path}");
    }
}
