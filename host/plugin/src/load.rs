//! Turns a plugin directory into a plugin that can serve: reads, checks, compiles and links it.
//!
//! Compiling a large module takes seconds and blocks, so it never happens on a thread that serves.

use super::{
    archive::{Archive, Rollback},
    discover,
    error::LoadError,
    generation::Failure,
    interpreters::Interpreters,
    look::Look,
    manifest,
    operator::Operator,
    plugin::{Found, Plugin},
    snapshot::Snapshot,
    source::{Bounds, Source},
    stat::InterpreterLooks,
};
use distillery_runtime::Runtime;
use rayon::prelude::*;
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

pub struct Loader {
    pub runtime: Arc<Runtime>,
    pub operator: Operator,
    /// The bounds of what is read of a plugin.
    pub bounds: Bounds,
    /// The interpreters that the operator has installed.
    pub interpreters: Arc<Interpreters>,
    /// The archive of plugins; `None` if a plugin is loaded alone.
    pub archive: Option<Arc<Archive>>,
}

/// The result of loading one directory.
pub struct Loaded {
    pub name: String,
    pub took: Duration,
    pub result: Found,
    /// The rollback in effect, if any; then the result is the version that it restored.
    pub(super) rollback: Option<Rollback>,
    /// The look at the directory before it was read.
    pub(super) look: Option<Look>,
}

/// A request to load a directory again.
#[derive(Clone, Debug)]
pub(super) struct Again {
    pub directory: PathBuf,
    /// The number of the generation if there will be a new one.
    pub generation: u64,
    /// Fingerprints of versions that need no load: already served, or known to fail.
    pub known: Vec<String>,
    /// The rollback in effect, if its version is to be loaded again.
    pub rollback: Option<Rollback>,
}

/// The result of loading a directory again.
#[derive(Debug)]
pub(super) enum Fresh {
    Plugin(Arc<Plugin>),
    /// The directory holds the version that was rolled back; the version served instead is given.
    RolledBack(Found),
    /// The directory holds a known version.
    Known {
        fingerprint: String,
    },
    /// The directory changed during the read.
    Torn,
    /// The directory holds no plugin any more.
    Gone,
    Failed(Failure),
}

impl Loader {
    /// Loads every plugin below `root` for inspection, several at a time. A failure does not affect other plugins.
    pub fn load_all(&self, root: &Path) -> Result<Vec<Loaded>, LoadError> {
        let found = discover::plugin_directories(root)?;
        // An empty root can be a disk that is not mounted.
        if let Some(archive) = self.archive.as_ref().filter(|_| !found.is_empty()) {
            archive.sweep(root);
        }
        let mut loaded: Vec<Loaded> = found.into_par_iter().map(|(name, found)| self.load_first(name, found)).collect();
        loaded.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(loaded)
    }

    /// Makes the first generation from a found directory.
    pub(super) fn load_first(&self, name: String, found: discover::Found) -> Loaded {
        let begun = Instant::now();
        let look = self.look(&found.path, None);
        let source = found.problem.map_or_else(|| self.read(&found.path), Err);
        let (result, rollback) = self.first_generation(&name, &found.path, source);
        Loaded { name, took: begun.elapsed(), result: result.map(Arc::new), rollback, look }
    }

    /// Looks at a directory and at the interpreter that its manifest names.
    fn look(&self, directory: &Path, before: Option<&Look>) -> Option<Look> {
        Look::at(directory, before, &mut InterpreterLooks::of(self.interpreters.root())).ok()
    }

    /// Loads the plugin of one directory.
    pub fn load(&self, directory: &Path) -> Result<Plugin, LoadError> {
        self.make(&self.read(directory)?)
    }

    /// Reads the plugin in `directory`. A plugin that had a manifest is refused without one.
    fn read(&self, directory: &Path) -> Result<Source, LoadError> {
        let Some((archive, name)) = self.archive.as_ref().zip(directory.file_name().and_then(|name| name.to_str()))
        else {
            return Source::read(directory, &self.bounds, &self.interpreters);
        };
        // Counts even if the manifest cannot be read.
        if fs::symlink_metadata(directory.join(manifest::FILE)).is_ok() {
            archive.has_manifest(name)?;
        }
        let source = Source::read(directory, &self.bounds, &self.interpreters)?;
        if !source.has_manifest && archive.record(name)?.manifest {
            return Err(LoadError::ManifestGone(directory.to_owned()));
        }
        Ok(source)
    }

    /// Makes the first generation after a start: the version in the directory, unless that version was rolled back and
    /// is unchanged.
    fn first_generation(
        &self,
        name: &str,
        directory: &Path,
        source: Result<Source, LoadError>,
    ) -> (Result<Plugin, Failure>, Option<Rollback>) {
        let Some(archive) = &self.archive else { return (self.make_generation(1, source), None) };
        let rollback = match archive.record(name) {
            Ok(record) => record.rollback,
            Err(error) => return (Err(Failure::new(1, error)), None),
        };
        let Some(rollback) = rollback.filter(|it| it.holds_for(source.as_ref())) else {
            if let Err(error) = archive.set_rollback(name, None) {
                tracing::warn!(plugin = name, %error, "cannot save the end of a rollback");
            }
            return (self.make_generation(1, source), None);
        };
        let copy = archive.source(directory, &rollback.to, &self.bounds);
        (self.make_generation(1, copy), Some(rollback))
    }

    /// Makes a plugin from a source.
    pub fn make(&self, source: &Source) -> Result<Plugin, LoadError> {
        Plugin::new(source, &self.operator, 1, |limits| source.program(&self.runtime, limits))
    }

    /// Makes the generation with this number from a readable source, and keeps a copy of the source.
    fn make_generation(&self, generation: u64, source: Result<Source, LoadError>) -> Result<Plugin, Failure> {
        let source = source.map_err(|error| Failure::new(generation, error))?;
        let mut plugin = self.make(&source).map_err(|error| Failure::to_make(&source, generation, error))?;
        plugin.generation = generation;
        if let Some(Err(error)) = self.archive.as_ref().map(|archive| archive.keep(&source)) {
            tracing::warn!(plugin = plugin.name, %error, "cannot keep a copy; a restart will lose a rollback to this version");
        }
        Ok(plugin)
    }

    /// Loads a changed directory unless it holds a known version. Manifest and module are read as one: a change in
    /// between discards the read.
    pub(super) fn load_again(&self, again: &Again) -> (Fresh, Option<Look>) {
        let directory = &again.directory;
        let look = self.look(directory, None);
        let source = match discover::plugin_directory(directory) {
            None => return (Fresh::Gone, look),
            Some(found) => found.problem.map_or_else(|| self.read(directory), Err),
        };
        if look.is_none() || self.look(directory, look.as_ref()) != look {
            return (Fresh::Torn, look);
        }
        let rollback = again.rollback.as_ref().filter(|rollback| rollback.holds_for(source.as_ref()));
        if let Some((archive, rollback)) = self.archive.as_ref().zip(rollback) {
            let copy = archive.source(directory, &rollback.to, &self.bounds);
            return (Fresh::RolledBack(self.make_generation(again.generation, copy).map(Arc::new)), look);
        }
        let fingerprint = source.as_ref().ok().map(Source::fingerprint);
        if let Some(fingerprint) = fingerprint.filter(|it| again.known.contains(it)) {
            return (Fresh::Known { fingerprint }, look);
        }
        let fresh = match self.make_generation(again.generation, source) {
            Ok(plugin) => Fresh::Plugin(Arc::new(plugin)),
            Err(failure) => Fresh::Failed(failure),
        };
        (fresh, look)
    }
}

/// Returns the results by plugin name.
pub fn found(loaded: &[Loaded]) -> BTreeMap<String, Found> {
    loaded.iter().map(|loaded| (loaded.name.clone(), loaded.result.clone())).collect()
}

/// Returns the first snapshot of the loaded plugins.
pub fn snapshot(loaded: &[Loaded]) -> Snapshot {
    Snapshot::default().next(&found(loaded))
}
