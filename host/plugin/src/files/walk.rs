//! Walks a directory of files by open handles: no link in it is followed, even one that appears meanwhile.

use super::FilesError;
use rustix::{
    fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, fstat, openat, readlinkat, statat},
    io::Errno,
};
use std::{
    ffi::CString,
    fs::File,
    os::fd::OwnedFd,
    path::{Component, Path},
};

/// The maximum depth of directories.
pub const DEPTH: usize = 32;
/// The maximum length of a relative path.
pub const PATH: usize = 1024;

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC).union(OFlags::NONBLOCK);
const FILE: OFlags =
    OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC).union(OFlags::NONBLOCK).union(OFlags::NOCTTY);

/// A file or a link below the directory.
pub enum Entry {
    File(File),
    Link { target: String },
}

/// A walk over a directory.
pub struct Walk {
    top: OwnedFd,
    /// The user to whom the directory belongs.
    owner: u32,
    /// The number of entries that are still permitted.
    left: usize,
    most: usize,
}

type Visit<'a> = &'a mut dyn FnMut(String, Entry) -> Result<(), FilesError>;

impl Walk {
    /// Opens the directory `below` of `directory`. Only the way to `directory` can contain links.
    pub fn over(directory: &Path, below: &Path, most: usize) -> Result<Self, FilesError> {
        let unreadable = |error: Errno| FilesError::Unreadable { path: String::new(), error: error.into() };
        let followed = DIRECTORY.difference(OFlags::NOFOLLOW);
        let mut top = openat(CWD, directory, followed, Mode::empty()).map_err(unreadable)?;
        for part in below.components() {
            let Component::Normal(name) = part else { return Err(FilesError::NotADirectory) };
            top = openat(&top, name, DIRECTORY, Mode::empty()).map_err(|error| match error {
                Errno::NOENT => FilesError::Missing,
                Errno::NOTDIR | Errno::LOOP => FilesError::NotADirectory,
                error => unreadable(error),
            })?;
        }
        let owner = fstat(&top).map_err(unreadable)?.st_uid;
        Ok(Self { top, owner, left: most, most })
    }

    /// Visits every file and link, directory by directory.
    pub fn each(mut self, visit: Visit<'_>) -> Result<(), FilesError> {
        let top = self.top.try_clone().map_err(|error| FilesError::Unreadable { path: String::new(), error })?;
        self.directory(&top, "", 0, visit)
    }

    fn directory(&mut self, at: &OwnedFd, path: &str, depth: usize, visit: Visit<'_>) -> Result<(), FilesError> {
        if depth > DEPTH {
            return Err(FilesError::TooDeep(path.to_owned()));
        }
        for name in self.names(at, path)? {
            let text = name.to_str().map_err(|_| FilesError::NotText(join(path, &name.to_string_lossy())))?;
            let inner = join(path, text);
            if inner.len() > PATH {
                return Err(FilesError::TooLong(inner));
            }
            let unreadable = |error: Errno| match error {
                // Listed, and gone or replaced by now.
                Errno::NOENT | Errno::LOOP | Errno::NOTDIR => FilesError::Changed(inner.clone()),
                error => FilesError::Unreadable { path: inner.clone(), error: error.into() },
            };
            let kind = statat(at, &name, AtFlags::SYMLINK_NOFOLLOW).map_err(unreadable)?;
            match FileType::from_raw_mode(kind.st_mode) {
                FileType::Directory => {
                    let below = openat(at, &name, DIRECTORY, Mode::empty()).map_err(unreadable)?;
                    self.directory(&below, &inner, depth + 1, visit)?;
                }
                FileType::RegularFile => {
                    let file = openat(at, &name, FILE, Mode::empty()).map_err(unreadable)?;
                    let stat = fstat(&file).map_err(unreadable)?;
                    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
                        return Err(FilesError::Changed(inner));
                    }
                    if is_foreign(stat.st_nlink > 1, stat.st_uid, self.owner) {
                        return Err(FilesError::Foreign(inner));
                    }
                    visit(inner, Entry::File(file.into()))?;
                }
                FileType::Symlink => {
                    let target = readlinkat(at, &name, Vec::new()).map_err(unreadable)?;
                    let target = target.into_string().map_err(|_| FilesError::NotText(inner.clone()))?;
                    if !stays_inside(&inner, &target) {
                        return Err(FilesError::LeadsOut { path: inner, target });
                    }
                    visit(inner, Entry::Link { target })?;
                }
                _ => return Err(FilesError::Special(inner)),
            }
        }
        Ok(())
    }

    /// Lists a directory in order, within the number of permitted entries.
    fn names(&mut self, at: &OwnedFd, path: &str) -> Result<Vec<CString>, FilesError> {
        let unreadable = |error: Errno| FilesError::Unreadable { path: path.to_owned(), error: error.into() };
        let mut names = Vec::new();
        for entry in Dir::read_from(at).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") || is_temporary(name.to_bytes()) {
                continue;
            }
            self.left = self.left.checked_sub(1).ok_or(FilesError::TooMany(self.most))?;
            names.push(name.to_owned());
        }
        names.sort_unstable();
        Ok(names)
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") }
}

/// Returns whether a file of this name is an editor's temporary one, which is no part of a plugin.
pub fn is_temporary(name: &[u8]) -> bool {
    let ends = [&b"~"[..], b".swp", b".swx", b".swpx"];
    ends.iter().any(|end| name.ends_with(end)) || name.starts_with(b".#")
}

/// Returns whether a file is a second name of another user's file. A user who can create names here, but cannot read
/// that file, would otherwise make the server read it.
fn is_foreign(has_more_names: bool, owner: u32, owner_of_directory: u32) -> bool {
    has_more_names && owner != owner_of_directory
}

/// Returns whether the link at `path` leads to a place below the top, by names alone. What these names refer to is
/// checked again whenever a guest opens them.
fn stays_inside(path: &str, target: &str) -> bool {
    let mut depth = path.matches('/').count();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => match depth.checked_sub(1) {
                Some(less) => depth = less,
                None => return false,
            },
            _ => depth += 1,
        }
    }
    !target.starts_with('/') && !target.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_stays_inside_by_its_names() {
        for (path, target) in [("a", "b"), ("a", "./b/../c"), ("d/a", "../b"), ("d/e/a", "../../b"), ("a", "d/..")] {
            assert!(stays_inside(path, target), "{path} to {target}");
        }
        for (path, target) in
            [("a", ".."), ("a", "/etc"), ("a", ""), ("d/a", "../.."), ("a", "b/../../c"), ("d/a", "//x")]
        {
            assert!(!stays_inside(path, target), "{path} to {target}");
        }
    }

    #[test]
    fn second_name_of_a_foreign_file_is_refused() {
        assert!(is_foreign(true, 0, 1000));
        assert!(!is_foreign(false, 0, 1000) && !is_foreign(true, 1000, 1000));
    }

    #[test]
    fn temporary_files_of_editors_are_left_out() {
        for name in ["x.py~", ".x.py.swp", ".x.swx", ".#x.py"] {
            assert!(is_temporary(name.as_bytes()), "{name}");
        }
        for name in ["x.py", ".htaccess", "..data", "#x"] {
            assert!(!is_temporary(name.as_bytes()), "{name}");
        }
    }
}
