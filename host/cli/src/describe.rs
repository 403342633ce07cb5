//! `distillery openapi`: prints the descriptions of the API.

use super::output;
use clap::Args;
use distillery_http::api::documents::{asyncapi, openapi};
use std::process::ExitCode;

#[derive(Args)]
pub struct Arguments {
    /// Prints the AsyncAPI document of the websocket's protocols instead
    #[arg(long)]
    asyncapi: bool,
}

pub fn run(arguments: &Arguments) -> ExitCode {
    let document = if arguments.asyncapi { asyncapi() } else { openapi() };
    output::whole(format!("{document:#}\n"));
    ExitCode::SUCCESS
}
