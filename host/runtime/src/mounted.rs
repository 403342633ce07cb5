//! A directory of the host that guests can use.

use super::platform::Directory;
use std::{io, path::Path, sync::Arc};

/// An open directory of the host, and its path for guests.
#[derive(Clone, Debug)]
pub struct Mounted {
    pub(super) directory: Arc<Directory>,
    /// Device and inode.
    identity: (u64, u64),
    pub(super) at: String,
    pub(super) write: bool,
}

impl Mounted {
    /// Opens a directory. Blocks.
    pub fn open(path: &Path, at: String, write: bool) -> io::Result<Self> {
        let directory = Directory::open(path)?;
        let identity = directory.identity()?;
        Ok(Self { directory: Arc::new(directory), identity, at, write })
    }
}

/// Compares directories and access rights.
impl PartialEq for Mounted {
    fn eq(&self, other: &Self) -> bool {
        (self.identity, &self.at, self.write) == (other.identity, &other.at, other.write)
    }
}
