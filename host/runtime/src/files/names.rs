//! Changes of names in the private directory, with its quota: reserved before the change, and settled after it. Other
//! directories count as another file system: no rename or link crosses the border.

use crate::scratch::{Named, Scratch};
use cap_primitives::fs::{FollowSymlinks, MetadataExt, stat};
use rustix::io::Errno;
use std::{fs::File, io, path::Path, sync::Arc};

/// A directory within the private one, if the guest has one.
pub type Place = Option<(Scratch, Arc<File>)>;

/// A pending change.
#[must_use]
pub struct Change(Option<(Scratch, Effect)>);

enum Effect {
    Directory,
    /// Creates a symbolic link of this many bytes.
    Symlink {
        bytes: u64,
        at: (Arc<File>, String),
    },
    /// Adds a name to an existing file.
    Link(Named),
    /// Removes a name.
    Remove(Named),
}

impl Change {
    const UNCOUNTED: Self = Self(None);

    pub fn make_directory(place: Place) -> io::Result<Self> {
        let Some((scratch, _)) = place else { return Ok(Self::UNCOUNTED) };
        scratch.add_entry(0)?;
        Ok(Self(Some((scratch, Effect::Directory))))
    }

    pub fn symlink(place: Place, bytes: u64, path: &str) -> io::Result<Self> {
        let Some((scratch, directory)) = place else { return Ok(Self::UNCOUNTED) };
        scratch.add_entry(bytes)?;
        Ok(Self(Some((scratch, Effect::Symlink { bytes, at: (directory, path.to_owned()) }))))
    }

    pub fn link(from: Place, path: &str, to: Place) -> io::Result<Self> {
        let Some((scratch, directory)) = within_one(from, &to)? else { return Ok(Self::UNCOUNTED) };
        let named = look(&directory, path)?;
        scratch.add_entry(0)?;
        Ok(Self(Some((scratch, Effect::Link(named)))))
    }

    pub fn remove(place: Place, path: &str) -> io::Result<Self> {
        let Some((scratch, directory)) = place else { return Ok(Self::UNCOUNTED) };
        let named = look(&directory, path)?;
        Ok(Self(Some((scratch, Effect::Remove(named)))))
    }

    /// Prepares a rename. An existing file at the new path loses that name.
    pub fn rename(from: Place, path: &str, to: Place, new_path: &str) -> io::Result<Self> {
        let replaced = to.as_ref().and_then(|(_, directory)| look(directory, new_path).ok());
        let Some((scratch, directory)) = within_one(from, &to)? else { return Ok(Self::UNCOUNTED) };
        let renamed = look(&directory, path)?;
        let is_same = matches!(renamed, Named::File { .. }) && replaced == Some(renamed);
        // Two names of one file: the system changes nothing. The same applies to a directory onto itself.
        let is_itself = replaced == Some(Named::Directory) && is_one(&directory, path, &to, new_path);
        Ok(match replaced.filter(|_| !is_same && !is_itself) {
            Some(replaced) => Self(Some((scratch, Effect::Remove(replaced)))),
            None => Self::UNCOUNTED,
        })
    }

    /// Settles the quota after the change succeeded or failed.
    pub fn settle(self, made: bool) {
        let Some((scratch, effect)) = self.0 else { return };
        match effect {
            Effect::Directory | Effect::Link(Named::Directory) if !made => scratch.take_back_entry(0),
            Effect::Link(Named::File { .. }) if !made => scratch.take_back_entry(0),
            Effect::Symlink { bytes, .. } if !made => scratch.take_back_entry(bytes),
            Effect::Symlink { bytes, at: (directory, path) } => {
                if let Ok(Named::File { number }) = look(&directory, &path) {
                    scratch.named(number, bytes);
                }
            }
            Effect::Link(Named::File { number }) => scratch.named(number, 0),
            Effect::Remove(named) if made => scratch.removed(named),
            Effect::Directory | Effect::Link(Named::Directory) | Effect::Remove(_) => {}
        }
    }
}

fn within_one(from: Place, to: &Place) -> io::Result<Place> {
    if from.is_some() == to.is_some() { Ok(from) } else { Err(Errno::XDEV.into()) }
}

/// Returns the entry at a path without following links.
fn look(directory: &File, path: &str) -> io::Result<Named> {
    // The path of a directory can end with a slash.
    let metadata = stat(directory, Path::new(path), FollowSymlinks::No)?;
    Ok(if metadata.is_dir() { Named::Directory } else { Named::File { number: metadata.ino() } })
}

fn is_one(directory: &File, path: &str, to: &Place, new_path: &str) -> bool {
    let number = |directory: &File, path: &str| {
        stat(directory, Path::new(path), FollowSymlinks::No).ok().map(|metadata| metadata.ino())
    };
    to.as_ref().is_some_and(|(_, other)| number(directory, path) == number(other, new_path))
}
