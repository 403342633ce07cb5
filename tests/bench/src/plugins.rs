//! The cost of the number of plugins: starting, swapping, listing, and calls of many different plugins.

use crate::{
    client::{self, Target},
    contestant::{Server, Setup},
    frame::Inbox,
    machine,
    section::{Chart, Section, part},
    site::Site,
};
use anyhow::{Context, Result, ensure};
use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

const PLUGINS: [usize; 4] = [1, 10, 100, 1_000];
/// Calls, distributed over all plugins.
const CALLS: usize = 10_000;
/// Repetitions of each request.
const REQUESTS: usize = 30;
/// Swaps, by number of plugins.
const SWAPS: usize = 15;
/// Swaps while clients call.
const SWAPS_UNDER_LOAD: usize = 1_000;
const CALLERS: usize = 4;
/// Rows of the history.
const ROWS: [usize; 4] = [10, 100, 1_000, 10_000];

/// Returns a module that prints its build: no two are alike.
fn module(number: usize) -> Vec<u8> {
    format!(
        r#"(module
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 16) "{}\n")
  (func (export "_start")
    (i32.store (i32.const 0) (i32.const 16))
    (i32.store (i32.const 4) (i32.const 14))
    (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#,
        build(number)
    )
    .into_bytes()
}

fn build(number: usize) -> String {
    format!("build {number:07}")
}

fn name(plugin: usize) -> String {
    format!("plugin-{plugin:04}")
}

fn target(server: &Server, plugin: usize) -> Target {
    server.target(Some(&name(plugin)))
}

pub fn measure(setup: &Setup) -> Result<Section> {
    let mut section = Section::new(
        "Plugins",
        "Many plugins, each with a different module. A cold start compiles them all, a warm start finds the compiled \
         code; both last until the server accepts a connection. A swap lasts from the rename of a module to the first \
         call that the new build answers. Requests use the operator's socket, each with its own connection; medians.",
    );
    let mut start = Chart::by_tens("start-by-plugins", "Start by number of plugins", "plugins", "ms");
    let mut swap = Chart::by_tens("swap-by-plugins", "Swap by number of plugins", "plugins", "ms");
    let mut lists = Chart::by_tens("lists-by-plugins", "GET calls and plugins by number of plugins", "plugins", "ms");
    let mut rows = Chart::by_tens("processes-by-rows", "GET processes by rows of history", "rows", "ms");
    for plugins in PLUGINS {
        let site = Site::new()?;
        for plugin in 0..plugins {
            site.plugin(&name(plugin), "wat", &module(plugin), "")?;
        }
        let server = site.start(setup, "")?;
        let cold = server.started_in;
        server.stop()?;
        let mut warm = Vec::new();
        for _ in 0..5 {
            let server = site.start(setup, "")?;
            warm.push(server.started_in);
            server.stop()?;
        }
        let warm = part(&mut warm, 0.5);
        start.add("cold", plugins as f64, cold.as_secs_f64() * 1e3);
        start.add("warm", plugins as f64, warm);
        section.fact(&format!("start_warm_{plugins}_ms"), warm);
        eprintln!("  {plugins} plugins: start {cold:.1?} cold, {warm:.1} ms warm");

        let server = site.start(setup, "")?;
        for (what, path) in [("calls", "/api/v1/calls"), ("plugins", "/api/v1/plugins")] {
            lists.add(what, plugins as f64, median_of(&site, path)?);
        }
        let mut swaps = Vec::new();
        for number in 0..SWAPS {
            swaps.push(swapped(&site, &target(&server, 0), PLUGINS.len() * 1_000_000 + number)?);
        }
        let median = part(&mut swaps, 0.5);
        swap.add("median", plugins as f64, median);
        swap.add("longest", plugins as f64, part(&mut swaps, 1.0));
        section.fact(&format!("swap_{plugins}_ms"), median);
        eprintln!("  {plugins} plugins: swap {median:.1} ms");
        if plugins == 10 {
            by_rows(&site, &server, &mut rows)?;
            let note = under_load(&site, &server, &mut section)?;
            section.note(note);
        }
        if plugins == 1_000 {
            let note = calls_of_many(&server, plugins)?;
            section.note(note);
        }
        server.stop()?;
    }
    section.charts = vec![start, swap, lists, rows];
    Ok(section)
}

fn median_of(site: &Site, path: &str) -> Result<f64> {
    let times: Result<Vec<_>> = (0..REQUESTS).map(|_| site.ask(path).map(|(time, _)| time)).collect();
    Ok(part(&mut times?, 0.5))
}

/// Swaps the module of the target's plugin, and waits until the new module answers a call.
fn swapped(site: &Site, target: &Target, number: usize) -> Result<Duration> {
    let call = target.call.as_deref().context("a call of ours")?;
    let module = module(number);
    let mut inbox = Inbox::new();
    let begun = Instant::now();
    site.swap(call, "wat", &module)?;
    while client::said(target, &mut inbox)? != build(number).as_bytes() {
        ensure!(begun.elapsed() < Duration::from_secs(30), "the new build does not serve");
    }
    Ok(begun.elapsed())
}

/// Swaps one after the other while clients call the plugin.
fn under_load(site: &Site, server: &Server, section: &mut Section) -> Result<String> {
    let target = target(server, 1);
    let (stop, calls, failed) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    let mut times = Vec::new();
    let begun = Instant::now();
    thread::scope(|scope| {
        for _ in 0..CALLERS {
            scope.spawn(|| {
                let mut inbox = Inbox::new();
                while !stop.load(Relaxed) {
                    calls.fetch_add(1, Relaxed);
                    if let Err(error) = client::said(&target, &mut inbox) {
                        eprintln!("  a call failed while its plugin was swapped: {error:#}");
                        failed.fetch_add(1, Relaxed);
                    }
                }
            });
        }
        let swapped: Result<()> = (0..SWAPS_UNDER_LOAD).try_for_each(|number| {
            times.push(swapped(site, &target, 2_000_000 + number)?);
            Ok(())
        });
        stop.store(true, Relaxed);
        swapped
    })?;
    let took = begun.elapsed();
    let (median, p99, most) = (part(&mut times, 0.5), part(&mut times, 0.99), part(&mut times, 1.0));
    let (calls, failed) = (calls.into_inner(), failed.into_inner());
    section.fact("swaps", times.len() as f64);
    section.fact("swap_failed_calls", failed as f64);
    section.fact("swap_p50_ms", median);
    section.fact("swap_p99_ms", p99);
    Ok(format!(
        "{} swaps within {took:.1?} while {CALLERS} clients made {calls} calls of the plugin: {failed} failed; from the \
         rename to the first answer of the new build {median:.0} ms (median), {p99:.0} ms (p99), {most:.0} ms (longest)",
        times.len()
    ))
}

fn by_rows(site: &Site, server: &Server, chart: &mut Chart) -> Result<()> {
    let mut inbox = Inbox::new();
    let mut written = SWAPS;
    for rows in ROWS {
        while written < rows {
            client::said(&target(server, written % 10), &mut inbox)?;
            written += 1;
        }
        // The history writes its records in groups.
        thread::sleep(Duration::from_millis(300));
        for limit in [50, 500] {
            let time = median_of(site, &format!("/api/v1/processes?limit={limit}"))?;
            chart.add(&format!("the newest {limit}"), rows as f64, time);
        }
    }
    Ok(())
}

/// Calls all plugins in turn.
fn calls_of_many(server: &Server, plugins: usize) -> Result<String> {
    let before = machine::occupied(server.pid())?;
    let next = AtomicUsize::new(0);
    let begun = Instant::now();
    thread::scope(|scope| -> Result<()> {
        let caller = || -> Result<()> {
            let mut inbox = Inbox::new();
            loop {
                let call = next.fetch_add(1, Relaxed);
                if call >= CALLS {
                    return Ok(());
                }
                client::said(&target(server, call % plugins), &mut inbox)?;
            }
        };
        let callers: Vec<_> = (0..16).map(|_| scope.spawn(caller)).collect();
        callers.into_iter().try_for_each(|it| it.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })?;
    let took = begun.elapsed();
    let after = machine::occupied(server.pid())?;
    Ok(format!(
        "{CALLS} calls of {plugins} different plugins in turn, 16 at once: {:.0} calls/s; the server occupied {:.0} MiB \
         and {} mappings before, {:.0} MiB and {} after",
        CALLS as f64 / took.as_secs_f64(),
        before.rss_kib as f64 / 1024.0,
        before.mappings,
        after.rss_kib as f64 / 1024.0,
        after.mappings
    ))
}
