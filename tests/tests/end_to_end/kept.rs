//! Processes that outlive their sockets: the output kept of them, for how long, and who can read it.

use distillery_store::{database::Database, processes::Processes};
use distillery_tests::{
    Client, Frame, Guest, Server, Verdict,
    distillery1::{Heard, Talk},
    patiently,
    server::Builder,
};
use hyper::Method;
use serde_json::{Value, json};
use std::time::Duration;

async fn talk_as(server: &Server, bearer: &str) -> Talk {
    if bearer.is_empty() { server.talk().await } else { server.talk_with(&[("authorization", bearer)]).await }
}

/// Calls `name` detached, and returns the `started` message.
async fn keep(server: &Server, bearer: &str, name: &str, params: &[&str]) -> (Talk, Value) {
    let mut talk = talk_as(server, bearer).await;
    talk.say(json!({"type": "call", "call": name, "params": params, "on_disconnect": "detach"})).await;
    let started = talk.message("started").await;
    assert_eq!(started["kept"], true);
    (talk, started)
}

/// Builds the message that attaches to a process with the rights of its owner.
fn attach(started: &Value) -> Value {
    match &started["key"] {
        Value::Null => json!({"type": "attach", "id": started["id"]}),
        key => json!({"type": "attach", "id": started["id"], "key": key}),
    }
}

async fn attached(server: &Server, bearer: &str, message: Value) -> (Talk, Value) {
    let mut talk = talk_as(server, bearer).await;
    talk.say(message).await;
    let attached = talk.message("attached").await;
    (talk, attached)
}

/// Waits until the client has left the process.
async fn left(server: &Server, started: &Value) {
    let is = |line: &distillery_tests::log::Line| {
        line.message() == "a client has left, and its process goes on"
            && line.field("process") == started["id"].as_str().unwrap()
    };
    server.log().line("the client to have left", is).await;
}

#[tokio::test]
async fn reattached_client_sees_all_output_and_the_result() {
    let server = Server::builder().example("echo").start().await;
    let (mut talk, started) = keep(&server, "", "echo", &[]).await;
    talk.give("before\n").await;
    assert_eq!(talk.stdout(7).await, b"before\n");
    talk.hang_up().await;
    left(&server, &started).await;
    let (mut again, message) = attached(&server, "", attach(&started)).await;
    assert_eq!((&message["call"], &message["running"], &message["params"]), (&json!("echo"), &json!(true), &json!([])));
    assert_eq!(message["stdout"], json!({"from": 0, "to": 7}));
    assert_eq!(again.stdout(7).await, b"before\n");
    again.give("after\n").await;
    assert_eq!(again.stdout(6).await, b"after\n");
    again.signal("end").await;
    assert_eq!(again.finish().await.outcome["status"], 0);
    // The result is kept as well, and a client can skip earlier output.
    let mut message = attach(&started);
    message["stdout"] = json!(7);
    let (last, message) = attached(&server, "", message).await;
    assert_eq!(message["running"], false);
    let whole = last.finish().await;
    assert_eq!((&whole.stdout[..], &whole.outcome["status"]), (&b"after\n"[..], &json!(0)));
}

#[tokio::test]
async fn concurrent_readers_have_independent_positions() {
    let server = Server::builder().example("echo").start().await;
    let (mut first, started) = keep(&server, "", "echo", &[]).await;
    first.give("0123456789").await;
    assert_eq!(first.stdout(10).await, b"0123456789");
    let mut readers = Vec::new();
    for from in [0u64, 3, 9, 10, 1000] {
        let mut message = attach(&started);
        message["stdout"] = json!(from);
        readers.push((from.min(10) as usize, attached(&server, "", message).await.0));
    }
    readers[4].1.give("abc").await;
    assert_eq!(first.stdout(3).await, b"abc");
    first.signal("end").await;
    first.finish().await.success();
    for (from, reader) in readers {
        assert_eq!(reader.finish().await.success(), &b"0123456789abc"[from..], "from {from}");
    }
}

#[tokio::test]
async fn detached_echo_passes_a_hundred_megabytes_unchanged() {
    const CHUNK: usize = 50_000;
    const MANY: usize = 2000;
    let server = Server::builder().example("echo").start().await;
    let (talk, _) = keep(&server, "", "echo", &[]).await;
    let before = server.memory();
    let chunk = |number: usize| -> Vec<u8> { (0..CHUNK).map(|at| (at * 31 + number * 7 + at / 255) as u8).collect() };
    let (mut speaker, mut listener) = talk.split();
    let speak = async {
        for number in 0..MANY {
            speaker.give(chunk(number)).await;
        }
        speaker.signal("end").await;
    };
    let listen = async {
        let (mut number, mut expected, mut got) = (0, chunk(0), 0);
        loop {
            match listener.next().await {
                Heard::Stdout(mut bytes) => {
                    got += bytes.len();
                    while !bytes.is_empty() {
                        let many = bytes.len().min(expected.len());
                        assert!(bytes[..many] == expected[..many], "chunk {number} differs from the bytes sent");
                        bytes.drain(..many);
                        expected.drain(..many);
                        if expected.is_empty() {
                            number += 1;
                            expected = chunk(number);
                        }
                    }
                }
                Heard::Message(message) if message["type"] == "ended" => {
                    break assert_eq!(message["outcome"]["status"], 0);
                }
                Heard::Message(_) => {}
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(got, CHUNK * MANY);
    };
    patiently("all of it", async { tokio::join!(speak, listen) }).await;
    let grown = server.peak_memory().saturating_sub(before);
    assert!(grown < 64 << 20, "memory grew by {grown} bytes for data that only passes through");
}

#[tokio::test]
async fn slow_reader_learns_its_loss_and_delays_no_other() {
    let builder = Server::builder().example("echo").set("limits.kept_output", "64KiB");
    let server = builder.start().await;
    let (mut first, started) = keep(&server, "", "echo", &[]).await;
    // This client reads nothing until the other one has seen all output.
    let (slow, _) = attached(&server, "", attach(&started)).await;
    let sent: Vec<u8> = (0..40_000_000u32).map(|at| (at / 1000) as u8).collect();
    let mut seen = 0;
    for part in sent.chunks(500_000) {
        first.give(part).await;
        let back = first.stdout(part.len()).await;
        assert!(back == part);
        seen += back.len();
    }
    assert_eq!(seen, sent.len());
    first.signal("end").await;
    first.finish().await.success();
    let whole = slow.finish().await;
    let (mut expected, mut at) = (Vec::new(), 0);
    for message in &whole.messages {
        assert_eq!((&message["type"], &message["stream"]), (&json!("lost"), &json!("stdout")));
        let [from, to] = ["from", "to"].map(|key| message[key].as_u64().expect("a place") as usize);
        expected.extend_from_slice(&sent[at..from]);
        at = to;
    }
    assert!(at > 0, "the kernel buffers less than this");
    expected.extend_from_slice(&sent[at..]);
    assert!(whole.stdout == expected, "the output differs outside of the reported losses");
    assert!(whole.stdout.len() < sent.len() - (10 << 20));
}

/// Returns the messages that report lost output.
fn lost(messages: &[Value]) -> Vec<&Value> {
    messages.iter().filter(|message| message["type"] == "lost").collect()
}

/// Returns a call that writes 100 KiB, of which 10 are kept.
fn flooding() -> Builder {
    let builder = Server::builder().guest(Guest::component("flood")).grace(Duration::ZERO);
    builder.set("limits.kept_output", "10KiB").set("limits.output", "100KiB")
}

/// Attaches to an ended process after all of its output has passed. Its client held the process back until the server
/// noticed the disconnect.
async fn attached_to_the_end(server: &Server, message: Value) -> (Talk, Value) {
    patiently("all of the output", async {
        loop {
            let (talk, attached) = attached(server, "", message.clone()).await;
            if attached["stdout"]["to"] == 102_400 {
                return (talk, attached);
            }
        }
    })
    .await
}

#[tokio::test]
async fn unattended_process_continues_and_loses_oldest_output() {
    let server = flooding().start().await;
    let (talk, started) = keep(&server, "", "flood", &[]).await;
    talk.hang_up().await;
    server.process_ended("flood").await;
    let mut message = attach(&started);
    message["stdout"] = json!(0);
    let (talk, message) = attached_to_the_end(&server, message).await;
    assert_eq!(message["stdout"], json!({"from": 92160, "to": 102400}));
    let whole = talk.finish().await;
    assert_eq!(lost(&whole.messages), [&json!({"type": "lost", "stream": "stdout", "from": 0, "to": 92160})]);
    assert_eq!(whole.stdout.len(), 10240);
}

#[tokio::test]
async fn attach_without_a_position_shows_all_kept_output() {
    let server = flooding().start().await;
    let (talk, started) = keep(&server, "", "flood", &[]).await;
    talk.hang_up().await;
    server.process_ended("flood").await;
    let whole = attached_to_the_end(&server, attach(&started)).await.0.finish().await;
    assert_eq!((whole.stdout.len(), lost(&whole.messages).len()), (10240, 0));
}

#[tokio::test]
async fn only_permitted_callers_attach() {
    let builder = Server::builder().example("echo");
    let [ada, bob, all] = [("ada", &[][..]), ("bob", &["call:*"]), ("root", &["processes:*"])]
        .map(|(name, scopes)| builder.user(name, scopes));
    let server = builder.start().await;
    let (_adas, of_ada) = keep(&server, &ada, "echo", &[]).await;
    let (_nobodys, of_nobody) = keep(&server, "", "echo", &[]).await;
    assert!(of_ada["key"].is_null());
    let key = of_nobody["key"].as_str().expect("a process without an owner has a key");
    let with = |started: &Value, key: &str| json!({"type": "attach", "id": started["id"], "key": key});
    let without = |started: &Value| json!({"type": "attach", "id": started["id"]});
    for (who, message, may) in [
        (&ada, without(&of_ada), true),
        (&bob, without(&of_ada), false),
        (&bob, with(&of_ada, key), false),
        (&bob, with(&of_ada, ""), false),
        (&String::new(), without(&of_ada), false),
        (&all, without(&of_ada), true),
        (&String::new(), without(&of_nobody), false),
        (&String::new(), with(&of_nobody, key), true),
        (&String::new(), with(&of_nobody, &key.replace(|_| true, "0")), false),
        (&bob, with(&of_nobody, key), true),
        (&ada, without(&of_nobody), false),
        (&all, without(&of_nobody), true),
    ] {
        let mut talk = talk_as(&server, who).await;
        talk.say(message.clone()).await;
        if may {
            talk.message("attached").await;
            talk.signal("detach").await;
            assert_eq!(talk.message("detached").await, json!({"type": "detached"}));
            assert_eq!(talk.next_of_all().await, Heard::Close(1000));
        } else {
            let whole = talk.finish().await;
            let said = format!("there is no process {} that you may attach to", message["id"]);
            assert_eq!(whole.failure("refused"), said, "{who}: {message}");
        }
    }
    let listed = async |who: &str| {
        let mut talk = talk_as(&server, who).await;
        talk.signal("list").await;
        let processes = talk.message("processes").await["processes"].clone();
        let ids = processes
            .as_array()
            .unwrap()
            .iter()
            .map(|it| (it["id"].clone(), it["kept"].clone(), it["running"].clone()));
        ids.collect::<Vec<_>>()
    };
    let shown = |started: &Value| (started["id"].clone(), json!(true), json!(true));
    assert_eq!(listed("").await, []);
    assert_eq!(listed(&bob).await, []);
    assert_eq!(listed(&ada).await, [shown(&of_ada)]);
    assert_eq!(listed(&all).await, [shown(&of_nobody), shown(&of_ada)]);
}

#[tokio::test]
async fn attached_client_cancels_and_forces() {
    let server = Server::builder().guest(Guest::component("hold")).grace(Duration::from_secs(60)).start().await;
    let (first, started) = keep(&server, "", "hold", &[]).await;
    let (mut other, _) = attached(&server, "", attach(&started)).await;
    other.stdout(8).await;
    other.signal("cancel").await;
    other.message("cancelling").await;
    other.signal("cancel").await;
    let [first, other] = [first.finish().await, other.finish().await];
    assert_eq!(
        first.messages,
        [json!({"type": "cancelling", "reason": "client"})],
        "the client is notified of actions by others"
    );
    assert_eq!(first.outcome, other.outcome);
    assert!(other.outcome["stop"] != "told" && other.outcome["reason"] == "client", "{other:?}");
}

#[tokio::test]
async fn error_of_an_attached_client_ends_only_its_connection() {
    let server = Server::builder().example("echo").start().await;
    let (mut first, started) = keep(&server, "", "echo", &[]).await;
    let (mut other, _) = attached(&server, "", attach(&started)).await;
    other.signal("nonsense").await;
    assert!(other.finish().await.failure("refused").starts_with("protocol error: unknown type"));
    first.give("x").await;
    assert_eq!(first.stdout(1).await, b"x");
}

#[tokio::test]
async fn leaving_client_takes_no_output_from_others() {
    const ALL: usize = 20 << 20;
    let builder = Server::builder().guest(Guest::component("flood")).grace(Duration::ZERO);
    let server = builder.set("limits.kept_output", "10KiB").set("limits.output", "20MiB").start().await;
    // This client holds the guest back, as the client does not read yet.
    let (first, started) = keep(&server, "", "flood", &[]).await;
    patiently("the guest to be blocked", async {
        let mut before = json!(0);
        loop {
            let now = attached(&server, "", attach(&started)).await.1["stdout"]["to"].clone();
            if now == before && now != 0 {
                break;
            }
            before = now;
        }
    })
    .await;
    let (mut mistaken, _) = attached(&server, "", attach(&started)).await;
    mistaken.signal("nonsense").await;
    mistaken.finish().await;
    let (leaves, _) = attached(&server, "", attach(&started)).await;
    leaves.hang_up().await;
    let (vanishes, _) = attached(&server, "", attach(&started)).await;
    drop(vanishes);
    left(&server, &started).await;
    let whole = first.finish().await;
    let mut expected = String::new();
    for number in 0.. {
        if expected.len() >= ALL {
            break;
        }
        expected += &format!("line {number}\n");
    }
    assert!(whole.stdout == expected.as_bytes()[..ALL], "got {} of {ALL} bytes, or different ones", whole.stdout.len());
}

#[tokio::test]
async fn ended_process_is_kept_for_its_time() {
    let builder = Server::builder().guest(Guest::component("args")).set("limits.kept_time", "100ms");
    let server = builder.start().await;
    let (talk, started) = keep(&server, "", "args", &["x"]).await;
    talk.finish().await.success();
    // The process is removed at some time, and stays removed.
    patiently("the process to be removed", async {
        loop {
            let mut talk = server.talk().await;
            talk.say(attach(&started)).await;
            if talk.finish().await.outcome["kind"] == "refused" {
                break;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn caller_with_most_ended_processes_loses_the_oldest_first() {
    let builder = Server::builder().guest(Guest::component("args")).set("limits.kept_processes", 3);
    let ada = builder.user("ada", &[]);
    let server = builder.start().await;
    let mut all = Vec::new();
    for who in [&ada, "", "", "", ""] {
        let (talk, started) = keep(&server, who, "args", &["x"]).await;
        talk.finish().await.success();
        all.push((who, started));
    }
    let mut kept = Vec::new();
    for (who, started) in &all {
        let mut talk = talk_as(&server, who).await;
        talk.say(attach(started)).await;
        kept.push(talk.finish().await.outcome["kind"] != "refused");
    }
    assert_eq!(kept, [true, false, false, true, true]);
}

#[tokio::test]
async fn stderr_of_a_detached_process_is_separate() {
    let manifest = "stderr: forward\ncalls: {stderr_words: {access: public, on_disconnect: detach}}";
    let server = Server::builder().plugin("stderr_words", Guest::component("stderr_words"), manifest).start().await;
    let mut talk = server.talk_to("stderr_words", &[]).await;
    let started = talk.message("started").await;
    assert_eq!(started["kept"], true, "the manifest asks for it");
    talk.finish().await;
    let mut message = attach(&started);
    message["stderr"] = json!(9);
    let whole = attached(&server, "", message).await.0.finish().await;
    assert_eq!(whole.stdout, b"trying\n");
    assert_eq!(whole.stderr, b"the flux is low\nno capacitor at hand\n\n\n");
    assert_eq!(whole.failure("exited"), "exit status 7: no capacitor at hand");
}

/// The prompt of a detached guest, and its lines.
const PROMPTS: &str = "stderr: forward\ncalls: {prompt: {access: public, on_disconnect: detach}}";

#[tokio::test]
async fn line_client_of_a_detached_process_sees_the_same() {
    let server = Server::builder().plugin("prompt", Guest::component("prompt"), PROMPTS).start().await;
    let mut client = server.call("prompt", &[]).await;
    assert_eq!(client.line().await, "name? ");
    client.say("Ada").await;
    assert_eq!(client.finish().await.success(), ["hello Ada"]);
    let manifest = "stderr: forward\ncalls: {stderr_words: {access: public, on_disconnect: detach}}";
    let server = Server::builder().plugin("stderr_words", Guest::component("stderr_words"), manifest).start().await;
    let mut end = server.call("stderr_words", &[]).await.finish().await;
    end.lines.sort();
    assert_eq!(end.lines, ["", "", "no capacitor at hand", "trying", "warning: the flux is low"]);
    assert_eq!(end.failure(), "exit status 7: no capacitor at hand");
}

#[tokio::test]
async fn detached_process_outlives_its_line_client() {
    let manifest = "calls: {hold: {on_disconnect: detach}}";
    let builder = Server::builder().plugin("hold", Guest::component("hold"), manifest).grace(Duration::ZERO);
    let ada = builder.user("ada", &["call:*"]);
    let server = builder.start().await;
    let headers = [("authorization", ada.as_str())];
    let mut client = Client::connect_to(server.address(), "/api/v1/ws", &headers).await.expect("a socket");
    client.call("hold", &[]).await;
    assert_eq!(client.line().await, "holding");
    client.hang_up().await;
    server.log().line("it to leave", |line| line.message() == "a client has left, and its process goes on").await;
    let ask = async |method| server.request(method, "/api/v1/processes", &headers).await.json();
    let seen = ask(Method::GET).await;
    assert_eq!((&seen[0]["outcome"], &seen[0]["kept"]), (&json!("running"), &json!(true)));
    let path = format!("/api/v1/processes/{}", seen[0]["id"].as_str().unwrap());
    assert_eq!(server.request(Method::DELETE, &path, &headers).await.status, 202);
    let line = server.process_ended("hold").await;
    assert!(line.field("outcome").starts_with("cancelled by an operator"), "{line:?}");
    let seen = server.request(Method::GET, &path, &headers).await.json();
    assert_eq!((&seen["outcome"], &seen["kept"]), (&json!("cancelled"), &json!(true)));
    // The history has one end of the process, and so has the log.
    assert_eq!(ask(Method::GET).await.as_array().unwrap().len(), 1);
    assert_eq!(server.log().lines().iter().filter(|line| line.message() == "process ended").count(), 1);
}

#[tokio::test]
async fn cancel_on_disconnect_overrides_a_detached_manifest() {
    let manifest = "calls: {hold: {access: public, on_disconnect: detach}}";
    let builder = Server::builder().plugin("hold", Guest::component("hold"), manifest).grace(Duration::ZERO);
    let server = builder.start().await;
    let mut talk = server.talk().await;
    talk.say(json!({"type": "call", "call": "hold", "on_disconnect": "cancel"})).await;
    assert_eq!(talk.message("started").await["kept"], false);
    talk.stdout(8).await;
    talk.hang_up().await;
    assert!(server.process_ended("hold").await.field("outcome").starts_with("the client disconnected"));
}

#[tokio::test]
async fn drain_notifies_detached_processes_and_waits() {
    let server = Server::builder().guest(Guest::component("says_goodbye")).start().await;
    let (mut gone, _) = keep(&server, "", "says_goodbye", &[]).await;
    gone.stdout(6).await;
    gone.hang_up().await;
    let (mut stays, _) = keep(&server, "", "says_goodbye", &[]).await;
    stays.stdout(6).await;
    server.terminate();
    assert_eq!(stays.message("cancelling").await["reason"], "shutdown");
    let whole = stays.finish().await;
    assert_eq!((&whole.stdout[..], &whole.outcome["reason"]), (&b"goodbye\n"[..], &json!("shutdown")));
    assert!(server.wait().await.success());
    let ends = server.log().lines();
    let ends: Vec<_> = ends.iter().filter(|line| line.message() == "process ended").collect();
    assert_eq!(ends.len(), 2);
    assert!(ends.iter().all(|line| line.field("outcome") == "the server is shutting down"), "{ends:?}");
}

#[tokio::test]
async fn restart_after_a_kill_marks_detached_processes() {
    let builder = Server::builder().guest(Guest::component("hold"));
    let ada = builder.user("ada", &["call:*"]);
    let mut server = builder.start().await;
    let (mut talk, started) = keep(&server, &ada, "hold", &[]).await;
    talk.stdout(8).await;
    talk.hang_up().await;
    left(&server, &started).await;
    let id = started["id"].as_str().expect("an id").parse().expect("the id of a process");
    let written =
        Processes::open(&Database::open(&server.data()).expect("there is a database")).expect("it can be read");
    patiently("the start to be recorded", async {
        while written.one(id).expect("it can be read").is_none() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    server.crash_and_restart().await;
    let path = format!("/api/v1/processes/{}", started["id"].as_str().unwrap());
    let seen = server.request(Method::GET, &path, &[("authorization", &ada)]).await.json();
    assert_eq!((&seen["outcome"], &seen["kept"]), (&json!("interrupted"), &json!(false)));
    let mut talk = talk_as(&server, &ada).await;
    talk.say(attach(&started)).await;
    assert!(talk.finish().await.failure("refused").starts_with("there is no process"));
}

#[tokio::test]
async fn output_of_ended_processes_keeps_no_generation_alive() {
    let server = Server::builder().guest(Guest::component("args")).start().await;
    let (talk, started) = keep(&server, "", "args", &["x"]).await;
    talk.finish().await.success();
    for generation in [2, 3] {
        server.put(
            "plugins/args/plugin.yaml",
            format!("calls: {{args: {{access: public, description: v{generation}}}}}"),
        );
        let is = |line: &distillery_tests::log::Line| {
            line.message().contains("generation") || line.field("generation") == generation.to_string()
        };
        server.log().line("the next generation", is).await;
    }
    server.log().line("the first generation to be freed", |line| line.message() == "generation freed").await;
    assert_eq!(attached(&server, "", attach(&started)).await.0.finish().await.outcome["status"], 0);
}

#[tokio::test]
async fn unread_input_cancels_a_detached_process() {
    let builder = Server::builder().guest(Guest::component("sleep")).set("limits.input", "100KiB");
    let builder = builder.set("limits.input_idle", "300ms");
    let server = builder.grace(Duration::ZERO).start().await;
    let (mut talk, _) = keep(&server, "", "sleep", &[]).await;
    for _ in 0..8 {
        talk.give(vec![b'x'; 32 << 10]).await;
    }
    assert_eq!(talk.finish().await.outcome["reason"], "input limit");
}

#[tokio::test]
async fn line_call_has_one_result_whatever_is_kept() {
    let manifest = "calls: {args: {access: public, on_disconnect: detach}}";
    let server = Server::builder().plugin("args", Guest::component("args"), manifest).start().await;
    let mut client = server.call("args", &["x"]).await;
    let mut results = 0;
    loop {
        match client.next().await {
            Frame::Text(_) => assert_eq!(results, 0),
            Frame::Result(Verdict::Success) => results += 1,
            Frame::Close(code) => break assert_eq!((results, code), (1, 1000)),
            other => panic!("{other:?}"),
        }
    }
}
