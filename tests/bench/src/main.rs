//! `bench`: starts each contestant in turn and in rounds, loads it from a separate process, and prints one table.
//!
//! README.md explains what is measured and how to read it.
#![forbid(unsafe_code)]
#![expect(clippy::disallowed_methods, reason = "measures for some time, and polls processes that report nothing")]

mod client;
mod contestant;
mod conversation;
mod fairness;
mod floor;
mod frame;
mod growth;
mod machine;
mod modules;
mod page;
mod plot;
mod plugins;
mod report;
mod request;
mod scale;
mod section;
mod site;

use anyhow::{Context, Result, bail, ensure};
use clap::{Parser, Subcommand, ValueEnum};
use client::{HeldBack, Run, Target, WARM_UP, Workload};
use contestant::{Contestant, Ground, Guests, Server, Setup, websocketd_is_installed};
use fairness::{Busy, Steps};
use machine::Machine;
use page::Layers;
use report::Report;
use request::Resource;
use scale::Scale;
use site::Site;
use std::{
    collections::BTreeMap,
    fs,
    io::Read,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

#[derive(Parser)]
#[command(about = "Measures the server beside a bare websocket server and beside websocketd", version)]
struct Arguments {
    #[command(subcommand)]
    role: Option<Role>,
    /// Number of rounds in which every contestant runs every workload.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds that a run is measured, after its warm-up.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Measurements to run.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [What::Rounds])]
    measure: Vec<What>,
    /// Waiting processes that `scale` opens at once.
    #[arg(long, default_value_t = 10_000)]
    scale: usize,
    /// Processes that `ceiling` asks for; more than the machine can hold.
    #[arg(long, default_value_t = 12_000)]
    ceiling: usize,
    /// Contestants that take part.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Contestant::value_variants().to_vec())]
    only: Vec<Contestant>,
    /// The server under test.
    #[arg(long, default_value = "target/release/distillery")]
    distillery: PathBuf,
    /// Guest that answers one line.
    #[arg(long, default_value = "target/bench/guests/wasm32-wasip2/release/once.wasm")]
    once: PathBuf,
    /// The same guest as a minimal preview 1 module.
    #[arg(long, default_value = "tests/bench/guests/once-tiny.wat")]
    once_tiny: PathBuf,
    /// Guest that computes forever.
    #[arg(long, default_value = "tests/bench/guests/spin.wat")]
    spin: PathBuf,
    #[arg(long, default_value = "tests/bench/guests/fill.wat")]
    fill: PathBuf,
    #[arg(long, default_value = "tests/bench/guests/list.wat")]
    list: PathBuf,
    /// Guest that echoes until its input ends.
    #[arg(long, default_value = "plugins/echo/echo.wasm")]
    echo: PathBuf,
    /// Guest that echoes, as a minimal preview 1 module.
    #[arg(long, default_value = "tests/bench/guests/echo-tiny.wat")]
    echo_tiny: PathBuf,
    /// Guest that sleeps in a host call.
    #[arg(long, default_value = "tests/bench/guests/sleep.wat")]
    sleep: PathBuf,
    /// `wasmtime` with `serve`, and the component for it.
    #[arg(long, default_value = "target/toolchains/wasmtime")]
    wasmtime: PathBuf,
    #[arg(long, default_value = "target/bench/guests/wasm32-wasip2/release/served.wasm")]
    served: PathBuf,
    /// Directory of the built plugins of the languages.
    #[arg(long, default_value = "target/languages")]
    languages: PathBuf,
    /// File for all figures.
    #[arg(long, default_value = "target/bench/results.json")]
    json: PathBuf,
    /// Keep the figures in that file that are not measured now.
    #[arg(long)]
    keep: bool,
    /// Write the page of results into this directory.
    #[arg(long)]
    page: Option<PathBuf>,
    /// Times of `layers`, for that page.
    #[arg(long, default_value = "target/bench/layers.json")]
    layers: PathBuf,
    /// Recorded counts of `layers counts`, for that page.
    #[arg(long, default_value = "tests/bench/counts.json")]
    counts: PathBuf,
    /// Leave websocketd out if it is missing, instead of installing it.
    #[arg(long)]
    no_install: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    /// Everything below.
    All,
    /// Only the page, from earlier figures.
    Nothing,
    /// Every contestant with every workload, in rounds.
    Rounds,
    /// Very many waiting processes.
    Scale,
    /// More waiting processes than the machine can hold.
    Ceiling,
    /// More clients, more sockets, longer lines.
    Growth,
    /// Cancels, calls and requests while guests compute.
    Fairness,
    /// More plugins, and swaps.
    Plugins,
    /// Modules of many megabytes.
    Modules,
}

/// Processes that the driver starts itself.
#[derive(Subcommand)]
enum Role {
    /// The contestant without wasm.
    #[command(hide = true)]
    Floor {
        address: SocketAddr,
        /// Use the socket of axum's documentation.
        #[arg(long)]
        plain: bool,
        /// Component that answers the line of the call `once`.
        #[arg(long, requires = "tiny")]
        once: Option<PathBuf>,
        /// The same as a module, for `once-tiny`.
        #[arg(id = "tiny", long = "once-tiny", requires = "once")]
        once_tiny: Option<PathBuf>,
    },
    /// The process that loads a contestant; takes its task and returns its result as JSON.
    #[command(hide = true)]
    Client { task: String },
}

#[derive(serde::Serialize, serde::Deserialize)]
enum Task {
    Run { target: Target, workload: Workload, time: Duration },
    Scale { target: Target, processes: usize },
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    match &arguments.role {
        None => drive(&arguments),
        Some(Role::Floor { address, plain, once, once_tiny }) => {
            serve_floor(*address, *plain, once.as_deref().zip(once_tiny.as_deref()))
        }
        Some(Role::Client { task }) => {
            let result = match serde_json::from_str(task)? {
                Task::Run { target, workload, time } => serde_json::to_string(&client::run(&target, workload, time)?)?,
                Task::Scale { target, processes } => serde_json::to_string(&scale::run(&target, processes)?)?,
            };
            println!("{result}");
            Ok(())
        }
    }
}

fn serve_floor(address: SocketAddr, plain: bool, guests: Option<(&Path, &Path)>) -> Result<()> {
    let router = match guests {
        _ if plain => floor::plain(),
        Some((once, once_tiny)) => floor::router(Some(Arc::new(floor::Guests::load(once, once_tiny)?))),
        None => floor::router(None),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(address).await.context("cannot listen")?;
        // Accepting on a thread of the runtime saves waking another thread for every connection.
        tokio::spawn(floor::serve(listener, router)).await?
    })
}

fn drive(arguments: &Arguments) -> Result<()> {
    ensure!(arguments.rounds > 0 && arguments.seconds > 0.0, "--rounds and --seconds must be positive");
    machine::raise_open_files()?;
    let measures = |what| arguments.measure.contains(&What::All) || arguments.measure.contains(&what);
    let mut report = match arguments.keep {
        true => {
            let text = fs::read_to_string(&arguments.json)
                .with_context(|| format!("no figures to keep in {}: leave --keep out", arguments.json.display()))?;
            serde_json::from_str(&text).context("the figures were written by another version: leave --keep out")?
        }
        false => Report {
            machine: Machine::look(),
            rounds: arguments.rounds,
            seconds: arguments.seconds,
            skipped: Vec::new(),
            rows: Vec::new(),
            started_in_ms: BTreeMap::new(),
            scale: BTreeMap::new(),
            sections: BTreeMap::new(),
        },
    };
    if !arguments.measure.contains(&What::Nothing) {
        let mut missing = Vec::new();
        let contestants = present(arguments, &mut missing)?;
        let guests = Guests {
            once: arguments.once.clone(),
            once_tiny: arguments.once_tiny.clone(),
            echo: arguments.echo.clone(),
            spin: arguments.spin.clone(),
            served: arguments.served.clone(),
        };
        let distillery = std::path::absolute(&arguments.distillery)?;
        let wasmtime = std::path::absolute(&arguments.wasmtime)?;
        let setup = Setup { distillery, wasmtime, guests, processes: None };
        let ground = Ground::new(&setup, &contestants)?;
        let ours = contestants.contains(&Contestant::Ours);
        let time = Duration::from_secs_f64(arguments.seconds);

        if measures(What::Rounds) {
            report.machine = Machine::look();
            (report.rounds, report.seconds) = (arguments.rounds, arguments.seconds);
            (report.rows, report.started_in_ms, report.skipped) = (Vec::new(), BTreeMap::new(), missing);
            for round in 0..arguments.rounds {
                eprintln!("round {} of {}", round + 1, arguments.rounds);
                // Starts with another contestant in each round, so that none is always first on a cold machine.
                for place in 0..contestants.len() {
                    let contestant = contestants[(round + place) % contestants.len()];
                    measure(contestant, &ground, &setup, arguments.seconds, &mut report)?;
                }
            }
            report.finish();
            save(&report, &arguments.json)?;
        }
        if measures(What::Scale) {
            for contestant in contestants.iter().filter(|it| matches!(it, Contestant::Ours | Contestant::Floor)) {
                let name = contestant.name();
                report.scale.insert(name.into(), scale(*contestant, &ground, &setup, arguments.scale)?);
                save(&report, &arguments.json)?;
            }
        }
        if ours && measures(What::Ceiling) {
            let name = "ours, past the ceiling";
            report.scale.insert(name.into(), scale(Contestant::Ours, &ground, &setup, arguments.ceiling)?);
            save(&report, &arguments.json)?;
        }
        if ours && measures(What::Fairness) {
            eprintln!("fairness");
            report.sections.insert("fairness".into(), fairness(arguments, &ground, &setup, time)?);
            save(&report, &arguments.json)?;
        }
        if ours && measures(What::Plugins) {
            eprintln!("plugins");
            report.sections.insert("plugins".into(), plugins::measure(&setup)?);
            save(&report, &arguments.json)?;
        }
        if ours && measures(What::Modules) {
            eprintln!("modules");
            report.sections.insert("modules".into(), modules::measure(&setup, &arguments.languages)?);
            save(&report, &arguments.json)?;
        }
        if measures(What::Growth) {
            eprintln!("growth");
            let run = |contestant: &Contestant, server: &Server, call: Option<&str>, workload| {
                // With many clients, one call takes as long as the calls of all others.
                let time = match workload {
                    Workload::Calls { clients: 1_000.. } => time.max(Duration::from_secs(2)),
                    _ => time,
                };
                let task = Task::Run { target: server.target(call), workload, time };
                ask(&task, WARM_UP + time + Duration::from_secs(90)).with_context(|| {
                    format!("{}, {workload:?}; its log ends with:\n{}", contestant.name(), server.last_words())
                })
            };
            let section = growth::measure(&ground, &setup, &contestants, arguments.rounds, run)?;
            report.sections.insert("growth".into(), section);
            save(&report, &arguments.json)?;
        }
        println!("{report}\nall figures: {}", arguments.json.display());
    }
    if let Some(directory) = &arguments.page {
        let layers = Layers::read(&arguments.layers, &arguments.counts);
        page::write(&report, &layers, directory)?;
        println!("the page: {}", directory.join("results.md").display());
    }
    Ok(())
}

/// Writes the figures so far, so that a later failure loses none.
fn save(report: &Report, json: &Path) -> Result<()> {
    if let Some(directory) = json.parent() {
        fs::create_dir_all(directory)?;
    }
    fs::write(json, serde_json::to_string_pretty(report)?).with_context(|| format!("cannot write {}", json.display()))
}

fn scale(contestant: Contestant, ground: &Ground, setup: &Setup, processes: usize) -> Result<Scale> {
    eprintln!("{}: {processes} waiting processes", contestant.name());
    // The config allows as many processes as are asked for; the machine is the limit.
    let setup = Setup { processes: (processes > 10_000).then_some(processes), ..setup.clone() };
    let server = ground.start(contestant, &setup)?;
    let task = Task::Scale { target: server.target(contestant.echo()), processes };
    let scale = ask(&task, Duration::from_secs(300))
        .with_context(|| format!("{} at scale:\n{}", contestant.name(), server.last_words()))?;
    server.stop()?;
    Ok(scale)
}

/// The files of a large directory.
const LARGE: usize = 10_000;

fn fairness(arguments: &Arguments, ground: &Ground, setup: &Setup, time: Duration) -> Result<section::Section> {
    let site = Site::new()?;
    let no_grace = "cancel: {grace: 0s}\n";
    for (name, file, more) in [
        ("echo", &arguments.echo_tiny, ""),
        ("sleep", &arguments.sleep, no_grace),
        ("spin", &arguments.spin, no_grace),
        ("fill", &arguments.fill, no_grace),
        ("list", &arguments.list, "cancel: {grace: 0s}\ncapabilities: {mounts: [{name: large, at: /large}]}\n"),
        ("once", &arguments.once_tiny, ""),
    ] {
        let module = fs::read(file).with_context(|| format!("no guest {}", file.display()))?;
        site.plugin(name, "wat", &module, more)?;
    }
    let large = site.directory_with("large", LARGE)?;
    let server = site.start_granting(setup, "", &format!("list: {{mounts: {{large: {{path: {large:?}}}}}}}"))?;
    let target = |call: &str| server.target(Some(call));
    let floor = ground.start(Contestant::Floor, setup)?;
    let native = floor.target(Some(floor::SPIN));
    let busy = vec![
        Busy { what: "list a large directory", count: 8, target: target("list"), says: b"listing" },
        Busy { what: "fill 250 MiB of memory", count: 4, target: target("fill"), says: b"filling" },
    ];
    let steps = Steps { told: target("echo"), dropped: target("sleep"), interrupted: target("spin"), native, busy };
    let section = fairness::run(&steps, &target("once"), time * arguments.rounds as u32)
        .with_context(|| format!("among guests that spin:\n{}", server.last_words()))?;
    server.stop()?;
    floor.stop()?;
    Ok(section)
}

/// Returns the contestants that take part, and the reasons why others do not.
fn present(arguments: &Arguments, skipped: &mut Vec<String>) -> Result<Vec<Contestant>> {
    let mut present = Vec::new();
    for contestant in &arguments.only {
        match contestant {
            Contestant::Ours if !arguments.distillery.is_file() => bail!(
                "no server at {}: build it with `make bench`, or leave it out with --only floor,websocketd",
                arguments.distillery.display()
            ),
            Contestant::Websocketd if !websocketd_is_installed(!arguments.no_install) => {
                let missing = "websocketd is not installed: apt-get install websocketd, then run again";
                eprintln!("skipped: {missing}");
                skipped.push(missing.into());
            }
            Contestant::WasmtimeServe if !arguments.wasmtime.is_file() => {
                let missing = format!("no wasmtime at {}: `make bench` installs it", arguments.wasmtime.display());
                eprintln!("skipped: {missing}");
                skipped.push(missing);
            }
            contestant if present.contains(contestant) => {}
            contestant => {
                present.push(*contestant);
                if *contestant == Contestant::Websocketd {
                    let name = contestant.name();
                    skipped.push(format!("{name} at unbounded lines: it deadlocks once its pipes are full"));
                }
            }
        }
    }
    ensure!(!present.is_empty(), "no contestant can be measured: see the reasons above");
    Ok(present)
}

/// Runs every workload on one contestant for one round.
fn measure(contestant: Contestant, ground: &Ground, setup: &Setup, seconds: f64, report: &mut Report) -> Result<()> {
    let time = Duration::from_secs_f64(seconds);
    let server = ground.start(contestant, setup)?;
    let name = contestant.name();
    report.started_in_ms.entry(name.into()).or_default().push(server.started_in.as_secs_f64() * 1e3);

    let mut workloads = Vec::new();
    for (clients, title) in [(1, "whole calls, 1 client"), (32, "whole calls, 32 clients")] {
        for (row, call) in contestant.whole_calls() {
            workloads.push((title, "calls", *row, *call, Workload::Calls { clients }));
        }
    }
    if contestant.exchanges_lines() {
        let echo = contestant.echo();
        workloads.push(("lines, 1024 on their way", "lines", name, echo, Workload::Window { lines: 1024 }));
        if contestant.takes_any_pipeline() {
            workloads.push(("lines, no bound", "lines", name, echo, Workload::Pipeline));
        }
        workloads.push(("one line there and back", "lines", name, echo, Workload::ThereAndBack));
    }

    if contestant.answers_requests() {
        for (title, resource) in [("GET systems", Resource::Systems), ("GET auth, with a token", Resource::Auth)] {
            workloads.push((title, "requests", name, None, Workload::Requests { resource, clients: 32 }));
        }
    }

    for (title, unit, row, call, workload) in workloads {
        let task = Task::Run { target: server.target(call), workload, time };
        let run: Run = ask(&task, WARM_UP + time + Duration::from_secs(30))
            .with_context(|| format!("{row}, {title}; its log ends with:\n{}", server.last_words()))?;
        let slow =
            if run.held_back_by == Some(HeldBack::BusyClient) { "  (the client was the bottleneck)" } else { "" };
        eprintln!("  {row:<16} {title:<26} {:>9.0} {unit}/s{slow}", run.per_second);
        report.add(title, unit, row, run);
    }
    server.stop()
}

/// Gives a client process its task, and waits for the result; ends a client that takes too long.
fn ask<T: serde::de::DeserializeOwned>(task: &Task, patience: Duration) -> Result<T> {
    let mut client = Command::new(std::env::current_exe()?)
        .args(["client", &serde_json::to_string(task)?])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start the client")?;
    let until = Instant::now() + patience;
    // The result is one line, which fits the pipe: the client never waits for a reader.
    let status = loop {
        if let Some(status) = client.try_wait()? {
            break status;
        }
        if Instant::now() >= until {
            client.kill()?;
            client.wait()?;
            bail!("the client did not end within {patience:?}: the server stopped answering");
        }
        thread::sleep(Duration::from_millis(5));
    };
    let mut result = String::new();
    client.stdout.take().context("the client has no output")?.read_to_string(&mut result)?;
    ensure!(status.success(), "the client failed ({status})");
    Ok(serde_json::from_str(&result)?)
}
