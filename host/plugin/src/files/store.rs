//! The files of all served versions, kept by content in `data/plugins/.files`, so that a process keeps the files of its
//! generation whatever happens to the plugin's directory.
//!
//! `blobs` has each content once, under its digest. `trees` has a directory for each digest of a whole tree, whose files
//! are further names of the blobs. A tree is in use as long as a server holds a shared lock on it. Only unlocked trees
//! that no archived version names are removed, also if several servers share the directory. What was written before a
//! crash can be damaged, so each server checks what it finds before its first use.

use super::{Entry, FileLimits, FilesError, Item, Tree, Walk, hash, hex};
use distillery_core::size::Size;
use distillery_runtime::Mounted;
use parking_lot::Mutex;
use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};
use std::{
    collections::{BTreeMap, HashSet},
    fs::{self, DirBuilder, File, Permissions},
    io::{self, ErrorKind},
    os::{
        fd::OwnedFd,
        unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink},
    },
    path::{Path, PathBuf},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, SystemTime},
};
use tempfile::TempDir;
use uuid::Uuid;

/// The name of the store in the archive. No plugin name begins with a dot.
pub const DIRECTORY: &str = ".files";
/// The file of an archived version that names its tree.
pub const REFERENCE: &str = "files";
/// The file of an archived version that names the tree of its interpreter.
pub const INTERPRETER: &str = "interpreter";
const BLOBS: &str = "blobs";
const TREES: &str = "trees";
/// The prefix of trees in the making. Only the holder of the store's lock makes one.
const NEW: &str = ".new-";
/// The prefix of trees to be removed.
const GONE: &str = ".gone-";
/// The modification time of every kept file: the earliest that archives of all kinds can record. Guests see it, and
/// equal digests mean equal behaviour.
const MODIFIED: Duration = Duration::from_secs(315_532_800);
/// The time from the end of a tree's use to the removal: a rollout ends many at once.
const COLLECT_DELAY: Duration = Duration::from_millis(200);
/// A tree is checked against its digest, so its own size bounds it.
const UNBOUNDED: FileLimits = FileLimits { count: usize::MAX, size: Size::bytes(u64::MAX - 1) };

/// The store of one server.
#[derive(Debug, Default)]
pub struct FileStore {
    place: Place,
    /// The blobs and trees whose content this server has checked.
    checked: Mutex<HashSet<String>>,
    /// Whether a removal is about to begin.
    collects: AtomicBool,
}

#[derive(Debug)]
enum Place {
    /// In the archive at this path.
    Archive(PathBuf),
    /// In a directory that is removed with the store.
    Temporary(OnceLock<TempDir>),
}

impl Default for Place {
    fn default() -> Self {
        Self::Temporary(OnceLock::new())
    }
}

/// The kept files of a version, in use until they are dropped.
#[derive(Debug)]
pub struct Kept {
    /// `None` if guests see nothing of them.
    pub mounted: Option<Mounted>,
    lock: Option<OwnedFd>,
    store: Arc<FileStore>,
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.lock = None;
        self.store.collect_soon();
    }
}

/// Reads a kept tree in the archive at `archive`.
pub fn read(archive: &Path, digest: &str) -> Result<Tree, FilesError> {
    Tree::read(&archive.join(DIRECTORY).join(TREES), Path::new(digest), UNBOUNDED)
}

impl FileStore {
    /// Returns the store in the archive at `archive`. Its directory is created on demand.
    pub fn of(archive: PathBuf) -> Self {
        Self { place: Place::Archive(archive), ..Self::default() }
    }

    fn root(&self) -> io::Result<PathBuf> {
        let root = match &self.place {
            Place::Archive(archive) => archive.join(DIRECTORY),
            Place::Temporary(directory) => match directory.get() {
                Some(directory) => directory.path().to_owned(),
                None => {
                    let made = TempDir::with_prefix("distillery-")?;
                    directory.get_or_init(|| made).path().to_owned()
                }
            },
        };
        for directory in [root.join(BLOBS), root.join(TREES)] {
            DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        }
        Ok(root)
    }

    /// Keeps the files of `tree`. `mount` is the directory of it that guests see, and its place for them. Blocks.
    pub fn keep(self: &Arc<Self>, tree: &Tree, mount: Option<(&Path, &str)>) -> Result<Kept, FilesError> {
        let failed = |error: io::Error| FilesError::Unreadable { path: String::new(), error };
        let root = self.root().map_err(failed)?;
        let _held = lock(&root, FlockOperation::LockExclusive).map_err(failed)?;
        let path = root.join(TREES).join(&tree.digest);
        if !self.is_whole(tree, &path) {
            self.make(tree, &root, &path)?;
        }
        let lock = lock(&path, FlockOperation::LockShared).map_err(failed)?;
        let mounted = mount.map(|(directory, at)| Mounted::open(&path.join(directory), at.to_owned(), false));
        let mounted = mounted.transpose().map_err(failed)?;
        self.checked.lock().insert(tree.digest.clone());
        Ok(Kept { mounted, lock: Some(lock), store: self.clone() })
    }

    /// Returns whether the tree is there. A tree that this server has not checked is read.
    fn is_whole(&self, tree: &Tree, path: &Path) -> bool {
        if !path.is_dir() {
            return false;
        }
        let known = self.checked.lock().contains(&tree.digest);
        known || Tree::read(path, Path::new(""), UNBOUNDED).is_ok_and(|found| found == *tree)
    }

    /// Makes the directory of a tree beside its place, and moves it there. The caller holds the lock.
    fn make(&self, tree: &Tree, root: &Path, path: &Path) -> Result<(), FilesError> {
        let failed = |error: io::Error| FilesError::Unreadable { path: String::new(), error };
        let aside = root.join(format!("{NEW}{}", Uuid::now_v7()));
        make_directory(&aside).map_err(failed)?;
        let made = self.fill(tree, root, &aside).and_then(|()| {
            if path.exists() {
                // Damaged. Processes of another server can have it open, so it is only moved.
                fs::rename(path, root.join(format!("{GONE}{}", Uuid::now_v7()))).map_err(failed)?;
            }
            fs::rename(&aside, path).map_err(failed)
        });
        made.inspect_err(|_| {
            // A leftover is removed with the next unused tree.
            let _ = fs::remove_dir_all(&aside);
        })
    }

    fn fill(&self, tree: &Tree, root: &Path, to: &Path) -> Result<(), FilesError> {
        let mut missing = tree.items.len();
        let mut visit = |path: String, entry: Entry| {
            let changed = || FilesError::Changed(path.clone());
            let failed = |error| FilesError::Unreadable { path: path.clone(), error };
            let item = tree.items.get(&path).ok_or_else(changed)?;
            let place = to.join(&path);
            if let Some(parent) = place.parent() {
                DirBuilder::new().recursive(true).mode(0o700).create(parent).map_err(failed)?;
            }
            missing -= 1;
            match (item, entry) {
                (Item::Link { target }, Entry::Link { target: found }) if *target == found => {
                    symlink(target, &place).map_err(failed)
                }
                (Item::File { digest, size }, Entry::File(file)) => {
                    let blob = root.join(BLOBS).join(hex(digest));
                    if !self.has(&blob, digest) {
                        copy(file, (digest, *size), &blob, root).map_err(failed)?.then_some(()).ok_or_else(changed)?;
                        self.checked.lock().insert(hex(digest));
                    }
                    name(&blob, &place).map_err(failed)
                }
                _ => Err(changed()),
            }
        };
        Walk::over(&tree.root, Path::new(""), usize::MAX)?.each(&mut visit)?;
        if missing > 0 { Err(FilesError::ChangedAsWhole) } else { Ok(()) }
    }

    /// Returns whether the blob is there and whole.
    fn has(&self, blob: &Path, digest: &[u8; 32]) -> bool {
        let name = hex(digest);
        if self.checked.lock().contains(&name) {
            return blob.is_file();
        }
        let found = File::open(blob).and_then(|mut file| hash(&mut file, u64::MAX - 1, io::sink()));
        let whole = found.is_ok_and(|(found, _)| found == *digest);
        if whole {
            self.checked.lock().insert(name);
        }
        whole
    }

    /// Removes unused trees and blobs soon, on a thread of its own.
    pub(crate) fn collect_soon(self: &Arc<Self>) {
        if matches!(self.place, Place::Temporary(_)) || self.collects.swap(true, Ordering::AcqRel) {
            return;
        }
        let store = self.clone();
        let spawned = thread::Builder::new().name("files".into()).spawn(move || {
            thread::sleep(COLLECT_DELAY);
            store.collects.store(false, Ordering::Release);
            if let Err(error) = store.collect() {
                tracing::warn!(%error, "cannot remove files of earlier plugin versions; they are left over");
            }
        });
        if let Err(error) = spawned {
            self.collects.store(false, Ordering::Release);
            tracing::warn!(%error, "cannot remove files of earlier plugin versions; they are left over");
        }
    }

    /// Removes the trees that are neither in use nor part of an archived version, and then the blobs that no tree uses.
    pub(crate) fn collect(&self) -> io::Result<()> {
        let Place::Archive(archive) = &self.place else { return Ok(()) };
        let root = archive.join(DIRECTORY);
        if !root.is_dir() {
            return Ok(());
        }
        {
            let _held = lock(&root, FlockOperation::LockExclusive)?;
            let referenced = references(archive);
            for (name, path) in entries(&root.join(TREES))? {
                // A server that uses the tree holds a shared lock.
                if !referenced.contains(&name) && lock(&path, FlockOperation::NonBlockingLockExclusive).is_ok() {
                    fs::rename(&path, root.join(format!("{GONE}{}", Uuid::now_v7())))?;
                    self.checked.lock().remove(&name);
                }
            }
            for (name, path) in entries(&root)?.into_iter().filter(|(name, _)| name.starts_with(NEW)) {
                // Left behind by a killed server: a living one would hold the lock of the store.
                fs::rename(path, root.join(name.replacen(NEW, GONE, 1)))?;
            }
        }
        // Takes time, and delays no load.
        for (_, path) in entries(&root)?.into_iter().filter(|(name, _)| name.starts_with(GONE)) {
            fs::remove_dir_all(path).or_else(unless_gone)?;
        }
        let _held = lock(&root, FlockOperation::LockExclusive)?;
        for (name, path) in entries(&root.join(BLOBS))? {
            if fs::symlink_metadata(&path).is_ok_and(|it| it.nlink() == 1) {
                fs::remove_file(&path).or_else(unless_gone)?;
                self.checked.lock().remove(&name);
            }
        }
        Ok(())
    }
}

fn unless_gone(error: io::Error) -> io::Result<()> {
    if error.kind() == ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

/// Opens a directory and locks it; dropping it unlocks it.
fn lock(path: &Path, how: FlockOperation) -> io::Result<OwnedFd> {
    let directory = open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    flock(&directory, how)?;
    Ok(directory)
}

fn make_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(path)
}

/// Returns the entries of a directory by name.
fn entries(directory: &Path) -> io::Result<BTreeMap<String, PathBuf>> {
    let entries = fs::read_dir(directory)?.flatten();
    Ok(entries.filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.path()))).collect())
}

/// Returns the trees that archived versions name.
fn references(archive: &Path) -> HashSet<String> {
    let directories = |path: PathBuf| fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    let versions = directories(archive.to_owned()).flat_map(directories);
    let named = |version: PathBuf| [REFERENCE, INTERPRETER].map(|file| fs::read_to_string(version.join(file)).ok());
    versions.flat_map(named).flatten().collect()
}

/// Copies a file to `blob`. Returns false if it does not have the expected digest and size.
fn copy(mut file: File, expected: (&[u8; 32], u64), blob: &Path, root: &Path) -> io::Result<bool> {
    let aside = root.join(BLOBS).join(format!("{NEW}{}", Uuid::now_v7()));
    let mut to = File::options().write(true).create_new(true).mode(0o600).open(&aside)?;
    let copied = hash(&mut file, expected.1, &mut to).and_then(|(digest, size)| {
        finish(&to)?;
        let same = (&digest, size) == expected;
        if same {
            fs::rename(&aside, blob)?;
        }
        Ok(same)
    });
    if !matches!(copied, Ok(true)) {
        // A leftover has one name, as other unused blobs.
        let _ = fs::remove_file(&aside);
    }
    copied
}

/// Gives a kept file its time, and takes away the right to write.
fn finish(file: &File) -> io::Result<()> {
    file.set_modified(SystemTime::UNIX_EPOCH + MODIFIED)?;
    file.set_permissions(Permissions::from_mode(0o400))
}

/// Gives a blob one more name. A file system without hard links, or with few for each file, gets a copy.
fn name(blob: &Path, place: &Path) -> io::Result<()> {
    if fs::hard_link(blob, place).is_ok() {
        return Ok(());
    }
    fs::copy(blob, place)?;
    // The copy has no right to write either, but its owner can set its time.
    File::open(place)?.set_modified(SystemTime::UNIX_EPOCH + MODIFIED)
}

#[cfg(test)]
mod tests;
