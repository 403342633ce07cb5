//! The door to what only Linux has. `linux.rs` and `other.rs` have the same functions. On Linux the tests run both.
//!
//! Nothing of macOS is run by the tests, so `other.rs` uses only what all Unix systems have.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(any(not(target_os = "linux"), test))]
mod other;

#[cfg(target_os = "linux")]
pub use linux::*;
#[cfg(not(target_os = "linux"))]
pub use other::*;

use rustix::fs::{AtFlags, FileType, statat};
use std::{ffi::CStr, io, os::fd::AsFd};

/// An entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub name: String,
    pub kind: FileType,
    pub inode: u64,
    /// The position of the next entry.
    pub next: u64,
}

impl Entry {
    /// Makes an entry of `directory`. Asks for the kind if the file system has not told.
    fn new(directory: impl AsFd, name: &CStr, kind: FileType, inode: u64, next: u64) -> io::Result<Self> {
        let kind = match kind {
            FileType::Unknown => FileType::from_raw_mode(statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?.st_mode),
            known => known,
        };
        let name = name.to_str().map_err(|_| io::Error::from(rustix::io::Errno::ILSEQ))?.to_owned();
        Ok(Self { name, kind, inode, next })
    }
}
