//! From a plugin directory to a plugin that serves: read whole, checked, compiled, linked.
//!
//! Compiling takes seconds for a large module and blocks: it never happens on a thread that serves.

use super::{
    Found, Operator, Plugin, Snapshot,
    discover::{self, LoadError, Source},
    generation::Failure,
    look::Look,
};
use crate::{runtime::Runtime, size::Size};
use rayon::prelude::*;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

pub struct Loader {
    pub runtime: Arc<Runtime>,
    pub operator: Operator,
    /// The largest module.
    pub max_module: Size,
}

/// What became of one directory.
pub struct Loaded {
    pub name: String,
    pub took: Duration,
    pub result: Found,
    /// What was seen of the directory before it was read.
    pub(super) look: Option<Look>,
}

/// A directory that is to be loaded again.
#[derive(Clone, Debug)]
pub(super) struct Again {
    pub directory: PathBuf,
    /// The number of the generation, should it become one.
    pub generation: u64,
    /// How often the rules of the operator had changed.
    pub rules: u64,
    /// What need not be loaded: it serves already, or is known not to.
    pub known: Vec<String>,
}

/// What came of loading a directory again.
#[derive(Debug)]
pub(super) enum Fresh {
    Plugin(Arc<Plugin>),
    /// It is what is known already.
    Known {
        digest: String,
    },
    /// It changed while it was read.
    Torn,
    /// There is no plugin any more.
    Gone,
    Failed(Failure),
}

impl Loader {
    /// Loads every plugin below `root`, several at a time, to look at them. One that does not load keeps no other from
    /// loading.
    pub fn load_all(&self, root: &Path) -> Result<Vec<Loaded>, LoadError> {
        let found = discover::plugin_directories(root)?;
        let mut loaded: Vec<Loaded> = found
            .into_par_iter()
            .map(|(name, found)| {
                let begun = Instant::now();
                let result = self.load_first(found);
                Loaded { name, took: begun.elapsed(), result, look: None }
            })
            .collect();
        loaded.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(loaded)
    }

    /// Makes the first generation of what was found.
    pub(super) fn load_first(&self, found: discover::Found) -> Found {
        let source = found.problem.map_or_else(|| Source::read(&found.path, self.max_module), Err);
        self.make_generation(1, source).map(Arc::new)
    }

    /// Loads the plugin of one directory.
    pub fn load(&self, directory: &Path) -> Result<Plugin, LoadError> {
        self.make(&Source::read(directory, self.max_module)?)
    }

    /// Makes a plugin of what was read.
    pub fn make(&self, source: &Source) -> Result<Plugin, LoadError> {
        Plugin::new(source, &self.operator, 1, |limits| self.runtime.compile(&source.module_bytes, limits))
    }

    /// Makes the generation of this number, where something could be read at all.
    fn make_generation(&self, generation: u64, source: Result<Source, LoadError>) -> Result<Plugin, Failure> {
        let failure = |digest, error| Failure::new(generation, digest, error);
        let source = source.map_err(|error| failure(None, error))?;
        let mut plugin = self.make(&source).map_err(|error| {
            // The same files may be signed later: then they are not what is known already.
            let signed = !matches!(error, LoadError::Signature { .. });
            failure(Some(source.digest).filter(|_| signed), error)
        })?;
        plugin.generation = generation;
        Ok(plugin)
    }

    /// Loads a directory in which something changed, unless it holds what is known. Manifest and module are read as one:
    /// what changes in between is not taken.
    pub(super) fn load_again(&self, again: &Again) -> (Fresh, Option<Look>) {
        let directory = &again.directory;
        let look = Look::at(directory, None).ok();
        let source = match discover::plugin_directory(directory) {
            None => return (Fresh::Gone, look),
            Some(found) => found.problem.map_or_else(|| Source::read(directory, self.max_module), Err),
        };
        if look.is_none() || Look::at(directory, look.as_ref()).ok() != look {
            return (Fresh::Torn, look);
        }
        if let Some(source) = source.as_ref().ok().filter(|source| again.known.contains(&source.digest)) {
            return (Fresh::Known { digest: source.digest.clone() }, look);
        }
        let fresh = match self.make_generation(again.generation, source) {
            Ok(mut plugin) => {
                plugin.rules = again.rules;
                Fresh::Plugin(Arc::new(plugin))
            }
            Err(failure) => Fresh::Failed(failure),
        };
        (fresh, look)
    }
}

/// What was found, by the name of the plugin.
pub fn found(loaded: &[Loaded]) -> BTreeMap<String, Found> {
    loaded.iter().map(|loaded| (loaded.name.clone(), loaded.result.clone())).collect()
}

/// The first snapshot of what was loaded.
pub fn snapshot(loaded: Vec<Loaded>) -> Snapshot {
    Snapshot::default().next(found(&loaded))
}
