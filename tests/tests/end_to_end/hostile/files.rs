//! Guests that make the server hold data between them and files: held data is bounded, and other data can be of any
//! size.

use distillery_tests::{Guest, Server, server::Builder};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::json;
use std::fs;

/// Largest memory of the server during one of these calls, its own included.
const ALL_SIDES: u64 = 64 << 20;

fn manifest(name: &str, capabilities: &str) -> String {
    format!("calls: {{{name}: {{access: public}}}}\ncapabilities: {capabilities}\n")
}

/// Returns a server whose guests have scratch space.
fn with_scratch(guests: impl IntoIterator<Item = (&'static str, Guest)>) -> Builder {
    let (mut builder, mut grants) = (Server::builder(), serde_json::Map::new());
    for (name, guest) in guests {
        builder = builder.plugin(name, guest, &manifest(name, "{scratch: 64MiB}"));
        grants.insert(name.to_owned(), json!({"scratch": "64MiB"}));
    }
    builder.set("plugins.grants", grants)
}

#[tokio::test]
async fn module_reads_and_writes_20_mib_at_once() {
    let guests = [("buffers", Guest::module("big_buffers")), ("pieces", Guest::wat("big_pieces"))];
    let server = with_scratch(guests).set("limits.line", "1MiB").start().await;
    let mut client = server.call("buffers", &[]).await;
    client.say("input").await;
    let lines = client.finish().await.success();
    assert_eq!(lines[..5], ["20971520", "20971520", "20971520", "20971520", "6"]);
    // The input added one more end of a line to the buffer.
    assert_eq!(lines.len(), 5 + 321);
    assert_eq!(lines[5..].iter().map(|line| line.len() + 1).sum::<usize>(), 20 << 20);
    server.call("pieces", &[]).await.finish().await.success();
}

#[tokio::test]
async fn component_that_queues_writes_is_bounded() {
    let server = with_scratch([("queues_writes", Guest::component("queues_writes"))]).start().await;
    let before = server.peak_memory();
    let call = async |how: &'static str| server.call("queues_writes", &[how]).await.finish().await;
    assert_eq!(call("permitted").await.success(), ["all written"]);
    assert_eq!(call("more").await.failure(), "trap: it writes more than it was permitted to");
    assert_eq!(call("unasked").await.failure(), "trap: it writes before it may");
    let grown = server.peak_memory() - before;
    assert!(grown < ALL_SIDES, "memory grew by {grown} bytes");
}

#[tokio::test]
async fn listing_holds_one_page_of_a_large_directory() {
    let builder = Server::builder();
    let large = builder.directory().join("large");
    fs::create_dir(&large).unwrap();
    for number in 0..10_000 {
        fs::write(large.join(format!("{number}-{}", "long".repeat(30))), "").unwrap();
    }
    let server = builder
        .plugin(
            "hoards_listings",
            Guest::component("hoards_listings"),
            &manifest("hoards_listings", "{mounts: [{name: large, at: /large}]}"),
        )
        .set("plugins.grants", json!({"hoards_listings": {"mounts": {"large": {"path": large}}}}))
        .start()
        .await;
    let before = server.peak_memory();
    let mut client = server.call("hoards_listings", &[]).await;
    assert_eq!(client.line().await, "listing");
    let grown = server.peak_memory() - before;
    assert!(grown < ALL_SIDES, "memory grew by {grown} bytes");
}

#[tokio::test]
async fn server_without_descriptors_for_guests_accepts_connections() {
    let builder = Server::builder();
    let directory = builder.directory().join("mounted");
    fs::create_dir(&directory).unwrap();
    fs::write(directory.join("file"), "text").unwrap();
    let grant = json!({"mounts": {"m": {"path": directory}}});
    let asks = "{mounts: [{name: m, at: /m}]}";
    let server = builder
        .plugin("module", Guest::module("files"), &manifest("module", asks))
        .plugin("component", Guest::component("files"), &manifest("component", asks))
        .set("plugins.grants", json!({"module": grant, "component": grant}))
        .open_files(1000)
        .start()
        .await;
    let todo = [vec!["keep /m/file"; 100], vec!["wait"]].concat();
    let mut greedy = Vec::new();
    for call in ["module", "component"].repeat(2) {
        let mut client = server.call(call, &todo).await;
        let mut refused = 0;
        loop {
            match client.line().await.as_str() {
                "waiting" => break,
                "ok" => {}
                _ => refused += 1,
            }
        }
        assert!((1..100).contains(&refused), "{call}: {refused} of 100");
        greedy.push(client);
    }
    assert!(server.occupied().open_files < 400, "{:?}", server.occupied());
    let mut sockets = Vec::new();
    for _ in 0..500 {
        sockets.push(server.connect().await);
    }
}

#[tokio::test]
async fn pipe_in_a_mount_is_refused_at_once() {
    let builder = Server::builder();
    let directory = builder.directory().join("mounted");
    fs::create_dir(&directory).unwrap();
    mknodat(CWD, directory.join("pipe"), FileType::Fifo, Mode::RWXU, 0).unwrap();
    let grant = json!({"mounts": {"m": {"path": directory, "write": true}}});
    let asks = "{mounts: [{name: m, at: /m, write: true}]}";
    let kinds = [
        ("module", Guest::module("files")),
        ("component", Guest::component("files")),
        ("component3", Guest::component3("touches")),
    ];
    let grants: serde_json::Map<_, _> = kinds.iter().map(|(kind, _)| ((*kind).to_owned(), grant.clone())).collect();
    let builder = kinds.into_iter().fold(builder, |it, (kind, guest)| it.plugin(kind, guest, &manifest(kind, asks)));
    let server = builder.set("plugins.grants", grants).start().await;
    for kind in ["module", "component", "component3"] {
        let lines = server.call(kind, &["read /m/pipe", "write /m/pipe 1"]).await.finish().await.success();
        let refused = if kind == "component3" { "NotPermitted" } else { "PermissionDenied" };
        assert_eq!(lines.iter().filter(|line| line.contains(refused)).count(), 2, "{kind}: {lines:?}");
    }
}

#[tokio::test]
async fn file_work_counts_as_cpu_time() {
    let builder = Server::builder();
    let large = builder.directory().join("large");
    fs::create_dir(&large).unwrap();
    for number in 0..3000 {
        fs::write(large.join(number.to_string()), "").unwrap();
    }
    let grant = json!({"mounts": {"large": {"path": large}}});
    let asks = "{mounts: [{name: large, at: /large}]}";
    let server = builder
        .plugin("module", Guest::module("lists_without_end"), &manifest("module", asks))
        .plugin("component", Guest::component("lists_without_end"), &manifest("component", asks))
        .set("plugins.grants", json!({"module": grant, "component": grant}))
        .set("limits.cpu", "300ms")
        .start()
        .await;
    for call in ["module", "component"] {
        let message = server.call(call, &[]).await.finish().await.failure();
        assert!(message.starts_with("cpu limit of 300ms reached"), "{call}: {message}");
    }
}
