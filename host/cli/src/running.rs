//! The commands that query or control a running server: `distillery reload`, `plugins`, `calls`, `ps` and `cancel`.

use super::{output, peer::Server};
use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use distillery_client::{Peer, Place};
use distillery_config::Config;
use distillery_core::one_line::OneLine;
use distillery_http::server::local::SOCKET;
use hyper::Method;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use std::{collections::BTreeMap, fmt::Write as _, process::ExitCode};
use time::{Duration, OffsetDateTime, format_description::well_known::Rfc3339};
use uuid::Uuid;

#[derive(Args)]
pub struct Plugins {
    #[command(flatten)]
    server: Server,
    /// Prints the answer of the server as JSON
    #[arg(long)]
    json: bool,
    #[command(subcommand)]
    command: Option<PluginsCommand>,
}

#[derive(Subcommand)]
enum PluginsCommand {
    /// Serves the previous generation until the directory of the plugin changes again
    Rollback { name: String },
}

/// A plugin, with the fields that are displayed.
#[derive(Deserialize)]
struct Plugin {
    name: String,
    state: String,
    calls: Vec<String>,
    #[serde(default)]
    files: Option<Files>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    generations: Vec<Generation>,
}

#[derive(Deserialize)]
struct Files {
    at: String,
    count: usize,
    size: u64,
}

#[derive(Deserialize)]
struct Generation {
    generation: u64,
    digest: Option<String>,
    at: String,
    state: String,
    processes: usize,
}

#[derive(Args)]
pub struct Calls {
    #[command(flatten)]
    server: Server,
    /// Prints the answer of the server as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub struct Ps {
    #[command(flatten)]
    server: Server,
    /// Includes processes that have ended
    #[arg(long, short)]
    all: bool,
    /// Only processes of this call
    #[arg(long, value_name = "NAME")]
    call: Option<String>,
    /// Only processes of this user; other users than yourself need the scope processes:*
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// The maximum number of processes to list, newest first
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=500))]
    limit: u16,
    /// Prints the answer of the server as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub struct Cancel {
    #[command(flatten)]
    server: Server,
    /// Skips the grace period, even if the process was told to stop before
    #[arg(long, short)]
    force: bool,
    /// The id of the process, as `distillery ps` prints it
    id: Uuid,
}

#[derive(Deserialize)]
struct Called {
    name: String,
    #[serde(default)]
    description: String,
    /// `None` if the call accepts any parameters.
    params: Option<Vec<Param>>,
}

#[derive(Deserialize)]
struct Param {
    name: String,
    #[serde(default)]
    required: bool,
    #[serde(default)]
    rest: bool,
}

#[derive(Deserialize)]
struct Process {
    id: String,
    call: String,
    user: String,
    #[serde(default)]
    schedule: Option<String>,
    started: String,
    ended: Option<String>,
    outcome: String,
    cpu_ms: u64,
    memory: u64,
}

#[derive(Deserialize)]
struct Reloaded {
    changed: Vec<String>,
    restart: Vec<String>,
    error: Option<String>,
    plugins: Vec<Plugin>,
    holders: Vec<Holder>,
}

/// A generation whose processes hold revoked rights.
#[derive(Deserialize)]
struct Holder {
    plugin: String,
    generation: u64,
    rights: Vec<String>,
    processes: usize,
    ids: Vec<String>,
}

/// Runs `distillery plugins`.
pub fn plugins(config: &Config, plugins: Plugins) -> anyhow::Result<ExitCode> {
    let peer = plugins.server.peer(config)?;
    match plugins.command {
        None => show(&peer, Method::GET, "plugins", plugins.json, |plugins: Vec<Plugin>| table(&plugins))?,
        Some(PluginsCommand::Rollback { name }) => {
            // Other characters cannot occur in a plugin's name, and would change the path of the request.
            let name: distillery_core::call::CallName =
                name.parse().ok().with_context(|| format!("there is no plugin {name:?}"))?;
            let done: Value = ask(&peer, Method::POST, &format!("plugins/{name}/rollback"))?;
            let generation = &done["generation"];
            output::line(format_args!("{name}: generation {generation} serves until its directory changes again"));
            if let Some(why) = done["forgotten"].as_str() {
                output::note(format_args!("distillery: a restart will undo this: {why}"));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs `distillery calls`.
pub fn calls(config: &Config, calls: &Calls) -> anyhow::Result<ExitCode> {
    let peer = calls.server.peer(config)?;
    show(&peer, Method::GET, "calls", calls.json, |calls: Vec<Called>| {
        let rows = calls.iter().map(|call| [usage(call), call.description.clone()]);
        columns(rows.collect())
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Runs `distillery ps`.
pub fn ps(config: &Config, ps: &Ps) -> anyhow::Result<ExitCode> {
    let peer = ps.server.peer(config)?;
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("limit", &ps.limit.to_string());
    if !ps.all {
        query.append_pair("outcome", "running");
    }
    for (name, value) in [("call", &ps.call), ("user", &ps.user)] {
        if let Some(value) = value {
            query.append_pair(name, value);
        }
    }
    let now = OffsetDateTime::now_utc();
    show(&peer, Method::GET, &format!("processes?{}", query.finish()), ps.json, |processes: Vec<Process>| {
        listed(&processes, now)
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Runs `distillery cancel`.
pub fn cancel(config: &Config, cancel: &Cancel) -> anyhow::Result<ExitCode> {
    let force = if cancel.force { "?force=true" } else { "" };
    let _: Value = ask(&cancel.server.peer(config)?, Method::DELETE, &format!("processes/{}{force}", cancel.id))?;
    output::line(format_args!("{}: {}", cancel.id, if cancel.force { "is ended" } else { "told to stop" }));
    Ok(ExitCode::SUCCESS)
}

/// Runs `distillery reload`.
pub fn reload(config: &Config) -> anyhow::Result<ExitCode> {
    let local = Peer { place: Place::Local(config.data.join(SOCKET)), token: None, authorities: None };
    let Reloaded { changed, restart, error, plugins, holders } = ask(&local, Method::POST, "plugins/reload")?;
    if !changed.is_empty() {
        output::line(format_args!("taken over: {}", changed.join(", ")));
    }
    if !restart.is_empty() {
        output::line(format_args!("needs a restart: {}", restart.join(", ")));
    }
    output::lines(&format!("{}{}", table(&plugins), holding(&holders)));
    if let Some(error) = error {
        bail!("configuration not reloaded; keeping the current one: {error}");
    }
    let bad = plugins.iter().any(|plugin| plugin.generations.iter().any(|it| it.state.starts_with("failed")));
    Ok(if bad { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Lists the processes that hold revoked rights, and the commands that end them.
fn holding(holders: &[Holder]) -> String {
    holders.iter().fold(String::new(), |mut text, Holder { plugin, generation, rights, processes, ids }| {
        let (subject, verb) = if *processes == 1 { ("process", "holds") } else { ("processes", "hold") };
        let rights = rights.join("; ");
        let _ = writeln!(text, "{processes} {subject} of {plugin}, generation {generation}, still {verb}: {rights}");
        ids.iter().for_each(|id| _ = writeln!(text, "  to end it: distillery cancel {id}"));
        text
    })
}

/// Prints an answer, as JSON or as text.
pub(super) fn show<T: DeserializeOwned>(
    peer: &Peer,
    method: Method,
    route: &str,
    json: bool,
    shown: impl FnOnce(T) -> String,
) -> anyhow::Result<()> {
    if json {
        output::json(&ask(peer, method, route)?);
    } else {
        output::lines(&shown(ask(peer, method, route)?));
    }
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn ask<T: DeserializeOwned>(peer: &Peer, method: Method, route: &str) -> anyhow::Result<T> {
    peer.ask(method, route).await
}

/// Formats the usage of a call.
fn usage(call: &Called) -> String {
    let mut usage = call.name.clone();
    for param in call.params.as_deref().unwrap_or_default() {
        let rest = if param.rest { "…" } else { "" };
        let _ = match param.required {
            true => write!(usage, " <{}>{rest}", param.name),
            false => write!(usage, " [{}]{rest}", param.name),
        };
    }
    if call.params.is_none() {
        usage.push_str(" […]");
    }
    usage
}

fn listed(processes: &[Process], now: OffsetDateTime) -> String {
    let heads = ["ID", "CALL", "USER", "TIME", "CPU", "MEMORY", "OUTCOME"].map(String::from);
    let moment = |text: &str| OffsetDateTime::parse(text, &Rfc3339).ok();
    let rows = processes.iter().map(|it| {
        let end = it.ended.as_deref().and_then(moment).unwrap_or(now);
        let took = moment(&it.started).map(|started| took(end - started)).unwrap_or_default();
        let user = match (it.user.as_str(), &it.schedule) {
            ("", None) => "-".to_owned(),
            (user, None) => user.to_owned(),
            (user, Some(schedule)) => format!("{user} (schedule {schedule})"),
        };
        let memory = format!("{:.1}MiB", it.memory as f64 / f64::from(1 << 20));
        let cpu = took_ms(it.cpu_ms);
        [it.id.clone(), it.call.clone(), user, took, cpu, memory, it.outcome.clone()]
    });
    columns([heads].into_iter().chain(rows).collect())
}

fn took(time: Duration) -> String {
    took_ms(u64::try_from(time.whole_milliseconds()).unwrap_or_default())
}

/// Formats a duration in its two largest units.
fn took_ms(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0 => format!("{ms}ms"),
        1..60 => format!("{seconds}.{}s", ms % 1000 / 100),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
    }
}

/// The maximum length of a cell, or of a line about a plugin.
const CELL: usize = 4 << 10;

pub(super) fn one_line(text: &str) -> String {
    OneLine { text, most: CELL }.to_string()
}

/// Formats rows with aligned columns.
pub(super) fn columns<const N: usize>(rows: Vec<[String; N]>) -> String {
    // A cell from elsewhere must neither end its row nor hide later cells.
    let rows: Vec<_> = rows.into_iter().map(|row| row.map(|cell| one_line(&cell))).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: [usize; N] = std::array::from_fn(width);
    let mut table = String::new();
    for row in &rows {
        let line: Vec<_> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        let _ = writeln!(table, "{}", line.join("  ").trim_end());
    }
    table
}

/// Formats a line for each plugin, followed by one for each generation.
fn table(plugins: &[Plugin]) -> String {
    let mut table = String::new();
    for Plugin { name, state, calls, files, env, generations } in plugins {
        let calls = if calls.is_empty() { String::new() } else { format!(": {}", calls.join(", ")) };
        let _ = writeln!(table, "{}", one_line(&format!("{name} ({state}){calls}")));
        if let Some(Files { at, count, size }) = files {
            let _ = writeln!(table, "{}", one_line(&format!("        files at {at}: {count}, {size} bytes")));
        }
        for (name, value) in env {
            let _ = writeln!(table, "{}", one_line(&format!("        {name}={value}")));
        }
        for Generation { generation, digest, at, state, processes } in generations {
            let digest = digest.as_deref().map_or("-", |digest| &digest[..digest.floor_char_boundary(12)]);
            // The other states include the number of processes.
            let running = match (state.as_str(), processes) {
                ("serving", 0) => String::new(),
                ("serving", 1) => " 1 process".into(),
                ("serving", several) => format!(" {several} processes"),
                _ => String::new(),
            };
            let at = at.get(..19).unwrap_or(at);
            let line = format!("  {generation:>4}  {digest:<12}  {at}  {state}{running}");
            let _ = writeln!(table, "{}", one_line(&line));
        }
    }
    table
}

#[cfg(test)]
mod tests;
