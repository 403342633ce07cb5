//! The public systems as guests see them, between the runtime and their storage.

use std::fmt;

/// A public system, unchecked if a guest made it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct System {
    pub slug: String,
    pub url: String,
    pub tagline: String,
    pub entity_count: u64,
    pub bundle_count: u64,
    /// In RFC 3339 format.
    pub last_edit: Option<String>,
}

/// The storage of the systems. Its errors are readable by guests.
pub trait Directory: fmt::Debug + Send + Sync {
    fn list(&self) -> Vec<System>;

    /// Adds or replaces a system and returns whether it is new. Blocks.
    fn put(&self, system: System) -> Result<bool, String>;

    /// Removes a system and returns whether it existed. Blocks.
    fn remove(&self, slug: &str) -> Result<bool, String>;
}
