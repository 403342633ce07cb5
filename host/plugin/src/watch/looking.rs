//! Looks at the plugin directories: when they are due, and how they differ from the look before.

use super::reconciler::Reconciler;
use crate::{debounce::Hint, discover, look::Root, stat::Identity};
use distillery_config as config;
use std::{
    mem,
    time::{Duration, Instant},
};

/// The interval between looks in addition to change events, which network file systems do not send.
const LOOK_BESIDE_EVENTS: Duration = Duration::from_secs(5);
/// The interval between looks without change events.
const LOOK: Duration = Duration::from_secs(1);
/// The interval between looks while a change settles.
const LOOK_CLOSELY: Duration = Duration::from_millis(250);
/// The minimum time between two looks.
const LOOK_APART: Duration = Duration::from_millis(20);
/// A look at many plugins takes time. The thread pauses for this many times as long, to do other work.
const LOOK_SHARE: u32 = 3;

impl Reconciler {
    pub(super) fn look_soon(&mut self) {
        let due = self.last_look + LOOK_APART.max(self.look_took * LOOK_SHARE);
        self.next_look = Some(self.next_look.map_or(due, |look| look.min(due)));
        self.told = true;
    }

    /// Looks at all plugins, and records the differences from the last look.
    pub(super) fn look(&mut self, sign: Hint<'_>) {
        let begun = Instant::now();
        // Changes in a directory before it was watched are only visible by looking.
        for _ in 0..3 {
            self.look_once(sign);
            if !self.watch_places() {
                break;
            }
        }
        self.last_look = Instant::now();
        self.look_took = self.last_look - begun;
        let pause = match (self.how, &self.notices) {
            (config::Watch::Off, _) => None,
            (config::Watch::Events, Some(_)) => Some(LOOK_BESIDE_EVENTS),
            (config::Watch::Events, None) | (config::Watch::Poll, _) => Some(LOOK),
        };
        let pause = pause.map(|pause| if self.debounce.is_watching() { LOOK_CLOSELY } else { pause });
        self.next_look = pause.map(|pause| self.last_look + pause.max(self.look_took * LOOK_SHARE));
    }

    pub(super) fn look_once(&mut self, sign: Hint<'_>) {
        tracing::trace!("looking at all plugins");
        let seen = match Root::at(&self.root, &self.looks, self.loader.interpreters.root()) {
            Ok(seen) => seen,
            Err(error) => return self.lose_root(error.to_string()),
        };
        let replaced = self.identity.is_some_and(|identity| identity != seen.identity);
        if seen.plugins.is_empty() && replaced && !self.looks.is_empty() && sign != Hint::Asked {
            let root = self.root.display();
            return self.lose_root(format!("{root}: another directory, which is empty, is in its place"));
        }
        if self.rootless.take().is_some() {
            tracing::info!(directory = %self.root.display(), "the directory of plugins is back");
        }
        self.identity = Some(seen.identity);
        let now = Instant::now();
        for name in self.looks.keys().chain(seen.plugins.keys()) {
            if self.looks.get(name) != seen.plugins.get(name) {
                self.debounce.notice(name, sign, now);
            }
        }
        self.looks = seen.plugins;
    }

    /// Records that the root is gone or unreadable, most likely an unmounted disk. Served plugins are unaffected.
    fn lose_root(&mut self, why: String) {
        if self.rootless.as_ref() != Some(&why) {
            tracing::error!(error = why, "the directory of plugins is gone; still serving the plugins loaded from it");
            self.rootless = Some(why);
        }
    }

    /// Updates the watched directories. Returns whether any is new.
    pub(super) fn watch_places(&mut self) -> bool {
        let Some(notices) = &mut self.notices else { return false };
        let watched = notices.watch(&self.root, &self.looks);
        self.on_watched(watched)
    }

    /// Adds the new places of one plugin. Returns whether any is new.
    pub(super) fn watch_places_of(&mut self, name: &str) -> bool {
        let Some((notices, look)) = self.notices.as_mut().zip(self.looks.get(name)) else { return false };
        let watched = notices.watch_one(name, look);
        self.on_watched(watched)
    }

    fn on_watched(&mut self, (new, problem): (bool, Option<notify::Error>)) -> bool {
        if let Some(error) = problem.filter(|_| !mem::replace(&mut self.blind, true)) {
            tracing::warn!(
                %error,
                every = ?LOOK_BESIDE_EVENTS,
                "cannot watch every directory; polling the others (a higher fs.inotify.max_user_watches may help)"
            );
        }
        new
    }

    /// Returns whether the directory of the plugin `name` gives no plugin while the root is still the same.
    pub(super) fn is_gone(&self, name: &str) -> bool {
        let same = self.identity.is_some() && Identity::of(&self.root).ok() == self.identity;
        self.rootless.is_none() && same && discover::plugin_directory(&self.root.join(name)).is_none()
    }
}
