//! `bench`: starts each contestant in turn and in rounds, loads it from a process of its own, and prints one table.
//!
//! See README.md for what is measured and how to read it.
#![forbid(unsafe_code)]
#![expect(
    clippy::disallowed_methods,
    reason = "measures for a while, and asks processes that tell nothing by themselves"
)]

mod client;
mod contestant;
mod conversation;
mod fairness;
mod floor;
mod frame;
mod machine;
mod report;
mod request;
mod scale;

use anyhow::{Context, Result, bail, ensure};
use clap::{Parser, Subcommand};
use client::{HeldBack, Run, Target, WARM_UP, Workload};
use contestant::{Contestant, Ground, Guests, Setup, websocketd_is_installed};
use fairness::Fairness;
use machine::Machine;
use report::Report;
use request::Resource;
use scale::Scale;
use std::{
    collections::BTreeMap,
    fs,
    io::Read,
    net::SocketAddr,
    path::PathBuf,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

#[derive(Parser)]
#[command(about = "Measures the server beside a bare websocket server and beside websocketd", version)]
struct Arguments {
    #[command(subcommand)]
    role: Option<Role>,
    /// How often every contestant runs every workload.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// How long a run is measured, after a warm-up.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Then open this many waiting processes at once; 0 leaves that out.
    #[arg(long, default_value_t = 0)]
    scale: usize,
    /// Then let so many guests spin, and see how long others wait; 0 leaves that out.
    #[arg(long, default_value_t = 0)]
    fairness: usize,
    /// Who takes part.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Contestant::Ours, Contestant::Floor, Contestant::Websocketd])]
    only: Vec<Contestant>,
    /// The server under test.
    #[arg(long, default_value = "target/release/distillery")]
    distillery: PathBuf,
    /// The guest that answers one line.
    #[arg(long, default_value = "target/bench/guests/wasm32-wasip2/release/once.wasm")]
    once: PathBuf,
    /// The same as a minimal preview 1 module.
    #[arg(long, default_value = "tests/bench/guests/once-tiny.wat")]
    once_tiny: PathBuf,
    /// The guest that computes for ever.
    #[arg(long, default_value = "tests/bench/guests/spin.wat")]
    spin: PathBuf,
    /// The guest that echoes until its input ends.
    #[arg(long, default_value = "plugins/echo/echo.wasm")]
    echo: PathBuf,
    /// Where the figures go.
    #[arg(long, default_value = "target/bench/results.json")]
    json: PathBuf,
    /// Leave websocketd out where it is missing, instead of installing it.
    #[arg(long)]
    no_install: bool,
}

/// What the driver starts itself as.
#[derive(Subcommand)]
enum Role {
    /// The contestant without wasm.
    #[command(hide = true)]
    Floor { address: SocketAddr },
    /// The process that loads a contestant; takes its task and gives its result as JSON.
    #[command(hide = true)]
    Client { task: String },
}

#[derive(serde::Serialize, serde::Deserialize)]
enum Task {
    Run { target: Target, workload: Workload, time: Duration },
    Scale { target: Target, processes: usize },
    Fairness { spin: Target, once: Target, guests: usize, time: Duration },
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    match &arguments.role {
        None => drive(&arguments),
        Some(Role::Floor { address }) => serve_floor(*address),
        Some(Role::Client { task }) => {
            let result = match serde_json::from_str(task)? {
                Task::Run { target, workload, time } => serde_json::to_string(&client::run(&target, workload, time)?)?,
                Task::Scale { target, processes } => serde_json::to_string(&scale::run(&target, processes)?)?,
                Task::Fairness { spin, once, guests, time } => {
                    serde_json::to_string(&fairness::run(&spin, &once, guests, time)?)?
                }
            };
            println!("{result}");
            Ok(())
        }
    }
}

fn serve_floor(address: SocketAddr) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(address).await.context("cannot listen")?;
        // Accepting on a thread of the runtime saves a wakeup of another thread for every connection.
        tokio::spawn(floor::serve(listener)).await?
    })
}

fn drive(arguments: &Arguments) -> Result<()> {
    ensure!(arguments.rounds > 0 && arguments.seconds > 0.0, "--rounds and --seconds must be more than nothing");
    machine::raise_open_files()?;
    let mut report = Report {
        machine: Machine::look(),
        rounds: arguments.rounds,
        seconds: arguments.seconds,
        skipped: Vec::new(),
        rows: Vec::new(),
        started_in_ms: BTreeMap::new(),
        scale: BTreeMap::new(),
        fairness: None,
    };
    let contestants = present(arguments, &mut report.skipped)?;
    let guests = Guests {
        once: arguments.once.clone(),
        once_tiny: arguments.once_tiny.clone(),
        echo: arguments.echo.clone(),
        spin: arguments.spin.clone(),
    };
    let distillery = std::path::absolute(&arguments.distillery)?;
    let mut setup = Setup { distillery, guests, processes: None };
    let ground = Ground::new(&setup, &contestants)?;

    for round in 0..arguments.rounds {
        eprintln!("round {} of {}", round + 1, arguments.rounds);
        // Nobody is always the first, when the machine is cold, or the last.
        for place in 0..contestants.len() {
            let contestant = contestants[(round + place) % contestants.len()];
            measure(contestant, &ground, &setup, arguments.seconds, &mut report)?;
        }
    }
    if arguments.scale > 0 {
        // Beyond its defaults the server is configured for as many; what then stops it is the machine.
        setup.processes = (arguments.scale > 10_000).then_some(arguments.scale);
        for contestant in contestants.iter().filter(|it| **it != Contestant::Websocketd) {
            let server = ground.start(*contestant, &setup)?;
            let task = Task::Scale { target: server.target(contestant.echo()), processes: arguments.scale };
            let scale: Scale = ask(&task, Duration::from_secs(300))
                .with_context(|| format!("{} at scale:\n{}", contestant.name(), server.last_words()))?;
            report.scale.insert(contestant.name().into(), scale);
            server.stop()?;
        }
    }
    if arguments.fairness > 0 && contestants.contains(&Contestant::Ours) {
        let server = ground.start(Contestant::Ours, &setup)?;
        let time = Duration::from_secs_f64(arguments.seconds * arguments.rounds as f64);
        let (spin, once) = (server.target(Some("spin")), server.target(Some("once-tiny")));
        let task = Task::Fairness { spin, once, guests: arguments.fairness, time };
        let fairness: Fairness = ask(&task, 2 * time + Duration::from_secs(120))
            .with_context(|| format!("among guests that spin:\n{}", server.last_words()))?;
        report.fairness = Some(fairness);
        server.stop()?;
    }

    report.finish();
    if let Some(directory) = arguments.json.parent() {
        fs::create_dir_all(directory)?;
    }
    fs::write(&arguments.json, serde_json::to_string_pretty(&report)?)
        .with_context(|| format!("cannot write {}", arguments.json.display()))?;
    println!("{report}\nall figures: {}", arguments.json.display());
    Ok(())
}

/// Those that take part, and why others do not.
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
            contestant if present.contains(contestant) => {}
            contestant => {
                present.push(*contestant);
                if !contestant.takes_any_pipeline() {
                    let name = contestant.name();
                    skipped
                        .push(format!("{name} at lines without bound: it never answers again once its pipes are full"));
                }
            }
        }
    }
    ensure!(!present.is_empty(), "there is nobody to measure");
    Ok(present)
}

/// One contestant, one round, every workload.
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
    workloads.push(("lines, 1024 on their way", "lines", name, contestant.echo(), Workload::Window { lines: 1024 }));
    if contestant.takes_any_pipeline() {
        workloads.push(("lines, no bound", "lines", name, contestant.echo(), Workload::Pipeline));
    }
    workloads.push(("one line there and back", "lines", name, contestant.echo(), Workload::ThereAndBack));

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

/// Gives a client process its task, and waits for the result; a client that takes too long is ended.
fn ask<T: serde::de::DeserializeOwned>(task: &Task, patience: Duration) -> Result<T> {
    let mut client = Command::new(std::env::current_exe()?)
        .args(["client", &serde_json::to_string(task)?])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start the client")?;
    let until = Instant::now() + patience;
    // The result is one line, which fits the pipe: the client never waits for us to read it.
    let status = loop {
        if let Some(status) = client.try_wait()? {
            break status;
        }
        if Instant::now() >= until {
            client.kill()?;
            client.wait()?;
            bail!("the client did not come to an end within {patience:?}: the server stopped answering");
        }
        thread::sleep(Duration::from_millis(5));
    };
    let mut result = String::new();
    client.stdout.take().context("the client has no output")?.read_to_string(&mut result)?;
    ensure!(status.success(), "the client failed ({status})");
    Ok(serde_json::from_str(&result)?)
}
