//! Reads files of plugins and interpreters within bounds.

use super::{error::LoadError, files::FileLimits};
use distillery_core::size::Size;
use rustix::fs::OFlags;
use std::{
    fs::{self, File},
    io::Read,
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

/// The bounds of what is read of a plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    pub module: Size,
    pub files: FileLimits,
}

/// Reads a regular file; `None` if it is larger than `max`. Anything else, such as a pipe, could block the reader
/// forever, even if it replaces the file at this moment.
pub(super) fn read_whole(path: &Path, max: Size) -> Result<Option<Vec<u8>>, LoadError> {
    let unreadable = |error| LoadError::Unreadable { path: path.to_owned(), error };
    if !fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(LoadError::NotAFile(path.to_owned()));
    }
    let mut options = File::options();
    let file = options.read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(path).map_err(unreadable)?;
    if !file.metadata().map_err(unreadable)?.is_file() {
        return Err(LoadError::NotAFile(path.to_owned()));
    }
    let mut bytes = Vec::new();
    file.take(max.get().saturating_add(1)).read_to_end(&mut bytes).map_err(unreadable)?;
    Ok((bytes.len() <= max.as_usize()).then_some(bytes))
}
