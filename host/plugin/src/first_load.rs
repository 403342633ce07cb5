//! The first load: all plugins that exist when the server starts, each served as soon as it is loaded.
//!
//! Small modules load first, so that a module that compiles for minutes delays few others.

use super::{
    catalog::Catalog,
    discover,
    error::LoadError,
    generation::Failure,
    load::{Loaded, Loader},
    loading::Claims,
    manifest,
    plugin::{Found, Plugin},
    report::report,
    source,
};
use parking_lot::Mutex;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::mpsc,
    thread::{self, available_parallelism},
    time::Instant,
};

/// The plugins to load.
pub struct FirstLoad {
    root: PathBuf,
    found: Vec<(String, discover::Found)>,
}

impl FirstLoad {
    /// Finds the plugins below `root` and marks them as loading in `catalog`.
    pub fn find(root: &Path, catalog: &Catalog) -> Result<Self, LoadError> {
        let mut found: Vec<_> = discover::plugin_directories(root)?.into_iter().collect();
        catalog.loading.begin(found.iter().map(|(name, found)| (name.clone(), calls(found))).collect());
        // The queue is taken from its end, so the smallest module is last.
        found.sort_by_cached_key(|(_, found)| std::cmp::Reverse(module_size(&found.path)));
        Ok(Self { root: root.to_owned(), found })
    }

    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// Loads all plugins, several at a time, and publishes each in `catalog` when it is ready.
    pub(super) fn run(self, loader: &Loader, catalog: &Catalog) -> Vec<Loaded> {
        // An empty root can be a disk that is not mounted.
        if let Some(archive) = loader.archive.as_ref().filter(|_| !self.is_empty()) {
            archive.sweep(&self.root);
        }
        let workers = available_parallelism().map_or(1, usize::from).min(self.found.len());
        let (queue, (sender, done)) = (Mutex::new(self.found), mpsc::channel());
        thread::scope(|scope| {
            for _ in 0..workers {
                let (queue, sender) = (&queue, sender.clone());
                let work = move || {
                    loop {
                        let next = queue.lock().pop();
                        let Some((name, found)) = next else { return };
                        // The receiver outlives all workers.
                        let _ = sender.send(load(loader, name, found));
                    }
                };
                let spawned = thread::Builder::new().name("load".into()).spawn_scoped(scope, work);
                if let Err(error) = spawned {
                    tracing::warn!(%error, "loading plugins with fewer threads than processors");
                }
            }
            drop(sender);
            let mut publisher = Publisher { catalog, loaded: Vec::new(), published: BTreeMap::new() };
            while let Ok(first) = done.recv() {
                publisher.publish([first].into_iter().chain(done.try_iter()));
            }
            // Runs only if no thread could be started.
            for (name, found) in queue.lock().drain(..) {
                publisher.publish([load(loader, name, found)]);
            }
            publisher.loaded
        })
    }
}

fn load(loader: &Loader, name: String, found: discover::Found) -> Loaded {
    let begun = Instant::now();
    catch_unwind(AssertUnwindSafe(|| loader.load_first(name.clone(), found))).unwrap_or_else(|_| {
        let why = "the server failed to load it: what it printed to stderr has the reason";
        Loaded { name, took: begun.elapsed(), result: Err(Failure::new(1, why)), rollback: None, look: None }
    })
}

/// Publishes plugins in the catalog.
struct Publisher<'a> {
    catalog: &'a Catalog,
    loaded: Vec<Loaded>,
    published: BTreeMap<String, Found>,
}

impl Publisher<'_> {
    /// Accepts loaded plugins, and publishes all that can be published.
    ///
    /// A plugin waits for loading plugins that list one of its calls. The owner of the call is then decided among all
    /// of them, independent of their speed.
    fn publish(&mut self, more: impl IntoIterator<Item = Loaded>) {
        self.loaded.extend(more);
        let mut claims = Claims::clone(&self.catalog.loading.claims());
        for loaded in &self.loaded {
            claims.remove(&loaded.name);
        }
        let claimed: BTreeSet<_> = claims.values().flatten().collect();
        let waits = |plugin: &Plugin| plugin.manifest.calls.keys().any(|call| claimed.contains(call));
        let ready: Vec<_> = self
            .loaded
            .iter()
            .filter(|it| !self.published.contains_key(&it.name))
            .filter(|it| !it.result.as_ref().is_ok_and(|plugin| waits(plugin)))
            .collect();
        self.published.extend(ready.iter().map(|it| (it.name.clone(), it.result.clone())));
        let changes = self.catalog.swap(self.catalog.snapshot().next(&self.published));
        let snapshot = self.catalog.snapshot();
        let serving = snapshot.plugins().values().filter(|state| state.serving.is_some()).count();
        let progress = self.catalog.loading.done(ready.iter().map(|it| it.name.as_str()), serving);
        let took = |name: &str| ready.iter().find(|it| it.name == name).map(|it| it.took);
        report(&changes, &snapshot, took, Some(progress.left));
    }
}

/// Returns the calls that the manifest of a directory lists; none if the manifest is invalid.
fn calls(found: &discover::Found) -> BTreeSet<distillery_core::call::CallName> {
    let manifest = source::manifest(&found.path);
    manifest.map(|(_, manifest)| manifest.calls.into_keys().collect()).unwrap_or_default()
}

/// Returns the size of the largest module in a directory: an estimate that decides only the order of loads.
fn module_size(directory: &Path) -> u64 {
    let files = fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    let component = source::manifest(directory).ok().and_then(|(_, manifest)| manifest.component);
    let modules = files.filter(|path| manifest::is_module(path));
    let named = component.map(|component| PathBuf::from(directory).join(component));
    modules.chain(named).filter_map(|path| fs::metadata(path).ok()).map(|it| it.len()).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Operator, files::FileLimits, source::Bounds};
    use distillery_core::{limits::Limits, size::Size};
    use distillery_runtime::{Capacity, Runtime};
    use std::sync::Arc;

    const MODULE: &str = "(module (func (export \"_start\")))";

    fn plugin(root: &Path, name: &str, calls: &str) {
        fs::create_dir(root.join(name)).unwrap();
        fs::write(root.join(name).join("m.wat"), MODULE).unwrap();
        fs::write(root.join(name).join("plugin.yaml"), format!("calls: {calls}")).unwrap();
    }

    fn loader() -> Loader {
        let capacity = Capacity::of(8);
        let runtime = Arc::new(Runtime::new(&Limits::default(), &capacity, None).unwrap());
        Loader {
            runtime,
            operator: Operator::default(),
            bounds: Bounds { module: Size::mib(1), files: FileLimits { count: 9, size: Size::mib(1) } },
            interpreters: Arc::default(),
            archive: None,
        }
    }

    #[test]
    fn duplicate_call_waits_for_all_plugins_that_list_it() {
        let root = tempfile::tempdir().unwrap();
        plugin(root.path(), "a", "{x: {}}");
        plugin(root.path(), "b", "{x: {}}");
        plugin(root.path(), "c", "{y: {}}");
        let (loader, catalog) = (loader(), Catalog::default());
        let FirstLoad { found, .. } = FirstLoad::find(root.path(), &catalog).unwrap();
        let mut found: BTreeMap<_, _> = found.into_iter().collect();
        let mut next = |name: &str| load(&loader, name.to_owned(), found.remove(name).unwrap());
        let mut publisher = Publisher { catalog: &catalog, loaded: Vec::new(), published: BTreeMap::new() };
        // The quicker plugin must not keep the call.
        publisher.publish([next("b")]);
        assert!(catalog.snapshot().call("x").is_none() && catalog.loading.provides("x"));
        publisher.publish([next("c")]);
        assert!(catalog.snapshot().call("y").is_some());
        publisher.publish([next("a")]);
        assert_eq!(catalog.snapshot().call("x").unwrap().plugin.name, "a");
        assert!(catalog.snapshot().plugins()["b"].error.is_some());
        assert!(catalog.loading.claims().is_empty());
    }

    #[test]
    fn plugin_that_does_not_load_keeps_no_other_from_loading() {
        let root = tempfile::tempdir().unwrap();
        plugin(root.path(), "good", "{x: {}}");
        plugin(root.path(), "bad", "nonsense");
        let catalog = Catalog::default();
        let first = FirstLoad::find(root.path(), &catalog).unwrap();
        let loaded = first.run(&loader(), &catalog);
        assert_eq!(loaded.len(), 2);
        assert!(catalog.snapshot().call("x").is_some() && catalog.snapshot().plugins()["bad"].error.is_some());
        assert_eq!(catalog.loading.progress().borrow().left, 0);
    }
}
