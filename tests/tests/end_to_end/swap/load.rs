//! Swaps while everybody calls: not one call fails, and nothing is left behind.

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

/// Plugins that are swapped at the same time, each so often.
const PLUGINS: usize = 10;
const SWAPS: usize = 100;

/// Puts one generation after the other in its place, each when the one before serves. Gives how long each took from the
/// rename to the first call that it served.
async fn swap(server: &Server, plugin: &str, generations: std::ops::Range<usize>) -> Vec<Duration> {
    let mut took = Vec::new();
    for generation in generations {
        let word = format!("g{generation}");
        let module = says(&word);
        let begun = Instant::now();
        server.put(&format!("plugins/{plugin}/x.wat"), module);
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

/// Calls one plugin after the other until it is told to stop. Gives how many calls it made; each must succeed.
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
async fn in_a_thousand_swaps_under_load_no_call_fails_and_nothing_is_left_behind() {
    let mut builder = builder().set("log.level", "info,distillery::dispatch=warn");
    for number in 0..PLUGINS {
        builder = builder.file(&format!("plugins/p{number}/plugin.yaml"), public(&format!("p{number}")));
        builder = builder.file(&format!("plugins/p{number}/x.wat"), says("g0"));
    }
    let server = builder.start().await;
    let (stop, calls) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
    let callers: Vec<_> =
        (0..4).map(|_| tokio::spawn(call_on(server.address(), stop.clone(), calls.clone()))).collect();

    // Until then, pools and caches fill.
    let mut took = swap_all(&server, 1..SWAPS / 4).await;
    let before = (server.memory(), server.mappings());
    took.extend(swap_all(&server, SWAPS / 4..SWAPS + 1).await);
    stop.store(true, Relaxed);
    for caller in callers {
        caller.await.expect("every call succeeds");
    }
    let after = (server.memory(), server.mappings());

    took.sort();
    let at = |part: usize| took[(took.len() - 1) * part / 100];
    println!(
        "{} swaps, {} calls: from the rename to the first call p50 {:?}, p99 {:?}; memory {} to {} KiB, mappings {} to {}",
        took.len(),
        calls.load(Relaxed),
        at(50),
        at(99),
        before.0 >> 10,
        after.0 >> 10,
        before.1,
        after.1
    );
    assert_eq!(took.len(), PLUGINS * SWAPS);
    let grown = after.0.saturating_sub(before.0);
    assert!(grown < 16 << 20, "{grown} bytes more after {} swaps", took.len());
    assert!(after.1 < before.1 + 100, "mappings went from {} to {}", before.1, after.1);
    let plugins = server.get("/api/v1/plugins").await.json();
    for plugin in plugins.as_array().expect("a list").iter().filter(|plugin| plugin["name"] != "echo") {
        assert_eq!((&plugin["generation"], &plugin["previous"]), (&(SWAPS + 1).into(), &SWAPS.into()));
        assert_eq!(plugin["generations"].as_array().map(Vec::len), Some(2), "{plugin}");
    }
}
