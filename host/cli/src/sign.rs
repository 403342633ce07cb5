//! `distillery keygen` and `distillery sign`: make keys and sign plugins.

use super::{output, setup};
use anyhow::Context;
use distillery_config::Config;
use distillery_plugin::{
    signature::{self, Signer},
    source::Source,
};
use std::{path::Path, process::ExitCode};

pub fn keygen(name: &Path) -> anyhow::Result<ExitCode> {
    let [secret, public] = signature::generate(name).with_context(|| format!("cannot make {}", name.display()))?;
    output::line(format_args!("{}: the secret key, for `distillery sign`: keep it to yourself", secret.display()));
    output::line(format_args!("{}: the public key, for plugins.keys in distillery.yaml", public.display()));
    Ok(ExitCode::SUCCESS)
}

pub fn run(config: &Config, key: &Path, directory: &Path) -> anyhow::Result<ExitCode> {
    let signer = Signer::read(key)?;
    // `.` has no name of its own, but the directory that it refers to has.
    let directory = directory.canonicalize().with_context(|| directory.display().to_string())?;
    let source = Source::read(&directory, &setup::bounds(config), &setup::interpreters(config))?;
    output::line(format_args!("signed: {}", signer.sign(&(&source).into(), &source.directory)?.display()));
    Ok(ExitCode::SUCCESS)
}
