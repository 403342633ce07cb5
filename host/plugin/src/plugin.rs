//! A generation of a plugin: its program, its rights, and its running processes.
//!
//! This module knows no directory, and reads nothing.

use super::{
    error::LoadError,
    generation::{Failure, Farewell},
    granted::Granted,
    manifest::Manifest,
    operator::Operator,
    params::CallSpec,
    rights::{Rights, Version},
    source::{Bounds, Source},
};
use distillery_core::{
    command::{BadArgument, CommandLine},
    limits::Limits,
    size::Size,
};
use distillery_runtime::{CompileError, Grants, Program};
use std::{
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
};
use time::OffsetDateTime;

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
    pub(super) farewell: OnceLock<Farewell>,
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
    pub(crate) fn fingerprint(&self) -> &str {
        &self.version.fingerprint
    }

    /// Returns the number and the size of its files; `None` if it brings none along.
    pub fn files(&self) -> Option<(usize, Size)> {
        self.version.files()
    }

    /// Returns the failure with the number `generation` of this version, which was loaded but not served.
    pub(super) fn failure(&self, generation: u64, why: impl fmt::Display) -> Failure {
        let (digest, fingerprint) = (Some(self.digest.clone()), Some(self.fingerprint().to_owned()));
        Failure { digest, fingerprint, ..Failure::new(generation, why) }
    }

    /// Names the rights of this generation that `now` does not include.
    pub fn lost(&self, now: &Rights) -> Vec<String> {
        let limits = self.limits.above(&now.limits).into_iter().map(|limit| format!("a higher limits.{limit}"));
        let kept = |name: &str| now.grants.env.iter().find(|(known, _)| known == name).map(|(_, value)| value);
        let values = self.grants.env.iter().filter(|(name, value)| kept(name) != Some(value));
        let values = values.map(|(name, _)| format!("the old value of {name}"));
        let mounts = self.granted.mounts.iter().zip(&self.grants.mounts);
        let mounts = mounts.filter(|(_, mounted)| !now.grants.mounts.contains(mounted));
        let mounts = mounts.map(|(mount, _)| format!("the directory that was the mount {}", mount.name));
        let commands = self.grants.commands.iter().filter(|(name, old)| now.grants.commands.get(*name) != Some(*old));
        let commands = commands.map(|(name, _)| format!("the old command {name}"));
        limits.chain(values).chain(mounts).chain(commands).collect()
    }

    fn has(&self, rights: &Rights) -> bool {
        self.limits == rights.limits
            && self.granted == rights.granted
            && self.grants.env == rights.grants.env
            && self.grants.mounts == rights.grants.mounts
            && self.grants.commands == rights.grants.commands
    }

    /// Returns the rights of this generation's version under the rules of `operator`.
    pub fn rights(&self, operator: &Operator) -> Result<Rights, LoadError> {
        self.version.rights(operator)
    }

    /// Returns the same version under the rules of `operator`: this generation if its rights are unchanged, otherwise a
    /// new one with the number `generation`.
    pub fn renewed(
        self: &Arc<Self>,
        operator: &Operator,
        bounds: &Bounds,
        generation: u64,
    ) -> Result<Arc<Self>, LoadError> {
        let version = &self.version;
        version.check_bounds(bounds)?;
        let rights = version.rights(operator)?;
        if self.has(&rights) && !self.is_revoked() {
            return Ok(self.clone());
        }
        let path = || version.directory.clone();
        self.program.fits(&rights.limits).map_err(|error| LoadError::Module { path: path(), error })?;
        Ok(Arc::new(Self::of(version.clone(), rights, generation, self.program.clone())))
    }

    /// Returns whether both are generations of the same version.
    pub(crate) fn is_version_of(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.version, &other.version)
    }
}

/// The arguments of a guest after the name of its call.
pub struct GuestArguments {
    /// Before the parameters.
    pub leading: Vec<String>,
    pub params: Vec<String>,
}

impl Plugin {
    /// Returns the command line that its calls run. `None` if it has a module.
    fn command_line(&self) -> Option<&CommandLine> {
        Some(&self.grants.commands.get(self.manifest.command.as_ref()?.as_str())?.line)
    }

    /// Returns a call of its manifest as it is served: with the rules of its command, if it runs one.
    pub fn served(&self, spec: &CallSpec) -> CallSpec {
        self.command_line().map_or_else(|| spec.clone(), |line| spec.of_command(line))
    }

    /// Returns the arguments of a guest for checked `params` of the call `spec`. The rules of a granted command apply
    /// before its guest starts.
    pub fn arguments(&self, spec: &CallSpec, params: Vec<String>) -> Result<GuestArguments, BadArgument> {
        let (Some(line), Some(command)) = (self.command_line(), &self.manifest.command) else {
            return Ok(GuestArguments {
                leading: self.manifest.arguments.iter().chain(&spec.arguments).cloned().collect(),
                params,
            });
        };
        let names = spec.params.iter().flatten().map(|param| param.name.clone());
        let named: Vec<_> = names.zip(params).collect();
        line.fill(&named)?;
        let params = named.into_iter().flat_map(|(name, value)| [name, value]).collect();
        Ok(GuestArguments { leading: vec![command.as_str().to_owned()], params })
    }
}

/// A running process of a generation, counted until it is dropped.
#[derive(Debug)]
pub struct Running(Arc<Plugin>);

impl Plugin {
    /// Counts one more process until the returned guard is dropped.
    pub fn enter(self: &Arc<Self>) -> Running {
        self.running.fetch_add(1, SeqCst);
        Running(self.clone())
    }

    /// Returns the number of running processes of this generation.
    pub fn running(&self) -> usize {
        self.running.load(SeqCst)
    }

    /// Prevents new processes of this generation. A counted process can still be about to check.
    pub fn revoke(&self) {
        self.revoked.store(true, SeqCst);
    }

    /// Returns whether this generation is revoked. Call this while holding a `Running`: then a concurrent revocation
    /// either counts that process or is seen here.
    pub fn is_revoked(&self) -> bool {
        self.revoked.load(SeqCst)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, SeqCst);
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
    use crate::manifest;
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
            interpreter: None,
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
