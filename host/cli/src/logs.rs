//! `distillery logs`: prints what a process wrote, byte for byte.

use super::{output, peer::Server};
use clap::Args;
use distillery_client::Peer;
use distillery_config::Config;
use hyper::{HeaderMap, Method};
use serde_json::Value;
use std::{
    io::{self, Write as _},
    process::ExitCode,
};
use uuid::Uuid;

#[derive(Args)]
pub struct Logs {
    #[command(flatten)]
    server: Server,
    /// Goes on while the process runs
    #[arg(long, short)]
    follow: bool,
    /// Prints stderr instead of stdout
    #[arg(long)]
    stderr: bool,
    /// The offset of the first byte
    #[arg(long, value_name = "OFFSET", default_value_t = 0)]
    from: u64,
    /// The id of the process, as `distillery ps` prints it
    id: Uuid,
}

#[tokio::main(flavor = "current_thread")]
pub async fn logs(config: &Config, logs: &Logs) -> anyhow::Result<ExitCode> {
    let peer = logs.server.peer(config)?;
    let stream = if logs.stderr { "stderr" } else { "stdout" };
    let mut from = logs.from;
    loop {
        // Asked before the output, which is then complete if the process has ended.
        let ended = !logs.follow || has_ended(&peer, logs.id).await?;
        let route = format!("processes/{}/output?stream={stream}&from={from}&follow={}", logs.id, logs.follow);
        let before = from;
        let headers = peer.read(&route, |headers, bytes| {
            note_gap(&mut from, headers, before);
            from += bytes.len() as u64;
            let mut stdout = io::stdout().lock();
            stdout.write_all(bytes)?;
            stdout.flush()
        });
        let headers = headers.await?;
        note_gap(&mut from, &headers, before);
        if ended && from >= number(&headers, "distillery-total") {
            return Ok(ExitCode::SUCCESS);
        }
    }
}

/// Reports bytes that are not kept, once, at the beginning of an answer.
fn note_gap(from: &mut u64, headers: &HeaderMap, before: u64) {
    let offset = number(headers, "distillery-offset");
    if *from == before && offset > before {
        output::note(format_args!("distillery: {} bytes are not kept", offset - before));
        *from = offset;
    }
}

async fn has_ended(peer: &Peer, id: Uuid) -> anyhow::Result<bool> {
    let process: Value = peer.ask(Method::GET, &format!("processes/{id}")).await?;
    Ok(process["outcome"] != "running")
}

fn number(headers: &HeaderMap, name: &str) -> u64 {
    headers.get(name).and_then(|value| value.to_str().ok()?.parse().ok()).unwrap_or_default()
}
