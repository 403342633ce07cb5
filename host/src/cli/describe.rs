//! `distillery openapi`: prints what describes the API.

use crate::api::documents::{asyncapi, openapi};
use clap::Args;
use std::{
    io::{self, ErrorKind, Write},
    process::ExitCode,
};

#[derive(Args)]
pub struct Arguments {
    /// Prints the description of the websocket's protocols instead, an AsyncAPI document
    #[arg(long)]
    asyncapi: bool,
}

pub fn run(arguments: &Arguments) -> ExitCode {
    let document = if arguments.asyncapi { asyncapi() } else { openapi() };
    match writeln!(io::stdout(), "{document:#}") {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read it has read enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("distillery: cannot print it: {error}");
            ExitCode::FAILURE
        }
    }
}
