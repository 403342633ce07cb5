//! What happens to a plugin's generations: they serve, retire, fail, and are freed.
//!
//! This module knows no directory and loads nothing.

use super::source::Source;
use std::fmt;
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
    pub(crate) fn to_make(source: &Source, generation: u64, why: impl fmt::Display) -> Self {
        let (digest, fingerprint) = (Some(source.digest.clone()), Some(source.fingerprint()));
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
