//! Swaps during many calls: no call fails, and nothing is left behind.

use super::{builder, public, said, says};
use distillery_tests::{Client, Server, Verdict, patiently};
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

/// Plugins that are swapped at the same time.
const PLUGINS: usize = 10;
const SWAPS: usize = 100;

/// Durations from the rename to the first call, as percentiles.
struct Percentiles(Vec<Duration>);

impl std::fmt::Display for Percentiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut took = self.0.clone();
        took.sort();
        let at = |part: usize| took[(took.len() - 1) * part / 100];
        write!(f, "from the rename to the first call p50 {:?}, p99 {:?}, max {:?}", at(50), at(99), at(100))
    }
}

/// Puts one generation after the other in place, each once the previous one serves. Returns the durations from each
/// rename to the first call that the new generation served.
async fn swap(server: &Server, plugin: &str, generations: std::ops::Range<usize>) -> Vec<Duration> {
    let mut took = Vec::new();
    for generation in generations {
        let word = format!("g{generation}");
        let module = says(&word);
        let begun = Instant::now();
        server.put(&format!("plugins/{plugin}/{plugin}.wat"), module);
        patiently(&word, async { while said(server, plugin).await.as_deref() != Ok(&word) {} }).await;
        took.push(begun.elapsed());
    }
    took
}

async fn swap_all(server: &Server, generations: std::ops::Range<usize>) -> Vec<Duration> {
    let names: Vec<_> = (0..PLUGINS).map(|number| format!("p{number}")).collect();
    let all = names.iter().map(|name| swap(server, name, generations.clone()));
    futures_util::future::join_all(all).await.concat()
}

/// Calls one plugin after the other until `stop` is set, and counts the calls. Each must succeed.
async fn call_on(address: SocketAddr, stop: Arc<AtomicBool>, calls: Arc<AtomicUsize>) {
    for number in (0..PLUGINS).cycle() {
        if stop.load(Relaxed) {
            return;
        }
        let mut client = Client::connect(address).await;
        client.call(&format!("p{number}"), &[]).await;
        let first = client.line().await;
        client.say("").await;
        let end = client.finish().await;
        assert_eq!((end.verdict, end.lines), (Verdict::Success, vec![first]));
        calls.fetch_add(1, Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn swaps_under_load_fail_no_call_and_leave_nothing_behind() {
    let mut builder = builder().set("log.level", "info,distillery_process::dispatch=warn");
    for number in 0..PLUGINS {
        builder = builder.file(&format!("plugins/p{number}/plugin.yaml"), public(&format!("p{number}")));
        builder = builder.file(&format!("plugins/p{number}/p{number}.wat"), says("g0"));
    }
    // Each generation is compiled, whatever the cache of earlier runs holds.
    let cache = builder.directory().join("cache").display().to_string();
    let server = builder.set("cache", cache).start().await;
    let alone = swap(&server, "echo", 1..20).await;
    println!("{} swaps of an idle server: {}", alone.len(), Percentiles(alone));
    let (stop, calls) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
    let callers: Vec<_> =
        (0..4).map(|_| tokio::spawn(call_on(server.address(), stop.clone(), calls.clone()))).collect();

    let mut took = Vec::new();
    let mut occupied = Vec::new();
    for quarter in 0..4 {
        let (from, to) = (quarter * SWAPS / 4 + 1, (quarter + 1) * SWAPS / 4 + 1);
        took.extend(swap_all(&server, from..to).await);
        occupied.push((server.memory(), server.mappings()));
    }
    stop.store(true, Relaxed);
    for caller in callers {
        caller.await.expect("every call succeeds");
    }
    let (swaps, calls) = (took.len(), calls.load(Relaxed));
    println!("{swaps} swaps and {calls} calls beside them: {}", Percentiles(took));
    for (quarter, (memory, mappings)) in occupied.iter().enumerate() {
        println!("after {} swaps: {} KiB, {mappings} mappings", (quarter + 1) * swaps / 4, memory >> 10);
    }
    assert_eq!(swaps, PLUGINS * SWAPS);
    // In the first quarter, pools and caches fill.
    let (before, after) = (occupied[0], occupied[3]);
    let grown = after.0.saturating_sub(before.0);
    assert!(grown < 16 << 20, "{grown} bytes more than after the first quarter");
    assert!(after.1 < before.1 + 100, "mappings went from {} to {}", before.1, after.1);
    let plugins = server.get("/api/v1/plugins").await.json();
    for plugin in plugins.as_array().expect("a list").iter().filter(|plugin| plugin["name"] != "echo") {
        assert_eq!((&plugin["generation"], &plugin["previous"]), (&(SWAPS + 1).into(), &SWAPS.into()));
        assert_eq!(plugin["generations"].as_array().map(Vec::len), Some(2), "{plugin}");
    }
}
