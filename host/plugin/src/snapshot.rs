//! All plugins and calls at one moment, and the owner of each call.
//!
//! This module loads nothing, and knows no directory.

use super::{
    generation::{Change, Failure, What},
    plugin::{Call, Found, Plugin},
};
use distillery_core::call::CallName;
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Weak},
};

/// The state of a plugin directory. A plugin and an error coexist if a newer version failed and the last good one is
/// still served.
#[derive(Clone, Debug, Default)]
pub struct State {
    pub serving: Option<Arc<Plugin>>,
    /// The reason why the version in the directory is not served.
    pub error: Option<Failure>,
    /// The previous generation, kept as the rollback target.
    pub previous: Option<Arc<Plugin>>,
    /// The fallback if the directory does not load: the last served generation, or the reason why it had to stop.
    last_good: Option<Found>,
    retired: Vec<Weak<Plugin>>,
}

impl State {
    /// Returns whether the directory exists. Processes can outlive the directory.
    pub fn is_there(&self) -> bool {
        self.serving.is_some() || self.error.is_some()
    }

    /// Returns the generation to serve if the directory does not load.
    pub(crate) fn last_good(&self) -> Option<&Arc<Plugin>> {
        self.last_good.as_ref()?.as_ref().ok()
    }

    /// Returns the retired generations that still exist, newest first: those with running processes, and the rollback
    /// target.
    pub fn retired(&self) -> Vec<Arc<Plugin>> {
        let is = |plugin: &Arc<Plugin>, it: &Option<Arc<Plugin>>| it.as_ref().is_some_and(|it| Arc::ptr_eq(it, plugin));
        let alive = self.retired.iter().filter_map(Weak::upgrade).filter(|plugin| !is(plugin, &self.serving));
        let mut retired: Vec<_> = alive.filter(|it| it.running() > 0 || is(it, &self.previous)).collect();
        retired.sort_by_key(|plugin| std::cmp::Reverse(plugin.generation));
        retired
    }

    /// Copies the lasting part of the state `before`.
    fn remember(&mut self, before: &Self) {
        self.retired = before.retired.iter().filter(|it| it.strong_count() > 0).cloned().collect();
        self.previous = before.previous.clone().filter(|_| self.is_there());
        let still = |plugin: &&Arc<Plugin>| self.serving.as_ref().is_some_and(|it| Arc::ptr_eq(it, plugin));
        let Some(replaced) = before.serving.as_ref().filter(|it| !still(it)) else { return };
        self.retired.retain(|it| !Weak::ptr_eq(it, &Arc::downgrade(replaced)));
        self.retired.push(Arc::downgrade(replaced));
        let Some(serving) = &self.serving else { return };
        if before.previous.as_ref().is_some_and(|it| it.is_version_of(serving)) {
            // After a rollback there is no newer version to return to.
            self.previous = None;
        } else if !serving.is_version_of(replaced) {
            self.previous = Some(replaced.clone());
        }
    }

    /// Adds to its error the reason why the last good generation is not served, either.
    fn explain(&mut self, generation: u64, why: &str) {
        if let Some(error) = self.error.as_mut().filter(|error| error.why != why) {
            error.why = format!("{}; generation {generation} stopped serving: {why}", error.why);
        }
    }
}

/// All plugins and calls at one moment. Immutable: a change makes a new snapshot.
#[derive(Debug, Default)]
pub struct Snapshot {
    plugins: BTreeMap<String, State>,
    calls: HashMap<CallName, Arc<Call>>,
}

impl Snapshot {
    /// Returns the next snapshot after reading the plugin directories gave `found`. Plugins that `found` lacks are
    /// gone; for those that failed, the last good generation continues.
    ///
    /// If two plugins provide the same call, the first by name owns it, and the other is not served. Only the
    /// directories decide ownership, so a restart decides alike. The last good generations only fill gaps.
    pub fn next(&self, found: &BTreeMap<String, Found>) -> Self {
        self.with(found, &BTreeMap::new())
    }

    /// Returns the next snapshot after the last good generations in `renewed` were replaced or had to stop.
    pub fn with(&self, found: &BTreeMap<String, Found>, renewed: &BTreeMap<String, Found>) -> Self {
        let mut next = Self { plugins: BTreeMap::new(), calls: HashMap::with_capacity(self.calls.len()) };
        for (name, read) in found {
            let before = self.plugins.get(name).and_then(|before| before.last_good.clone());
            let mut state = State { last_good: renewed.get(name).cloned().or(before), ..State::default() };
            match read.clone().and_then(|plugin| next.provide(plugin, self)) {
                Ok(plugin) => state.serving = Some(plugin),
                Err(error) => state.error = Some(error),
            }
            next.plugins.insert(name.clone(), state);
        }
        next.fill_gaps(found, self);
        next.remembering(self)
    }

    /// Serves the last good generations of failed plugins as far as their calls are free.
    fn fill_gaps(&mut self, found: &BTreeMap<String, Found>, before: &Self) {
        let gaps = self.plugins.iter().filter(|(_, state)| state.serving.is_none());
        let gaps: Vec<_> = gaps.filter_map(|(name, state)| Some((name.clone(), state.last_good.clone()?))).collect();
        for (name, last_good) in gaps {
            let refused = |plugin: &Plugin| {
                found.get(&name).and_then(|it| it.as_ref().ok()).is_some_and(|it| std::ptr::eq(&**it, plugin))
            };
            let filled = match last_good {
                Ok(plugin) if refused(&plugin) => continue,
                Ok(plugin) => self.provide(plugin.clone(), before).map_err(|why| (plugin.generation, why)),
                Err(stopped) => Err((stopped.generation, stopped)),
            };
            let Some(state) = self.plugins.get_mut(&name) else { continue };
            match filled {
                Ok(plugin) => state.serving = Some(plugin),
                Err((generation, failure)) => state.explain(generation, &failure.why),
            }
        }
    }

    /// Returns this snapshot with the lasting state of `before`.
    fn remembering(mut self, before: &Self) -> Self {
        for (name, before) in &before.plugins {
            self.plugins.entry(name.clone()).or_default().remember(before);
        }
        for state in self.plugins.values_mut() {
            if let Some(serving) = &state.serving {
                state.last_good = Some(Ok(serving.clone()));
            }
        }
        self.plugins.retain(|_, state| state.is_there() || !state.retired().is_empty());
        self
    }

    /// Adds all calls of `plugin`, or none if another plugin owns one of them.
    fn provide(&mut self, plugin: Arc<Plugin>, before: &Self) -> Found {
        if let Some(owned) = plugin.manifest.calls.keys().find_map(|name| self.calls.get(name)) {
            let (name, owner) = (owned.spec.name.as_str(), owned.plugin.name.as_str());
            let why = format!("the call {name:?} is already provided by the plugin {owner:?}: rename one of them");
            return Err(Failure { at: plugin.loaded, ..plugin.failure(plugin.generation, why) });
        }
        for (name, spec) in &plugin.manifest.calls {
            let same = before.calls.get(name).filter(|call| Arc::ptr_eq(&call.plugin, &plugin)).cloned();
            let call = same.unwrap_or_else(|| Arc::new(Call { spec: plugin.served(spec), plugin: plugin.clone() }));
            self.calls.insert(name.clone(), call);
        }
        Ok(plugin)
    }

    /// Returns all plugin directories, including those that did not load.
    pub fn plugins(&self) -> &BTreeMap<String, State> {
        &self.plugins
    }

    /// Returns all calls, in no particular order.
    pub fn calls(&self) -> impl Iterator<Item = &Arc<Call>> {
        self.calls.values()
    }

    pub fn call(&self, name: &str) -> Option<&Arc<Call>> {
        self.calls.get(name)
    }
}

/// Returns the changes from `before` to `after`, plugin by plugin.
pub(super) fn changes(before: &Snapshot, after: &Snapshot) -> Vec<Change> {
    let mut changes = Vec::new();
    let none = State::default();
    let gone = before.plugins().iter().filter(|(name, _)| !after.plugins().contains_key(*name));
    let all = after.plugins().iter().chain(gone.map(|(name, _)| (name, &none)));
    for (name, now) in all {
        let was = before.plugins().get(name).unwrap_or(&none);
        let mut change = |generation, what| changes.push(Change { plugin: name.clone(), generation, what });
        let same = match (&was.serving, &now.serving) {
            (Some(was), Some(now)) => Arc::ptr_eq(was, now),
            (was, now) => was.is_none() && now.is_none(),
        };
        if let Some(plugin) = now.serving.as_ref().filter(|_| !same) {
            change(plugin.generation, What::Serving { digest: plugin.digest.clone() });
        }
        if was.is_there() && !now.is_there() {
            let last = was.serving.as_ref().map(|plugin| plugin.generation);
            change(last.or(was.error.as_ref().map(|error| error.generation)).unwrap_or_default(), What::Removed);
        }
        if let Some(plugin) = was.serving.as_ref().filter(|_| !same) {
            change(plugin.generation, What::Retired { processes: plugin.running() });
        }
        if let Some(failure) = now.error.as_ref().filter(|_| was.error != now.error) {
            change(failure.generation, What::Failed { why: failure.why.clone() });
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Operator,
        plugin::tests::{broken, found, plugin},
    };

    fn why(state: &State) -> &str {
        state.error.as_ref().map_or("", |failure| &failure.why)
    }

    /// Returns the plugin that owns the call `name`, and its generation.
    fn owner<'a>(snapshot: &'a Snapshot, name: &str) -> Option<(&'a str, u64)> {
        snapshot.call(name).map(|call| (call.plugin.name.as_str(), call.plugin.generation))
    }

    #[test]
    fn first_plugin_by_name_owns_a_duplicate_call() {
        let snapshot = Snapshot::default()
            .next(&found([("b", plugin("b", "{x: {}, only-b: {}}", 1)), ("a", plugin("a", "{x: {}}", 1))]));
        assert_eq!(snapshot.call("x").unwrap().plugin.name, "a");
        assert!(snapshot.call("only-b").is_none());
        let b = &snapshot.plugins()["b"];
        assert!(b.serving.is_none());
        assert_eq!(why(b), r#"the call "x" is already provided by the plugin "a": rename one of them"#);
    }

    #[test]
    fn ownership_does_not_depend_on_history() {
        let (a, b) = (plugin("a", "{x: {}}", 1), plugin("b", "{x: {}, y: {}}", 1));
        let restarted = Snapshot::default().next(&found([("a", a.clone()), ("b", b.clone())]));
        let first = Snapshot::default().next(&found([("b", b.clone())]));
        let running = first.next(&found([("a", a.clone()), ("b", b.clone())]));
        for snapshot in [&restarted, &running] {
            assert_eq!((owner(snapshot, "x"), owner(snapshot, "y")), (Some(("a", 1)), None));
            assert!(why(&snapshot.plugins()["b"]).contains("already provided by the plugin \"a\""));
        }
        // The plugin gets its calls back as soon as they are free.
        let back = running.next(&found([("b", b)]));
        assert_eq!((owner(&back, "x"), owner(&back, "y")), (Some(("b", 1)), Some(("b", 1))));
    }

    #[test]
    fn last_good_generation_takes_no_call_from_a_version_that_loads() {
        let first = Snapshot::default().next(&found([("a", plugin("a", "{x: {}}", 1))]));
        let next = first.next(&found([("a", broken(2)), ("b", plugin("b", "{x: {}}", 1))]));
        assert_eq!(owner(&next, "x"), Some(("b", 1)));
        assert_eq!(
            why(&next.plugins()["a"]),
            "broken; generation 1 stopped serving: the call \"x\" is already provided by the plugin \"b\": rename one of them"
        );
        let free = next.next(&found([("a", broken(2))]));
        assert_eq!(owner(&free, "x"), Some(("a", 1)));
    }

    #[test]
    fn refused_version_leaves_the_last_good_generation() {
        let first =
            Snapshot::default().next(&found([("a", plugin("a", "{x: {}}", 1)), ("b", plugin("b", "{y: {}}", 1))]));
        let greedy = first.next(&found([("a", plugin("a", "{x: {}}", 1)), ("b", plugin("b", "{y: {}, x: {}}", 2))]));
        assert_eq!((owner(&greedy, "x"), owner(&greedy, "y")), (Some(("a", 1)), Some(("b", 1))));
        assert!(why(&greedy.plugins()["b"]).contains("\"x\" is already provided"));

        let repaired = first.next(&found([("a", broken(2)), ("b", plugin("b", "{y: {}}", 1))]));
        assert_eq!((owner(&repaired, "x"), why(&repaired.plugins()["a"])), (Some(("a", 1)), "broken"));
        let repaired = repaired.next(&found([("a", plugin("a", "{x: {}}", 3))]));
        assert_eq!((owner(&repaired, "x"), owner(&repaired, "y")), (Some(("a", 3)), None));
        assert!(repaired.plugins()["a"].error.is_none());
    }

    #[test]
    fn renewal_keeps_the_rollback_target() {
        let versions: Vec<_> = (1..=2).map(|n| plugin("a", "{x: {}}", n).unwrap()).collect();
        let first = Snapshot::default().next(&found([("a", Ok(versions[0].clone()))]));
        let second = first.next(&found([("a", Ok(versions[1].clone()))]));
        let mut operator = Operator::default();
        operator.limits.params = 1;
        let size = distillery_core::size::Size::mib(1);
        let bounds = crate::source::Bounds { module: size, files: crate::files::FileLimits { count: 1, size } };
        let renewed = versions[1].renewed(&operator, &bounds, 3).unwrap();
        let renewed = found([("a", Ok(renewed))]);
        let third = second.with(&renewed, &renewed);
        let state = &third.plugins()["a"];
        assert_eq!(state.serving.as_ref().map(|it| (it.generation, it.limits.params)), Some((3, 1)));
        assert_eq!(state.previous.as_ref().map(|it| it.generation), Some(1));
    }

    #[test]
    fn revoked_generation_stops_serving_and_says_why() {
        let first = Snapshot::default().next(&found([("a", plugin("a", "{x: {}}", 1))]));
        let newer = found([("a", broken(2))]);
        let revoked = found([("a", Err(Failure::new(3, "not granted")))]);
        let next = first.next(&newer).with(&newer, &revoked);
        assert!(owner(&next, "x").is_none());
        assert_eq!(why(&next.plugins()["a"]), "broken; generation 3 stopped serving: not granted");
        // A change of another plugin does not bring it back.
        let next = next.next(&found([("a", broken(2)), ("b", plugin("b", "{y: {}}", 1))]));
        assert!(owner(&next, "x").is_none() && owner(&next, "y").is_some());
    }

    #[test]
    fn exactly_one_rollback_target_is_kept() {
        let generations: Vec<_> = (1..=3).map(|n| plugin("a", "{x: {}}", n).unwrap()).collect();
        let mut snapshot = Snapshot::default();
        for plugin in &generations {
            snapshot = snapshot.next(&found([("a", Ok(plugin.clone()))]));
        }
        let kept = |snapshot: &Snapshot| snapshot.plugins()["a"].previous.as_ref().map(|plugin| plugin.generation);
        assert_eq!(kept(&snapshot), Some(2));
        let failed = snapshot.next(&found([("a", broken(4))]));
        assert_eq!(kept(&failed), Some(2));

        let back = failed.next(&found([("a", Ok(generations[1].clone()))]));
        assert_eq!((back.call("x").unwrap().plugin.generation, kept(&back)), (2, None));
        assert!(back.plugins()["a"].error.is_none());
        let on = back.next(&found([("a", plugin("a", "{x: {}}", 5))]));
        assert_eq!((on.call("x").unwrap().plugin.generation, kept(&on)), (5, Some(2)));
    }
}
