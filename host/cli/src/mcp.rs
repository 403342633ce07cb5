//! `distillery mcp`: the calls of a server as tools of a program that starts this one, over stdin and stdout.

use super::{output, peer::Server};
use clap::Args;
use distillery_client::mcp::pass_on;
use distillery_config::Config;
use std::{
    io::{self, BufRead, Write},
    process::ExitCode,
    thread,
};
use tokio::sync::mpsc;

#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    server: Server,
}

/// Messages that wait on each side.
const WAITING: usize = 16;

pub fn run(config: &Config, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let peer = arguments.server.peer(config)?;
    let (lines, input) = mpsc::channel(WAITING);
    thread::spawn(move || read(&lines));
    let (output, mut messages) = mpsc::channel::<String>(WAITING);
    let writer = thread::spawn(move || {
        let mut stdout = io::stdout();
        while let Some(message) = messages.blocking_recv() {
            writeln!(stdout, "{message}").and_then(|()| stdout.flush())?;
        }
        io::Result::Ok(())
    });
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(pass_on(peer, input, output));
    // A reader that has gone wants nothing more.
    drop(runtime);
    let _ = writer.join();
    Ok(ExitCode::SUCCESS)
}

fn read(lines: &mpsc::Sender<String>) {
    for line in io::stdin().lock().lines() {
        match line {
            Ok(line) if line.trim().is_empty() => {}
            Ok(line) => {
                if lines.blocking_send(line).is_err() {
                    return;
                }
            }
            Err(error) => return output::error(format_args!("cannot read stdin: {error}")),
        }
    }
}
