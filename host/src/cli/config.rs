//! `distillery config`: a configuration file to start from, and its reference.

use super::output;
use crate::config::reference;
use std::process::ExitCode;

#[derive(clap::Args)]
pub struct Arguments {
    /// Prints the reference of every key as a page of Markdown instead
    #[arg(long)]
    markdown: bool,
}

pub fn run(arguments: &Arguments) -> ExitCode {
    output::whole(if arguments.markdown { reference::markdown() } else { reference::SHIPPED.to_owned() });
    ExitCode::SUCCESS
}
