//! `distillery openapi`: prints what describes the API.

use super::output;
use crate::api::documents::{asyncapi, openapi};
use clap::Args;
use std::process::ExitCode;

#[derive(Args)]
pub struct Arguments {
    /// Prints the description of the websocket's protocols instead, an AsyncAPI document
    #[arg(long)]
    asyncapi: bool,
}

pub fn run(arguments: &Arguments) -> ExitCode {
    let document = if arguments.asyncapi { asyncapi() } else { openapi() };
    output::whole(format!("{document:#}\n"));
    ExitCode::SUCCESS
}
