//! Plugins, the calls that they provide, and the catalog of both, which is read as one snapshot.
//!
//! This module never runs a call, and knows nothing of sockets.
#![forbid(unsafe_code)]
// They panic where stdout or stderr cannot be written: only the command line prints.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

pub mod archive;
pub mod arguments;
pub mod capabilities;
mod catalog;
pub mod command_calls;
mod debounce;
pub mod discover;
pub mod files;
pub mod first_load;
pub mod generation;
pub mod granted;
pub mod load;
pub mod loading;
mod look;
pub mod manifest;
mod notice;
pub mod params;
pub mod rebuild;
mod rights;
pub mod signature;
mod snapshot;
pub mod source;
pub mod watch;

pub use catalog::Catalog;
pub use snapshot::{Snapshot, State};

use discover::LoadError;
use distillery_core::{limits::Limits, size::Size};
use distillery_runtime::{CompileError, Grants, Program};
use generation::{Failure, Farewell};
use granted::{Granted, OperatorGrants};
use manifest::Manifest;
use params::CallSpec;
use rights::{Rights, Version};
use signature::Trusted;
use source::Source;
use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicUsize},
    },
    time::Duration,
};
use time::OffsetDateTime;

/// The operator's rules for every plugin.
#[derive(Clone, Debug, Default)]
pub struct Operator {
    pub limits: Limits,
    /// The longest grace period that a plugin can set.
    pub grace_max: Duration,
    /// The keys that must have signed a plugin; `None` if no signature is required.
    pub trusted: Option<Arc<Trusted>>,
    pub grants: OperatorGrants,
}

/// One generation of a plugin. Its processes keep it alive until the last has ended.
#[derive(Debug)]
pub struct Plugin {
    pub name: String,
    pub digest: String,
    pub manifest: Arc<Manifest>,
    pub limits: Limits,
    pub generation: u64,
    pub program: Program,
    /// The granted resources, for display.
    pub granted: Granted,
    /// The granted resources, for use by processes.
    pub grants: Arc<Grants>,
    /// The time of the load.
    pub loaded: OffsetDateTime,
    version: Arc<Version>,
    running: AtomicUsize,
    /// Whether its rights were revoked, so that no process of it can start.
    revoked: AtomicBool,
    // Declared after the program: the farewell reports that the program is dropped.
    farewell: OnceLock<Farewell>,
}

impl Plugin {
    /// Makes the plugin that `source` describes, under the rules of `operator`. Compiles the module only after the
    /// rights are granted.
    pub fn new(
        source: &Source,
        operator: &Operator,
        generation: u64,
        compile: impl FnOnce(&Limits) -> Result<Program, CompileError>,
    ) -> Result<Self, LoadError> {
        let version = Arc::new(Version::new(source, operator)?);
        let rights = version.rights(operator)?;
        let program =
            compile(&rights.limits).map_err(|error| LoadError::Module { path: source.module_path.clone(), error })?;
        Ok(Self::of(version, rights, generation, program))
    }

    fn of(version: Arc<Version>, rights: Rights, generation: u64, program: Program) -> Self {
        let Rights { limits, granted, grants } = rights;
        Self {
            name: version.signed.name.to_string(),
            digest: version.signed.digest.clone(),
            manifest: version.manifest.clone(),
            limits,
            generation,
            program,
            granted,
            grants,
            loaded: OffsetDateTime::now_utc(),
            version,
            running: AtomicUsize::new(0),
            revoked: AtomicBool::new(false),
            farewell: OnceLock::new(),
        }
    }

    /// Returns the fingerprint; generations with equal fingerprints load alike.
    pub fn fingerprint(&self) -> &str {
        &self.version.fingerprint
    }

    /// Returns the number and the size of its files; `None` if it brings none along.
    pub fn files(&self) -> Option<(usize, Size)> {
        self.version.files()
    }
}

/// A call, with the generation of the plugin that runs it.
#[derive(Debug)]
pub struct Call {
    pub spec: CallSpec,
    pub plugin: Arc<Plugin>,
}

/// The content of a directory: a plugin, or the reason why there is none.
pub type Found = Result<Arc<Plugin>, Failure>;

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use distillery_core::call::CallName;
    use distillery_runtime::Linking;
    use std::{collections::BTreeMap, path::Path};

    pub fn source(name: &str, manifest: &str) -> Source {
        let directory = Path::new("plugins").join(name);
        let name: CallName = name.parse().unwrap();
        Source {
            manifest: Manifest::read(manifest, &directory.join(manifest::FILE), &name).unwrap(),
            module_path: directory.join("x.wat"),
            module_bytes: Vec::new(),
            files: None,
            digest: String::new(),
            signature: None,
            manifest_text: manifest.to_owned(),
            has_manifest: true,
            name,
            directory,
        }
    }

    pub fn compile(limits: &Limits) -> Result<Program, CompileError> {
        let module = b"(module (memory 2) (func (export \"_start\")))";
        distillery_runtime::testing::runtime().compile(module, &Linking::default(), limits)
    }

    pub fn plugin(name: &str, calls: &str, generation: u64) -> Found {
        let source = source(name, &format!("calls: {calls}"));
        let plugin = Plugin::new(&source, &Operator::default(), generation, compile);
        plugin.map(Arc::new).map_err(|error| Failure::new(generation, error))
    }

    pub fn broken(generation: u64) -> Found {
        Err(Failure::new(generation, "broken"))
    }

    pub fn found<const N: usize>(plugins: [(&str, Found); N]) -> BTreeMap<String, Found> {
        plugins.map(|(name, plugin)| (name.to_owned(), plugin)).into()
    }

    fn refused(manifest: &str) -> String {
        Plugin::new(&source("echo", manifest), &Operator::default(), 1, compile).unwrap_err().to_string()
    }

    #[test]
    fn plugin_with_an_ungranted_request_does_not_load() {
        assert_eq!(
            refused("capabilities: {env: [LANG], scratch: 1MiB}"),
            "plugins/echo: not granted: the environment variable LANG, 1MiB of scratch space: grant it in \
             plugins.grants.echo in distillery.yaml"
        );
    }

    #[test]
    fn operator_limits_apply_to_a_plugin() {
        let lowered = Plugin::new(&source("echo", "limits: {memory: 1MiB}"), &Operator::default(), 1, compile).unwrap();
        assert_eq!(lowered.limits, Limits { memory: Size::mib(1), ..Limits::default() });
        let refused = refused("limits: {memory: 1GiB}");
        assert!(refused.starts_with("plugins/echo: limits.memory asks for 1GiB"), "{refused}");
    }
}
