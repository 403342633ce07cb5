//! Random load: good calls, cancels, clients that vanish in the middle of a frame, and hostile guests; then a drain
//! during the load. The test counts what always holds: each socket that stayed got exactly one result, each process
//! that started has ended, and the server uses as much of the machine as before.
//!
//! `make test` runs for half a minute, `make soak SECONDS=600 SEED=7` for the given time and seed.

mod ledger;
mod tally;
mod visitor;

use distillery_tests::{Guest, Server, deadline, log::Line, patiently};
use futures_util::future::join_all;
use ledger::Ledger;
use std::{
    io::IsTerminal,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::{Duration, Instant},
};
use tally::Tally;
use tokio::sync::watch;
use visitor::Visitor;

/// Number of concurrent clients.
const VISITORS: usize = 24;
/// Tolerated difference of memory at the end: held by allocators, and by slots of the pool in their first use.
const TOLERANCE: u64 = 32 << 20;
/// Time during which the drain finds the server busy.
const BUSY: Duration = Duration::from_secs(1);

/// Reads a number from the environment, as `make soak` sets it.
fn told(variable: &str) -> Option<u64> {
    let value = std::env::var(variable).ok().filter(|value| !value.is_empty())?;
    Some(value.parse().unwrap_or_else(|error| panic!("{variable}={value}: {error}")))
}

async fn server(ledger: watch::Sender<Ledger>) -> Server {
    let mut builder = Server::builder()
        .grace(Duration::from_millis(50))
        .set("log.level", "info,distillery_process::dispatch=debug")
        .set("limits.memory", "16MiB")
        .set("limits.line", "64KiB")
        // On a busy machine a client can need time for its first message.
        .set("http.call_timeout", "60s")
        .set("cancel.shutdown_grace", "30s");
    for guest in visitor::guests() {
        builder = builder.guest(guest);
    }
    for (name, guest) in [("waits", "waits"), ("hostile", "hostile")] {
        builder = builder.guest_as(name, Guest::component3(guest));
    }
    // Millions of lines would not fit into memory; lines about one process are counted instead.
    let keep = move |line: &Line| {
        let mut counted = false;
        ledger.send_modify(|ledger| counted = ledger.count(line));
        !counted
    };
    builder.start_watched(keep).await
}

#[tokio::test]
async fn every_call_ends_once_and_leaves_nothing_behind() {
    let seconds = told("SOAK_SECONDS").unwrap_or(30).max(5);
    deadline::lift();
    let seed = told("SOAK_SEED").unwrap_or_else(|| fastrand::u64(..));
    println!("soaking for {seconds} s; again with the same dice: make soak SECONDS={seconds} SEED={seed}");
    let mut dice = fastrand::Rng::with_seed(seed);

    let (sender, mut ledger) = watch::channel(Ledger::default());
    let server = server(sender).await;
    let idle = server.occupied();
    let tally = Tally::default();
    let draining = AtomicBool::new(false);
    let mut visit = async |until: Instant| {
        let visitors: Vec<_> =
            (0..VISITORS).map(|_| Visitor::new(&server, &tally, &draining, dice.fork()).come_until(until)).collect();
        tokio::join!(join_all(visitors), progress(&server, &tally, until));
    };

    Visitor::new(&server, &tally, &draining, fastrand::Rng::with_seed(seed)).meet_each().await;
    // Warmed up: every guest has used a slot of the pool, and every thread has its arena.
    let begun = Instant::now();
    let quiet = async || server.occupies("every socket to be closed", |now| now.sockets == idle.sockets).await;
    visit(begun + Duration::from_secs(seconds / 4)).await;
    let before = quiet().await;
    visit(begun + Duration::from_secs(seconds) - BUSY).await;
    quiet().await;
    let all_ended = ledger.wait_for(|ledger| ledger.running.is_empty());
    let counted = patiently("the end of every process", all_ended).await.expect("the server is there").clone();
    let after = server.occupies("memory to be what it was", |now| now.memory < before.memory + TOLERANCE).await;
    // A watched file can have been open before.
    let same = after.threads == before.threads && after.open_files <= before.open_files;
    assert!(same, "{before:?} became {after:?}");
    assert!(counted.begun > 0 && counted.begun == counted.ended, "{counted:?}");

    // Drains while all clients are busy.
    let drain = async {
        let what = "a process that is drained";
        patiently(what, ledger.wait_for(|ledger| ledger.begun > counted.begun)).await.expect("the server is there");
        draining.store(true, Relaxed);
        server.terminate();
    };
    tokio::join!(visit(Instant::now() + BUSY), drain);
    let status = server.wait().await;
    assert_eq!(status.code(), Some(0), "{status}");
    let all = ledger.borrow_and_update().clone();
    assert!(all.running.is_empty() && all.begun == all.ended, "{all:?}");

    // Panics are lines without a level, and so are reports of dropped log lines. Messages about the machine at the
    // start are ignored.
    let lines = server.log().lines().into_iter().skip_while(|line| line.message() != "ready");
    let bad: Vec<_> = lines.filter(|line| line.level() != "INFO").collect();
    assert!(bad.is_empty(), "{bad:#?}");
    println!("{tally}\n{all}\n\n{:<30} {:>12} {:>12}", "the server", "before", "after");
    for (what, before, after) in [
        ("memory, KiB", before.memory >> 10, after.memory >> 10),
        ("threads", before.threads, after.threads),
        ("open files", before.open_files, after.open_files),
        ("sockets", before.sockets, after.sockets),
    ] {
        println!("{what:<30} {before:>12} {after:>12}");
    }
}

/// Reports progress on a terminal.
async fn progress(server: &Server, tally: &Tally, until: Instant) {
    if !std::io::stderr().is_terminal() {
        return;
    }
    let mut second = tokio::time::interval(Duration::from_secs(1));
    while Instant::now() < until {
        second.tick().await;
        let left = until.saturating_duration_since(Instant::now()).as_secs();
        let memory = server.occupied().memory >> 20;
        eprint!("\r{left:>5} s to go, {} visits, the server has {memory} MiB   ", tally.visits());
    }
    eprint!("\r{:70}\r", "");
}
