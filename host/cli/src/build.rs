//! `distillery build`: runs the `build` command of a manifest, and checks the result.

use super::{output, setup};
use anyhow::{Context as _, bail};
use clap::Args;
use distillery_config::Config;
use distillery_plugin::source;
use std::{
    fs,
    path::PathBuf,
    process::{Command, ExitCode},
};

#[derive(Args)]
pub struct Arguments {
    /// The directory of a plugin
    #[arg(value_name = "DIR", default_value = ".")]
    plugin: PathBuf,
}

pub fn run(config: &Config, arguments: Arguments) -> anyhow::Result<ExitCode> {
    let directory = fs::canonicalize(&arguments.plugin).with_context(|| arguments.plugin.display().to_string())?;
    let (_, manifest) = source::manifest(&directory)?;
    let Some(build) = manifest.build else {
        bail!("{}: plugin.yaml has no build command: add `build: COMMAND`", directory.display());
    };
    output::line(&build);
    let ended = Command::new("sh").arg("-c").arg(&build).current_dir(&directory).status().context("cannot run sh")?;
    if !ended.success() {
        let readme = directory.join("README.md");
        let needs = if readme.is_file() { ": its README.md says what it needs" } else { "" };
        bail!("{}: the build failed ({ended}){needs}", directory.display());
    }
    let mut loader = setup::loader_of_one(config)?;
    loader.operator.grants.look_only = true;
    super::check::one_plugin(loader, &directory)
}
