//! Reading a directory that containers write into meanwhile. No path is looked up twice, and no symbolic link is
//! followed: each name is opened in the open directory that has it, whatever has become of the path of that directory.

use anyhow::Result;
use rustix::{
    fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, openat, readlinkat, statat},
    io::Errno,
};
use std::{fs::File, os::fd::OwnedFd, path::Path};

/// An open directory.
#[derive(Debug)]
pub struct Tree {
    directory: OwnedFd,
}

#[derive(Debug)]
pub enum Entry {
    Directory(Tree),
    File(File),
    /// With its target, unless that is not UTF-8.
    Link(Option<String>),
    /// A socket, pipe or device.
    Other,
}

/// A name that can be gone when it is opened.
const FLAGS: OFlags = OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

impl Tree {
    /// Opens a directory that no container can replace.
    pub fn open(path: &Path) -> Result<Self> {
        Ok(Self { directory: openat(CWD, path, FLAGS | OFlags::DIRECTORY, Mode::empty())? })
    }

    /// Returns the names in the directory, and those that are not UTF-8 in a readable form.
    pub fn names(&self) -> Result<(Vec<String>, Vec<String>)> {
        let (mut names, mut odd) = (Vec::new(), Vec::new());
        for entry in Dir::read_from(&self.directory)? {
            let entry = entry?;
            match entry.file_name().to_str() {
                Ok("." | "..") => {}
                Ok(name) => names.push(name.to_owned()),
                Err(_) => odd.push(entry.file_name().to_string_lossy().into_owned()),
            }
        }
        Ok((names, odd))
    }

    /// Opens what has this name. `None` if it is gone, or becomes something else all the time.
    pub fn entry(&self, name: &str) -> Result<Option<Entry>> {
        const TRIES: usize = 10;
        for _ in 0..TRIES {
            match self.attempt(name) {
                Err(Errno::NOENT) => return Ok(None),
                // It became something else between the two looks at it.
                Err(Errno::LOOP | Errno::NOTDIR | Errno::MLINK | Errno::INVAL) => {}
                entry => return Ok(Some(entry?)),
            }
        }
        Ok(None)
    }

    fn attempt(&self, name: &str) -> Result<Entry, Errno> {
        let kind = FileType::from_raw_mode(statat(&self.directory, name, AtFlags::SYMLINK_NOFOLLOW)?.st_mode);
        Ok(match kind {
            FileType::Directory => {
                let directory = openat(&self.directory, name, FLAGS | OFlags::DIRECTORY, Mode::empty())?;
                Entry::Directory(Self { directory })
            }
            FileType::RegularFile => {
                let file = File::from(openat(&self.directory, name, FLAGS | NONBLOCK, Mode::empty())?);
                match file.metadata() {
                    Ok(it) if it.is_file() => Entry::File(file),
                    Ok(_) => return Err(Errno::INVAL),
                    Err(error) => return Err(Errno::from_io_error(&error).unwrap_or(Errno::IO)),
                }
            }
            FileType::Symlink => {
                let target = readlinkat(&self.directory, name, Vec::new())?;
                Entry::Link(target.into_string().ok())
            }
            _ => Entry::Other,
        })
    }
}

/// A pipe that replaced a file does not block. The sandbox has no such flag.
#[cfg(not(target_family = "wasm"))]
const NONBLOCK: OFlags = OFlags::NONBLOCK;
#[cfg(target_family = "wasm")]
const NONBLOCK: OFlags = OFlags::empty();

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        fs,
        io::Read,
        os::unix::fs::symlink,
        sync::atomic::{AtomicBool, Ordering},
        thread,
    };

    /// Reads all files below a directory.
    fn read_all(tree: &Tree, all: &mut String) {
        for name in tree.names().unwrap().0 {
            match tree.entry(&name).unwrap() {
                Some(Entry::Directory(tree)) => read_all(&tree, all),
                Some(Entry::File(mut file)) => _ = file.read_to_string(all).unwrap(),
                Some(Entry::Link(_) | Entry::Other) | None => {}
            }
        }
    }

    #[test]
    fn link_swapped_in_at_any_moment_is_not_followed() {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        for directory in ["coins/data/one", "other/one"] {
            fs::create_dir_all(at(directory)).unwrap();
        }
        fs::write(at("coins/data/one/file"), "own").unwrap();
        fs::write(at("other/one/file"), "PASSWORD").unwrap();
        let is_done = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !is_done.load(Ordering::Relaxed) {
                    // The directory, and then the file in it, is replaced by a link into another instance.
                    fs::rename(at("coins/data"), at("coins/aside")).unwrap();
                    symlink(at("other"), at("coins/data")).unwrap();
                    fs::remove_file(at("coins/data")).unwrap();
                    fs::rename(at("coins/aside"), at("coins/data")).unwrap();
                    fs::rename(at("coins/data/one/file"), at("coins/data/one/aside")).unwrap();
                    symlink(at("other/one/file"), at("coins/data/one/file")).unwrap();
                    fs::remove_file(at("coins/data/one/file")).unwrap();
                    fs::rename(at("coins/data/one/aside"), at("coins/data/one/file")).unwrap();
                }
            });
            let mut own = 0;
            for _ in 0..3000 {
                let mut all = String::new();
                read_all(&Tree::open(&at("coins")).unwrap(), &mut all);
                assert!(!all.contains("PASSWORD"));
                own += usize::from(all.contains("own"));
            }
            is_done.store(true, Ordering::Relaxed);
            assert!(own > 0);
        });
    }

    #[test]
    fn entries_are_told_apart() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("directory")).unwrap();
        fs::write(root.path().join("file"), "x").unwrap();
        symlink("file", root.path().join("link")).unwrap();
        drop(std::os::unix::net::UnixListener::bind(root.path().join("socket")).unwrap());
        let tree = Tree::open(root.path()).unwrap();
        let entry = |name: &str| tree.entry(name).unwrap();
        assert!(matches!(entry("directory"), Some(Entry::Directory(_))));
        assert!(matches!(entry("file"), Some(Entry::File(_))));
        assert!(matches!(entry("link"), Some(Entry::Link(Some(target))) if target == "file"));
        assert!(matches!(entry("socket"), Some(Entry::Other)));
        assert!(entry("gone").is_none());
        let mut names = tree.names().unwrap().0;
        names.sort();
        assert_eq!(names, ["directory", "file", "link", "socket"]);
    }
}
