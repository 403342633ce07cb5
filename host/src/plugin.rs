//! What the server can run: plugins, the calls that they provide, and the catalog of both, which is read as one snapshot.
//!
//! It never runs a call, and knows nothing of sockets.

pub mod capabilities;
pub mod discover;
pub mod first_load;
pub mod generation;
pub mod granted;
pub mod load;
pub mod loading;
mod look;
pub mod manifest;
mod notice;
pub mod params;
mod plan;
pub mod rebuild;
pub mod signature;
pub mod watch;

use crate::{
    call::{CallName, Span},
    limits::Limits,
    runtime::{CompileError, Program, Reach},
};
use arc_swap::ArcSwap;
use discover::{LoadError, Source};
use generation::{Change, Failure, Farewell, What};
use granted::{Granted, Grants};
use loading::Loading;
use manifest::Manifest;
use params::CallSpec;
use signature::Trusted;
use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};
use time::OffsetDateTime;
use tokio::sync::broadcast;

/// What the operator allows every plugin.
#[derive(Clone, Debug, Default)]
pub struct Operator {
    pub limits: Limits,
    /// The longest grace that a plugin may give its calls.
    pub grace_max: Duration,
    /// Whose signature a plugin must bear; nothing means that none is needed.
    pub trusted: Option<Arc<Trusted>>,
    pub grants: Grants,
}

/// One generation of a plugin. Its processes hold on to it until the last has ended.
#[derive(Debug)]
pub struct Plugin {
    pub name: String,
    pub digest: String,
    pub manifest: Manifest,
    pub limits: Limits,
    pub generation: u64,
    pub program: Program,
    /// What it may touch, as it may be shown.
    pub granted: Granted,
    /// The same, as its processes reach it.
    pub reach: Arc<Reach>,
    /// When it was loaded.
    pub loaded: OffsetDateTime,
    /// How often the rules of the operator had changed by then. Nothing goes back to a generation under older rules.
    pub rules: u64,
    running: AtomicUsize,
    // Behind the program: it tells that this is gone.
    farewell: OnceLock<Farewell>,
}

impl Plugin {
    /// The plugin that `source` describes, under the operator's limits. It is refused when it asks for more than those,
    /// or for what it is not granted. Only then is its module compiled.
    pub fn new(
        source: &Source,
        operator: &Operator,
        generation: u64,
        compile: impl FnOnce(&Limits) -> Result<Program, CompileError>,
    ) -> Result<Self, LoadError> {
        let directory = || source.directory.clone();
        if let Some(trusted) = &operator.trusted {
            trusted.check(source).map_err(|error| LoadError::Signature { directory: directory(), error })?;
        }
        let manifest = source.manifest.clone();
        let (granted, reach) = operator
            .grants
            .meet(source.name.as_str(), &manifest.capabilities)
            .map_err(|error| LoadError::Grant { directory: directory(), error })?;
        let limits = operator
            .limits
            .lowered(&manifest.limits)
            .map_err(|error| LoadError::Limit { directory: directory(), error })?;
        if let Some(asked) = manifest.cancel.grace.filter(|grace| *grace > operator.grace_max) {
            let (asked, allowed) = (Span(asked).to_string(), Span(operator.grace_max).to_string());
            return Err(LoadError::Grace { directory: directory(), asked, allowed });
        }
        let program =
            compile(&limits).map_err(|error| LoadError::Module { path: source.module_path.clone(), error })?;
        Ok(Self {
            name: source.name.to_string(),
            digest: source.digest.clone(),
            manifest,
            limits,
            generation,
            program,
            loaded: OffsetDateTime::now_utc(),
            rules: 0,
            running: AtomicUsize::new(0),
            farewell: OnceLock::new(),
            granted,
            reach: Arc::new(reach),
        })
    }
}

/// A call, and the generation of the plugin that runs it.
#[derive(Debug)]
pub struct Call {
    pub spec: CallSpec,
    pub plugin: Arc<Plugin>,
}

/// What a directory was found to hold: a plugin, or the reason why not.
pub type Found = Result<Arc<Plugin>, Failure>;

/// What became of a plugin directory. Both of the first are there when a newer version did not load and the last good
/// one serves on.
#[derive(Clone, Debug, Default)]
pub struct State {
    pub serving: Option<Arc<Plugin>>,
    /// Why what lies in the directory does not serve.
    pub error: Option<Failure>,
    /// The generation that served before, kept to go back to.
    pub previous: Option<Arc<Plugin>>,
    retired: Vec<Weak<Plugin>>,
}

impl State {
    /// Whether there is a directory. Where there is none, processes of it may still run.
    pub fn is_there(&self) -> bool {
        self.serving.is_some() || self.error.is_some()
    }

    /// The generations that served once and are not gone: those that processes run, and the one to go back to. The
    /// newest is first.
    pub fn retired(&self) -> Vec<Arc<Plugin>> {
        let is = |plugin: &Arc<Plugin>, it: &Option<Arc<Plugin>>| it.as_ref().is_some_and(|it| Arc::ptr_eq(it, plugin));
        let alive = self.retired.iter().filter_map(Weak::upgrade).filter(|plugin| !is(plugin, &self.serving));
        let mut retired: Vec<_> = alive.filter(|it| it.running() > 0 || is(it, &self.previous)).collect();
        retired.sort_by_key(|plugin| std::cmp::Reverse(plugin.generation));
        retired
    }

    /// Takes over from the state `before` what is not a matter of what was found now.
    fn remember(&mut self, before: &Self) {
        let same = |a: &Option<Arc<Plugin>>, b: &Arc<Plugin>| a.as_ref().is_some_and(|a| Arc::ptr_eq(a, b));
        self.retired = before.retired.iter().filter(|it| it.strong_count() > 0).cloned().collect();
        let Some(replaced) = before.serving.as_ref().filter(|it| !same(&self.serving, it)) else {
            self.previous = before.previous.clone();
            return;
        };
        self.retired.retain(|it| !Weak::ptr_eq(it, &Arc::downgrade(replaced)));
        self.retired.push(Arc::downgrade(replaced));
        // Where it goes back, nothing is kept to go forward to; under other rules, nothing is kept at all.
        let back = self.serving.as_ref().is_some_and(|it| same(&before.previous, it));
        let may_return = self.serving.as_ref().is_some_and(|it| it.rules == replaced.rules) && !back;
        self.previous = may_return.then(|| replaced.clone());
    }
}

/// All plugins and calls at one moment. It never changes: a change is the next snapshot.
#[derive(Debug, Default)]
pub struct Snapshot {
    plugins: BTreeMap<String, State>,
    calls: HashMap<CallName, Arc<Call>>,
}

impl Snapshot {
    /// The snapshot after this one, when reading the plugin directories gave `found`. Plugins that are not in there are
    /// gone; where one did not load, the generation that serves now serves on.
    ///
    /// Of two plugins that provide the same call the first by name has it, but none takes it from one that already
    /// serves it: a new directory must not take down what works.
    pub fn next(&self, mut found: BTreeMap<String, Found>) -> Self {
        loop {
            let next = self.put_together(&found);
            // A plugin whose new generation is refused keeps every call of the one that serves. Only now is it known
            // that none of them is free, so that the others are looked at again.
            let refused = next.plugins.iter().filter_map(|(name, state)| {
                let before = self.plugins.get(name)?.serving.as_ref()?;
                let candidate = found.get(name)?.as_ref().ok()?;
                let refused = state.error.as_ref().filter(|_| !Arc::ptr_eq(before, candidate))?;
                Some((name.clone(), refused.clone()))
            });
            let refused: Vec<_> = refused.collect();
            if refused.is_empty() {
                return next.remembering(self);
            }
            found.extend(refused.into_iter().map(|(name, failure)| (name, Err(failure))));
        }
    }

    fn put_together(&self, found: &BTreeMap<String, Found>) -> Self {
        let mut owners = self.kept(found);
        let mut next = Self::default();
        for (name, read) in found {
            let mut state = State::default();
            match read.clone().and_then(|plugin| next.provide(plugin, &mut owners)) {
                Ok(plugin) => state.serving = Some(plugin),
                Err(error) => {
                    state.error = Some(error);
                    let last_good = self.plugins.get(name).and_then(|before| before.serving.clone());
                    state.serving = last_good.and_then(|plugin| next.provide(plugin, &mut owners).ok());
                }
            }
            next.plugins.insert(name.clone(), state);
        }
        next
    }

    /// This snapshot, with what is to be remembered of the one before.
    fn remembering(mut self, before: &Self) -> Self {
        for (name, before) in &before.plugins {
            self.plugins.entry(name.clone()).or_default().remember(before);
        }
        self.plugins.retain(|_, state| state.is_there() || !state.retired().is_empty());
        self
    }

    /// The calls that stay with the plugin that serves them now, and its name.
    fn kept(&self, found: &BTreeMap<String, Found>) -> HashMap<CallName, String> {
        let stays = |call: &Call| match found.get(&call.plugin.name) {
            Some(Ok(plugin)) => plugin.manifest.calls.contains_key(&call.spec.name),
            Some(Err(_)) => true,
            None => false,
        };
        let kept = self.calls.iter().filter(|(_, call)| stays(call));
        kept.map(|(name, call)| (name.clone(), call.plugin.name.clone())).collect()
    }

    /// Adds all calls of `plugin` where no other plugin owns one of them; else none.
    fn provide(&mut self, plugin: Arc<Plugin>, owners: &mut HashMap<CallName, String>) -> Found {
        for name in plugin.manifest.calls.keys() {
            if let Some(owner) = owners.get(name).filter(|owner| **owner != plugin.name) {
                let name = name.as_str();
                let why = format!("the call {name:?} is already provided by the plugin {owner:?}: rename one of them");
                let (generation, digest, at) = (plugin.generation, Some(plugin.digest.clone()), plugin.loaded);
                return Err(Failure { generation, digest, at, why });
            }
        }
        for (name, spec) in &plugin.manifest.calls {
            owners.insert(name.clone(), plugin.name.clone());
            let call = Call { spec: spec.clone(), plugin: Arc::clone(&plugin) };
            self.calls.insert(name.clone(), Arc::new(call));
        }
        Ok(plugin)
    }

    /// All plugin directories, also those that did not load.
    pub fn plugins(&self) -> &BTreeMap<String, State> {
        &self.plugins
    }

    /// All calls, in no order.
    pub fn calls(&self) -> impl Iterator<Item = &Arc<Call>> {
        self.calls.values()
    }

    pub fn call(&self, name: &str) -> Option<&Arc<Call>> {
        self.calls.get(name)
    }
}

/// How many changes may wait for a reader before it has to look at the whole again.
const CHANGES: usize = 256;

/// Where everyone finds the newest snapshot.
#[derive(Debug)]
pub struct Catalog {
    /// The plugins of the start that are not loaded yet.
    pub loading: Loading,
    newest: ArcSwap<Snapshot>,
    changes: broadcast::Sender<Change>,
    /// How many generations began to serve, and how often a plugin did not load.
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

    /// Makes `next` the newest snapshot, and tells everyone what is different. There is one writer at a time.
    pub fn swap(&self, next: Snapshot) -> Vec<Change> {
        for plugin in next.plugins.values().filter_map(|state| state.serving.as_ref()) {
            plugin.farewell.get_or_init(|| Farewell {
                change: Change { plugin: plugin.name.clone(), generation: plugin.generation, what: What::Freed },
                to: self.changes.clone(),
            });
        }
        let next = Arc::new(next);
        let before = self.newest.swap(next.clone());
        let changes = generation::changes(&before, &next);
        for change in &changes {
            match change.what {
                What::Serving { .. } => _ = self.swaps.fetch_add(1, Relaxed),
                What::Failed { .. } => _ = self.failures.fetch_add(1, Relaxed),
                _ => {}
            }
            // Nobody has to listen.
            let _ = self.changes.send(change.clone());
        }
        changes
    }

    /// How many generations began to serve so far, and how often a plugin did not load.
    pub fn counts(&self) -> (u64, u64) {
        (self.swaps.load(Relaxed), self.failures.load(Relaxed))
    }

    /// Every change from now on.
    pub fn changes(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::size::Size;
    use std::path::Path;

    fn source(name: &str, manifest: &str) -> Source {
        let directory = Path::new("plugins").join(name);
        let name: CallName = name.parse().unwrap();
        Source {
            manifest: Manifest::read(manifest, &directory.join(manifest::FILE), &name).unwrap(),
            module_path: directory.join("x.wat"),
            module_bytes: Vec::new(),
            digest: String::new(),
            signature: None,
            manifest_text: manifest.to_owned(),
            has_manifest: true,
            name,
            directory,
        }
    }

    fn compile(limits: &Limits) -> Result<Program, CompileError> {
        crate::runtime::tests::runtime().compile(b"(module (func (export \"_start\")))", limits)
    }

    fn plugin(name: &str, calls: &str, generation: u64) -> Found {
        let source = source(name, &format!("calls: {calls}"));
        let plugin = Plugin::new(&source, &Operator::default(), generation, compile);
        plugin.map(Arc::new).map_err(|error| Failure::new(generation, None, error))
    }

    fn broken(generation: u64) -> Found {
        Err(Failure::new(generation, None, "broken"))
    }

    fn why(state: &State) -> &str {
        state.error.as_ref().map_or("", |failure| &failure.why)
    }

    fn found<const N: usize>(plugins: [(&str, Found); N]) -> BTreeMap<String, Found> {
        plugins.map(|(name, plugin)| (name.to_owned(), plugin)).into()
    }

    fn refused(manifest: &str) -> String {
        Plugin::new(&source("echo", manifest), &Operator::default(), 1, compile).unwrap_err().to_string()
    }

    #[test]
    fn a_plugin_that_asks_for_what_is_not_granted_does_not_load() {
        assert_eq!(
            refused("capabilities: {env: [LANG], scratch: 1MiB}"),
            "plugins/echo: not granted: the environment variable LANG, 1MiB of scratch space: grant it in \
             plugins.grants.echo in distillery.yaml"
        );
    }

    #[test]
    fn a_plugin_lives_under_the_limits_of_the_operator() {
        let lowered = Plugin::new(&source("echo", "limits: {memory: 1MiB}"), &Operator::default(), 1, compile).unwrap();
        assert_eq!(lowered.limits, Limits { memory: Size::mib(1), ..Limits::default() });
        let refused = refused("limits: {memory: 1GiB}");
        assert!(refused.starts_with("plugins/echo: limits.memory asks for 1GiB"), "{refused}");
    }

    #[test]
    fn of_two_plugins_with_the_same_call_the_first_by_name_has_it() {
        let snapshot = Snapshot::default()
            .next(found([("b", plugin("b", "{x: {}, only-b: {}}", 1)), ("a", plugin("a", "{x: {}}", 1))]));
        assert_eq!(snapshot.call("x").unwrap().plugin.name, "a");
        assert!(snapshot.call("only-b").is_none());
        let b = &snapshot.plugins()["b"];
        assert!(b.serving.is_none());
        assert_eq!(why(b), r#"the call "x" is already provided by the plugin "a": rename one of them"#);
    }

    #[test]
    fn a_new_plugin_takes_no_call_from_one_that_serves_it() {
        let first = Snapshot::default().next(found([("b", plugin("b", "{x: {}}", 1))]));
        let next = first.next(found([("a", plugin("a", "{x: {}}", 2)), ("b", plugin("b", "{x: {}}", 2))]));
        let x = next.call("x").unwrap();
        assert_eq!((x.plugin.name.as_str(), x.plugin.generation), ("b", 2));
        assert!(why(&next.plugins()["a"]).contains("already provided"));
    }

    #[test]
    fn a_new_generation_takes_no_call_from_another_plugin_and_may_be_given_one() {
        let first =
            Snapshot::default().next(found([("a", plugin("a", "{x: {}}", 1)), ("b", plugin("b", "{y: {}}", 1))]));
        let greedy = first.next(found([("a", plugin("a", "{x: {}, y: {}}", 2)), ("b", plugin("b", "{y: {}}", 2))]));
        assert_eq!(greedy.call("y").unwrap().plugin.name, "b");
        assert_eq!(greedy.call("x").unwrap().plugin.generation, 1);

        let moved = first.next(found([("a", plugin("a", "{x: {}, y: {}}", 2)), ("b", plugin("b", "{z: {}}", 2))]));
        assert_eq!(moved.call("y").unwrap().plugin.name, "a");
        assert!(moved.call("z").is_some());
    }

    #[test]
    fn a_plugin_that_no_longer_loads_serves_its_last_good_generation() {
        let first =
            Snapshot::default().next(found([("a", plugin("a", "{x: {}}", 1)), ("b", plugin("b", "{y: {}}", 1))]));
        let broken = first.next(found([("a", super::tests::broken(2)), ("b", plugin("b", "{y: {}, x: {}}", 2))]));
        for name in ["x", "y"] {
            assert_eq!(broken.call(name).unwrap().plugin.generation, 1, "{name}");
        }
        assert_eq!(why(&broken.plugins()["a"]), "broken");
        assert!(why(&broken.plugins()["b"]).contains("already provided"));

        let repaired = broken.next(found([("a", plugin("a", "{x: {}}", 3))]));
        assert_eq!(repaired.call("x").unwrap().plugin.generation, 3);
        assert!(repaired.plugins()["a"].error.is_none() && repaired.call("y").is_none());
    }

    #[test]
    fn a_refused_generation_costs_its_plugin_no_call_of_the_one_that_serves() {
        let first = Snapshot::default()
            .next(found([("m", plugin("m", "{x: {}, w: {}}", 1)), ("z", plugin("z", "{y: {}}", 1))]));
        // The new m wants a call of z, and gives one up that a newcomer before it by name would take.
        let next = first.next(found([
            ("a", plugin("a", "{w: {}}", 1)),
            ("m", plugin("m", "{x: {}, y: {}}", 2)),
            ("z", plugin("z", "{y: {}}", 1)),
        ]));
        for (call, owner) in [("x", "m"), ("w", "m"), ("y", "z")] {
            assert_eq!(next.call(call).unwrap().plugin.name, owner, "{call}");
        }
        assert!(why(&next.plugins()["m"]).contains("\"y\" is already provided"));
        assert!(why(&next.plugins()["a"]).contains("\"w\" is already provided"));
    }

    #[test]
    fn exactly_one_generation_is_kept_to_go_back_to() {
        let generations: Vec<_> = (1..=3).map(|n| plugin("a", "{x: {}}", n).unwrap()).collect();
        let mut snapshot = Snapshot::default();
        for plugin in &generations {
            snapshot = snapshot.next(found([("a", Ok(plugin.clone()))]));
        }
        let kept = |snapshot: &Snapshot| snapshot.plugins()["a"].previous.as_ref().map(|plugin| plugin.generation);
        assert_eq!(kept(&snapshot), Some(2));
        let failed = snapshot.next(found([("a", broken(4))]));
        assert_eq!(kept(&failed), Some(2));

        let back = failed.next(found([("a", Ok(generations[1].clone()))]));
        assert_eq!((back.call("x").unwrap().plugin.generation, kept(&back)), (2, None));
        assert!(back.plugins()["a"].error.is_none());
        let on = back.next(found([("a", plugin("a", "{x: {}}", 5))]));
        assert_eq!((on.call("x").unwrap().plugin.generation, kept(&on)), (5, Some(2)));
    }

    #[test]
    fn nothing_is_kept_that_was_loaded_under_other_rules() {
        let first = Snapshot::default().next(found([("a", plugin("a", "{x: {}}", 1))]));
        let mut other = Arc::into_inner(plugin("a", "{x: {}}", 2).unwrap()).unwrap();
        other.rules = 1;
        let next = first.next(found([("a", Ok(Arc::new(other)))]));
        assert!(next.plugins()["a"].previous.is_none());
    }

    #[test]
    fn a_generation_is_freed_with_its_last_process() {
        let catalog = Catalog::default();
        let mut told = catalog.changes();
        let mut next = |name: &str| told.try_recv().ok().map(|it| (it.generation, it.what)).expect(name);
        let swap = |found: BTreeMap<String, Found>| catalog.swap(catalog.snapshot().next(found));
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
    fn a_plugin_that_is_gone_is_listed_while_its_processes_run() {
        let catalog = Catalog::new(Snapshot::default().next(found([("a", plugin("a", "{x: {}}", 1))])));
        let process = catalog.snapshot().call("x").unwrap().plugin.enter();
        let changes = catalog.swap(catalog.snapshot().next(BTreeMap::new()));
        let what: Vec<_> = changes.into_iter().map(|change| change.what).collect();
        assert_eq!(what, [What::Removed, What::Retired { processes: 1 }]);
        let snapshot = catalog.snapshot();
        assert!(snapshot.call("x").is_none() && !snapshot.plugins()["a"].is_there());
        assert_eq!(snapshot.plugins()["a"].retired().len(), 1);
        drop(process);
        assert!(snapshot.next(BTreeMap::new()).plugins().is_empty());
    }

    #[test]
    fn what_did_not_load_is_told_once() {
        let catalog = Catalog::default();
        let bad = found([("a", broken(1))]);
        let told = |found: &BTreeMap<String, Found>| catalog.swap(catalog.snapshot().next(found.clone())).len();
        assert_eq!((told(&bad), told(&bad)), (1, 0));
        assert_eq!(told(&found([("a", broken(2))])), 1);
    }

    #[test]
    fn readers_keep_the_snapshot_that_they_hold() {
        let catalog = Catalog::default();
        catalog.swap(Snapshot::default().next(found([("a", plugin("a", "{x: {}}", 1))])));
        let held = catalog.snapshot();
        catalog.swap(Snapshot::default());
        assert!(held.call("x").is_some());
        assert!(catalog.snapshot().call("x").is_none());
    }
}
