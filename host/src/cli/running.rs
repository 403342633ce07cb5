//! The commands that speak to a running server, over the socket in its `data` directory: `distillery reload` and
//! `distillery plugins`.

use crate::{config::Config, server::local::SOCKET};
use anyhow::{Context, bail};
use axum::body::{Body, to_bytes};
use clap::{Args, Subcommand};
use hyper::{Method, Request, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::Value;
use std::{
    fmt::Write as _,
    io::{self, ErrorKind},
    path::Path,
    process::ExitCode,
};
use tokio::net::UnixStream;

/// The largest answer that is read.
const ANSWER: usize = 64 << 20;

#[derive(Args)]
pub struct Plugins {
    #[command(subcommand)]
    command: Option<PluginsCommand>,
}

#[derive(Subcommand)]
enum PluginsCommand {
    /// Serves the generation that served before, until the directory of the plugin changes again
    Rollback { name: String },
}

/// A plugin, as far as it is shown here.
#[derive(Deserialize)]
struct Plugin {
    name: String,
    state: String,
    calls: Vec<String>,
    generations: Vec<Generation>,
}

#[derive(Deserialize)]
struct Generation {
    generation: u64,
    digest: Option<String>,
    at: String,
    state: String,
    processes: usize,
}

#[derive(Deserialize)]
struct Reloaded {
    changed: Vec<String>,
    restart: Vec<String>,
    error: Option<String>,
    plugins: Vec<Plugin>,
}

/// `distillery plugins`
pub fn plugins(config: &Config, plugins: Plugins) -> anyhow::Result<ExitCode> {
    match plugins.command {
        None => {
            let plugins: Vec<Plugin> = ask(config, Method::GET, "plugins")?;
            print!("{}", table(&plugins));
        }
        Some(PluginsCommand::Rollback { name }) => {
            // A name with other characters is that of no plugin, and would ask for another path.
            let name: crate::call::CallName =
                name.parse().ok().with_context(|| format!("there is no plugin {name:?}"))?;
            let done: Value = ask(config, Method::POST, &format!("plugins/{name}/rollback"))?;
            println!("{name}: generation {} serves until its directory changes again", done["generation"]);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// `distillery reload`
pub fn reload(config: &Config) -> anyhow::Result<ExitCode> {
    let Reloaded { changed, restart, error, plugins } = ask(config, Method::POST, "plugins/reload")?;
    if !changed.is_empty() {
        println!("taken over: {}", changed.join(", "));
    }
    if !restart.is_empty() {
        println!("needs a restart: {}", restart.join(", "));
    }
    print!("{}", table(&plugins));
    if let Some(error) = error {
        bail!("nothing else was changed: {error}");
    }
    let bad = plugins.iter().any(|plugin| plugin.generations.iter().any(|it| it.state.starts_with("failed")));
    Ok(if bad { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// A line for each plugin, and below it one for each generation.
fn table(plugins: &[Plugin]) -> String {
    let mut table = String::new();
    for Plugin { name, state, calls, generations } in plugins {
        let calls = if calls.is_empty() { String::new() } else { format!(": {}", calls.join(", ")) };
        let _ = writeln!(table, "{name} ({state}){calls}");
        for Generation { generation, digest, at, state, processes } in generations {
            let digest = digest.as_deref().map_or("-", |digest| &digest[..digest.len().min(12)]);
            // The other states say so themselves.
            let running = match (state.as_str(), processes) {
                ("serving", 0) => String::new(),
                ("serving", 1) => " 1 process".into(),
                ("serving", several) => format!(" {several} processes"),
                _ => String::new(),
            };
            let at = at.get(..19).unwrap_or(at);
            let _ = writeln!(table, "  {generation:>4}  {digest:<12}  {at}  {state}{running}");
        }
    }
    table
}

/// Asks the server that uses the `data` directory of `config`.
#[tokio::main(flavor = "current_thread")]
async fn ask<T: for<'de> Deserialize<'de>>(config: &Config, method: Method, route: &str) -> anyhow::Result<T> {
    let socket = config.data.join(SOCKET);
    let stream = UnixStream::connect(&socket).await.map_err(|error| no_server(&socket, error))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = Request::builder().method(method).uri(format!("/api/v1/{route}")).header("host", "localhost");
    let answer = sender.send_request(request.body(Body::empty())?).await;
    let answer = answer.context("the server did not answer: it may be ending, or too many commands ask at once")?;
    let status = answer.status();
    let body = to_bytes(Body::new(answer.into_body()), ANSWER).await.context("the server broke off its answer")?;
    if !status.is_success() {
        let said: Value = serde_json::from_slice(&body).unwrap_or_default();
        bail!("{}", said["message"].as_str().unwrap_or(status.as_str()));
    }
    serde_json::from_slice(&body)
        .context("the server speaks another version of the API: use the command of its release")
}

fn no_server(socket: &Path, error: io::Error) -> anyhow::Error {
    let at = socket.display();
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => anyhow::anyhow!(
            "no server is running here ({at}): start one with `distillery serve`, or name the configuration of the one \
             that is meant with --config"
        ),
        ErrorKind::PermissionDenied => {
            anyhow::anyhow!("the server's socket {at} is not yours to use: run this as the user that runs the server")
        }
        _ => anyhow::Error::new(error).context(format!("cannot speak to the server at {at}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plugins_are_listed_with_their_generations() {
        let answer = r#"[{"name": "echo", "state": "serving", "calls": ["echo", "say"], "generations": [
            {"generation": 3, "digest": null, "at": "2026-01-02T03:04:05.6Z", "state": "failed: no", "processes": 0},
            {"generation": 2, "digest": "0123456789abcdef", "at": "2026-01-02T03:04:05Z", "state": "serving", "processes": 2},
            {"generation": 1, "digest": "ff", "at": "?", "state": "retired with 1 process", "processes": 1}
        ]}, {"name": "no", "state": "failed", "calls": [], "generations": []}]"#;
        let plugins: Vec<Plugin> = serde_json::from_str(answer).unwrap();
        let expected = "\
echo (serving): echo, say
     3  -             2026-01-02T03:04:05  failed: no
     2  0123456789ab  2026-01-02T03:04:05  serving 2 processes
     1  ff            ?  retired with 1 process
no (failed)
";
        assert_eq!(table(&plugins), expected);
    }
}
