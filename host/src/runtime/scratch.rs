//! Private directories for temporary files: where they lie, how much they hold, and that none outlives its process.
//!
//! A process may fill its own up to a quota, in bytes and in number of files. Everything that makes files grow goes
//! through here, one after the other, so that what is counted is what is there; only deleting is not watched. Once the
//! quota is used up, the directory is counted anew, and with it the files that were deleted while open: they hold
//! their space until whoever has them open lets go. How a guest's calls come here is the affair of [`super::files`].

use crate::size::Size;
use bytes::Bytes;
use parking_lot::Mutex;
use rustix::{
    fs::{FlockOperation, Mode, OFlags, flock, open},
    io::Errno,
};
use std::{
    collections::HashSet,
    fs::{self, File},
    io::{self, ErrorKind},
    os::{
        fd::OwnedFd,
        unix::{ffi::OsStrExt, fs::DirBuilderExt, fs::FileExt, fs::MetadataExt},
    },
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{
    sync::{Mutex as Turn, OwnedMutexGuard},
    task::spawn_blocking,
};
use uuid::Uuid;

/// One file, directory or link for each so many bytes of the quota: a block of a usual file system.
const BYTES_FOR_EACH: u64 = 4 << 10;
/// ... and so many more, so that a small quota is of use.
const FEW: u64 = 64;
/// Counting anew takes at most this part of the time of a process that keeps running into its quota.
const COUNTING_PART: u32 = 10;

/// Where the private directories of this server lie, below a directory that other servers may share.
#[derive(Debug, Default)]
pub struct ScratchRoot {
    path: PathBuf,
    /// Made when the first plugin asks for space.
    own: Mutex<Option<Arc<Own>>>,
}

/// The directory of this server. It is locked for as long as the server lives, whatever way it ends.
#[derive(Debug)]
struct Own {
    path: PathBuf,
    next: AtomicU64,
    _lock: OwnedFd,
}

/// The space that each process of a plugin has.
#[derive(Clone, Debug)]
pub struct ScratchSpace {
    own: Arc<Own>,
    size: Size,
}

/// The private directory of one process, which is removed with the last of these.
#[derive(Clone, Debug)]
pub struct Scratch {
    directory: Arc<Directory>,
    quota: Arc<Turn<Quota>>,
}

#[derive(Debug)]
struct Directory {
    path: PathBuf,
    own: Arc<Own>,
}

/// How much of a private directory is used.
#[derive(Debug)]
pub struct Quota {
    /// As the kernel tells it, without links.
    root: PathBuf,
    bytes: u64,
    most_bytes: u64,
    entries: u64,
    most_entries: u64,
    counted: Option<Counted>,
}

#[derive(Debug)]
struct Counted {
    at: Instant,
    took: Duration,
}

/// What a process does to one of its files.
#[derive(Clone, Debug)]
pub enum Change {
    /// Writes there, or at the end.
    Write {
        bytes: Bytes,
        at: Option<u64>,
    },
    SetSize(u64),
}

impl ScratchRoot {
    /// Nothing is made before it is needed.
    pub fn new(path: PathBuf) -> Self {
        Self { path, own: Mutex::default() }
    }

    /// Removes what servers left here that did not end well.
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
            // Whoever lives holds the lock of its directory.
            match lock(&entry.path(), FlockOperation::NonBlockingLockExclusive) {
                Ok(_held) => remove_tree(&entry.path())?,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Space of `size` for each process of a plugin.
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
        // Nobody sweeps between the making and the locking.
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
    /// An empty directory for one process. Blocks.
    pub fn make(&self) -> io::Result<Scratch> {
        let path = self.own.path.join(self.own.next.fetch_add(1, Ordering::Relaxed).to_string());
        make_directory(&path)?;
        let directory = Directory { path, own: self.own.clone() };
        let quota = Quota {
            root: fs::canonicalize(&directory.path)?,
            bytes: 0,
            most_bytes: self.size.get(),
            entries: 0,
            most_entries: self.size.get() / BYTES_FOR_EACH + FEW,
            counted: None,
        };
        Ok(Scratch { directory: Arc::new(directory), quota: Arc::new(Turn::new(quota)) })
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
        // A process ends on a thread that serves others.
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(remove)),
            Err(_) => remove(),
        }
    }
}

impl Scratch {
    pub fn path(&self) -> &Path {
        &self.directory.path
    }

    /// Room for so many bytes and entries more, and the turn to use it: nobody else changes the directory meanwhile.
    pub async fn take(&self, bytes: u64, entries: u64) -> io::Result<OwnedMutexGuard<Quota>> {
        let mut quota = self.quota.clone().lock_owned().await;
        if quota.take(bytes, entries).is_err() {
            quota = Quota::count_anew(quota).await?;
            quota.take(bytes, entries)?;
        }
        Ok(quota)
    }

    /// Changes a file in the directory where the quota allows it, and gives the number of bytes written.
    pub async fn change(&self, file: Arc<File>, change: Change) -> io::Result<usize> {
        let mut quota = self.quota.clone().lock_owned().await;
        let mut counted = false;
        loop {
            let (file, change) = (file.clone(), change.clone());
            // It ends before the next one has its turn even if nobody waits for it any more.
            let done;
            (quota, done) = blocking(move || {
                let done = quota.change(&file, &change);
                (quota, done)
            })
            .await?;
            match done {
                Err(error) if error.kind() == ErrorKind::StorageFull && !counted => {
                    quota = Quota::count_anew(quota).await?;
                    counted = true;
                }
                done => return done,
            }
        }
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    spawn_blocking(work).await.map_err(io::Error::other)
}

impl Quota {
    fn take(&mut self, bytes: u64, entries: u64) -> io::Result<()> {
        let (bytes, entries) = (self.bytes.saturating_add(bytes), self.entries.saturating_add(entries));
        if bytes > self.most_bytes || entries > self.most_entries {
            return Err(Errno::NOSPC.into());
        }
        (self.bytes, self.entries) = (bytes, entries);
        Ok(())
    }

    /// Gives back what was taken and not used.
    pub fn give_back(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    fn change(&mut self, file: &File, change: &Change) -> io::Result<usize> {
        let size = file.metadata()?.len();
        match change {
            Change::Write { bytes, at } => {
                let at = at.unwrap_or(size);
                let end = at.checked_add(bytes.len() as u64).ok_or(Errno::FBIG)?;
                // Holes count as if they were filled.
                self.take(end.saturating_sub(size), 0)?;
                file.write_all_at(bytes, at)?;
                Ok(bytes.len())
            }
            Change::SetSize(new) => {
                self.take(new.saturating_sub(size), 0)?;
                file.set_len(*new)?;
                self.give_back(size.saturating_sub(*new));
                Ok(0)
            }
        }
    }

    /// Counts what is there. A guest that asks for it all the time waits in between.
    async fn count_anew(mut quota: OwnedMutexGuard<Self>) -> io::Result<OwnedMutexGuard<Self>> {
        if let Some(Counted { at, took }) = quota.counted {
            tokio::time::sleep_until((at + took * COUNTING_PART).into()).await;
        }
        blocking(move || {
            let begun = Instant::now();
            // What cannot be counted, such as directories nested beyond the longest path, gives nothing back.
            if let Ok((bytes, entries)) = count(&quota.root) {
                (quota.bytes, quota.entries) = (bytes, entries);
            }
            quota.counted = Some(Counted { at: Instant::now(), took: begun.elapsed() });
            quota
        })
        .await
    }
}

/// The bytes and entries below `root`, and the bytes of files that were deleted there and are still open.
fn count(root: &Path) -> io::Result<(u64, u64)> {
    let (mut bytes, mut entries) = (0u64, 0u64);
    let mut seen = HashSet::new();
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            entries += 1;
            if metadata.is_dir() {
                directories.push(entry.path());
            } else if seen.insert(metadata.ino()) {
                bytes = bytes.saturating_add(metadata.len());
            }
        }
    }
    // Behind the walk: what is deleted in between was counted by it.
    for handle in fs::read_dir("/proc/self/fd")? {
        let handle = handle?.path();
        // Handles come and go while they are looked at.
        let Ok(target) = fs::read_link(&handle) else { continue };
        let deleted = target.as_os_str().as_bytes().ends_with(b" (deleted)");
        if !deleted || !target.starts_with(root) {
            continue;
        }
        match fs::metadata(&handle) {
            Ok(metadata) if metadata.is_file() && seen.insert(metadata.ino()) => {
                bytes = bytes.saturating_add(metadata.len());
            }
            _ => {}
        }
    }
    Ok((bytes, entries))
}

/// How many directories deep one is cleared by its path: with the longest names that is just short of the longest path.
const LEVELS: usize = 12;

/// Removes a directory and all in it, however deeply a guest has nested it: what lies too deep is moved up first, so that
/// no path grows long and no recursion deep.
fn remove_tree(top: &Path) -> io::Result<()> {
    // Names that no guest can have taken.
    let prefix = Uuid::now_v7();
    let mut moved = 0u64;
    loop {
        let mut move_up = |deep: &Path| {
            moved += 1;
            unless_gone(fs::rename(deep, top.join(format!("{prefix}-{moved}"))))
        };
        clear(top, 0, &mut move_up)?;
        match fs::remove_dir(top) {
            // Something was moved up, or the last call of a guest is still under way.
            Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => {}
            done => return unless_gone(done),
        }
    }
}

fn clear(directory: &Path, level: usize, move_up: &mut impl FnMut(&Path) -> io::Result<()>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let path = entry.path();
        if !entry.file_type()?.is_dir() {
            unless_gone(fs::remove_file(&path))?;
        } else if level == LEVELS {
            move_up(&path)?;
        } else {
            clear(&path, level + 1, move_up)?;
            match unless_gone(fs::remove_dir(&path)) {
                Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => {}
                done => done?,
            }
        }
    }
    Ok(())
}

fn unless_gone(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        done => done,
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

    fn open_new(scratch: &Scratch, name: &str) -> Arc<File> {
        let file = File::options().read(true).write(true).create(true).truncate(false).open(scratch.path().join(name));
        Arc::new(file.unwrap())
    }

    fn write(bytes: usize, at: Option<u64>) -> Change {
        Change::Write { bytes: vec![7; bytes].into(), at }
    }

    fn is_full<T: std::fmt::Debug>(done: io::Result<T>) -> bool {
        done.unwrap_err().kind() == ErrorKind::StorageFull
    }

    #[tokio::test]
    async fn files_grow_up_to_the_quota_and_no_way_of_growing_leads_past_it() {
        let bench = bench();
        let scratch = bench.root.space(Size::kib(64)).unwrap().make().unwrap();
        let (one, other) = (open_new(&scratch, "one"), open_new(&scratch, "other"));
        scratch.change(one.clone(), write(60 << 10, Some(0))).await.unwrap();
        scratch.change(one.clone(), write(60 << 10, Some(0))).await.unwrap();
        scratch.change(other.clone(), write(4 << 10, None)).await.unwrap();
        for change in [write(1, None), write(1, Some(1 << 40)), write(1, Some(u64::MAX - 1)), Change::SetSize(5 << 10)]
        {
            assert!(is_full(scratch.change(other.clone(), change).await));
        }
        assert!(is_full(scratch.take(1, 0).await));
        scratch.change(one.clone(), Change::SetSize(10)).await.unwrap();
        scratch.change(other, Change::SetSize(60 << 10)).await.unwrap();
    }

    #[tokio::test]
    async fn deleting_gives_room_back_when_nobody_has_the_file_open_any_more() {
        let bench = bench();
        let scratch = bench.root.space(Size::kib(64)).unwrap().make().unwrap();
        let (one, other) = (open_new(&scratch, "one"), open_new(&scratch, "other"));
        scratch.change(one.clone(), write(64 << 10, None)).await.unwrap();
        fs::remove_file(scratch.path().join("one")).unwrap();
        assert!(is_full(scratch.change(other.clone(), write(1, None)).await));
        drop(one);
        scratch.change(other.clone(), write(64 << 10, None)).await.unwrap();
        assert!(is_full(scratch.change(other, write(1, None)).await));
    }

    #[tokio::test]
    async fn the_number_of_files_is_bounded() {
        let bench = bench();
        let scratch = bench.root.space(Size::kib(4)).unwrap().make().unwrap();
        for number in 0..65 {
            drop(scratch.take(0, 1).await.unwrap());
            fs::create_dir(scratch.path().join(number.to_string())).unwrap();
        }
        assert!(is_full(scratch.take(0, 1).await));
        fs::remove_dir(scratch.path().join("0")).unwrap();
        drop(scratch.take(0, 1).await.unwrap());
    }

    #[test]
    fn a_directory_goes_with_its_process_however_deeply_it_is_nested() {
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
    fn what_a_killed_server_left_is_swept_and_what_a_living_one_has_is_not() {
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
