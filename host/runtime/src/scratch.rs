//! Private directories for temporary files: their place, their quota, and their removal with the process.
//!
//! A process can fill its directory up to a quota, in bytes and in number of files. Usage is counted from the process's
//! own calls ([`ledger`]): no other process changes the directory. [`super::files`] brings a guest's calls here.

mod ledger;
mod remove;

use crate::platform;
use distillery_core::size::Size;
use ledger::Ledger;
pub use ledger::Named;
use parking_lot::Mutex;
use remove::remove_tree;
use rustix::{
    fs::{FlockOperation, Mode, OFlags, flock, open},
    io::Errno,
};
use std::{
    fs::{self, File},
    io::{self, ErrorKind},
    os::{
        fd::OwnedFd,
        unix::fs::{DirBuilderExt, FileExt, MetadataExt},
    },
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::runtime::Handle as Threads;
use uuid::Uuid;

/// The bytes of quota that allow one file, directory or link: a block of a common file system.
const BYTES_FOR_EACH: u64 = 4 << 10;
/// Additional entries, so that a small quota is useful.
const FEW: u64 = 64;
/// The directory below which this server's private directories lie; other servers can share it.
#[derive(Debug, Default)]
pub struct ScratchRoot {
    path: PathBuf,
    /// Created when the first plugin asks for space.
    own: Mutex<Option<Arc<Own>>>,
}

/// The directory of this server. Its lock lasts as long as the server, however the server ends.
#[derive(Debug)]
struct Own {
    path: PathBuf,
    next: AtomicU64,
    _lock: OwnedFd,
}

/// The scratch space that each process of a plugin gets.
#[derive(Clone, Debug)]
pub struct ScratchSpace {
    own: Arc<Own>,
    size: Size,
}

/// The private directory of one process, removed when the last clone is dropped.
#[derive(Clone, Debug)]
pub struct Scratch {
    directory: Arc<Directory>,
    ledger: Arc<Mutex<Ledger>>,
}

#[derive(Debug)]
struct Directory {
    path: PathBuf,
    own: Arc<Own>,
    /// The threads that make the directory and remove it.
    threads: Option<Threads>,
}

/// An open file of a private directory, counted until it is dropped.
#[derive(Debug)]
pub struct Handle {
    scratch: Scratch,
    number: u64,
}

impl ScratchRoot {
    /// Names the root directory. The directory is created on demand.
    pub fn new(path: PathBuf) -> Self {
        Self { path, own: Mutex::default() }
    }

    /// Removes the directories of servers that were killed.
    pub fn sweep(&self) -> io::Result<()> {
        match lock(&self.path, FlockOperation::LockExclusive) {
            Ok(_held) => self.sweep_others(),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn sweep_others(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            if !entry.file_type()?.is_dir() {
                continue;
            }
            // A running server holds the lock of its directory.
            match lock(&entry.path(), FlockOperation::NonBlockingLockExclusive) {
                Ok(_held) => remove_tree(&entry.path())?,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Returns scratch space of `size` for each process of a plugin.
    pub fn space(&self, size: Size) -> io::Result<ScratchSpace> {
        let mut own = self.own.lock();
        let own = match &*own {
            Some(own) => own.clone(),
            None => own.insert(Arc::new(self.make_own()?)).clone(),
        };
        Ok(ScratchSpace { own, size })
    }

    fn make_own(&self) -> io::Result<Own> {
        fs::create_dir_all(&self.path)?;
        // The lock keeps other servers from sweeping between creation and locking.
        let _held = lock(&self.path, FlockOperation::LockExclusive)?;
        let path = std::path::absolute(&self.path)?.join(Uuid::now_v7().to_string());
        make_directory(&path)?;
        let lock = lock(&path, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Own { path, next: AtomicU64::default(), _lock: lock })
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        if let Err(error) = remove_tree(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "temporary files are left over: the next start removes them");
        }
    }
}

/// Opens a directory and locks it; dropping it unlocks it.
fn lock(path: &Path, how: FlockOperation) -> io::Result<OwnedFd> {
    let directory = open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    flock(&directory, how)?;
    Ok(directory)
}

fn make_directory(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().mode(0o700).create(path)
}

impl ScratchSpace {
    /// Creates an empty directory for one process. Blocks.
    pub fn make(&self) -> io::Result<Scratch> {
        let path = self.own.path.join(self.own.next.fetch_add(1, Ordering::Relaxed).to_string());
        make_directory(&path)?;
        let directory = Directory { path, own: self.own.clone(), threads: Threads::try_current().ok() };
        let ledger = Ledger::new(self.size.get(), self.size.get() / BYTES_FOR_EACH + FEW);
        Ok(Scratch { directory: Arc::new(directory), ledger: Arc::new(Mutex::new(ledger)) })
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let (path, own) = (std::mem::take(&mut self.path), self.own.clone());
        let remove = move || {
            if let Err(error) = remove_tree(&path) {
                tracing::warn!(path = %path.display(), %error, "temporary files are left over until the server ends");
            }
            drop(own);
        };
        // Processes end on threads that also serve others, so the removal runs elsewhere.
        match self.threads.take() {
            Some(threads) => drop(threads.spawn_blocking(remove)),
            None => remove(),
        }
    }
}

impl Scratch {
    pub fn path(&self) -> &Path {
        &self.directory.path
    }

    /// Reserves one more name, and `bytes` for its entry.
    pub fn add_entry(&self, bytes: u64) -> io::Result<()> {
        self.ledger.lock().add_entry(bytes)
    }

    /// Releases the reservation of a name that was not created.
    pub fn take_back_entry(&self, bytes: u64) {
        self.ledger.lock().take_back_entry(bytes);
    }

    /// Records one more name of the file `number`; the name is already reserved.
    pub fn named(&self, number: u64, size: u64) {
        self.ledger.lock().named(number, size);
    }

    /// Records the removal of a name.
    pub fn removed(&self, named: Named) {
        self.ledger.lock().removed(named);
    }

    /// Counts an opened file; `made` is true if opening created it.
    pub fn opened(&self, file: &File, made: bool) -> io::Result<Handle> {
        let metadata = file.metadata()?;
        let mut ledger = self.ledger.lock();
        if made {
            ledger.named(metadata.ino(), 0);
        }
        ledger.opened(&metadata);
        Ok(Handle { scratch: self.clone(), number: metadata.ino() })
    }
}

impl Handle {
    /// Reserves the bytes that the file needs to grow to `size`.
    pub fn grow(&self, size: u64) -> io::Result<()> {
        self.scratch.ledger.lock().grow(self.number, size)
    }

    /// Releases reserved bytes that are not used.
    pub fn settle(&self, file: &File) {
        if let Ok(metadata) = file.metadata() {
            self.scratch.ledger.lock().settle(self.number, metadata.len());
        }
    }

    /// Writes `bytes` at a position, or at the end. Blocks.
    pub fn write(&self, file: &File, bytes: &[u8], at: Option<u64>) -> io::Result<usize> {
        let place = at.map_or_else(|| file.metadata().map(|it| it.len()), Ok)?;
        let end = place.checked_add(bytes.len() as u64).filter(|end| i64::try_from(*end).is_ok()).ok_or(Errno::FBIG)?;
        self.grow(end)?;
        let written = write(file, bytes, at);
        self.settle(file);
        written
    }

    /// Cuts or extends the file. Blocks.
    pub fn set_size(&self, file: &File, size: u64) -> io::Result<()> {
        self.grow(size)?;
        let done = file.set_len(size);
        self.settle(file);
        done
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.scratch.ledger.lock().closed(self.number);
    }
}

/// Writes to a guest's file at a position, or at the end. Blocks.
pub fn write(file: &File, bytes: &[u8], at: Option<u64>) -> io::Result<usize> {
    match at {
        Some(at) => file.write_at(bytes, at),
        None => platform::append(file, bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Bench {
        root: ScratchRoot,
        directory: tempfile::TempDir,
    }

    fn bench() -> Bench {
        let directory = tempfile::tempdir().unwrap();
        Bench { root: ScratchRoot::new(directory.path().join("scratch")), directory }
    }

    fn names(path: &Path) -> usize {
        fs::read_dir(path).map_or(0, Iterator::count)
    }

    fn make(scratch: &Scratch, name: &str) -> (File, Handle) {
        scratch.add_entry(0).unwrap();
        let file = File::options().read(true).write(true).create_new(true).open(scratch.path().join(name)).unwrap();
        let handle = scratch.opened(&file, true).unwrap();
        (file, handle)
    }

    fn is_full<T: std::fmt::Debug>(done: io::Result<T>) -> bool {
        done.unwrap_err().kind() == ErrorKind::StorageFull
    }

    #[test]
    fn every_way_to_grow_a_file_respects_the_quota() {
        let bench = bench();
        let scratch = bench.root.space(Size::kib(64)).unwrap().make().unwrap();
        let ((one, first), (other, second)) = (make(&scratch, "one"), make(&scratch, "other"));
        let bytes = |kib: usize| vec![7; kib << 10];
        assert_eq!(first.write(&one, &bytes(60), Some(0)).unwrap(), 60 << 10);
        assert_eq!(first.write(&one, &bytes(60), Some(0)).unwrap(), 60 << 10);
        assert_eq!(second.write(&other, &bytes(4), None).unwrap(), 4 << 10);
        for at in [None, Some(1 << 40)] {
            assert!(is_full(second.write(&other, b"x", at)));
        }
        assert!(second.write(&other, b"x", Some(u64::MAX - 1)).is_err());
        assert!(is_full(second.set_size(&other, 5 << 10)));
        assert!(is_full(scratch.add_entry(1)));
        first.set_size(&one, 10).unwrap();
        second.set_size(&other, 60 << 10).unwrap();
    }

    #[test]
    fn removed_file_counts_until_it_is_closed() {
        let bench = bench();
        let scratch = bench.root.space(Size::kib(64)).unwrap().make().unwrap();
        let (one, first) = make(&scratch, "one");
        let (other, second) = make(&scratch, "other");
        first.write(&one, &vec![7; 64 << 10], None).unwrap();
        fs::remove_file(scratch.path().join("one")).unwrap();
        scratch.removed(Named::File { number: first.number });
        assert!(is_full(second.write(&other, b"x", None)));
        drop((one, first));
        second.write(&other, &vec![7; 64 << 10], None).unwrap();
        assert!(is_full(second.write(&other, b"x", None)));
    }

    #[test]
    fn number_of_files_is_bounded() {
        let bench = bench();
        let scratch = bench.root.space(Size::kib(4)).unwrap().make().unwrap();
        for _ in 0..65 {
            scratch.add_entry(0).unwrap();
        }
        assert!(is_full(scratch.add_entry(0)));
        scratch.removed(Named::Directory);
        scratch.add_entry(0).unwrap();
    }

    #[test]
    fn deeply_nested_directory_is_removed_with_its_process() {
        let bench = bench();
        let space = bench.root.space(Size::mib(1)).unwrap();
        let scratch = space.make().unwrap();
        let path = scratch.path().to_owned();
        let mut place = open(&path, OFlags::DIRECTORY, Mode::empty()).unwrap();
        // Three times as long as the longest path.
        let name = "deeper".repeat(40);
        for _ in 0..50 {
            rustix::fs::mkdirat(&place, &name, Mode::RWXU).unwrap();
            place = rustix::fs::openat(&place, &name, OFlags::DIRECTORY, Mode::empty()).unwrap();
        }
        fs::write(path.join("file"), "x").unwrap();
        drop(scratch);
        assert!(!path.exists());
        drop(space);
        drop(bench.root);
        assert_eq!(names(&bench.directory.path().join("scratch")), 0);
    }

    #[test]
    fn sweep_removes_only_directories_of_killed_servers() {
        let bench = bench();
        let left = bench.directory.path().join("scratch/left/0");
        fs::create_dir_all(&left).unwrap();
        fs::write(left.join("file"), "x").unwrap();
        let scratch = bench.root.space(Size::mib(1)).unwrap().make().unwrap();
        let other = ScratchRoot::new(bench.directory.path().join("scratch"));
        other.sweep().unwrap();
        assert!(!left.exists() && scratch.path().exists());
        assert_eq!(names(&bench.directory.path().join("scratch")), 1);
    }
}
