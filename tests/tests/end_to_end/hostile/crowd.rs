//! All hostile guests at once, repeatedly: afterwards the server uses no more than before.

use distillery_tests::{
    Client, Guest, Server,
    server::{Builder, Occupied},
};
use serde_json::json;
use std::{fs, time::Duration};

/// Rounds of the crowd after the warm-up.
const ROUNDS: usize = 10;
/// Most rounds of the warm-up. A call that is cancelled before its guest starts leaves the image of its memory to a
/// later round, and a busy moment opens another connection to the database.
const WARM_UP: usize = 10;
/// Tolerated difference of the server's memory between rounds: held by allocators, and by slots of the pool in their
/// first use.
const TOLERANCE: u64 = 24 << 20;

/// Guests that run as a component and as a module.
const BOTH: [&str; 10] = [
    "endless_stderr",
    "flood",
    "flood_stderr",
    "hoard",
    "hold",
    "never_reads",
    "one_endless_line",
    "panics",
    "sleep",
    "spin",
];
const COMPONENTS: [&str; 4] = ["hoards_pollables", "hoards_streams", "polls_without_pause", "sleeps_beyond_the_clock"];
const TEXT: [&str; 31] = [
    "arrays_without_pause",
    "bulk_without_pause",
    "component_bad_character",
    "component_bad_realloc",
    "component_bad_result",
    "component_bad_string",
    "component_bad_utf8",
    "component_call_child",
    "component_hoard_handles",
    "component_leave_too_late",
    "component_spin_post_return",
    "component_spin_realloc",
    "component_spin_start",
    "component_use_after_drop",
    "flood_the_log",
    "grow_heap",
    "lie_about_buffers",
    "open_by_number",
    "poll_without_pause",
    "sleep_beyond_the_clock",
    "trap_allocation",
    "trap_array",
    "trap_cast",
    "trap_conversion",
    "trap_exception",
    "trap_null_call",
    "trap_null_reference",
    "trap_overflow",
    "trap_signature",
    "trap_table",
    "write_after_close",
];
/// Guests that work on files, with their parameter.
const WITH_FILES: [(&str, &[&str]); 3] =
    [("queues_writes", &["permitted"]), ("hoards_listings", &[]), ("lists_without_end", &[])];
const THIRD: [(&str, &str); 7] = [
    ("waits", "sleep"),
    ("waits", "hold"),
    ("waits", "spin"),
    ("waits", "flood"),
    ("hostile", "streams"),
    ("hostile", "sleep"),
    ("hostile", "resolve"),
];

/// Returns a server with all hostile guests, and their calls.
fn crowd() -> (Builder, Vec<(String, Vec<&'static str>)>) {
    let mut builder = Server::builder().guest(Guest::component("echo_once"));
    let mut calls = Vec::new();
    for name in BOTH {
        builder = builder.both(name);
        calls.extend([(name.to_owned(), vec![]), (format!("{name}.module"), vec![])]);
    }
    for guest in COMPONENTS.map(Guest::component).into_iter().chain(TEXT.map(Guest::hostile)) {
        calls.push((guest.name.clone(), vec![]));
        builder = builder.guest(guest);
    }
    for name in ["waits", "hostile"] {
        builder = builder.guest(Guest::component3(name));
    }
    let large = builder.directory().join("large");
    fs::create_dir(&large).expect("a directory to be listed");
    for number in 0..500 {
        fs::write(large.join(number.to_string()), "").expect("a file in it");
    }
    let mut grants = serde_json::Map::new();
    for (name, params) in WITH_FILES {
        let manifest = format!(
            "calls: {{{name}: {{access: public}}}}\ncapabilities: {{scratch: 8MiB, mounts: [{{name: large, at: /large}}]}}\n"
        );
        builder = builder.plugin(name, Guest::component(name), &manifest);
        grants.insert(name.to_owned(), json!({"scratch": "8MiB", "mounts": {"large": {"path": large}}}));
        calls.push((name.to_owned(), params.to_vec()));
    }
    builder = builder.set("plugins.grants", grants);
    calls.extend(THIRD.map(|(name, way)| (name.to_owned(), vec![way])));
    (builder, calls)
}

async fn echo(server: &Server) {
    let mut good = server.call("echo_once", &[]).await;
    good.say("still here").await;
    assert_eq!(good.finish().await.success(), ["still here"]);
}

/// Starts all guests, completes a good call among them, and ends those that do not end themselves: half of them by a
/// cancel, half of them by a client that vanishes.
async fn round(server: &Server, calls: &[(String, Vec<&'static str>)]) {
    let mut clients: Vec<Client> = Vec::new();
    for (name, params) in calls {
        clients.push(server.call(name, params).await);
    }
    for _ in 0..5 {
        echo(server).await;
    }
    let mut staying = Vec::new();
    for (index, mut client) in clients.into_iter().enumerate() {
        if index % 2 == 0 {
            client.cancel().await;
            staying.push(client);
        }
    }
    for client in staying {
        // Fails unless there is exactly one result and then the close frame.
        assert_eq!(client.finish().await.close, 1000);
    }
}

#[tokio::test]
async fn hostile_crowd_leaves_the_server_as_before() {
    let (builder, calls) = crowd();
    let server = builder
        .grace(Duration::from_millis(50))
        .set("limits.memory", "16MiB")
        .set("limits.line", "64KiB")
        .start()
        .await;
    let idle = server.occupied();
    let quiet = async || server.occupies("every socket to be closed", |now| now.sockets == idle.sockets).await;
    let mut before = quiet().await;
    let mut warm_up = 0;
    while warm_up < WARM_UP {
        round(&server, &calls).await;
        warm_up += 1;
        let now = quiet().await;
        let is_warm = warm_up > 2 && now.open_files <= before.open_files;
        before = now;
        if is_warm {
            break;
        }
    }
    for _ in 0..ROUNDS {
        round(&server, &calls).await;
    }
    quiet().await;
    // Threads for files end when they are idle.
    let like_before = |now: &Occupied| {
        let same = now.threads <= before.threads && now.open_files <= before.open_files;
        same && now.memory < before.memory + TOLERANCE
    };
    server.occupies(&format!("it to have what it had ({before:?})"), like_before).await;
    echo(&server).await;

    // Each process has ended, and the log has its outcome.
    let all = calls.len() * (ROUNDS + warm_up);
    let of_them =
        |line: &distillery_tests::log::Line| line.message() == "process ended" && line.field("call") != "echo_once";
    server.log().lines_of("the end of every process", all, of_them).await;
    let lines = server.log().lines();
    assert_eq!(lines.iter().filter(|line| of_them(line)).count(), all);
    // The log has neither an error nor a panic; a panic has no level.
    let served = lines.iter().skip_while(|line| line.message() != "ready");
    let bad: Vec<_> = served.filter(|line| line.level() != "INFO").collect();
    assert!(bad.is_empty(), "{bad:#?}");
}
