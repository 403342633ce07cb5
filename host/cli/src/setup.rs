//! Sets up what the commands work with: the configuration, and loaders of plugins within its rules.

use super::overlay::Overlay;
use anyhow::Context;
use distillery_config::{Config, ConfigError};
use distillery_core::private::{self, Use};
use distillery_plugin::{
    Operator,
    archive::{self, Archive},
    files::{FileLimits, store::FileStore},
    granted::OperatorGrants,
    interpreters::Interpreters,
    load::Loader,
    signature::Trusted,
    source::Bounds,
};
use distillery_runtime::{Capacity, CompileLimits, Runtime, ScratchRoot};
use std::{path::Path, sync::Arc};

/// Returns a loader for plugins within `operator`'s rules, into an engine for as many processes as `capacity` allows.
pub fn loader(
    config: &Config,
    operator: Operator,
    capacity: &Capacity,
    cache: Option<&Path>,
) -> anyhow::Result<Loader> {
    let runtime = Runtime::new(&config.limits.process, capacity, cache)?;
    let limits = CompileLimits { time: config.limits.compile_time, memory: config.limits.compile_memory };
    let runtime = Arc::new(runtime.compile_apart(limits));
    let interpreters = Arc::new(interpreters(config));
    Ok(Loader { runtime, operator, bounds: bounds(config), interpreters, archive: None })
}

/// Returns a loader to run one plugin once. It uses the cache of compiled code only if the directory exists and belongs
/// to the user. The command works anywhere, and must leave no files that a server's user cannot open.
pub fn loader_of_one(config: &Config) -> anyhow::Result<Loader> {
    let one = Capacity::of(1);
    // Compiled code runs outside of the sandbox, so another user's code is not used.
    let own = |cache: &&Path| cache.is_dir() && private::directory(cache, Use::Serve).is_ok();
    let mut operator = operator(config)?;
    sweep(&operator);
    operator.grants.files = Arc::default();
    loader(config, operator, &one, Some(config.cache.as_path()).filter(own))
}

/// Returns a loader to inspect plugins. Its cache is an overlay, so dropping the overlay leaves no files.
pub fn loader_to_look(config: &Config, operator: Operator, capacity: &Capacity) -> anyhow::Result<(Loader, Overlay)> {
    let overlay = Overlay::over(&config.cache).context("cannot make a directory for compiled code: set TMPDIR")?;
    let mut loader = loader(config, operator, capacity, Some(overlay.path()))?;
    loader.operator.grants.look_only = true;
    loader.archive = Some(Arc::new(Archive::view(&config.data)));
    Ok((loader, overlay))
}

/// Removes temporary files that other servers left behind.
pub fn sweep(operator: &Operator) {
    if let Err(error) = operator.grants.scratch.sweep() {
        tracing::warn!(%error, "cannot remove temporary files of an earlier server");
    }
}

/// Returns the bounds of what is read of a plugin.
pub fn bounds(config: &Config) -> Bounds {
    let files = FileLimits { count: config.limits.files, size: config.limits.files_size };
    Bounds { module: config.limits.module, files }
}

/// Returns the interpreters that are installed.
pub fn interpreters(config: &Config) -> Interpreters {
    Interpreters::of(config.plugins.interpreters.clone())
}

/// Returns the rules of `config` for every plugin.
pub fn operator(config: &Config) -> anyhow::Result<Operator> {
    Ok(Operator {
        limits: config.limits.process.clone(),
        grace_max: config.cancel.grace_max,
        grants: grants(config),
        trusted: Trusted::read(&config.plugins.keys).context("plugins.keys")?.map(Arc::new),
    })
}

fn grants(config: &Config) -> OperatorGrants {
    OperatorGrants {
        plugins: config.plugins.grants.clone(),
        environment: config.plugins.environment.clone(),
        scratch: Arc::new(ScratchRoot::new(config.data.join("scratch"))),
        files: Arc::new(FileStore::of(config.data.join(archive::DIRECTORY))),
        systems: None,
        commands: Arc::default(),
        look_only: false,
    }
}

pub fn load(path: Option<&Path>) -> Result<Config, ConfigError> {
    // The server's own variables are always UTF-8.
    let environment =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    Config::load(path, environment)
}
