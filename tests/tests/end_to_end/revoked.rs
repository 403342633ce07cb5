//! Sessions of a credential stop when it is revoked; a running process continues with its client.

use distillery_tests::{Client, Guest, Server, distillery1::Talk, program::worked, server::Builder};
use hyper::Method;
use serde_json::{Value, json};

const REVOKED: &str = "the token or session of this connection is no longer valid: connect again";
const PASSWORD: &str = "correct horse battery";

fn builder() -> Builder {
    Server::builder().example("echo").guest(Guest::component("says_goodbye")).set("http.call_timeout", "80s")
}

/// The ways in which a credential becomes invalid.
#[derive(Clone, Copy, Debug)]
enum Way {
    Token,
    User,
    Session,
}

/// Returns a server, and the header with the credential of ada.
async fn server(builder: Builder, way: Way) -> (Server, (&'static str, String)) {
    worked(&builder.run(&["user", "add", "ada", "--scope", "plugins:read", "--scope", "call:*"], PASSWORD));
    if matches!(way, Way::Session) {
        let server = builder.start().await;
        let body = json!({"user": "ada", "password": PASSWORD});
        let answer = server.send_json(Method::POST, "/api/v1/auth/session", &[], &body).await;
        let cookie = answer.header("set-cookie").split(';').next().unwrap_or_default().to_owned();
        return (server, ("cookie", cookie));
    }
    let token = worked(&builder.run(&["token", "add", "--user", "ada"], ""));
    (builder.start().await, ("authorization", format!("Bearer {token}")))
}

async fn revoke(server: &Server, way: Way, header: (&str, &str)) {
    match way {
        Way::User => _ = worked(&server.run(&["user", "remove", "ada"])),
        Way::Session => {
            let answer = server.request(Method::DELETE, "/api/v1/auth/session", &[header]).await;
            assert_eq!(answer.status, 204);
        }
        Way::Token => {
            let listed = worked(&server.run(&["token", "list", "--user", "ada"]));
            let id = listed.split_whitespace().next().expect("a token").to_owned();
            worked(&server.run(&["token", "revoke", &id]));
        }
    }
}

async fn started(server: &Server, header: (&str, &str), message: Value) -> (Talk, Value) {
    let mut talk = server.talk_with(&[header]).await;
    talk.say(message).await;
    let started = talk.message("started").await;
    (talk, started)
}

#[tokio::test]
async fn revoked_credential_ends_streams_and_attached_sockets() {
    for way in [Way::Token, Way::User, Way::Session] {
        let (server, (name, value)) = server(builder(), way).await;
        let header = (name, value.as_str());
        let mut events = server.plugin_events_as(&[header]).await;
        let detached = json!({"type": "call", "call": "says_goodbye", "on_disconnect": "detach"});
        let (first, message) = started(&server, header, detached).await;
        let mut attached = server.talk_with(&[header]).await;
        attached.say(json!({"type": "attach", "id": message["id"]})).await;
        attached.message("attached").await;
        let waiting = Client::connect_to(server.address(), "/api/v1/ws", &[header]).await.expect("a socket");
        let (mut running, _) = started(&server, header, json!({"type": "call", "call": "echo", "params": ["1"]})).await;

        revoke(&server, way, header).await;
        assert_eq!(events.wait("the end", |name, _| name == "revoked").await["message"], REVOKED, "{way:?}");
        assert!(events.next().await.is_none(), "{way:?}");
        for talk in [first, attached] {
            let whole = talk.finish().await;
            assert_eq!((whole.failure("refused"), whole.close), (REVOKED, 1000), "{way:?}");
        }
        // A socket without a call has its result too: this one, or the one for a missing call.
        let end = waiting.finish().await;
        assert_eq!((end.close, end.failure().as_str()), (1000, REVOKED), "{way:?}");
        // A running process continues with its client, which sees no other process.
        running.signal("list").await;
        assert_eq!(running.message("processes").await["processes"], json!([]), "{way:?}");
        running.give("still here\n").await;
        assert_eq!(running.finish().await.success(), b"still here\n", "{way:?}");
    }
}

#[tokio::test]
async fn call_in_the_queue_is_refused_when_its_credential_is_revoked() {
    let builder = builder().set("limits.processes", 1).set("limits.queue_time", "60s");
    let (server, (name, value)) = server(builder, Way::Token).await;
    let header = (name, value.as_str());
    let mut first = server.call("says_goodbye", &[]).await;
    assert_eq!(first.line().await, "ready");
    let mut queued = server.talk_with(&[header]).await;
    queued.say(json!({"type": "call", "call": "echo"})).await;
    queued.message("queued").await;
    revoke(&server, Way::Token, header).await;
    assert_eq!(queued.finish().await.failure("refused"), REVOKED);
}

#[tokio::test]
async fn other_credentials_stay_valid() {
    let (server, (name, value)) = server(builder(), Way::Token).await;
    let other = format!("Bearer {}", worked(&server.run(&["token", "add", "--user", "ada"])));
    let mut gone = server.plugin_events_as(&[(name, value.as_str())]).await;
    let mut stays = server.plugin_events_as(&[("authorization", other.as_str())]).await;
    assert_eq!(stays.next().await.expect("the current state").0, "plugins");
    let listed = worked(&server.run(&["token", "list", "--user", "ada"]));
    // The oldest is the first.
    let id = listed.split_whitespace().next().expect("a token").to_owned();
    worked(&server.run(&["token", "revoke", &id]));
    gone.wait("the end", |name, _| name == "revoked").await;
    // The next event of the stream is one of plugins, and not its end.
    server.put("plugins/late/module.wat", "(module (func (export \"_start\")))");
    assert_eq!(stays.next().await.expect("an event").0, "serving");
}

#[tokio::test]
async fn caller_that_loses_a_right_loses_its_stream() {
    let builder = builder().set("http.trusted_proxies", vec!["127.0.0.1"]).set("auth.forwarded_users", true);
    worked(&builder.run(&["user", "add", "--no-password", "ada", "--scope", "plugins:read"], ""));
    let token = worked(&builder.run(&["token", "add", "--user", "ada"], ""));
    let server = builder.start().await;
    let bearer = format!("Bearer {token}");
    for header in [("authorization", bearer.as_str()), ("x-forwarded-user", "ada")] {
        worked(&server.run(&["user", "scopes", "ada", "plugins:read", "call:*"]));
        let mut events = server.plugin_events_as(&[header]).await;
        assert_eq!(events.next().await.expect("the current state").0, "plugins");
        worked(&server.run(&["user", "scopes", "ada", "call:*"]));
        events.wait("the end", |name, _| name == "revoked").await;
    }
    worked(&server.run(&["user", "scopes", "ada", "plugins:read"]));
    let mut events = server.plugin_events_as(&[("x-forwarded-user", "ada")]).await;
    worked(&server.run(&["user", "remove", "ada"]));
    events.wait("the end", |name, _| name == "revoked").await;
}
