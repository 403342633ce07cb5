//! `distillery completions` and `distillery man`: what is written of the commands for shells and for `man`.

use anyhow::Context;
use std::{fs, io, path::Path, process::ExitCode};

pub fn completions(shell: clap_complete::Shell, mut command: clap::Command) -> anyhow::Result<ExitCode> {
    clap_complete::generate(shell, &mut command, "distillery", &mut io::stdout());
    Ok(ExitCode::SUCCESS)
}

pub fn man(directory: &Path, command: clap::Command) -> anyhow::Result<ExitCode> {
    let shown = || directory.display().to_string();
    fs::create_dir_all(directory).with_context(shown)?;
    clap_mangen::generate_to(command, directory).with_context(shown)?;
    Ok(ExitCode::SUCCESS)
}
