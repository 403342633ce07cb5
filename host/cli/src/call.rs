//! `distillery call` and `distillery attach`: run a call on a server, at a terminal or in a pipe.
//!
//! Input and output are unchanged bytes. stdin and stdout each have a thread, so that neither delays a signal.

mod streams;
mod talk;

use super::{
    output,
    peer::{Server, process_key},
    signals::Signals,
    status,
};
use anyhow::Context as _;
use clap::Args;
use distillery_client::conversation::{self, Wanted};
use distillery_config::Config;
use distillery_core::call::CancelReason;
use std::{future::poll_fn, process::ExitCode};
use talk::Talk;
use tokio::runtime::Builder;

#[derive(Args)]
#[command(after_help = status::HELP)]
pub struct Call {
    #[command(flatten)]
    server: Server,
    /// Prints each event as a line of JSON
    #[arg(long)]
    json: bool,
    /// Leaves the process running without a client, and prints its id: see `distillery attach`
    #[arg(long)]
    detach: bool,
    /// Does not read stdin: the call gets no input and no end of input
    #[arg(long, conflicts_with = "detach")]
    no_stdin: bool,
    /// The call and its parameters: all arguments after the name belong to the call
    #[arg(value_names = ["NAME", "PARAMS"], required = true, num_args = 1.., trailing_var_arg = true)]
    call: Vec<String>,
}

#[derive(Args)]
#[command(after_help = status::HELP)]
pub struct Attach {
    #[command(flatten)]
    server: Server,
    /// Prints each event as a line of JSON
    #[arg(long)]
    json: bool,
    /// Connects stdin to the process, and lets Ctrl-C cancel it; otherwise Ctrl-C leaves the process running
    #[arg(long, short)]
    interactive: bool,
    /// The id of the process, as `distillery call --detach` or `distillery ps` prints it. Its key, after the colon, can
    /// be given in $DISTILLERY_PROCESS_KEY instead, to hide it from other users of the machine
    id: String,
}

/// The mode of a conversation at the terminal.
struct Manner {
    json: bool,
    /// The source of the call's input.
    input: Input,
    /// Whether Ctrl-C cancels the call.
    cancels: bool,
    /// Whether the process is only started.
    detach: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Input {
    Stdin,
    /// Another client provides the input.
    Theirs,
}

pub fn call(config: &Config, call: Call) -> anyhow::Result<ExitCode> {
    let mut words = call.call.into_iter();
    let name = words.next().context("name a call")?;
    let wanted = Wanted::Call { name, params: words.collect(), detached: call.detach };
    let input = if call.detach || call.no_stdin { Input::Theirs } else { Input::Stdin };
    run(config, &call.server, &wanted, &Manner { json: call.json, input, cancels: true, detach: call.detach })
}

pub fn attach(config: &Config, attach: Attach) -> anyhow::Result<ExitCode> {
    let (id, key) = match attach.id.split_once(':') {
        Some((id, key)) => (id.to_owned(), Some(key.to_owned())),
        None => (attach.id, process_key()),
    };
    let input = if attach.interactive { Input::Stdin } else { Input::Theirs };
    let manner = Manner { json: attach.json, input, cancels: attach.interactive, detach: false };
    run(config, &attach.server, &Wanted::Attach { id, key }, &manner)
}

fn run(config: &Config, server: &Server, wanted: &Wanted, manner: &Manner) -> anyhow::Result<ExitCode> {
    let runtime = Builder::new_current_thread().enable_all().build().context("cannot start a runtime")?;
    let ended = runtime.block_on(async {
        let not_started = |error| (status::NOT_STARTED, error);
        let mut signals = Signals::listen().map_err(not_started)?;
        let peer = server.peer(config).map_err(not_started)?;
        let begun = tokio::select! {
            begun = conversation::begin(&peer, wanted, |what| output::error(what)) => begun.map_err(not_started)?,
            reason = poll_fn(|cx| signals.poll_next(cx)) => return Ok(of_signal(&reason)),
        };
        Talk::begin(begun, &mut signals, manner).go_on().await.map_err(|error| (status::LIMIT, error))
    });
    // Blocked reads and writes must not delay the exit.
    runtime.shutdown_background();
    Ok(ExitCode::from(ended.unwrap_or_else(|(status, error)| {
        output::error(format_args!("{error:#}"));
        status
    })))
}

fn of_signal(reason: &CancelReason) -> u8 {
    match reason {
        CancelReason::Shutdown => status::TERMINATED,
        _ => status::INTERRUPTED,
    }
}
