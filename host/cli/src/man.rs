//! `distillery completions` and `distillery man`: completion scripts and manual pages.

use super::output;
use anyhow::Context;
use std::{fs, path::Path, process::ExitCode};

pub fn completions(shell: clap_complete::Shell, mut command: clap::Command) -> anyhow::Result<ExitCode> {
    // Written to memory first, because clap_complete panics if a write fails.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, "distillery", &mut script);
    output::whole(script);
    Ok(ExitCode::SUCCESS)
}

pub fn man(directory: &Path, command: clap::Command) -> anyhow::Result<ExitCode> {
    let shown = || directory.display().to_string();
    fs::create_dir_all(directory).with_context(shown)?;
    clap_mangen::generate_to(command, directory).with_context(shown)?;
    Ok(ExitCode::SUCCESS)
}
