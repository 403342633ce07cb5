//! Users, tokens and sessions: created on the command line or over the API, and authenticated on every path.

use distillery_tests::{
    Client, Guest, Server,
    http::Answer,
    patiently,
    program::{failed, worked},
    server::Builder,
};
use hyper::Method;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const PASSWORD: &str = "correct horse battery";

/// Returns a server with the public call `echo` and the call `args`, which requires its scope.
fn builder() -> Builder {
    Server::builder().example("echo").bare_plugin("args", Guest::component("args"))
}

/// Adds a user with these scopes, and returns a token of that user with all of them.
fn user(server: &Server, name: &str, scopes: &[&str]) -> String {
    let scopes: Vec<_> = scopes.iter().flat_map(|scope| ["--scope", scope]).collect();
    worked(&server.run_with(&[&["user", "add", name], &scopes[..]].concat(), PASSWORD));
    worked(&server.run_with(&["token", "add", "--user", name], ""))
}

async fn get(server: &Server, token: &str, path: &str) -> Answer {
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str())];
    server.request(Method::GET, path, if token.is_empty() { &[] } else { &headers }).await
}

async fn log_in(server: &Server, name: &str, password: &str) -> Answer {
    let body = json!({ "user": name, "password": password });
    server.send_json(Method::POST, "/api/v1/auth/session", &[], &body).await
}

/// Returns the cookie of an answer, as a browser sends it back.
fn cookie(answer: &Answer) -> String {
    answer.header("set-cookie").split(';').next().unwrap_or_default().to_owned()
}

/// Returns the end of a call over a socket that was opened with these headers.
async fn call_with(server: &Server, headers: &[(&str, &str)], name: &str) -> distillery_tests::End {
    let client = Client::connect_to(server.address(), "/api/v1/ws", headers).await;
    let mut client = client.expect("the server takes the socket");
    client.call(name, &["1"]).await;
    if name == "echo" {
        client.say("x").await;
    }
    client.finish().await
}

#[tokio::test]
async fn running_server_sees_new_users_at_once() {
    let builder = builder();
    worked(&builder.run(&["user", "add", "ada", "--scope", "call:*"], PASSWORD));
    assert!(failed(&builder.run(&["user", "add", "ada"], PASSWORD)).contains("there is a user \"ada\" already"));
    assert!(failed(&builder.run(&["user", "add", "bob"], "short")).contains("a password must have 8 to"));
    assert!(failed(&builder.run(&["user", "add", "bob"], "")).contains("there is no password"));
    let before = worked(&builder.run(&["token", "add", "--user", "ada", "--scope", "call:args"], ""));
    let server = builder.start().await;
    let after =
        worked(&server.run_with(&["token", "add", "--user", "ada", "--expires", "30d", "--label", "laptop"], ""));

    let expected = json!({ "User": "ada", "Token": true, "Scopes": ["call:args"] });
    assert_eq!(get(&server, &before, "/api/v1/auth").await.json(), expected);
    assert_eq!(get(&server, &after, "/api/v1/auth").await.json()["Scopes"], json!(["call:*"]));
    for token in [&before, &after] {
        let bearer = format!("Bearer {token}");
        let end = call_with(&server, &[("authorization", &bearer)], "args").await;
        assert_eq!(end.success(), ["args", "1"]);
    }
    assert_eq!(call_with(&server, &[], "args").await.failure(), "not authorized to run \"args\"");
    let listed = worked(&server.run_with(&["token", "list", "--user", "ada"], ""));
    assert!(listed.contains("(laptop)") && !listed.contains(&after), "{listed}");
    assert!(worked(&server.run_with(&["user", "list"], "")).contains("2 tokens  scopes: call:*"));

    worked(&server.run_with(&["user", "remove", "ada"], ""));
    for token in [&before, &after] {
        let gone = async { while get(&server, token, "/api/v1/auth").await.status != 401 {} };
        patiently("the tokens to be revoked", gone).await;
    }
}

#[tokio::test]
async fn server_without_users_says_how_to_create_one() {
    let server = Server::builder().start().await;
    server.log().line("how to make a user", |line| line.message().contains("distillery user add")).await;
}

#[tokio::test]
async fn invalid_token_is_refused_on_every_path() {
    let server = builder().start().await;
    user(&server, "ada", &["call:*"]);
    let expired = worked(&server.run_with(&["token", "add", "--user", "ada", "--expires", "1s"], ""));
    let expiry = async { while get(&server, &expired, "/api/v1/auth").await.status != 401 {} };
    patiently("the token to expire", expiry).await;
    let unknown = format!("dst_{}", "0".repeat(64));
    for shown in [format!("Bearer {expired}"), format!("bearer {unknown}"), "Bearer".into(), "Basic YTpi".into()] {
        let headers = [("authorization", shown.as_str())];
        for path in ["auth", "systems", "news", "calls", "plugins", "http/auth", "auth/tokens", "ws"] {
            let answer = server.request(Method::GET, &format!("/api/v1/{path}"), &headers).await;
            assert_eq!(answer.status, 401, "{shown} {path}");
            assert_eq!(answer.header("www-authenticate"), "Bearer", "{path}");
            assert!(answer.json()["message"].as_str().is_some_and(|it| it.contains("token")), "{path}");
        }
        let socket = Client::connect_to(server.address(), "/api/v1/ws", &headers).await;
        assert_eq!(socket.err().map(|status| status.as_u16()), Some(401), "{shown}");
        // The pages of the console are public, so that users can log in again.
        assert_eq!(server.request(Method::GET, "/", &headers).await.status, 200, "{shown}");
    }
}

#[tokio::test]
async fn browser_logs_in_calls_and_logs_out() {
    let server = builder().start().await;
    user(&server, "ada", &["call:args"]);
    let own = format!("http://{}", server.address());
    for (name, password) in [("ada", "wrong horse battery"), ("bob", PASSWORD), ("", "")] {
        let answer = log_in(&server, name, password).await;
        assert_eq!(answer.status, 401, "{name}");
        assert_eq!(answer.json()["message"], "wrong user or password");
        assert_eq!(cookie(&answer), "");
    }
    let answer = log_in(&server, "ada", PASSWORD).await;
    assert_eq!(answer.json(), json!({ "User": "ada", "Token": false, "Scopes": ["call:args"] }));
    for part in ["HttpOnly", "SameSite=Strict", "Path=/api"] {
        assert!(answer.header("set-cookie").contains(part), "{}", answer.header("set-cookie"));
    }
    let cookie = cookie(&answer);
    let browser = [("cookie", cookie.as_str()), ("origin", own.as_str())];
    assert_eq!(server.request(Method::GET, "/api/v1/auth", &browser).await.json()["User"], "ada");
    assert_eq!(call_with(&server, &browser, "args").await.success(), ["args", "1"]);

    let elsewhere = [("cookie", cookie.as_str()), ("origin", "https://evil.example")];
    for (method, path) in
        [(Method::DELETE, "auth/session"), (Method::POST, "auth/tokens"), (Method::POST, "auth/session")]
    {
        let answer = server.request(method, &format!("/api/v1/{path}"), &elsewhere).await;
        assert_eq!(answer.status, 403, "{path}");
    }
    assert!(Client::connect_to(server.address(), "/api/v1/ws", &elsewhere).await.is_err());

    let answer = server.request(Method::DELETE, "/api/v1/auth/session", &browser).await;
    assert_eq!(answer.status, 204);
    assert!(answer.header("set-cookie").contains("Max-Age=0"));
    let answer = server.request(Method::GET, "/api/v1/auth", &browser).await;
    assert_eq!(answer.status, 401);
    assert!(answer.header("set-cookie").contains("Max-Age=0"), "the browser deletes the cookie");
    assert_eq!(server.request(Method::DELETE, "/api/v1/auth/session", &browser).await.status, 204);
}

#[tokio::test]
async fn login_requires_json_of_bounded_size() {
    let server = builder().start().await;
    for (kind, body, status) in [
        ("text/plain", r#"{"user":"a","password":"b"}"#.to_owned(), 415),
        ("application/json", "{".to_owned(), 400),
        ("application/json", r#"{"user":"a"}"#.to_owned(), 400),
        ("application/json", r#"{"user":"a","password":"b","more":1}"#.to_owned(), 400),
        ("application/json", "x".repeat(100_000), 413),
    ] {
        let answer = server.send(Method::POST, "/api/v1/auth/session", &[("content-type", kind)], body.into()).await;
        assert_eq!(answer.status, status, "{kind}: {:?}", answer.body);
        assert_eq!(answer.json()["status"], status);
    }
}

#[tokio::test]
async fn new_password_ends_existing_sessions() {
    let server = builder().start().await;
    user(&server, "ada", &[]);
    let cookie = cookie(&log_in(&server, "ada", PASSWORD).await);
    worked(&server.run_with(&["user", "passwd", "ada"], "another horse battery\n"));
    let over =
        async { while server.request(Method::GET, "/api/v1/auth", &[("cookie", &cookie)]).await.status != 401 {} };
    patiently("the session to be over", over).await;
    assert_eq!(log_in(&server, "ada", PASSWORD).await.status, 401);
    assert_eq!(log_in(&server, "ada", "another horse battery").await.status, 200);
}

#[tokio::test]
async fn password_guesses_are_rate_limited_for_each_user() {
    let server = builder().start().await;
    user(&server, "ada", &[]);
    user(&server, "bob", &[]);
    let mut misses = 0;
    let answer = loop {
        let answer = log_in(&server, "ada", "not the password").await;
        if answer.status != 401 {
            break answer;
        }
        misses += 1;
        assert!(misses < 100, "password guesses are not rate limited");
    };
    assert!(misses >= 5, "{misses}");
    assert_eq!(answer.status, 429);
    assert!(answer.header("retry-after").parse::<u32>().is_ok_and(|it| it > 0));
    assert_eq!(log_in(&server, "bob", PASSWORD).await.status, 200);
}

#[tokio::test]
async fn token_never_grants_more_than_its_user_has() {
    let server = builder().start().await;
    user(&server, "ada", &["call:*", "tokens:write"]);
    let bobs = user(&server, "bob", &["*"]);
    let cookie = cookie(&log_in(&server, "ada", PASSWORD).await);
    let session = [("cookie", cookie.as_str())];
    let make = async |headers: &[(&str, &str)], body: Value| {
        server.send_json(Method::POST, "/api/v1/auth/tokens", headers, &body).await
    };
    let made = make(&session, json!({ "label": "ci", "scopes": ["call:args"], "expires": "1h" })).await;
    assert_eq!(made.status, 201);
    let (id, token) = (made.json()["id"].clone(), made.json()["token"].clone());
    let bearer = format!("Bearer {}", token.as_str().expect("the token is shown once"));
    let narrow = [("authorization", bearer.as_str())];
    assert_eq!(make(&narrow, json!({})).await.status, 403, "the token lacks the scope to create tokens");
    assert_eq!(make(&session, json!({ "scopes": ["news:write"] })).await.status, 403);
    assert_eq!(make(&session, json!({ "scopes": ["odd"] })).await.status, 400);
    assert_eq!(make(&session, json!({ "expires": "soon" })).await.status, 400);
    assert_eq!(make(&[], json!({})).await.status, 401);

    let wide = make(&session, json!({ "scopes": ["tokens:write", "call:args"] })).await.json();
    let wide = format!("Bearer {}", wide["token"].as_str().expect("a token"));
    let child = make(&[("authorization", wide.as_str())], json!({ "scopes": ["call:*"] })).await;
    assert_eq!(child.json()["scopes"], json!(["call:args"]), "no more than its parent token");

    let listed = server.request(Method::GET, "/api/v1/auth/tokens", &session).await;
    assert!(listed.json().as_array().is_some_and(|all| all.len() == 4), "{}", listed.json());
    assert!(!String::from_utf8_lossy(&listed.body).contains("dst_"));
    let path = format!("/api/v1/auth/tokens/{}", id.as_str().expect("an id"));
    let bob = format!("Bearer {bobs}");
    assert_eq!(server.request(Method::DELETE, &path, &[("authorization", &bob)]).await.status, 404);
    assert_eq!(server.request(Method::DELETE, &path, &session).await.status, 204);
    assert_eq!(server.request(Method::GET, "/api/v1/auth", &narrow).await.status, 401);
    assert_eq!(server.request(Method::DELETE, &path, &session).await.status, 404);
}

#[tokio::test]
async fn token_creates_none_that_outlives_or_exceeds_it() {
    let server = builder().start().await;
    user(&server, "ada", &["*"]);
    let arguments = ["token", "add", "--user", "ada", "--scope", "tokens:write", "--scope", "call:args"];
    let parent = worked(&server.run_with(&[&arguments[..], &["--expires", "1m"]].concat(), ""));
    let make = async |token: &str, body: Value| {
        let bearer = format!("Bearer {token}");
        server.send_json(Method::POST, "/api/v1/auth/tokens", &[("authorization", &bearer)], &body).await
    };
    let tokens = get(&server, &parent, "/api/v1/auth/tokens").await.json();
    let shown = tokens.as_array().and_then(|all| all.iter().find(|it| !it["expires"].is_null())).expect("the parent");
    // A chain: each token asks for everything that a request can name.
    let mut token = parent.clone();
    for body in [json!({}), json!({ "expires": "52w", "scopes": ["*"] }), json!({ "scopes": ["tokens:*", "call:*"] })] {
        let made = make(&token, body.clone()).await;
        assert_eq!(made.status, 201, "{body}");
        assert_eq!(made.json()["expires"], shown["expires"], "{body}");
        assert_eq!(made.json()["scopes"], json!(["tokens:write", "call:args"]), "{body}");
        assert!(made.json()["parent"].is_string(), "{body}");
        token = made.json()["token"].as_str().expect("a token").to_owned();
    }
    let short = make(&token, json!({ "expires": "10s" })).await.json();
    assert_ne!(short["expires"], shown["expires"], "a token can create one with less");
    // A token is not a password, and cannot begin a session.
    let bearer = format!("Bearer {token}");
    let login = json!({ "user": "ada", "password": token });
    let answer = server.send_json(Method::POST, "/api/v1/auth/session", &[("authorization", &bearer)], &login).await;
    assert_eq!((answer.status.as_u16(), cookie(&answer)), (401, String::new()));

    worked(&server.run_with(&["token", "revoke", shown["id"].as_str().expect("an id")], ""));
    for token in [&parent, &token, &short["token"].as_str().expect("a token").to_owned()] {
        let gone = async { while get(&server, token, "/api/v1/auth").await.status != 401 {} };
        patiently("the chain to be revoked with its first token", gone).await;
    }
    assert_eq!(make(&token, json!({})).await.status, 401);
}

#[tokio::test]
async fn namesake_of_a_removed_user_reaches_no_old_processes() {
    let server = builder().guest(Guest::component("hold")).start().await;
    let old = user(&server, "ada", &["call:*"]);
    let bearer = format!("Bearer {old}");
    let headers = [("authorization", bearer.as_str())];
    call_with(&server, &headers, "args").await.success();
    let mut running = Client::connect_to(server.address(), "/api/v1/ws", &headers).await.expect("a socket");
    running.call("hold", &[]).await;
    running.line().await;
    let mut detached = server.talk_with(&headers).await;
    detached.say(json!({ "type": "call", "call": "hold", "on_disconnect": "detach" })).await;
    let id = detached.message("started").await["id"].as_str().expect("an id").to_owned();
    let list = async |token: &str, query: &str| {
        get(&server, token, &format!("/api/v1/processes{query}")).await.json().as_array().expect("a list").clone()
    };
    let of_old = list(&old, "").await;
    assert_eq!(of_old.len(), 3);

    worked(&server.run_with(&["user", "remove", "ada"], ""));
    let new = user(&server, "ada", &["call:*"]);
    for query in ["", "?user=ada", "?outcome=running", "?outcome=success"] {
        assert_eq!(list(&new, query).await, [] as [Value; 0], "{query}");
    }
    let bearer = format!("Bearer {new}");
    let headers = [("authorization", bearer.as_str())];
    for process in &of_old {
        let path = format!("/api/v1/processes/{}", process["id"].as_str().expect("an id"));
        for method in [Method::GET, Method::DELETE] {
            assert_eq!(server.request(method, &path, &headers).await.status, 404, "{process}");
        }
    }
    for path in [format!("status/{id}"), format!("cancel/{id}")] {
        let method = if path.starts_with("status") { Method::GET } else { Method::POST };
        assert_eq!(server.request(method, &format!("/api/v1/pow/{path}"), &headers).await.status, 404, "{path}");
    }
    let mut talk = server.talk_with(&headers).await;
    talk.say(json!({ "type": "list" })).await;
    assert_eq!(talk.message("processes").await["processes"], json!([]));
    talk.say(json!({ "type": "attach", "id": id })).await;
    let whole = talk.finish().await;
    assert!(whole.failure("refused").contains("there is no process"), "{:?}", whole.outcome);
    // The new user's own process is visible as usual.
    call_with(&server, &headers, "args").await.success();
    let listed = list(&new, "?user=ada").await;
    assert_eq!(listed.iter().map(|it| &it["call"]).collect::<Vec<_>>(), [&json!("args")]);
    assert_eq!(
        server.operator(Method::GET, "/api/v1/processes?user=ada").await.json().as_array().map(Vec::len),
        Some(4)
    );
}

/// Time for which a write waits for another one.
const BUSY: Duration = Duration::from_secs(5);

#[tokio::test]
async fn callers_are_authenticated_while_another_program_writes() {
    let server = builder().start().await;
    let tokens: Vec<_> = (0..5).map(|n| user(&server, &format!("user{n}"), &["call:*", "processes:*"])).collect();
    let other = rusqlite::Connection::open(server.data().join("distillery.db")).expect("the database");
    other.execute_batch("BEGIN IMMEDIATE").expect("the lock of a writer");
    let mut waits = Vec::new();
    for (n, token) in tokens.iter().enumerate() {
        let begun = Instant::now();
        assert_eq!(get(&server, token, "/api/v1/auth").await.json()["User"], format!("user{n}"));
        waits.push(begun.elapsed());
    }
    // A request that waits for the lock takes all of that time, and so does each later one.
    assert!(waits.iter().min() < Some(&BUSY), "{waits:?}");
    let answer = log_in(&server, "user0", PASSWORD).await;
    assert_eq!(answer.status, 200);
    let cookie = cookie(&answer);
    let browser = [("cookie", cookie.as_str())];
    for path in ["auth", "auth/tokens", "processes", "systems", "news", "calls"] {
        assert_eq!(server.request(Method::GET, &format!("/api/v1/{path}"), &browser).await.status, 200, "{path}");
    }
    let bearer = format!("Bearer {}", tokens[0]);
    call_with(&server, &[("authorization", &bearer)], "args").await.success();
    assert_eq!(log_in(&server, "user0", "wrong horse battery").await.status, 401);
    other.execute_batch("COMMIT").expect("the lock is given back");
    // Delayed writes are done now: another process finds the session and the use.
    let kept = rusqlite::Connection::open(server.data().join("distillery.db")).expect("the database");
    let count = |sql: &str| kept.query_row(sql, [], |row| row.get::<_, u32>(0)).expect("a number");
    let written = async {
        while count("SELECT count(*) FROM sessions") != 1 || count("SELECT count(*) FROM tokens WHERE used > 0") != 5 {
            tokio::task::yield_now().await;
        }
    };
    patiently("the session and the uses to be written", written).await;
}

#[tokio::test]
async fn explain_names_the_rule_of_each_decision() {
    let server = builder().set("auth.anonymous", json!(["plugins:read"])).start().await;
    let token = user(&server, "ada", &["call:ar*"]);
    for (who, scope, allowed, rule) in [
        (token.as_str(), "call:args", true, "the scope call:ar* is held"),
        (&token, "call:echo", true, "its plugin says access: public"),
        (&token, "news:write", false, "no scope is held that covers news:write"),
        (&token, "plugins:read", true, "the scope plugins:read is held, granted to everyone by auth.anonymous"),
        ("", "call:args", false, "no scope is held that covers call:args"),
        ("", "plugins:read", true, "the scope plugins:read is held, granted to everyone by auth.anonymous"),
    ] {
        let explained = get(&server, who, &format!("/api/v1/auth?explain={scope}")).await.json();
        assert_eq!(explained["Explain"], json!({ "Scope": scope, "Allowed": allowed, "Rule": rule }));
        let name = if who.is_empty() { "nobody" } else { "ada" };
        let output = server.run_with(&["may", name, scope], "");
        let said = format!("{}: {rule}\n", if allowed { "yes" } else { "no" });
        assert_eq!(String::from_utf8_lossy(&output.stdout), said);
        assert_eq!(output.status.success(), allowed);
    }
    assert_eq!(get(&server, "", "/api/v1/auth?explain=odd").await.status, 400);
}

#[tokio::test]
async fn backup_of_a_running_server_restores_completely() {
    let server = builder().start().await;
    let token = user(&server, "ada", &["call:*"]);
    let other = builder();
    std::fs::create_dir(other.directory().join("data")).expect("a directory for the data");
    let file = other.directory().join("data/distillery.db").display().to_string();
    worked(&server.run_with(&["backup", &file], ""));
    assert!(failed(&server.run_with(&["backup", &file], "")).contains("there is such a file already"));
    let other = other.start().await;
    assert_eq!(get(&other, &token, "/api/v1/auth").await.json()["User"], "ada");
}
