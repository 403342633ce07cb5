//! A server that runs WebAssembly programs as sandboxed, interactive *calls* over websockets.
//!
//! This package is the binary: the command line, and the start of the server. It is not a stable interface: speak to a
//! server through its protocols instead.
//!
//! # Where to begin
//!
//! A call takes this way through the packages of `host`:
//!
//! 1. [`distillery_http::server`] accepts a connection and finds out the caller ([`distillery_store::identity`]). A websocket
//!    becomes a [`distillery_http::session`].
//! 2. [`distillery_http::session::protocol`] reads frames ([`distillery_http::wire`]) and decides what they mean, as a state
//!    machine without sockets.
//! 3. [`distillery_process::dispatch`] finds the call in the [`distillery_plugin::Catalog`], asks [`distillery_core::auth`]
//!    whether the caller is allowed to run it, checks the parameters, and waits for a slot
//!    ([`distillery_process::admission`]).
//! 4. [`distillery_process::Process`] runs a guest of [`distillery_runtime`]. [`distillery_core::stream`] carries its input
//!    and output, [`distillery_core::control`] its cancel.
//! 5. The process ends with a [`distillery_core::call::Outcome`], which the client reads as a result and
//!    [`distillery_process::history`] writes down.
//!
//! Beside this way: [`distillery_http::api`] answers requests, [`distillery_http::console`] serves the page for people,
//! [`distillery_process::detached`] holds processes that outlive their client, [`distillery_store`] has the database,
//! [`distillery_config`] reads `distillery.yaml`, [`distillery_http::ops`] and [`distillery_observe`] are for the operator, and
//! [`distillery_client`] speaks to other servers.
//!
//! ARCHITECTURE.md at the top of the repository says what each package must not know, and has the glossary. `docs/design`
//! explains cancel, swap, threads, bounds and takeover.
#![forbid(unsafe_code)]
// They panic where stdout or stderr cannot be written: only the command line prints.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

mod accounts;
mod build;
mod call;
mod can_i;
mod check;
mod config;
mod describe;
mod interpreter;
mod logs;
mod man;
mod mcp;
mod new;
mod output;
mod overlay;
mod peer;
mod preflight;
mod readiness;
mod reread;
mod run;
mod running;
mod schedules;
mod serve;
mod setup;
mod sign;
mod signals;
mod sockets;
mod status;

use clap::{CommandFactory, Parser, Subcommand};
use distillery_command::{SUPERVISOR_COMMAND, supervise};
use distillery_runtime::{COMPILE_COMMAND, compile_worker};
use std::{path::PathBuf, process::ExitCode};

/// Serves calls: sandboxed WASM programs that clients talk to over a websocket.
#[derive(Parser)]
#[command(name = "distillery", version, arg_required_else_help = true, propagate_version = true)]
struct Arguments {
    /// The configuration file [default: distillery.yaml, if it exists]
    #[arg(long, short, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Loads the plugins and serves until SIGTERM or SIGINT
    Serve(serve::Arguments),
    /// Checks the configuration and all plugins as serving would, without serving
    Check(check::Arguments),
    /// Makes a key pair to sign plugins with: the secret key NAME.key, and the public key NAME.pub for plugins.keys
    Keygen {
        /// The path of the files, without extension
        name: PathBuf,
    },
    /// Signs the plugin in a directory, under its name: writes plugin.sig next to its manifest and its module
    Sign {
        /// The secret key: made by `distillery keygen`, or any Ed25519 key in PEM form
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        directory: PathBuf,
    },
    /// Makes the running server reload its configuration and its plugins
    Reload,
    /// Lists the plugins of the running server and their generations
    Plugins(running::Plugins),
    /// Runs a call on a server: its stdin and stdout are the call's, Ctrl-C cancels it, a second one forces it to end
    Call(call::Call),
    /// Shows the output of a detached process, including its kept output
    Attach(call::Attach),
    /// Lists the running processes of a server: your own, or all with the scope processes:*
    Ps(running::Ps),
    /// Tells a process of a server to stop
    Cancel(running::Cancel),
    /// Prints what a process of a server wrote, also after its end
    Logs(logs::Logs),
    /// Lists the calls of a server that you are allowed to run
    Calls(running::Calls),
    /// Offers the calls of a server as tools to the program that starts this one, with the Model Context Protocol
    Mcp(mcp::Arguments),
    /// Lists the schedules of a server: your own, or all with the scope schedules:read
    Schedules(schedules::Arguments),
    /// Prints a shell's completion script for these commands
    Completions { shell: clap_complete::Shell },
    /// Writes a manual page for each command into a directory
    Man { directory: PathBuf },
    /// Makes the directory of a new plugin from a template
    New(new::Arguments),
    /// Interpreters: modules that run the scripts of plugins
    #[command(subcommand)]
    Interpreter(interpreter::Command),
    /// Runs the build command of a plugin, and checks the result
    Build(build::Arguments),
    /// Prints a configuration file with every key, its default and its meaning
    Config(config::Arguments),
    /// Runs one call at the terminal, without a server: Ctrl-C cancels it, a second one forces it to end
    Run(run::Arguments),
    /// Compiles one module for a server, in a process that can be killed
    #[command(hide = true, name = COMPILE_COMMAND)]
    CompileWorker { job: String },
    /// Runs one granted command for a server, and kills what it leaves behind
    #[command(hide = true, name = SUPERVISOR_COMMAND)]
    Supervisor,
    /// Users: who can log in, and their scopes. Works without a server; a running one applies changes at once
    #[command(subcommand)]
    User(accounts::User),
    /// Tokens: credentials with which programs act for a user
    #[command(subcommand)]
    Token(accounts::Token),
    /// Rights: what a user is allowed to do
    #[command(subcommand)]
    Auth(can_i::Auth),
    /// The earlier name of `auth can-i`
    #[command(hide = true)]
    May(can_i::Question),
    /// Prints the OpenAPI document of the JSON API. Needs no server
    Openapi(describe::Arguments),
    /// Writes a copy of the whole database into a new file, even while the server runs
    Backup { file: PathBuf },
}

/// Runs the command in the arguments of this process.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(said) => return output::clap(&said),
    };
    if let Command::CompileWorker { job } = &arguments.command {
        // The worker gets its settings as an argument, and reads no configuration.
        return compile_worker(job);
    }
    if matches!(arguments.command, Command::Supervisor) {
        return supervise();
    }
    output::finish(run(arguments))
}

/// Runs a command and returns its exit status.
fn run(arguments: Arguments) -> ExitCode {
    // These commands must work even with a wrong configuration.
    match &arguments.command {
        Command::Config(arguments) => return config::run(arguments),
        Command::Openapi(arguments) => return describe::run(arguments),
        Command::Completions { shell } => return finished(man::completions(*shell, Arguments::command())),
        Command::Man { directory } => return finished(man::man(directory, Arguments::command())),
        _ => {}
    }
    let config = match setup::load(arguments.config.as_deref()) {
        Ok(config) => config,
        Err(error) => {
            output::error(error);
            return ExitCode::from(output::WRONG);
        }
    };
    let done = match arguments.command {
        Command::Serve(serve) => serve::run(&config, arguments.config, &serve),
        Command::Check(arguments) => check::run(&config, arguments),
        Command::Keygen { name } => sign::keygen(&name),
        Command::Sign { key, directory } => sign::run(&config, &key, &directory),
        Command::Reload => running::reload(&config),
        Command::Plugins(plugins) => running::plugins(&config, plugins),
        Command::New(arguments) => new::run(&config, arguments),
        Command::Interpreter(command) => interpreter::run(&config, command),
        Command::Build(arguments) => build::run(&config, arguments),
        Command::Run(arguments) => run::run(&config, arguments),
        Command::Call(call) => call::call(&config, call),
        Command::Attach(attach) => call::attach(&config, attach),
        Command::Ps(ps) => running::ps(&config, &ps),
        Command::Cancel(cancel) => running::cancel(&config, &cancel),
        Command::Logs(logs) => logs::logs(&config, &logs),
        Command::Calls(calls) => running::calls(&config, &calls),
        Command::Mcp(arguments) => mcp::run(&config, &arguments),
        Command::Schedules(arguments) => schedules::run(&config, &arguments),
        Command::CompileWorker { .. }
        | Command::Supervisor
        | Command::Config(_)
        | Command::Openapi(_)
        | Command::Completions { .. }
        | Command::Man { .. } => {
            unreachable!("they have returned")
        }
        Command::User(user) => accounts::user(&config, user),
        Command::Token(token) => accounts::token(&config, token),
        Command::Auth(can_i::Auth::CanI(question)) | Command::May(question) => can_i::run(&config, &question),
        Command::Backup { file } => accounts::backup(&config, &file),
    };
    finished(done)
}

fn finished(done: anyhow::Result<ExitCode>) -> ExitCode {
    done.unwrap_or_else(|error| {
        output::error(format_args!("{error:#}"));
        ExitCode::FAILURE
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_well_formed() {
        Arguments::command().debug_assert();
    }
}
