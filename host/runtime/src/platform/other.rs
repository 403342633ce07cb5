//! What replaces Linux on other Unix systems: slower, or with less, and never with more access.

use super::Entry;
use cap_primitives::fs::{FollowSymlinks, MetadataExt as _, OpenOptions, OpenOptionsExt, canonicalize, stat};
use distillery_core::size::Size;
use parking_lot::Mutex;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, RawMode, Timestamps, fstat, open, openat, utimensat};
use std::{
    fs::File,
    io::{self, ErrorKind},
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
    process::Command,
};

/// The number of entries that are read at once.
const PAGE: usize = 40;
/// The limit of open files that macOS allows even if its maximum is "unlimited" (`OPEN_MAX`).
const OPEN_MAX: u64 = 10_240;
/// A file that always exists in the directory of [`always_there`].
pub const FILE_ALWAYS_THERE: [u8; 4] = *b"null";

const UNBOUNDED: &str = "the time and the memory of a compilation can be bounded only on Linux";

/// Returns why a process that compiles cannot be bounded in memory, if so.
pub fn unbounded_worker() -> Option<&'static str> {
    Some(UNBOUNDED)
}

/// Refuses to compile in a process of its own.
pub fn worker(_: &[u8]) -> io::Result<Command> {
    Err(unbounded())
}

/// Refuses to compile in a process of its own.
pub fn end_with_parent() -> io::Result<()> {
    Err(unbounded())
}

/// Refuses to compile in a process of its own.
pub fn bound_memory(_: Size) -> io::Result<()> {
    Err(unbounded())
}

fn unbounded() -> io::Error {
    io::Error::new(ErrorKind::Unsupported, UNBOUNDED)
}

/// Returns the maximum number of memory mappings of a process: no limit is known.
pub fn most_mappings() -> u64 {
    u64::MAX
}

/// Returns the size of the address space: unknown.
pub fn address_space() -> Option<u64> {
    None
}

/// Returns the values to which the limit of open files can be raised, best first.
pub fn limits_of_open_files(maximum: Option<u64>) -> impl Iterator<Item = Option<u64>> {
    [maximum, Some(maximum.map_or(OPEN_MAX, |maximum| maximum.min(OPEN_MAX)))].into_iter()
}

/// An open directory that can be opened again while its path leads there.
#[derive(Debug)]
pub struct Directory {
    opened: File,
    path: PathBuf,
}

impl Directory {
    /// Opens a directory. Blocks.
    pub fn open(path: &Path) -> io::Result<Self> {
        let path = path.canonicalize()?;
        let opened = open(&path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?.into();
        Ok(Self { opened, path })
    }

    /// Returns device and inode. The open handle keeps them from being reused.
    pub fn identity(&self) -> io::Result<(u64, u64)> {
        self.opened.metadata().map(|it| (it.dev(), it.ino()))
    }

    /// Returns a path that leads to this directory. Fails if the directory was moved or replaced.
    pub fn path(&self) -> io::Result<PathBuf> {
        let there = std::fs::symlink_metadata(&self.path).map(|it| (it.dev(), it.ino()));
        if there.ok() == Some(self.identity()?) {
            return Ok(self.path.clone());
        }
        let path = self.path.display();
        Err(io::Error::other(format!("the mounted directory {path} was moved or replaced: reload the plugin")))
    }
}

/// Opens an existing object below `directory` if `check` accepts its kind, and returns what `check` says. The kind is
/// looked at before and after the object is opened. Opening does not block: whatever replaces the object in between is
/// refused. Blocks only for the disk.
pub fn open_checked<T>(
    directory: &File,
    path: &str,
    follow: bool,
    flags: OFlags,
    check: impl Fn(FileType) -> io::Result<T>,
) -> io::Result<(File, T)> {
    let path = Path::new(path);
    let follow = if follow { FollowSymlinks::Yes } else { FollowSymlinks::No };
    check(FileType::from_raw_mode(stat(directory, path, follow)?.mode() as RawMode))?;
    let access = flags & OFlags::RWMODE;
    let mut options = OpenOptions::new();
    options.read(access != OFlags::WRONLY).write(access != OFlags::RDONLY)._cap_fs_ext_follow(follow);
    options.custom_flags((OFlags::NONBLOCK | OFlags::NOCTTY).bits() as i32);
    let file = cap_primitives::fs::open(directory, path, &options)?;
    let checked = check(FileType::from_raw_mode(fstat(&file)?.st_mode))?;
    if flags.contains(OFlags::TRUNC) {
        file.set_len(0)?;
    }
    Ok((file, checked))
}

/// Sets the times of an object below `directory`, following links, without opening the object. Blocks.
pub fn set_times(directory: &File, path: &str, times: &Timestamps) -> io::Result<()> {
    let real = canonicalize(directory, Path::new(path))?;
    let (parent, name) = match (real.parent(), real.file_name()) {
        (Some(parent), Some(name)) => (parent, Path::new(name)),
        _ => (Path::new("."), Path::new(".")),
    };
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    let parent = cap_primitives::fs::open_dir(directory, parent)?;
    Ok(utimensat(&parent, name, times, AtFlags::SYMLINK_NOFOLLOW)?)
}

/// Opens a directory that always exists, and has a file of the name [`FILE_ALWAYS_THERE`].
pub fn always_there() -> io::Result<File> {
    Ok(open("/dev", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?.into())
}

/// Writes at the end of a file. Guests of this server write one after the other; another program that appends at the
/// same moment can lose its bytes. Blocks.
pub fn append(file: &File, bytes: &[u8]) -> io::Result<usize> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock();
    file.write_at(bytes, file.metadata()?.len())
}

/// The entries of a directory, a page at a time. Positions count entries, because those of the system are only valid
/// within one open directory.
pub struct Pages {
    directory: Dir,
    device: u64,
    /// The number of entries that were read.
    position: u64,
}

impl Pages {
    /// Opens the directory once more, with a position of its own. Blocks.
    pub fn open(directory: &File) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let own = File::from(openat(directory, ".", flags, Mode::empty())?);
        let device = own.metadata()?.dev();
        Ok(Self { directory: Dir::new(own)?, device, position: 0 })
    }

    /// Returns the device of the directory.
    pub fn device(&self) -> io::Result<u64> {
        Ok(self.device)
    }

    /// Continues at the position of an entry; zero is the first. Blocks.
    pub fn seek(&mut self, position: u64) -> io::Result<()> {
        self.directory.rewind();
        self.position = 0;
        while self.position < position
            && let Some(entry) = self.directory.read()
        {
            entry?;
            self.position += 1;
        }
        Ok(())
    }

    /// Reads entries from the current position until `take` returns false. `take` learns which entry is the last of a
    /// page: later ones are not read yet. Continue there; anywhere else, seek first. Blocks.
    pub fn read(&mut self, mut take: impl FnMut(Entry, bool) -> bool) -> io::Result<()> {
        let mut left = PAGE;
        while let Some(entry) = self.directory.read() {
            let entry = entry?;
            self.position += 1;
            left = left.checked_sub(1).unwrap_or(PAGE - 1);
            let (kind, inode) = (entry.file_type(), entry.ino());
            let entry = Entry::new(self.directory.fd()?, entry.file_name(), kind, inode, self.position)?;
            if !take(entry, left == 0) {
                break;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
