//! Running and ended processes: access to them, their end, and their state after a crash.

use distillery_store::{database::Database, processes::Processes};
use distillery_tests::{
    Client, Frame, Guest, Server, Verdict, http::Answer, patiently, program::worked, server::Builder,
};
use hyper::Method;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

/// Replaces a token for callers on the socket in the server's directory.
const OPERATOR: &str = "operator";
const PROCESSES: &str = "/api/v1/processes";

async fn ask(server: &Server, method: Method, path: &str, bearer: &str) -> Answer {
    let headers = [("authorization", bearer)];
    match bearer {
        OPERATOR => server.operator(method, path).await,
        "" => server.request(method, path, &[]).await,
        _ => server.request(method, path, &headers).await,
    }
}

async fn list(server: &Server, query: &str, bearer: &str) -> Vec<Value> {
    let answer = ask(server, Method::GET, &format!("{PROCESSES}?{query}"), bearer).await;
    assert_eq!(answer.status, 200, "{query}: {:?}", answer.body);
    answer.json().as_array().expect("a list").clone()
}

/// Starts a call with this bearer token; its socket stays open.
async fn call(server: &Server, bearer: &str, name: &str, params: &[&str]) -> Client {
    let headers = [("authorization", bearer)];
    let headers: &[_] = if bearer.is_empty() { &[] } else { &headers };
    let mut client = Client::connect_to(server.address(), "/api/v1/ws", headers).await.expect("a socket");
    client.call(name, params).await;
    client
}

fn database(server: &Server) -> Database {
    Database::open(&server.data()).expect("there is a database")
}

fn ids(processes: &[Value]) -> Vec<String> {
    processes.iter().map(|process| process["id"].as_str().expect("an id").to_owned()).collect()
}

const SECRETIVE: &str = "
calls:
  args:
    access: public
    params:
      - {name: slug}
      - {name: password, secret: true, rest: true}
";

fn builder() -> Builder {
    Server::builder()
        .plugin("args", Guest::component("args"), SECRETIVE)
        .guest(Guest::component("hold"))
        .guest(Guest::component("stderr_words"))
}

#[tokio::test]
async fn process_is_listed_with_its_outcome_and_without_secrets() {
    let builder = builder();
    let ada = builder.user("ada", &[]);
    let mut server = builder.start().await;
    call(&server, &ada, "args", &["site", "hunter2", "hunter3"]).await.finish().await.success();
    let failure = call(&server, &ada, "stderr_words", &[]).await.finish().await.failure();
    let seen = list(&server, "", &ada).await;
    let [failed, whole] = &seen[..] else { panic!("{seen:?}") };
    assert_eq!((&whole["call"], &whole["params"]), (&json!("args"), &json!(["site", null, null])));
    assert_eq!((&whole["outcome"], &whole["message"]), (&json!("success"), &json!(null)));
    assert_eq!((&whole["user"], &whole["plugin"], &whole["generation"]), (&json!("ada"), &json!("args"), &json!(1)));
    assert_eq!((&failed["outcome"], &failed["message"]), (&json!("exited"), &json!(failure)));
    for process in &seen {
        assert!(process["started"].is_string() && process["ended"].is_string(), "{process}");
        assert!(process["memory"].as_u64() > Some(0) && process["bytes_out"].is_u64(), "{process}");
    }
    let one = ask(&server, Method::GET, &format!("{PROCESSES}/{}", ids(&seen)[0]), &ada).await;
    assert_eq!(one.json(), *failed);

    server.terminate();
    server.wait().await;
    server.restart().await;
    assert_eq!(list(&server, "", &ada).await, seen, "the list is the same after a restart");
}

#[tokio::test]
async fn processes_are_listed_by_page_and_filter() {
    let builder = builder();
    let (ada, all) = (builder.user("ada", &[]), builder.user("root", &["*"]));
    let server = builder.start().await;
    for who in [&ada, &all, &ada] {
        call(&server, who, "args", &["x", "y"]).await.finish().await.success();
        call(&server, who, "stderr_words", &[]).await.finish().await.failure();
    }
    let everything = ids(&list(&server, "", &all).await);
    assert_eq!(everything.len(), 6);
    let mut paged = Vec::new();
    let mut before = String::new();
    loop {
        let page = ids(&list(&server, &format!("limit=4{before}"), &all).await);
        let Some(last) = page.last() else { break };
        before = format!("&before={last}");
        paged.extend(page);
    }
    assert_eq!(paged, everything);
    for (query, count) in
        [("user=ada", 4), ("call=args", 3), ("call=args&user=ada&outcome=success", 2), ("outcome=running", 0)]
    {
        assert_eq!(list(&server, query, &all).await.len(), count, "{query}");
    }
    for query in ["limit=0", "before=x", "outcome=odd", "odd=1"] {
        assert_eq!(ask(&server, Method::GET, &format!("{PROCESSES}?{query}"), &all).await.status, 400, "{query}");
    }
}

#[tokio::test]
async fn running_process_is_ended_only_by_its_owner() {
    let builder = builder().set("cancel.grace", "100ms");
    let (ada, bob) = (builder.user("ada", &[]), builder.user("bob", &["call:*"]));
    let server = builder.start().await;
    let mut client = call(&server, &ada, "hold", &[]).await;
    client.line().await;
    let [running] = &list(&server, "outcome=running", &ada).await[..] else { panic!() };
    assert_eq!((&running["call"], &running["ended"]), (&json!("hold"), &json!(null)));
    let path = format!("{PROCESSES}/{}", running["id"].as_str().expect("an id"));
    for (who, status) in [("", 404), (&bob, 404), (&ada, 202)] {
        assert_eq!(ask(&server, Method::DELETE, &path, who).await.status, status);
    }
    let message = client.finish().await.failure();
    assert!(message.starts_with("cancelled by an operator (forced after "), "{message}");
    let ended = ask(&server, Method::GET, &path, &ada).await.json();
    assert_eq!((&ended["outcome"], &ended["message"]), (&json!("cancelled"), &json!(message)));
    assert_eq!(ask(&server, Method::DELETE, &path, &ada).await.status, 409);
}

#[tokio::test]
async fn forced_delete_skips_the_grace_period() {
    let builder = builder().set("cancel.grace", "60s");
    let ada = builder.user("ada", &[]);
    let server = builder.start().await;
    for disconnected in ["cancel", "detach"] {
        let mut talk = server.talk_with(&[("authorization", &ada)]).await;
        talk.say(json!({"type": "call", "call": "hold", "on_disconnect": disconnected})).await;
        let path = format!("{PROCESSES}/{}", talk.message("started").await["id"].as_str().expect("an id"));
        talk.stdout(8).await;
        for (query, status) in [("", 202), ("?force=1", 400), ("?odd=true", 400), ("?force=false", 202)] {
            assert_eq!(ask(&server, Method::DELETE, &format!("{path}{query}"), &ada).await.status, status, "{query}");
        }
        assert_eq!(talk.message("cancelling").await["reason"], "operator");
        assert_eq!(ask(&server, Method::DELETE, &format!("{path}?force=true"), &ada).await.status, 202);
        let outcome = talk.finish().await.outcome;
        assert!(outcome["reason"] == "operator" && outcome["stop"] != "told", "{outcome}");
    }
}

#[tokio::test]
async fn process_interrupted_by_a_crash_is_marked() {
    let builder = builder();
    let all = builder.user("root", &["*"]);
    let mut server = builder.start().await;
    let mut client = call(&server, "", "hold", &[]).await;
    client.line().await;
    let id = ids(&list(&server, "", &all).await).remove(0);
    let kept = Processes::open(&database(&server)).expect("the database can be read");
    let written = async {
        while kept.one(id.parse().expect("an id")).expect("the history can be read").is_none() {
            tokio::task::yield_now().await;
        }
    };
    patiently("the start to be recorded", written).await;
    server.crash_and_restart().await;
    let crashed = ask(&server, Method::GET, &format!("{PROCESSES}/{id}"), &all).await.json();
    assert_eq!((&crashed["outcome"], &crashed["ended"]), (&json!("interrupted"), &json!(null)));
    assert_eq!(crashed["message"], "interrupted by a crash");
}

#[tokio::test]
async fn repeatedly_killed_server_leaves_nothing_half_done() {
    const ROUNDS: usize = 10;
    /// Complete calls before each kill.
    const CALLS: usize = 100;
    let builder = builder();
    let all = builder.user("root", &["*"]);
    let mut server = builder.start().await;
    let mut tokens = Vec::new();
    let mut whole = 0;
    for round in 0..ROUNDS {
        let (done_one, mut each_done) = tokio::sync::mpsc::unbounded_channel();
        let over = Arc::new(AtomicBool::new(false));
        let load: Vec<_> = (0..8)
            .map(|_| {
                let (address, done_one, over) = (server.address(), done_one.clone(), over.clone());
                tokio::spawn(async move {
                    let mut done = 0;
                    // Until the server has exited, which clients cannot observe. The next server can get the same port.
                    while !over.load(Relaxed)
                        && let Some(true) = one_call(address).await
                    {
                        done += 1;
                        done_one.send(()).expect("the test waits for the load");
                    }
                    done
                })
            })
            .collect();
        // Tokens created under load: a printed token must survive the kill.
        for _ in 0..2 {
            tokens.push(worked(&server.run_with(&["token", "add", "--user", "root"], "")));
            let body = json!({ "label": format!("round {round}") });
            let made = server.send_json(Method::POST, "/api/v1/auth/tokens", &[("authorization", &all)], &body).await;
            tokens.push(made.json()["token"].as_str().expect("a token").to_owned());
        }
        for _ in 0..CALLS {
            patiently("a whole call", each_done.recv()).await;
        }
        server.signal(Signal::KILL);
        server.wait().await;
        over.store(true, Relaxed);
        for load in load {
            whole += patiently("the end of the load", load).await.expect("the load ends with the server");
        }
        server.restart().await;
        for token in &tokens {
            let who = ask(&server, Method::GET, "/api/v1/auth", &format!("Bearer {token}")).await;
            assert_eq!(who.json()["User"], "root", "round {round}");
        }
        database(&server).check().expect("the database is whole");
    }
    let mut seen = BTreeSet::new();
    let mut before = String::new();
    loop {
        let page = list(&server, &format!("limit=500{before}"), &all).await;
        let Some(last) = page.last() else { break };
        before = format!("&before={}", last["id"].as_str().expect("an id"));
        for process in &page {
            assert!(seen.insert(process["id"].as_str().expect("an id").to_owned()), "{process} is there twice");
            match process["outcome"].as_str() {
                Some("success") => assert!(process["ended"].is_string(), "{process}"),
                Some("interrupted") => assert!(process["ended"].is_null(), "{process}"),
                other => panic!("{other:?}: {process}"),
            }
        }
    }
    assert!(whole > 0 && !seen.is_empty());
    println!("{ROUNDS} kills, {whole} whole calls, {} in the history", seen.len());
}

/// Makes one complete call; `None` once the server has exited.
async fn one_call(address: std::net::SocketAddr) -> Option<bool> {
    let stream = tokio::net::TcpStream::connect(address).await.ok()?;
    let request = format!("ws://{address}/api/v1/ws");
    let mut client = Client::over(stream, &request).await?;
    client.try_call("args", &["site", "secret"]).await?;
    loop {
        match client.next().await {
            Frame::Text(_) => {}
            Frame::Result(verdict) => return Some(verdict == Verdict::Success),
            Frame::Close(_) | Frame::Gone => return None,
        }
    }
}

/// Sends each kind of caller to every route: checks the answers, and that no data of a process reaches other callers.
#[tokio::test]
async fn every_path_shows_each_caller_only_what_is_allowed() {
    let builder = Server::builder()
        .bare_plugin("args", Guest::component("args"))
        .bare_plugin("hold", Guest::component("hold"))
        .example("echo");
    let users: [(&str, &[&str]); 6] = [
        ("runner", &["call:args", "call:hold"]),
        ("plain", &[]),
        ("caller", &["call:*"]),
        ("watcher", &["processes:*"]),
        ("keeper", &["plugins:read"]),
        ("root", &["*"]),
    ];
    let [runner, plain, caller, watcher, keeper, root] = users.map(|(name, scopes)| builder.user(name, scopes));
    let server = builder.start().await;
    // Data that callers without permission must never see.
    const MARK: &str = "known-to-the-runner-only";
    call(&server, &runner, "args", &[MARK]).await.finish().await.success();
    let mut running = call(&server, &runner, "hold", &[MARK]).await;
    running.line().await;
    let found = list(&server, "", &runner).await;
    let found = ids(&found);
    let [held, past] = &found[..] else { panic!("{found:?}") };

    let callers: [(&str, &str); 8] = [
        ("", ""),
        ("plain", &plain),
        ("caller", &caller),
        ("watcher", &watcher),
        ("keeper", &keeper),
        ("root", &root),
        ("runner", &runner),
        ("operator", OPERATOR),
    ];
    let one = |id: &str| format!("processes/{id}");
    let routes: Vec<(Method, String, [u16; 8])> = vec![
        // for                                 nobody plain caller watcher keeper root runner operator
        (Method::GET, "auth".into(), [200; 8]),
        (Method::GET, "auth?explain=call:args".into(), [200; 8]),
        (Method::GET, "systems".into(), [200; 8]),
        (Method::GET, "instances/directory".into(), [200; 8]),
        (Method::GET, "news".into(), [200; 8]),
        (Method::POST, "systems".into(), [403, 403, 403, 403, 403, 415, 403, 415]),
        (Method::DELETE, "systems/odd".into(), [403, 403, 403, 403, 403, 404, 403, 404]),
        (Method::POST, "news".into(), [403, 403, 403, 403, 403, 415, 403, 415]),
        (Method::DELETE, "news/odd".into(), [403, 403, 403, 403, 403, 404, 403, 404]),
        (Method::GET, "calls".into(), [200; 8]),
        (Method::GET, "plugins".into(), [403, 403, 403, 403, 200, 200, 403, 200]),
        (Method::POST, "plugins/odd/rollback".into(), [403, 403, 403, 403, 403, 404, 403, 404]),
        (Method::GET, "auth/tokens".into(), [401, 200, 200, 200, 200, 200, 200, 403]),
        (Method::DELETE, "auth/tokens/odd".into(), [401, 403, 403, 403, 403, 404, 403, 403]),
        (Method::POST, "auth/tokens".into(), [401, 403, 403, 403, 403, 415, 403, 403]),
        (Method::POST, "auth/session".into(), [415; 8]),
        (Method::DELETE, "auth/session".into(), [204; 8]),
        (Method::GET, "schedules".into(), [401, 200, 200, 200, 200, 200, 200, 200]),
        (Method::GET, "processes".into(), [401, 200, 200, 200, 200, 200, 200, 200]),
        (Method::GET, "processes?user=runner".into(), [401, 403, 403, 200, 403, 200, 200, 200]),
        (Method::GET, "processes?user=".into(), [401, 403, 403, 200, 403, 200, 403, 200]),
        (Method::GET, "processes?outcome=running".into(), [401, 200, 200, 200, 200, 200, 200, 200]),
        (Method::GET, one(past), [404, 404, 404, 200, 404, 200, 200, 200]),
        (Method::GET, one(held), [404, 404, 404, 200, 404, 200, 200, 200]),
        (Method::GET, one("odd"), [404; 8]),
        (Method::GET, one(past) + "/output", [404, 404, 404, 200, 404, 200, 200, 200]),
        (Method::GET, one(held) + "/output?stream=stderr", [404, 404, 404, 200, 404, 200, 200, 200]),
        (Method::GET, one("odd") + "/output", [404; 8]),
        (Method::DELETE, one(past), [404, 404, 404, 409, 404, 409, 409, 409]),
        (Method::DELETE, one("odd"), [404; 8]),
        (Method::GET, "nowhere".into(), [404; 8]),
    ];
    for root in ["/api/v1", "/api/v1/http"] {
        for (method, path, expected) in &routes {
            for ((name, bearer), status) in callers.iter().zip(expected) {
                let answer = ask(&server, method.clone(), &format!("{root}/{path}"), bearer).await;
                assert_eq!(answer.status, *status, "{method} {root}/{path} for {name:?}: {:?}", answer.body);
                let body = String::from_utf8_lossy(&answer.body);
                let may = ["watcher", "root", "runner", "operator"].contains(name);
                // A caller that asks for an identifier already knows the identifier, and learns no more.
                let asked = path.contains(held.as_str()) || path.contains(past.as_str());
                for secret in [MARK, held, past] {
                    let repeated = asked && secret != MARK && path.contains(secret);
                    assert!(
                        may || repeated || !body.contains(secret),
                        "{method} {path} shows {name:?} a secret: {body}"
                    );
                }
            }
        }
    }
    // A permitted caller gets an endless answer from the stream of plugins, and waits for a reload.
    for (method, path) in [(Method::GET, "plugins/events"), (Method::POST, "plugins/reload")] {
        for bearer in ["", &plain, &caller, &watcher, &runner] {
            let answer = ask(&server, method.clone(), &format!("/api/v1/{path}"), bearer).await;
            assert_eq!(answer.status, 403, "{path}");
        }
    }
    for ((name, bearer), calls) in callers.iter().zip([1, 1, 3, 1, 1, 3, 3]) {
        let listed = ask(&server, Method::GET, "/api/v1/calls", bearer).await.json();
        assert_eq!(listed.as_array().map(Vec::len), Some(calls), "{name}: {listed}");
        let end = call(&server, bearer, "args", &["x"]).await.finish().await;
        if calls == 3 {
            assert_eq!(end.success(), ["args", "x"], "{name}");
        } else {
            assert_eq!(end.failure(), "not authorized to run \"args\"", "{name}");
        }
    }
    running.cancel().await;
    running.cancel().await;
    patiently("the end of the held call", running.finish()).await.failure();
}
