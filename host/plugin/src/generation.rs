//! The life of a plugin's generations: serving, retired, and freed.
//!
//! This module knows no directory and loads nothing.

use super::{Plugin, Snapshot, State, source::Source};
use std::{
    fmt,
    sync::{Arc, atomic::Ordering::SeqCst},
};
use time::OffsetDateTime;
use tokio::sync::broadcast;

/// A generation that was never served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub generation: u64,
    /// `None` if the directory could not be read.
    pub digest: Option<String>,
    /// `None` if the directory could not be read.
    pub fingerprint: Option<String>,
    pub at: OffsetDateTime,
    pub why: String,
}

impl Failure {
    /// Returns the failure of a directory that could not be read.
    pub fn new(generation: u64, why: impl fmt::Display) -> Self {
        let (at, why) = (OffsetDateTime::now_utc(), why.to_string());
        Self { generation, digest: None, fingerprint: None, at, why }
    }

    /// Returns the failure of `source`, which was read but not loaded.
    pub fn to_make(source: &Source, generation: u64, why: impl fmt::Display) -> Self {
        let (digest, fingerprint) = (Some(source.digest.clone()), Some(source.fingerprint()));
        Self { digest, fingerprint, ..Self::new(generation, why) }
    }

    /// Returns the failure of `plugin`, which was loaded but not served.
    pub fn of(plugin: &Plugin, generation: u64, why: impl fmt::Display) -> Self {
        let (digest, fingerprint) = (Some(plugin.digest.clone()), Some(plugin.fingerprint().to_owned()));
        Self { digest, fingerprint, ..Self::new(generation, why) }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

/// A change in the life of a generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub plugin: String,
    pub generation: u64,
    pub what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// Serves all calls that start from now on.
    Serving { digest: String },
    /// No longer served; this many of its processes still run.
    Retired { processes: usize },
    /// The version in the directory is not served.
    Failed { why: String },
    /// The directory is gone. Refers to the last generation.
    Removed,
    /// The last process has ended; code and memory are freed.
    Freed,
}

impl What {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Serving { .. } => "serving",
            Self::Retired { .. } => "retired",
            Self::Failed { .. } => "failed",
            Self::Removed => "removed",
            Self::Freed => "freed",
        }
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

/// A running process of a generation, counted until it is dropped.
#[derive(Debug)]
pub struct Running(Arc<Plugin>);

impl Plugin {
    /// Counts one more process until the returned guard is dropped.
    pub fn enter(self: &Arc<Self>) -> Running {
        self.running.fetch_add(1, SeqCst);
        Running(self.clone())
    }

    /// Returns the number of running processes of this generation.
    pub fn running(&self) -> usize {
        self.running.load(SeqCst)
    }

    /// Prevents new processes of this generation. A counted process can still be about to check.
    pub fn revoke(&self) {
        self.revoked.store(true, SeqCst);
    }

    /// Returns whether this generation is revoked. Call this while holding a [`Running`]: then a concurrent revocation
    /// either counts that process or is seen here.
    pub fn is_revoked(&self) -> bool {
        self.revoked.load(SeqCst)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, SeqCst);
    }
}

/// Reports the end of a generation when it is dropped together with it.
#[derive(Debug)]
pub(super) struct Farewell {
    pub change: Change,
    pub to: broadcast::Sender<Change>,
}

impl Drop for Farewell {
    fn drop(&mut self) {
        tracing::info!(plugin = self.change.plugin, generation = self.change.generation, "generation freed");
        // A listener is optional.
        let _ = self.to.send(self.change.clone());
    }
}
