//! `distillery config`: prints a configuration file with defaults, or its reference.

use super::output;
use distillery_config::reference;
use std::process::ExitCode;

#[derive(clap::Args)]
pub struct Arguments {
    /// Prints the reference of every key as Markdown instead
    #[arg(long)]
    markdown: bool,
}

pub fn run(arguments: &Arguments) -> ExitCode {
    output::whole(if arguments.markdown { reference::markdown() } else { reference::SHIPPED.to_owned() });
    ExitCode::SUCCESS
}
