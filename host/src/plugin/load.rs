//! From a plugin directory to a plugin that serves: read whole, checked, compiled, linked.
//!
//! Compiling takes seconds for a large module and blocks: it never happens on a thread that serves.

use super::{
    Operator, Plugin, Snapshot,
    discover::{self, LoadError, Source},
};
use crate::{runtime::Runtime, size::Size};
use rayon::prelude::*;
use std::{
    collections::BTreeMap,
    path::Path,
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
    pub result: Result<Arc<Plugin>, String>,
}

impl Loader {
    /// Loads every plugin below `root`, several at a time, and tells `each` as it is done. One that does not load keeps
    /// no other from loading.
    pub fn load_all(&self, root: &Path, each: impl Fn(&Loaded) + Sync) -> Result<Vec<Loaded>, LoadError> {
        let found = discover::plugin_directories(root)?;
        let mut loaded: Vec<Loaded> = found
            .into_par_iter()
            .map(|(name, directory)| {
                let begun = Instant::now();
                let result = directory
                    .and_then(|directory| self.load(&directory).map(Arc::new))
                    .map_err(|error| error.to_string());
                let loaded = Loaded { name, took: begun.elapsed(), result };
                each(&loaded);
                loaded
            })
            .collect();
        loaded.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(loaded)
    }

    /// Loads the plugin of one directory.
    pub fn load(&self, directory: &Path) -> Result<Plugin, LoadError> {
        let source = Source::read(directory, self.max_module)?;
        Plugin::new(&source, &self.operator, 1, |limits| self.runtime.compile(&source.module_bytes, limits))
    }
}

/// The first snapshot of what was loaded.
pub fn snapshot(loaded: Vec<Loaded>) -> Snapshot {
    let found: BTreeMap<_, _> = loaded.into_iter().map(|loaded| (loaded.name, loaded.result)).collect();
    Snapshot::default().next(found)
}
