//! The plugins of the first load that are not loaded yet, and the calls that wait for them.
//!
//! This module loads nothing, and knows no directory.

use arc_swap::ArcSwap;
use distillery_config::Ready;
use distillery_core::call::CallName;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use tokio::sync::watch;

/// The calls that manifests list, by plugin name.
pub type Claims = BTreeMap<String, BTreeSet<CallName>>;

/// The remaining part of the first load.
#[derive(Debug)]
pub struct Loading {
    claims: ArcSwap<Claims>,
    progress: watch::Sender<Progress>,
}

/// The progress of the first load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    pub total: usize,
    /// The number of plugins that are neither loaded nor known to fail.
    pub left: usize,
    /// The number of plugins that serve.
    pub serving: usize,
    /// Whether the first load is over, and changes of the directories are noticed.
    pub watching: bool,
}

impl Default for Progress {
    /// Returns a first load without plugins.
    fn default() -> Self {
        Self { total: 0, left: 0, serving: 0, watching: true }
    }
}

impl Default for Loading {
    /// Returns a first load without plugins.
    fn default() -> Self {
        Self { claims: ArcSwap::default(), progress: watch::Sender::new(Progress::default()) }
    }
}

impl Loading {
    /// Marks these plugins as loading.
    pub fn begin(&self, claims: Claims) {
        let total = claims.len();
        self.claims.store(Arc::new(claims));
        self.progress.send_replace(Progress { total, left: total, serving: 0, watching: false });
    }

    /// Marks these plugins as done and returns the progress. There must be one writer at a time.
    pub fn done<'a>(&self, names: impl IntoIterator<Item = &'a str>, serving: usize) -> Progress {
        let mut claims = Claims::clone(&self.claims.load());
        for name in names {
            claims.remove(name);
        }
        let progress = Progress { left: claims.len(), serving, ..*self.progress.borrow() };
        self.claims.store(Arc::new(claims));
        self.progress.send_replace(progress);
        progress
    }

    /// Records that the first load is over and that changes of the directories are noticed from now on.
    pub fn watching(&self) {
        self.progress.send_modify(|progress| progress.watching = true);
    }

    /// Returns whether a plugin that is still loading lists this call.
    pub fn provides(&self, call: &str) -> bool {
        self.claims.load().values().any(|calls| calls.contains(call))
    }

    /// Returns the plugins that are still loading, with their calls.
    pub fn claims(&self) -> Arc<Claims> {
        self.claims.load_full()
    }

    /// Subscribes to the progress of the first load.
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }
}

impl Progress {
    /// Returns whether enough is loaded for readiness. A server after its first load is always ready.
    pub fn is_ready(&self, ready: Ready) -> bool {
        self.watching || (ready == Ready::Any && self.serving > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims() -> Claims {
        let calls = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect();
        [("a".to_owned(), calls(&["x", "y"])), ("b".to_owned(), calls(&["z"]))].into()
    }

    #[test]
    fn call_waits_until_its_plugin_is_done() {
        let loading = Loading::default();
        assert!(!loading.provides("x"));
        loading.begin(claims());
        assert!(loading.provides("x") && loading.provides("z") && !loading.provides("w"));
        loading.done(["a"], 1);
        assert!(!loading.provides("x") && loading.provides("z"));
    }

    #[test]
    fn readiness_follows_the_setting() {
        let loading = Loading::default();
        let ready = |loading: &Loading| [Ready::All, Ready::Any].map(|it| loading.progress().borrow().is_ready(it));
        assert_eq!(ready(&loading), [true, true], "there is nothing to load");
        loading.begin(claims());
        assert_eq!(ready(&loading), [false, false]);
        loading.done(["b"], 0);
        assert_eq!(ready(&loading), [false, false], "one does not load, and the other is not there yet");
        assert_eq!(loading.done(["a"], 1), Progress { total: 2, left: 0, serving: 1, watching: false });
        assert_eq!(ready(&loading), [false, true], "a change would not be noticed yet");
        loading.watching();
        assert_eq!(ready(&loading), [true, true]);
    }
}
