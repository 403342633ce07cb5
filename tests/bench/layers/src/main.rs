//! `layers`: measures the parts of the server one by one, to find the part that became slower.
//!
//! Without arguments it takes times; `count` and `counts` count instructions. See tests/bench/README.md.
#![forbid(unsafe_code)]

mod counts;
mod memory;
mod paths;
mod times;
mod world;

use anyhow::{Result, ensure};
use clap::{Parser, Subcommand};
use paths::HotPath;
use std::path::PathBuf;
use world::{Built, World};

#[derive(Parser)]
#[command(about = "Measures the parts of the server one by one", version)]
struct Arguments {
    #[command(subcommand)]
    role: Option<Role>,
    /// Only paths whose names contain this text.
    #[arg(long, default_value = "")]
    only: String,
    /// Guest that answers one line, as a component.
    #[arg(long)]
    once: Option<PathBuf>,
    /// Guest that echoes until its input ends, as a component.
    #[arg(long)]
    echo: Option<PathBuf>,
    /// Seconds that each path is measured.
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// File for the times. New times are compared with those in it.
    #[arg(long, default_value = "target/bench/layers.json")]
    json: PathBuf,
}

#[derive(Subcommand)]
enum Role {
    /// Count the instructions of each path with callgrind, and compare them with the recorded counts.
    Counts(counts::Arguments),
    /// Run each path under callgrind, which makes a dump at each mark.
    #[command(hide = true)]
    Count,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let chosen: Vec<&HotPath> = paths::ALL.iter().filter(|path| path.name.contains(&arguments.only)).collect();
    ensure!(!chosen.is_empty(), "no path has {:?} in its name", arguments.only);
    match &arguments.role {
        Some(Role::Counts(how)) => counts::run(how, &arguments.only, &chosen),
        Some(Role::Count) => counts::work(&World::make(&Built::default())?, &chosen),
        None => {
            let built = Built { once: arguments.once.clone(), echo: arguments.echo.clone() };
            times::run(&World::make(&built)?, &chosen, arguments.seconds, &arguments.json)
        }
    }
}
