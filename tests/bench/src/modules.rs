//! Large modules: an interpreter with its libraries, as Python and JavaScript need it. Measures how long they take to
//! start, and how much memory the processes of one share.

use crate::{
    client,
    contestant::Setup,
    frame::{self, Frame, Inbox, Kind},
    machine,
    section::{Chart, Section, part},
    site::Site,
};
use anyhow::{Context, Result, bail};
use std::{
    fs,
    io::Write,
    net::TcpStream,
    path::Path,
    time::{Duration, Instant},
};

const PROCESSES: [usize; 6] = [1, 2, 5, 10, 20, 50];
const CALLS: usize = 20;

/// Measures the modules; `languages` is the directory of the plugins that `make toolchains` and the tests of the
/// languages build.
pub fn measure(setup: &Setup, languages: &Path) -> Result<Section> {
    let mut section = Section::new(
        "Large modules",
        "Modules with an interpreter. A cold start compiles the module, a cached start finds the compiled code. A warm \
         call runs on a running server, from the first byte of its connection to its first line. Proportional memory \
         (`Pss`) counts a shared page once, resident memory (`VmRSS`) counts it for each process.",
    );
    let mut memory = Chart::by_tens("memory-of-modules", "Memory by processes of one plugin", "processes", "MiB");
    for (name, what) in [("python", "Python"), ("javascript", "JavaScript")] {
        let module = languages.join(name).join("call.wasm");
        let Ok(code) = fs::read(&module) else {
            section.note(format!("skipped: {what}; {} is missing: run `make test` first", module.display()));
            continue;
        };
        let site = Site::new()?;
        site.plugin(name, "wasm", &code, "")?;
        let server = site.start(setup, "")?;
        let cold = server.started_in;
        server.stop()?;
        let (mut cached, mut first) = (Vec::new(), Vec::new());
        for _ in 0..5 {
            let server = site.start(setup, "")?;
            cached.push(server.started_in);
            let begun = Instant::now();
            drop(begin(&server.target(Some(name)))?);
            first.push(begun.elapsed());
            server.stop()?;
        }
        let server = site.start(setup, "")?;
        let target = server.target(Some(name));
        let mut warm = Vec::new();
        for _ in 0..CALLS {
            let begun = Instant::now();
            let held = begin(&target)?;
            warm.push(begun.elapsed());
            drop(held);
        }
        let (cached, first, warm) = (part(&mut cached, 0.5), part(&mut first, 0.5), part(&mut warm, 0.5));
        let size = code.len() as f64 / 1e6;
        section.note(format!(
            "{what}, {size:.0} MB: start {:.1} s cold, {cached:.0} ms cached; a call has its first line after \
             {first:.1} ms on a server that has just started, {warm:.2} ms warm",
            cold.as_secs_f64()
        ));
        for (what, value) in [("cold", cold.as_secs_f64() * 1e3), ("cached", cached), ("warm", warm)] {
            section.fact(&format!("{name}_{what}_ms"), value);
        }
        server.stop()?;

        let server = site.start(setup, "")?;
        let before = machine::memory(server.pid())?;
        let mut held = Vec::new();
        for processes in PROCESSES {
            while held.len() < processes {
                held.push(begin(&server.target(Some(name)))?);
            }
            let now = machine::memory(server.pid())?;
            let mib = |now: u64, before: u64| now.saturating_sub(before) as f64 / 1024.0;
            memory.add(&format!("{what}, resident"), processes as f64, mib(now.rss_kib, before.rss_kib));
            memory.add(&format!("{what}, proportional"), processes as f64, mib(now.pss_kib, before.pss_kib));
        }
        drop(held);
        server.stop()?;
    }
    section.charts = vec![memory];
    Ok(section)
}

/// A process that has printed its first line and waits for input.
fn begin(target: &client::Target) -> Result<TcpStream> {
    let mut inbox = Inbox::small();
    let mut stream = client::connect(target, &frame::upgrade_request(&target.path), &mut inbox)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let mut out = Vec::new();
    let message = serde_json::json!({"call": target.call, "params": ["somebody"]}).to_string();
    frame::push(&mut out, Kind::Binary, message.as_bytes());
    stream.write_all(&out)?;
    match inbox.next_message(&mut stream).context("waiting for the first line")? {
        Some(Frame { kind: Kind::Text, payload: b"hello somebody" }) => Ok(stream),
        other => bail!("expected a greeting, got {}", client::told(other)),
    }
}
