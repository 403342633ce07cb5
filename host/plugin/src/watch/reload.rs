//! The reload: rereads the configuration, renews or withdraws the rights of served plugins, and checks all plugins.

use super::{
    Holder, Reloaded, Reread,
    reconciler::{Reconciler, Waiting},
};
use crate::{Found, Plugin, debounce::Hint, error::LoadError};
use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    sync::Arc,
    time::Instant,
};
use tokio::sync::oneshot;

impl Reconciler {
    pub(crate) fn on_reload(&mut self, answer: oneshot::Sender<Reloaded>) {
        let mut reloaded = self.reread();
        reloaded.holders = self.renew();
        self.look(Hint::Asked);
        if let Some(why) = &self.rootless {
            reloaded.error.get_or_insert_with(|| why.clone());
            tell(&reloaded.holders);
            let _ = answer.send(reloaded);
            return;
        }
        let names: BTreeSet<_> = self.looks.keys().chain(self.found.keys()).cloned().collect();
        let now = Instant::now();
        for name in &names {
            // A failure can have a cause outside the directory.
            self.records.entry(name.clone()).or_default().stale |= self.found.get(name).is_some_and(Result::is_err);
            self.debounce.notice(name, Hint::Asked, now);
        }
        self.waiting.push(Waiting { names, reloaded, answer });
    }

    fn reread(&mut self) -> Reloaded {
        match (self.reread)() {
            Ok(Reread { loader, changed, restart }) => {
                self.loader = Arc::new(loader);
                tracing::info!(?changed, "reloading");
                if !restart.is_empty() {
                    tracing::warn!(keys = ?restart, "changed keys need a restart");
                }
                Reloaded { changed, restart, ..Reloaded::default() }
            }
            Err(error) => {
                tracing::error!(error, "configuration unchanged; checking the plugins");
                Reloaded { error: Some(error), ..Reloaded::default() }
            }
        }
    }

    /// Renews the rights of all generations under the current rules. A generation that loses its rights stops serving;
    /// one with different rights continues with them. Returns the generations whose processes hold more.
    fn renew(&mut self) -> Vec<Holder> {
        self.rules += 1;
        let before = self.catalog.snapshot();
        let mut renewed = BTreeMap::new();
        // Includes plugins that were just loaded and are in no snapshot yet.
        let names: BTreeSet<_> = before.plugins().keys().chain(self.found.keys()).cloned().collect();
        for name in names {
            let found = self.found.get(&name).and_then(|found| found.as_ref().ok()).cloned();
            let last_good = before.plugins().get(&name).and_then(|state| state.last_good()).cloned();
            let same = found.as_ref().zip(last_good.as_ref()).is_some_and(|(a, b)| Arc::ptr_eq(a, b));
            let last_good = last_good.map(|plugin| self.renewal(&name, &plugin));
            let found = if same { last_good.clone() } else { found.map(|plugin| self.renewal(&name, &plugin)) };
            self.found.extend(found.map(|found| (name.clone(), found)));
            renewed.extend(last_good.map(|last_good| (name, last_good)));
        }
        let generations =
            before.plugins().values().flat_map(|state| state.serving.iter().cloned().chain(state.retired()));
        let holders = self.holders(generations);
        let next = before.with(&self.found, &renewed);
        for name in renewed.into_keys() {
            self.uncommitted.entry(name).or_default();
        }
        self.swap(next);
        holders
    }

    /// Renews the rights of one generation under the current rules.
    fn renewal(&mut self, name: &str, plugin: &Arc<Plugin>) -> Found {
        let record = self.records.entry(name.to_owned()).or_default();
        let generation = record.generation + 1;
        let renewed = plugin.renewed(&self.loader.operator, &self.loader.bounds, generation);
        if !renewed.as_ref().is_ok_and(|renewed| Arc::ptr_eq(renewed, plugin)) {
            record.generation = generation;
        }
        renewed.map_err(|error| plugin.failure(generation, error))
    }

    /// Returns those of `generations` that hold more than the current rules grant, and prevents new processes of them.
    fn holders(&self, generations: impl Iterator<Item = Arc<Plugin>>) -> Vec<Holder> {
        let holder = |plugin: Arc<Plugin>| {
            let rights = self.lost(&plugin).unwrap_or_else(|error| vec![error.to_string()]);
            if rights.is_empty() {
                return None;
            }
            plugin.revoke();
            Some(Holder { plugin, rights })
        };
        generations.filter_map(holder).collect()
    }

    fn lost(&self, plugin: &Arc<Plugin>) -> Result<Vec<String>, LoadError> {
        Ok(plugin.lost(&plugin.rights(&self.loader.operator)?))
    }

    pub(crate) fn answer_who_waits(&mut self) {
        let (busy, done) = mem::take(&mut self.waiting)
            .into_iter()
            .partition(|waiting: &Waiting| waiting.names.iter().any(|name| self.debounce.is_busy(name)));
        self.waiting = busy;
        for Waiting { names, reloaded, answer } in done {
            tell(&reloaded.holders);
            tracing::info!(plugins = names.len(), "reloaded");
            // The caller can have gone.
            let _ = answer.send(reloaded);
        }
    }
}

/// Logs the generations whose processes hold revoked rights.
fn tell(holders: &[Holder]) {
    for Holder { plugin, rights } in holders.iter().filter(|it| it.plugin.running() > 0) {
        let calls: Vec<_> = plugin.manifest.calls.keys().map(|call| call.as_str()).collect();
        tracing::warn!(
            plugin = plugin.name,
            generation = plugin.generation,
            processes = plugin.running(),
            rights = rights.join("; "),
            calls = calls.join(", "),
            "processes still hold revoked rights: `distillery ps` lists them, `distillery cancel ID` ends one"
        );
    }
}
