//! `distillery config`: a configuration file to start from, and its reference.

use crate::config::reference;
use std::{
    io::{self, Write},
    process::ExitCode,
};

#[derive(clap::Args)]
pub struct Arguments {
    /// Prints the reference of every key as a page of Markdown instead
    #[arg(long)]
    markdown: bool,
}

pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let text = if arguments.markdown { reference::markdown() } else { reference::SHIPPED.to_owned() };
    match io::stdout().write_all(text.as_bytes()) {
        // Whoever reads it has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        other => other?,
    }
    Ok(ExitCode::SUCCESS)
}
