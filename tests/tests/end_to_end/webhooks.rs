//! Webhooks: deliveries with signatures in the forms of three services, and those that are rejected.

use distillery_tests::{Guest, Server, http::Answer, log::Line, server::Builder};
use hmac_sha256::HMAC;
use hyper::Method;
use serde_json::{Value, json};
use std::time::{SystemTime, UNIX_EPOCH};

const SECRET: &str = "It's a Secret to Everybody";
const BODY: &str = r#"{"repository":{"name":"coins"},"forced":false}"#;
/// The sum of the bytes of `BODY` as a call counts them.
const LENGTH: &str = "46";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn github(body: &str, secret: &str) -> String {
    format!("sha256={}", hex(&HMAC::mac(body, secret)))
}

fn stripe(body: &str, secret: &str, time: u64) -> String {
    format!("t={time},v1={}", hex(&HMAC::mac(format!("{time}.{body}"), secret)))
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a time after 1970").as_secs()
}

fn hook(call: &str, format: &str, more: Value) -> Value {
    let mut hook = json!({"call": call, "user": "ci", "format": format, "secret": {"file": "secrets/hook"}});
    hook.as_object_mut().expect("an object").extend(more.as_object().cloned().unwrap_or_default());
    hook
}

/// Returns a server with private calls that the user of the webhooks can run.
fn builder(hooks: Value) -> Builder {
    let params = "    params: [{name: repository}, {name: forced, required: false}]\n";
    let builder = Server::builder()
        .plugin("args", Guest::component("args"), &format!("calls:\n  args:\n{params}"))
        .bare_plugin("sort", Guest::component("sort"))
        .bare_plugin("secret", Guest::component("sort"))
        .file("secrets/hook", format!("{SECRET}\n"))
        .set("hooks", hooks)
        .set("ops.listen", "127.0.0.1:0");
    builder.user("ci", &["call:args", "call:sort"]);
    builder
}

async fn deliver(server: &Server, hook: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    server.send(Method::POST, &format!("/hooks/{hook}"), headers, body.to_owned().into()).await
}

async fn rejected(server: &Server, reason: &str) -> Line {
    let what = format!("a delivery rejected for {reason}");
    let is = |line: &Line| line.message() == "webhook delivery rejected" && line.field("reason") == reason;
    server.log().line(&what, is).await
}

async fn metric(server: &Server, line: &str) -> bool {
    let answer = distillery_tests::http::get_at(server.operators_address().await, "/metrics").await;
    String::from_utf8_lossy(&answer.body).lines().any(|it| it == line)
}

#[tokio::test]
async fn signed_delivery_runs_its_call_as_the_configured_user() {
    let named = json!({"params": {"repository": "/repository/name", "forced": "/forced"}, "wait": true});
    let server = builder(json!({
        "github/deploy": hook("args", "github", named),
        "gitlab": hook("sort", "gitlab", json!({})),
        "stripe": hook("args", "stripe", json!({"params": ["/repository/name"], "wait": true})),
    }));
    let server = server.start().await;
    let signature = github(BODY, SECRET);
    let signed = [("x-hub-signature-256", signature.as_str()), ("x-github-delivery", "1")];
    let answer = deliver(&server, "github/deploy", &signed, BODY).await;
    assert_eq!((answer.status.as_u16(), &answer.body[..]), (200, &b"args\ncoins\nfalse\n"[..]));
    let line = server.process_ended("args").await;
    assert_eq!((line.field("user"), line.field("outcome")), ("ci".into(), "success".into()));

    let signature = stripe(BODY, SECRET, now());
    let answer = deliver(&server, "stripe/", &[("stripe-signature", &signature)], BODY).await;
    assert_eq!((answer.status.as_u16(), &answer.body[..]), (200, &b"args\ncoins\n"[..]));

    // This one does not wait; the call has the whole body as its input.
    let answer = deliver(&server, "gitlab", &[("x-gitlab-token", SECRET)], BODY).await;
    assert_eq!((answer.status.as_u16(), answer.json()["call"].clone()), (202, json!("sort")));
    let line = server.process_ended("sort").await;
    assert_eq!(
        (line.field("process"), line.field("bytes_in")),
        (answer.json()["id"].as_str().unwrap().into(), LENGTH.into())
    );
    assert!(metric(&server, "distillery_hook_deliveries_accepted_total 3").await);
}

#[tokio::test]
async fn delivery_without_a_valid_signature_is_rejected_and_named() {
    let server = builder(json!({
        "github": hook("sort", "github", json!({})),
        "gitlab": hook("sort", "gitlab", json!({})),
        "stripe": hook("sort", "stripe", json!({"window": "1m"})),
    }));
    let server = server.start().await;
    let (right, other) = (github(BODY, SECRET), github(BODY, "other"));
    let old = stripe(BODY, SECRET, now() - 120);
    let early = stripe(BODY, SECRET, now() + 120);
    let forged = stripe(BODY, "other", now());
    for (hook, headers, body, status, reason) in [
        ("github", &[][..], BODY, 401, "no_signature"),
        ("github", &[("x-hub-signature-256", other.as_str())], BODY, 401, "bad_signature"),
        ("github", &[("x-hub-signature-256", &right)], "{}", 401, "bad_signature"),
        ("github", &[("x-gitlab-token", SECRET)], BODY, 401, "no_signature"),
        ("gitlab", &[("x-gitlab-token", "")], BODY, 401, "bad_signature"),
        ("gitlab", &[("x-gitlab-token", "other")], BODY, 401, "bad_signature"),
        ("stripe", &[("stripe-signature", &forged)], BODY, 401, "bad_signature"),
        ("stripe", &[("stripe-signature", &old)], BODY, 401, "expired"),
        ("stripe", &[("stripe-signature", &early)], BODY, 401, "expired"),
        ("nothing", &[], BODY, 404, "unknown_hook"),
    ] {
        let answer = deliver(&server, hook, headers, body).await;
        assert_eq!(answer.status.as_u16(), status, "{hook} {headers:?}: {}", answer.json());
        assert!(!answer.json().to_string().contains(SECRET));
        rejected(&server, reason).await;
    }
    assert_eq!(rejected(&server, "expired").await.field("setting"), "hooks.stripe.window");
    assert_eq!(rejected(&server, "unknown_hook").await.field("setting"), "hooks");
    let line = "distillery_hook_deliveries_rejected_total{reason=\"bad_signature\"} 5";
    assert!(metric(&server, line).await, "{line}");
    assert!(!server.log().lines().iter().any(|line| line.message() == "process ended"), "a call has run");
    let answer = server.request(Method::GET, "/hooks/github", &[]).await;
    assert_eq!((answer.status.as_u16(), answer.header("allow")), (405, "POST,OPTIONS"));
}

#[tokio::test]
async fn repeated_delivery_runs_no_second_time() {
    let server = builder(json!({
        "github": hook("sort", "github", json!({})),
        "gitlab": hook("sort", "gitlab", json!({})),
        "stripe": hook("sort", "stripe", json!({})),
    }));
    let mut server = server.start().await;
    let signature = github(BODY, SECRET);
    let of_github = |id| [("x-hub-signature-256", signature.as_str()), ("x-github-delivery", id)];
    let of_gitlab = |id| [("x-gitlab-token", SECRET), ("idempotency-key", id)];
    let timed = stripe(BODY, SECRET, now());
    for (hook, headers, status) in [
        ("github", &of_github("1")[..], 202),
        ("github", &of_github("1"), 409),
        ("github", &of_github("2"), 202),
        ("gitlab", &of_gitlab("1"), 202),
        ("gitlab", &of_gitlab("1"), 409),
        ("gitlab", &of_gitlab("2"), 202),
        ("stripe", &[("stripe-signature", timed.as_str())], 202),
        ("stripe", &[("stripe-signature", timed.as_str())], 409),
    ] {
        assert_eq!(deliver(&server, hook, headers, BODY).await.status.as_u16(), status, "{hook} {headers:?}");
    }
    rejected(&server, "replayed").await;
    // A reload forgets none of them, and takes effect at once.
    server.put("secrets/hook", "new");
    assert!(server.run(&["reload"]).status.success());
    assert_eq!(deliver(&server, "gitlab", &of_gitlab("3"), BODY).await.status, 401);
    let of_gitlab = [("x-gitlab-token", "new"), ("idempotency-key", "1")];
    assert_eq!(deliver(&server, "gitlab", &of_gitlab, BODY).await.status, 409);
    server.reconfigure("hooks", json!({}));
    let reload = server.run(&["reload"]);
    assert!(String::from_utf8_lossy(&reload.stdout).contains("hooks"), "{reload:?}");
    assert_eq!(deliver(&server, "gitlab", &of_gitlab, BODY).await.status, 404);
}

#[tokio::test]
async fn delivery_that_cannot_run_is_not_remembered() {
    let server = builder(json!({
        "args": hook("args", "gitlab", json!({"params": {"repository": "/repository/name"}})),
        "list": hook("args", "gitlab", json!({"params": ["/repository"]})),
        "secret": hook("secret", "gitlab", json!({})),
        "gone": {"call": "sort", "user": "gone", "format": "gitlab", "secret": {"file": "secrets/hook"}},
        "small": hook("sort", "gitlab", json!({"body": "1KiB"})),
    }));
    let server = server.start().await;
    let signed = [("x-gitlab-token", SECRET), ("idempotency-key", "1")];
    let large = "x".repeat(2 << 10);
    for (hook, body, status, reason, setting) in [
        ("args", "text", 400, "bad_parameter", "hooks.args.params"),
        ("list", BODY, 400, "bad_parameter", "hooks.list.params"),
        ("args", "{}", 400, "call_refused", "hooks.args.call"),
        ("secret", BODY, 403, "call_refused", "hooks.secret.call"),
        ("gone", BODY, 503, "unknown_user", "hooks.gone.user"),
        ("small", large.as_str(), 400, "bad_body", "hooks.small.body"),
    ] {
        let answer = deliver(&server, hook, &signed, body).await;
        assert_eq!(answer.status.as_u16(), status, "{hook}: {}", answer.json());
        let is = |line: &Line| line.field("reason") == reason && line.field("setting") == setting;
        server.log().line(&format!("{reason} of {setting}"), is).await;
    }
    assert_eq!(deliver(&server, "args", &signed, BODY).await.status, 202);
    assert!(server.run(&["user", "scopes", "ci", "call:secret"]).status.success());
    assert_eq!(deliver(&server, "secret", &signed, BODY).await.status, 202);
}

#[tokio::test]
async fn webhook_without_a_secret_stops_the_start_and_the_reload() {
    for content in ["", "\n"] {
        let builder = builder(json!({"a": hook("sort", "github", json!({}))})).file("secrets/hook", content);
        let checked = builder.run(&["check"], "");
        let said = format!("{}{}", String::from_utf8_lossy(&checked.stdout), String::from_utf8_lossy(&checked.stderr));
        assert!(!checked.status.success() && said.contains("hooks.a.secret"), "{said}");
        let served = builder.run(&["serve"], "");
        assert!(!served.status.success(), "it serves without a secret");
    }
    let mut server = builder(json!({"a": hook("sort", "gitlab", json!({}))})).start().await;
    server.reconfigure(
        "hooks",
        json!({"a": hook("sort", "gitlab", json!({})), "b": {"call": "sort", "user": "ci", "format": "gitlab"}}),
    );
    assert!(!server.run(&["reload"]).status.success());
    server.put("secrets/hook", "");
    assert!(!server.run(&["reload"]).status.success());
    let signed = [("x-gitlab-token", SECRET)];
    assert_eq!(deliver(&server, "a", &signed, BODY).await.status, 202, "what was valid goes on");
    assert_eq!(deliver(&server, "a", &[("x-gitlab-token", "")], BODY).await.status, 401);
}

#[tokio::test]
async fn webhooks_are_served_without_the_api() {
    let builder = builder(json!({"a": hook("sort", "gitlab", json!({}))})).set("http.api", false);
    let server = builder.start().await;
    assert_eq!(deliver(&server, "a", &[("x-gitlab-token", SECRET)], BODY).await.status, 202);
    assert_eq!(server.post("/api/v1/calls/sort").await.status, 501);
}
