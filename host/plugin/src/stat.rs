//! The states of files and directories, without their content: whether one was replaced, resized or modified.
//!
//! This module knows no plugin.

use super::{
    files::{DEPTH, is_temporary},
    manifest::{Files, Wanted},
};
use distillery_core::call::CallName;
use sha2::{Digest, Sha256};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, Metadata},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};

/// The maximum number of watched directories of one plugin; any further ones are polled.
pub const WATCHED: usize = 1000;
/// The maximum number of files that are seen. No plugin with more loads.
const SEEN: usize = 1_000_000;

/// The identity of a file or directory, independent of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    device: u64,
    inode: u64,
}

/// Everything that changes when a file is replaced or written to. The inode change time reveals writers that reset the
/// modification time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    identity: Identity,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Identity {
    pub fn of(path: &Path) -> io::Result<Self> {
        fs::metadata(path).map(|metadata| Self::from(&metadata))
    }
}

impl From<&Metadata> for Identity {
    fn from(metadata: &Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino() }
    }
}

impl From<&Metadata> for Stat {
    fn from(metadata: &Metadata) -> Self {
        Self {
            identity: metadata.into(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// The state of files in any number. Equal trees mean equal files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    /// The hash of the states of all files and links.
    files: [u8; 32],
    /// The relative paths of all directories.
    pub directories: BTreeSet<PathBuf>,
}

impl Tree {
    /// Looks at the files of the plugin in `directory`; `None` if it has none.
    pub fn at(directory: &Path, files: &Files) -> Option<Self> {
        let top = directory.join(&files.directory);
        // A link to a directory is refused when it is read.
        if files.wanted == Wanted::No || !fs::symlink_metadata(&top).is_ok_and(|it| it.is_dir()) {
            return None;
        }
        Some(Self::below(directory, &files.directory))
    }

    /// Looks at all files in the directory `top` of `directory`.
    fn below(directory: &Path, top: &Path) -> Self {
        let (mut hasher, mut directories, mut left) = (Sha256::new(), BTreeSet::new(), SEEN);
        let mut waiting = vec![(top.to_owned(), 0)];
        while let Some((path, depth)) = waiting.pop() {
            let entries = fs::read_dir(directory.join(&path)).into_iter().flatten().flatten();
            let mut names: Vec<_> = entries.take(left).map(|entry| entry.file_name()).collect();
            names.retain(|name| !is_temporary(name.as_encoded_bytes()));
            names.sort_unstable();
            left -= names.len();
            for name in names {
                let inner = path.join(name);
                // A file that is gone by now is another state.
                let Ok(metadata) = fs::symlink_metadata(directory.join(&inner)) else { continue };
                if metadata.is_dir() && depth <= DEPTH {
                    waiting.push((inner, depth + 1));
                } else {
                    let bytes = inner.as_os_str().as_encoded_bytes();
                    hasher.update((bytes.len() as u64).to_le_bytes());
                    hasher.update(bytes);
                    hasher.update(format!("{:?}", Stat::from(&metadata)));
                }
            }
            directories.insert(path);
        }
        Self { files: hasher.finalize().into(), directories }
    }
}

/// The state of the directory of an interpreter. Equal looks mean equal files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterpreterLook {
    directory: PathBuf,
    /// `None` if there is no such directory.
    tree: Option<Arc<Tree>>,
}

/// The looks at interpreters in one round: plugins with the same interpreter look once.
pub struct InterpreterLooks<'a> {
    root: &'a Path,
    looks: BTreeMap<String, InterpreterLook>,
}

impl InterpreterLook {
    /// Looks at the interpreter `name` below `root`.
    pub fn at(root: &Path, name: &CallName) -> Self {
        let directory = root.join(name.as_str());
        // The directory itself can be a link.
        let there = fs::metadata(&directory).is_ok_and(|it| it.is_dir());
        let tree = there.then(|| Arc::new(Tree::below(&directory, Path::new(""))));
        Self { directory, tree }
    }

    /// Returns the directories in which every name matters, and the one in which the interpreter itself is or will be.
    pub fn directories(&self) -> impl Iterator<Item = PathBuf> {
        let inner = self.tree.iter().flat_map(|tree| &tree.directories).take(WATCHED);
        inner.map(|path| self.directory.join(path)).chain(self.directory.parent().map(Path::to_owned))
    }
}

impl<'a> InterpreterLooks<'a> {
    /// Returns a round without any look.
    pub fn of(root: &'a Path) -> Self {
        Self { root, looks: BTreeMap::new() }
    }

    pub fn at(&mut self, name: &CallName) -> InterpreterLook {
        let look = || InterpreterLook::at(self.root, name);
        self.looks.entry(name.to_string()).or_insert_with(look).clone()
    }
}
