//! The same conversation with a plugin in every language with a template, made by `distillery new` and built by
//! `distillery build`. All languages have the same features.

use distillery_tests::{
    Client, Server,
    languages::{Language, interpreters},
    program::output_of_tool,
};
use std::{fmt::Write as _, fs, time::Instant};

/// The table in docs/languages.md is between these.
const TABLE_BEGINS: &str = "<!-- languages: written by `make languages-table` -->";
const TABLE_ENDS: &str = "<!-- end of languages -->";
/// What the columns of the table mean.
const COLUMNS: &str = "\nThe last three columns are of a running server: the time from the rename of a program with one changed line to \
serving\nit, the time from the call to its first line, and the memory for one more process that waits for a line.\n";

/// Returns a server with a plugin in each language, as it was made.
async fn server() -> Server {
    server_with(Language::manifest).await
}

async fn server_with(manifest: impl Fn(&Language) -> String) -> Server {
    let plugins = Language::all().iter().fold(Server::builder(), |server, language| {
        let program = fs::read(language.program()).expect("a program that was built");
        let file = language.program_of_plugin();
        server
            .file(&format!("plugins/{}/{}", language.name, file.display()), program)
            .file(&format!("plugins/{}/plugin.yaml", language.name), manifest(language))
    });
    plugins.set("plugins.interpreters", interpreters().to_str().expect("a path of text")).start().await
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
async fn call_answers_before_the_next_line_is_sent() {
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
async fn prompt_is_sent_before_the_answer() {
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
async fn exit_status_arrives_unchanged() {
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
async fn line_of_300000_bytes_comes_back_whole() {
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
async fn cancel_is_noticed_and_answered() {
    let server = server().await;
    for call in calls() {
        let mut client = greeted(&server, call, "x").await;
        client.cancel().await;
        let end = client.finish().await;
        assert_eq!(end.lines, ["goodbye"], "{call}");
        assert_eq!(end.failure(), "cancelled by the client", "{call}");
    }
}

/// The guest is forced to end while it is blocked, as no client reads its echo and the grace period is zero.
#[tokio::test]
async fn forced_end_is_followed_by_a_cleanup() {
    let server = server_with(|language| language.manifest().replace("grace: 2s", "grace: 0s")).await;
    // More than fits between the server and its client.
    let flood = || (0..40).map(|_| "y".repeat(300_000));
    for call in calls() {
        let mut client = greeted(&server, call, "x").await;
        client.say_all(flood()).await.expect("the server reads it all");
        client.cancel().await;
        let end = client.finish().await;
        assert_eq!(end.lines.last().map(String::as_str), Some("cleaning up after: client"), "{call}");
        let message = end.failure();
        assert!(message.starts_with("cancelled by the client (forced after "), "{call}: {message}");
        assert!(!message.contains("cleanup"), "{call}: {message}");
    }
}

/// Returns the value that `distillery check` prints after `label`.
fn said<'a>(check: &'a str, label: &str) -> &'a str {
    check.lines().find_map(|line| line.trim_start().strip_prefix(label)).unwrap_or_else(|| panic!("{label}: {check}"))
}

/// Compiles from scratch, and returns the output.
fn check(language: &Language) -> String {
    let output = output_of_tool(language.distillery("check").env("DISTILLERY_CACHE", "nowhere"));
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("text")
}

/// Returns the memory that the server takes for one more process which waits for a line, in MiB.
async fn memory_of_a_process(server: &Server, call: &str) -> f64 {
    const PROCESSES: u32 = 10;
    let mut clients = vec![greeted(server, call, "first").await];
    let before = server.memory();
    for _ in 0..PROCESSES {
        clients.push(greeted(server, call, "another").await);
    }
    let memory = server.memory().saturating_sub(before) as f64 / f64::from(PROCESSES) / f64::from(1 << 20);
    for mut client in clients {
        client.say("end").await;
        client.finish().await.success();
    }
    memory
}

/// Replaces the program by one with a changed line. Returns the milliseconds from the rename to serving.
async fn swap(server: &Server, language: &Language) -> u128 {
    let file = server.plugins().join(language.name).join(language.program_of_plugin());
    let beside = server.directory().join("changed");
    fs::write(&beside, language.changed_program()).expect("a file");
    let begun = Instant::now();
    fs::rename(beside, file).expect("a new program");
    server
        .log()
        .line("the changed program", |line| {
            line.message() == "plugin loaded"
                && line.field("plugin") == language.name
                && line.field("generation") == "2"
        })
        .await;
    begun.elapsed().as_millis()
}

#[tokio::test]
#[ignore = "measures, and changes docs/languages.md: run it with `make languages-table`"]
async fn languages_table_is_measured() {
    const ROUNDS: usize = 9;
    let server = server().await;
    let build = if cfg!(debug_assertions) { "a debug build" } else { "a release build" };
    let processors = std::thread::available_parallelism().expect("a number of processors");
    let busy = std::fs::read_to_string("/proc/loadavg").expect("the kernel reports its load");
    let busy = busy.split(' ').next().expect("the load of the last minute");
    let mut table = format!("Measured with {build} on {processors} processors at a load of {busy}:\n\n");
    table.push_str("| `distillery new` | made with | size | kind | compiled in | changed line serves after | first line after | memory of a process |\n");
    table.push_str("| --- | --- | --- | --- | --- | --- | --- | --- |\n");
    for language in Language::all() {
        let Language { name, toolchain, .. } = language;
        let described = check(language);
        let label = if language.interpreter.is_some() { "files: " } else { "module: " };
        let size = said(&described, label).split(", ").nth(1).expect("a file and its size");
        let kind = said(&described, "kind: ");
        let compiled = said(&described, "compiled in: ");
        let mut starts = Vec::new();
        for _ in 0..ROUNDS {
            let mut client = server.connect().await;
            let begun = Instant::now();
            client.call(name, &["x"]).await;
            client.line().await;
            starts.push(begun.elapsed());
            client.hang_up().await;
        }
        starts.sort();
        let start = starts[ROUNDS / 2].as_secs_f64() * 1000.0;
        let memory = memory_of_a_process(&server, name).await;
        let swap = swap(&server, language).await;
        let row = format!("{size} | {kind} | {compiled} | {swap} ms | {start:.1} ms | {memory:.1}MiB");
        writeln!(table, "| {name} | {toolchain} | {row} |").expect("a string");
    }
    table.push_str(COLUMNS);
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/languages.md");
    let page = fs::read_to_string(file).expect("the page");
    let (before, rest) = page.split_once(TABLE_BEGINS).expect("a place for the table");
    let (_, after) = rest.split_once(TABLE_ENDS).expect("the end of the table");
    fs::write(file, format!("{before}{TABLE_BEGINS}\n{table}{TABLE_ENDS}{after}")).expect("a new page");
}
