//! The files that a plugin brings along: their names, their bounds, and the digest of names and content.
//!
//! This module only reads. [`store`] keeps the files of each version; the runtime mounts them.

pub mod store;
mod walk;

use distillery_core::size::Size;
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs::{self, File},
    io::{self, Read},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};
pub use walk::{DEPTH, is_temporary};
use walk::{Entry, Walk};

/// The directory of files that needs no mention in the manifest.
pub const DIRECTORY: &str = "files";
/// The guest's path of the files by default.
pub(crate) const AT: &str = "/plugin";
/// The size of a read while a file is hashed.
const CHUNK: usize = 64 << 10;

/// The bounds of the files of one plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileLimits {
    /// The number of files, links and directories.
    pub count: usize,
    /// All files together.
    pub size: Size,
}

/// The reason why the files of a plugin cannot be used. Paths are relative to their directory.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    #[error("{path:?}: {error}")]
    Unreadable { path: String, error: io::Error },
    #[error("no such directory: make it, or change files: in plugin.yaml")]
    Missing,
    #[error("not a directory, or a link to one: put the directory itself there, or write files: false in plugin.yaml")]
    NotADirectory,
    #[error("more than {0} files, links and directories: remove some, or raise limits.files in distillery.yaml")]
    TooMany(usize),
    #[error("larger than {0} together: make the files smaller, or raise limits.files_size in distillery.yaml")]
    TooLarge(Size),
    #[error("{0:?}: directories in it are nested more than {DEPTH} deep: move the files up")]
    TooDeep(String),
    #[error("{0:?}: its path is longer than {most} bytes: shorten it", most = walk::PATH)]
    TooLong(String),
    #[error("{0:?}: its name is not UTF-8 text, as guests need: rename it")]
    NotText(String),
    #[error("{0:?}: not a regular file, directory or link: remove it")]
    Special(String),
    #[error("{0:?}: a second name of another user's file: put a copy there")]
    Foreign(String),
    #[error("{path:?}: a link to {target:?}, which is outside: put the file itself there")]
    LeadsOut { path: String, target: String },
    #[error("{0:?}: it changed while it was read: the next change or reload reads it again")]
    Changed(String),
    #[error("it changed while it was read: the next change or reload reads it again")]
    ChangedAsWhole,
}

/// The files of one version of a plugin.
#[derive(Clone, Debug)]
pub struct Tree {
    /// The directory to read them from.
    root: PathBuf,
    /// By relative path. Directories follow from the paths; empty ones are left out, as in git.
    items: BTreeMap<String, Item>,
    /// The SHA-256 of all names and contents, in hexadecimal.
    pub digest: String,
    /// The size of all files together.
    pub size: Size,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Item {
    File { digest: [u8; 32], size: u64 },
    Link { target: String },
}

/// Compares the files, wherever they are read from.
impl PartialEq for Tree {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl Tree {
    /// Reads the files in the directory `below` of `directory`.
    pub fn read(directory: &Path, below: &Path, limits: FileLimits) -> Result<Self, FilesError> {
        let mut items = BTreeMap::new();
        let mut size = 0u64;
        let mut visit = |path: String, entry: Entry| {
            let item = match entry {
                Entry::Link { target } => Item::Link { target },
                Entry::File(mut file) => {
                    let left = limits.size.get() - size;
                    let (digest, length) = hash(&mut file, left, io::sink())
                        .map_err(|error| FilesError::Unreadable { path: path.clone(), error })?;
                    size += length;
                    if length > left {
                        return Err(FilesError::TooLarge(limits.size));
                    }
                    Item::File { digest, size: length }
                }
            };
            items.insert(path, item);
            Ok(())
        };
        Walk::over(directory, below, limits.count)?.each(&mut visit)?;
        let digest = digest(&items);
        Ok(Self { root: directory.join(below), items, digest, size: Size::bytes(size) })
    }

    /// Returns the path of a file to read it from.
    pub fn path(&self, file: &str) -> PathBuf {
        self.root.join(file)
    }

    /// Returns the digest and the size of a file; `None` if it is none.
    pub fn file(&self, path: &str) -> Option<([u8; 32], u64)> {
        match self.items.get(path)? {
            Item::File { digest, size } => Some((*digest, *size)),
            Item::Link { .. } => None,
        }
    }

    /// Returns whether there is a file or a link at this path.
    pub fn has(&self, path: &str) -> bool {
        self.items.contains_key(path)
    }

    /// Returns whether there is any file or link below this directory.
    pub fn has_below(&self, directory: &Path) -> bool {
        self.items.keys().any(|path| Path::new(path).starts_with(directory))
    }

    /// Returns the names of the files directly in the directory.
    pub fn top(&self) -> impl Iterator<Item = &str> {
        self.items.keys().map(String::as_str).filter(|path| !path.contains('/'))
    }

    /// Copies everything to the new directory `to`.
    pub fn copy_to(&self, to: &Path) -> io::Result<()> {
        fs::create_dir(to)?;
        for (path, item) in &self.items {
            let place = to.join(path);
            if let Some(parent) = place.parent() {
                fs::create_dir_all(parent)?;
            }
            match item {
                Item::File { .. } => fs::copy(self.root.join(path), place).map(drop)?,
                Item::Link { target } => symlink(target, place)?,
            }
        }
        Ok(())
    }

    /// Returns the number of files and links.
    pub fn count(&self) -> usize {
        self.items.len()
    }

    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }
}

/// Reads a file to its end, or one byte beyond `most`, and copies it to `to`. Returns digest and length.
fn hash(file: &mut File, most: u64, mut to: impl io::Write) -> io::Result<([u8; 32], u64)> {
    let mut file = file.take(most.saturating_add(1));
    let (mut hasher, mut length) = (Sha256::new(), 0u64);
    let mut chunk = vec![0; CHUNK];
    loop {
        match file.read(&mut chunk) {
            Ok(0) => return Ok((hasher.finalize().into(), length)),
            Ok(read) => {
                hasher.update(&chunk[..read]);
                to.write_all(&chunk[..read])?;
                length += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Returns the digest of files. Each part has its length in front, so that no two trees are described alike.
fn digest(items: &BTreeMap<String, Item>) -> String {
    let mut hasher = Sha256::new_with_prefix(b"distillery files 1\n");
    let mut part = |kind: u8, bytes: &[u8]| {
        hasher.update([kind]);
        hasher.update((bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    for (path, item) in items {
        part(b'p', path.as_bytes());
        match item {
            Item::File { digest, .. } => part(b'f', digest),
            Item::Link { target } => part(b'l', target.as_bytes()),
        }
    }
    hex(&hasher.finalize())
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

#[cfg(test)]
mod tests;
