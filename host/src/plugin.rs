//! What the server can run: plugins, the calls that they provide, and the catalog of both, which is read as one snapshot.
//!
//! It never runs a call, and knows nothing of sockets.

pub mod capabilities;
pub mod discover;
pub mod load;
pub mod manifest;
pub mod params;
pub mod signature;

use crate::{
    call::{CallName, Span},
    limits::Limits,
    runtime::{CompileError, Program},
};
use arc_swap::ArcSwap;
use discover::{LoadError, Source};
use manifest::Manifest;
use params::CallSpec;
use signature::Trusted;
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};
use tokio::sync::Semaphore;

/// What the operator allows every plugin.
#[derive(Clone, Debug, Default)]
pub struct Operator {
    pub limits: Limits,
    /// The longest grace that a plugin may give its calls.
    pub grace_max: Duration,
    /// Whose signature a plugin must bear; nothing means that none is needed.
    pub trusted: Option<Arc<Trusted>>,
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
    /// Places for processes of this plugin, where it bounds their number.
    pub places: Option<Arc<Semaphore>>,
}

impl Plugin {
    /// The plugin that `source` describes, under the operator's limits. It is refused when it asks for more than those,
    /// or for any capability: none is granted. Only then is its module compiled.
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
        if !manifest.capabilities.is_empty() {
            let missing = manifest.capabilities.missing();
            return Err(LoadError::NotGranted { directory: directory(), missing });
        }
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
        let places = limits.processes.map(|most| Arc::new(Semaphore::new(most as usize)));
        Ok(Self {
            name: source.name.to_string(),
            digest: source.digest.clone(),
            manifest,
            limits,
            generation,
            program,
            places,
        })
    }
}

/// A call, and the generation of the plugin that runs it.
#[derive(Debug)]
pub struct Call {
    pub spec: CallSpec,
    pub plugin: Arc<Plugin>,
}

/// What became of a plugin directory. Both are there when a newer version did not load and the last good one serves on.
#[derive(Clone, Debug, Default)]
pub struct State {
    pub serving: Option<Arc<Plugin>>,
    /// Why what lies in the directory does not serve.
    pub error: Option<String>,
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
    pub fn next(&self, found: BTreeMap<String, Result<Arc<Plugin>, String>>) -> Self {
        let mut owners = self.kept(&found);
        let mut next = Self::default();
        for (name, read) in found {
            let mut state = State::default();
            match read.and_then(|plugin| next.provide(plugin, &mut owners)) {
                Ok(plugin) => state.serving = Some(plugin),
                Err(error) => {
                    state.error = Some(error);
                    let last_good = self.plugins.get(&name).and_then(|before| before.serving.clone());
                    state.serving = last_good.and_then(|plugin| next.provide(plugin, &mut owners).ok());
                }
            }
            next.plugins.insert(name, state);
        }
        next
    }

    /// The calls that stay with the plugin that serves them now, and its name.
    fn kept(&self, found: &BTreeMap<String, Result<Arc<Plugin>, String>>) -> HashMap<CallName, String> {
        let stays = |call: &Call| match found.get(&call.plugin.name) {
            Some(Ok(plugin)) => plugin.manifest.calls.contains_key(&call.spec.name),
            Some(Err(_)) => true,
            None => false,
        };
        let kept = self.calls.iter().filter(|(_, call)| stays(call));
        kept.map(|(name, call)| (name.clone(), call.plugin.name.clone())).collect()
    }

    /// Adds all calls of `plugin` where no other plugin owns one of them; else none.
    fn provide(&mut self, plugin: Arc<Plugin>, owners: &mut HashMap<CallName, String>) -> Result<Arc<Plugin>, String> {
        for name in plugin.manifest.calls.keys() {
            if let Some(owner) = owners.get(name).filter(|owner| **owner != plugin.name) {
                let name = name.as_str();
                return Err(format!(
                    "the call {name:?} is already provided by the plugin {owner:?}: rename one of them"
                ));
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

/// Where everyone finds the newest snapshot.
#[derive(Debug, Default)]
pub struct Catalog {
    newest: ArcSwap<Snapshot>,
}

impl Catalog {
    pub fn new(snapshot: Snapshot) -> Self {
        Self { newest: ArcSwap::from_pointee(snapshot) }
    }

    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.newest.load_full()
    }

    /// Makes `next` the newest snapshot, and gives the one before.
    pub fn swap(&self, next: Snapshot) -> Arc<Snapshot> {
        self.newest.swap(Arc::new(next))
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

    fn plugin(name: &str, calls: &str, generation: u64) -> Result<Arc<Plugin>, String> {
        let source = source(name, &format!("calls: {calls}"));
        Plugin::new(&source, &Operator::default(), generation, compile).map(Arc::new).map_err(|error| error.to_string())
    }

    fn found<const N: usize>(
        plugins: [(&str, Result<Arc<Plugin>, String>); N],
    ) -> BTreeMap<String, Result<Arc<Plugin>, String>> {
        plugins.map(|(name, plugin)| (name.to_owned(), plugin)).into()
    }

    fn refused(manifest: &str) -> String {
        Plugin::new(&source("echo", manifest), &Operator::default(), 1, compile).unwrap_err().to_string()
    }

    #[test]
    fn a_plugin_that_asks_for_what_is_not_granted_does_not_load() {
        assert_eq!(
            refused("capabilities: {env: [LANG], systems: read}"),
            "plugins/echo: not granted: the environment variable LANG, to read the systems: grant it in plugins.grants \
             in distillery.yaml"
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
        assert_eq!(
            b.error.as_deref(),
            Some(r#"the call "x" is already provided by the plugin "a": rename one of them"#)
        );
    }

    #[test]
    fn a_new_plugin_takes_no_call_from_one_that_serves_it() {
        let first = Snapshot::default().next(found([("b", plugin("b", "{x: {}}", 1))]));
        let next = first.next(found([("a", plugin("a", "{x: {}}", 2)), ("b", plugin("b", "{x: {}}", 2))]));
        let x = next.call("x").unwrap();
        assert_eq!((x.plugin.name.as_str(), x.plugin.generation), ("b", 2));
        assert!(next.plugins()["a"].error.as_ref().unwrap().contains("already provided"));
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
        let broken = first.next(found([("a", Err("broken".into())), ("b", plugin("b", "{y: {}, x: {}}", 2))]));
        for name in ["x", "y"] {
            assert_eq!(broken.call(name).unwrap().plugin.generation, 1, "{name}");
        }
        assert_eq!(broken.plugins()["a"].error.as_deref(), Some("broken"));
        assert!(broken.plugins()["b"].error.as_ref().unwrap().contains("already provided"));

        let repaired = broken.next(found([("a", plugin("a", "{x: {}}", 3))]));
        assert_eq!(repaired.call("x").unwrap().plugin.generation, 3);
        assert!(repaired.plugins()["a"].error.is_none() && repaired.call("y").is_none());
    }

    #[test]
    fn readers_keep_the_snapshot_that_they_hold() {
        let catalog = Catalog::default();
        catalog.swap(Snapshot::default().next(found([("a", plugin("a", "{x: {}}", 1))])));
        let held = catalog.snapshot();
        let before = catalog.swap(Snapshot::default());
        assert!(held.call("x").is_some() && before.call("x").is_some());
        assert!(catalog.snapshot().call("x").is_none());
    }
}
