//! The catalog: the newest snapshot for all readers, and a stream of its changes.

use super::{
    generation::{Change, Farewell, What},
    loading::Loading,
    snapshot::{self, Snapshot},
};
use arc_swap::ArcSwap;
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};
use tokio::sync::broadcast;

/// The number of changes that can wait for a reader before it must read the whole snapshot again.
const CHANGES: usize = 256;

/// The holder of the newest snapshot.
#[derive(Debug)]
pub struct Catalog {
    /// The plugins of the first load that are not loaded yet.
    pub loading: Loading,
    newest: ArcSwap<Snapshot>,
    changes: broadcast::Sender<Change>,
    /// The number of generations that began to serve, and the number of failed loads.
    swaps: AtomicU64,
    failures: AtomicU64,
}

impl Default for Catalog {
    fn default() -> Self {
        Self::new(Snapshot::default())
    }
}

impl Catalog {
    pub fn new(snapshot: Snapshot) -> Self {
        let catalog = Self {
            loading: Loading::default(),
            newest: ArcSwap::default(),
            changes: broadcast::Sender::new(CHANGES),
            swaps: AtomicU64::default(),
            failures: AtomicU64::default(),
        };
        catalog.swap(snapshot);
        catalog
    }

    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.newest.load_full()
    }

    /// Publishes `next` and its changes. There must be one writer at a time.
    pub fn swap(&self, next: Snapshot) -> Vec<Change> {
        for plugin in next.plugins().values().filter_map(|state| state.serving.as_ref()) {
            plugin.farewell.get_or_init(|| Farewell {
                change: Change { plugin: plugin.name.clone(), generation: plugin.generation, what: What::Freed },
                to: self.changes.clone(),
            });
        }
        tracing::trace!(plugins = next.plugins().len(), "the next snapshot");
        let next = Arc::new(next);
        let before = self.newest.swap(next.clone());
        let changes = snapshot::changes(&before, &next);
        for change in &changes {
            match change.what {
                What::Serving { .. } => _ = self.swaps.fetch_add(1, Relaxed),
                What::Failed { .. } => _ = self.failures.fetch_add(1, Relaxed),
                _ => {}
            }
            // A listener is optional.
            let _ = self.changes.send(change.clone());
        }
        changes
    }

    /// Returns the number of generations that began to serve so far, and the number of failed loads.
    pub fn counts(&self) -> (u64, u64) {
        (self.swaps.load(Relaxed), self.failures.load(Relaxed))
    }

    /// Subscribes to all changes from now on.
    pub fn changes(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Found,
        plugin::tests::{broken, found, plugin},
    };
    use std::collections::BTreeMap;

    #[test]
    fn generation_is_freed_with_its_last_process() {
        let catalog = Catalog::default();
        let mut told = catalog.changes();
        let mut next = |name: &str| told.try_recv().ok().map(|it| (it.generation, it.what)).expect(name);
        let swap = |found: BTreeMap<String, Found>| catalog.swap(catalog.snapshot().next(&found));
        swap(found([("a", plugin("a", "{x: {}}", 1))]));
        let processes = [(); 2].map(|()| catalog.snapshot().call("x").unwrap().plugin.enter());
        assert_eq!(next("a start"), (1, What::Serving { digest: String::new() }));
        for generation in 2..=3 {
            swap(found([("a", plugin("a", "{x: {}}", generation))]));
        }
        assert_eq!(next("a swap"), (2, What::Serving { digest: String::new() }));
        assert_eq!(next("the end of the first"), (1, What::Retired { processes: 2 }));
        next("a second swap");
        next("the end of the second");

        let retired = || catalog.snapshot().plugins()["a"].retired();
        let listed = || retired().iter().map(|it| (it.generation, it.running())).collect::<Vec<_>>();
        assert_eq!(listed(), [(2, 0), (1, 2)]);
        let [one, other] = processes;
        drop(one);
        assert_eq!(listed(), [(2, 0), (1, 1)]);
        drop(other);
        assert_eq!(next("the last process"), (1, What::Freed));
        assert_eq!(listed(), [(2, 0)]);
    }

    #[test]
    fn removed_plugin_is_listed_while_its_processes_run() {
        let catalog = Catalog::new(Snapshot::default().next(&found([("a", plugin("a", "{x: {}}", 1))])));
        let process = catalog.snapshot().call("x").unwrap().plugin.enter();
        let changes = catalog.swap(catalog.snapshot().next(&BTreeMap::new()));
        let what: Vec<_> = changes.into_iter().map(|change| change.what).collect();
        assert_eq!(what, [What::Removed, What::Retired { processes: 1 }]);
        let snapshot = catalog.snapshot();
        assert!(snapshot.call("x").is_none() && !snapshot.plugins()["a"].is_there());
        assert_eq!(snapshot.plugins()["a"].retired().len(), 1);
        drop(process);
        assert!(snapshot.next(&BTreeMap::new()).plugins().is_empty());
    }

    #[test]
    fn failed_load_is_reported_once() {
        let catalog = Catalog::default();
        let bad = found([("a", broken(1))]);
        let told = |found: &BTreeMap<String, Found>| catalog.swap(catalog.snapshot().next(found)).len();
        assert_eq!((told(&bad), told(&bad)), (1, 0));
        assert_eq!(told(&found([("a", broken(2))])), 1);
    }

    #[test]
    fn readers_keep_their_snapshot() {
        let catalog = Catalog::default();
        catalog.swap(Snapshot::default().next(&found([("a", plugin("a", "{x: {}}", 1))])));
        let held = catalog.snapshot();
        catalog.swap(Snapshot::default());
        assert!(held.call("x").is_some());
        assert!(catalog.snapshot().call("x").is_none());
    }
}
