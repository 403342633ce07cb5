//! Reports on generations, and the rollback to the previous one.

use super::{builder, public, said, says, until};
use distillery_tests::{Server, http::Answer, log::Line};
use hyper::Method;
use serde_json::{Value, json};

/// Returns the only plugin of the server, as the API shows it.
async fn plugin(server: &Server) -> Value {
    server.get("/api/v1/plugins").await.json()[0].clone()
}

/// Returns number and state of each generation.
fn states(plugin: &Value) -> Vec<(u64, &str)> {
    let generations = plugin["generations"].as_array().expect("a list").iter();
    generations
        .map(|it| (it["generation"].as_u64().expect("a number"), it["state"].as_str().expect("a state")))
        .collect()
}

#[tokio::test]
async fn every_generation_has_its_number_and_its_state() {
    let server = builder().start().await;
    let mut first = server.call("echo", &[]).await;
    first.line().await;
    let one = plugin(&server).await;
    assert_eq!(
        (&one["name"], &one["state"], &one["generation"], &one["processes"], &one["calls"], &one["previous"]),
        (&json!("echo"), &json!("serving"), &json!(1), &json!(1), &json!(["echo"]), &Value::Null)
    );
    assert_eq!(one["digest"].as_str().map(str::len), Some(64));
    assert!(one["loaded"].as_str().is_some_and(|at| at.ends_with('Z')), "{one}");

    server.put("plugins/echo/echo.wat", says("two"));
    until(&server, "echo", "two", &["one"]).await;
    let two = plugin(&server).await;
    assert_ne!(one["digest"], two["digest"]);
    assert_eq!(states(&two), [(2, "serving"), (1, "retired with 1 process")]);

    server.put("plugins/echo/echo.wat", "(module (func");
    let mut events = server.plugin_events().await;
    events.wait("the failure", |name, data| name == "failed" && data["generation"] == 3).await;
    let three = plugin(&server).await;
    let states = states(&three);
    assert!(states[0].0 == 3 && states[0].1.starts_with("failed: "), "{states:?}");
    assert_eq!(states[1..], [(2, "serving"), (1, "retired with 1 process")]);
    assert!(three["error"].as_str().is_some_and(|why| why.contains("echo.wat")), "{three}");

    server.put("plugins/echo/echo.wat", says("four"));
    until(&server, "echo", "four", &["two"]).await;
    first.say("").await;
    assert_eq!(first.finish().await.success(), ["one"]);
    events.wait("the end of the first generation", |name, data| name == "freed" && data["generation"] == 1).await;
    assert_eq!(self::states(&plugin(&server).await), [(4, "serving"), (2, "retired with 0 processes")]);
}

#[tokio::test]
async fn plugin_events_are_streamed_as_they_happen() {
    let server = builder().start().await;
    let mut events = server.plugin_events().await;
    let (name, data) = events.next().await.expect("the current state");
    assert_eq!((name.as_str(), data), ("plugins", server.get("/api/v1/plugins").await.json()));
    let mut running = server.call("echo", &[]).await;
    running.line().await;

    server.put("plugins/echo/echo.wat", says("two"));
    let mut told = Vec::new();
    for _ in 0..2 {
        let (name, data) = events.next().await.expect("the next event");
        assert_eq!(data["plugin"], "echo");
        told.push((name, data["generation"].as_u64(), data["processes"].as_u64()));
    }
    assert_eq!(told, [("serving".into(), Some(2), None), ("retired".into(), Some(1), Some(1))]);
    std::fs::remove_dir_all(server.plugins().join("echo")).unwrap();
    events.wait("the removal", |name, data| name == "removed" && data["generation"] == 2).await;

    running.say("").await;
    running.finish().await.success();
    events.wait("the end of the process", |name, data| name == "freed" && data["generation"] == 1).await;
    // A stopping server does not wait for listeners of events.
    server.terminate();
    while events.next().await.is_some() {}
    assert_eq!(server.wait().await.code(), Some(0));
}

#[tokio::test]
async fn rollback_holds_until_the_directory_changes() {
    let server = builder().start().await;
    let back = async || server.post("/api/v1/plugins/echo/rollback").await;
    let refused = |answer: Answer| (answer.status.as_u16(), answer.json()["message"].as_str().unwrap().to_owned());
    assert_eq!(refused(back().await).0, 409);
    server.put("plugins/echo/echo.wat", says("two"));
    until(&server, "echo", "two", &["one"]).await;

    let answer = back().await;
    assert_eq!((answer.status.as_u16(), answer.json()), (200, json!({"plugin": "echo", "generation": 1})));
    assert_eq!(said(&server, "echo").await.as_deref(), Ok("one"));
    assert_eq!(states(&plugin(&server).await), [(1, "serving")]);
    // There is no generation before that one, and another scan does not undo the rollback.
    let (status, message) = refused(back().await);
    assert!(status == 409 && message.starts_with("no earlier generation of \"echo\" is kept"), "{message}");
    assert_eq!(server.post("/api/v1/plugins/reload").await.status.as_u16(), 200);
    server.put("plugins/echo/echo.wat", says("two"));
    assert_eq!(server.post("/api/v1/plugins/reload").await.status.as_u16(), 200);
    assert_eq!(said(&server, "echo").await.as_deref(), Ok("one"));

    server.put("plugins/echo/echo.wat", says("three"));
    until(&server, "echo", "three", &["one"]).await;
    assert_eq!(states(&plugin(&server).await), [(3, "serving"), (1, "retired with 0 processes")]);

    let (status, message) = refused(server.post("/api/v1/plugins/nothing/rollback").await);
    assert_eq!((status, message.as_str()), (404, "there is no plugin \"nothing\""));
}

#[tokio::test]
async fn rollback_leaves_the_last_good_generation_too() {
    let server = builder().start().await;
    server.put("plugins/echo/echo.wat", says("two"));
    until(&server, "echo", "two", &["one"]).await;
    server.put("plugins/echo/echo.wat", "(module (func");
    server.log().line("the failure", |line| line.message() == "plugin not loaded").await;
    let rolled_back = server.run(&["plugins", "rollback", "echo"]);
    assert!(rolled_back.status.success(), "{rolled_back:?}");
    assert_eq!(
        String::from_utf8_lossy(&rolled_back.stdout),
        "echo: generation 1 serves until its directory changes again\n"
    );
    assert_eq!(said(&server, "echo").await.as_deref(), Ok("one"));
}

#[tokio::test]
async fn plugin_routes_require_their_scopes() {
    let routes = [
        (Method::GET, "plugins", "plugins:read"),
        (Method::GET, "plugins/events", "plugins:read"),
        (Method::POST, "plugins/reload", "plugins:write"),
        (Method::POST, "plugins/echo/rollback", "plugins:write"),
    ];
    let anyone = builder().set("auth.anonymous", json!([])).start().await;
    let reader = builder().set("auth.anonymous", json!(["plugins:read"])).start().await;
    for root in ["/api/v1", "/api/v1/http"] {
        for (method, route, scope) in &routes {
            let answer = anyone.request(method.clone(), &format!("{root}/{route}"), &[]).await;
            assert_eq!(answer.status.as_u16(), 403, "{route}");
            assert_eq!(answer.json()["message"], format!("this needs the scope {scope}"));
        }
        let plugins = reader.get(&format!("{root}/plugins/")).await;
        assert_eq!((plugins.status.as_u16(), &plugins.json()[0]["name"]), (200, &json!("echo")));
        assert_eq!(reader.post(&format!("{root}/plugins/reload")).await.status.as_u16(), 403);
    }
    assert_eq!(reader.get("/api/v1/auth").await.json()["Scopes"], json!(["plugins:read"]));
}

#[tokio::test]
async fn page_of_another_origin_changes_nothing() {
    let server = builder().start().await;
    let reload = async |origin: &str| {
        server.request(Method::POST, "/api/v1/plugins/reload", &[("origin", origin)]).await.status.as_u16()
    };
    assert_eq!(reload("https://evil.example").await, 403);
    assert_eq!(reload(&format!("http://{}", server.address())).await, 200);
}

#[tokio::test]
async fn rolled_back_generation_keeps_its_processes_running() {
    let server = builder().start().await;
    server.put("plugins/echo/echo.wat", says("two"));
    until(&server, "echo", "two", &["one"]).await;
    let mut running = server.call("echo", &[]).await;
    assert_eq!(running.line().await, "two");
    server.post("/api/v1/plugins/echo/rollback").await;
    assert_eq!(states(&plugin(&server).await), [(2, "retired with 1 process"), (1, "serving")]);
    running.say("").await;
    assert_eq!(running.finish().await.success(), ["two"]);
    let freed = |line: &Line| line.message() == "generation freed" && line.field("generation") == "2";
    server.log().line("the end of what was left behind", freed).await;
}

#[tokio::test]
async fn rollback_undoes_a_new_call_name() {
    let server = builder().start().await;
    server.put("plugins/echo/plugin.yaml", public("other"));
    until(&server, "other", "one", &["unknown call \"other\""]).await;
    assert_eq!(said(&server, "echo").await, Err("unknown call \"echo\"".into()));
    server.post("/api/v1/plugins/echo/rollback").await;
    assert_eq!(said(&server, "echo").await.as_deref(), Ok("one"));
    assert_eq!(said(&server, "other").await, Err("unknown call \"other\"".into()));
}
