//! Opens files for guests: below their directory, and only regular files and directories. A pipe, a device or a socket
//! in a mount is refused before it is opened, because opening one can block or have side effects.
//!
//! The object is checked before it is opened, and cannot be replaced in between unnoticed ([`platform::open_checked`]).

use crate::platform;
use cap_primitives::fs::{FollowSymlinks, OpenOptions, OpenOptionsExt};
use rustix::{
    fs::{FileType, OFlags, fstat},
    io::Errno,
};
use std::{
    fs::File,
    io::{self, ErrorKind},
    path::Path,
};

/// The number of attempts at a path that other processes keep changing.
const ATTEMPTS: usize = 8;

/// The requested kind of access.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted {
    pub follow: bool,
    pub create: bool,
    pub exclusive: bool,
    pub truncate: bool,
    /// Whether the caller truncates the file itself.
    pub cut_later: bool,
    pub directory: bool,
    pub read: bool,
    pub write: bool,
}

pub struct Found {
    pub file: File,
    pub is_directory: bool,
}

impl Wanted {
    /// Returns whether the access is more than reading.
    pub fn changes(&self) -> bool {
        self.create || self.truncate || self.write
    }

    /// Opens `path` below `directory`. Calls `make` before creating a file. Blocks.
    pub fn open(&self, directory: &File, path: &str, make: impl Fn() -> io::Result<()>) -> io::Result<Found> {
        if self.directory && (self.create || self.exclusive || self.truncate) {
            return Err(Errno::INVAL.into());
        }
        for _ in 0..ATTEMPTS {
            if !(self.create && self.exclusive) {
                match self.open_existing(directory, path) {
                    Err(error) if error.kind() == ErrorKind::NotFound && self.create => {}
                    done => return done,
                }
            }
            make()?;
            match self.create(directory, path) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists && !self.exclusive => {}
                done => return done,
            }
        }
        Err(Errno::AGAIN.into())
    }

    fn open_existing(&self, directory: &File, path: &str) -> io::Result<Found> {
        let writes = self.write || self.truncate || self.create;
        let mut flags = match (self.read || !self.write, writes) {
            (true, true) => OFlags::RDWR,
            (false, _) => OFlags::WRONLY,
            (true, false) => OFlags::RDONLY,
        } | OFlags::CLOEXEC
            | OFlags::NOCTTY;
        flags.set(OFlags::TRUNC, self.truncate && !self.cut_later);
        let check = |kind| self.is_directory(kind);
        let (file, is_directory) = platform::open_checked(directory, path, self.follow, flags, check)?;
        Ok(Found { file, is_directory })
    }

    /// Returns whether an object of this kind is a directory. Refuses all but directories and regular files.
    fn is_directory(&self, kind: FileType) -> io::Result<bool> {
        match kind {
            FileType::Directory => Ok(true),
            FileType::RegularFile if self.directory => Err(Errno::NOTDIR.into()),
            FileType::RegularFile => Ok(false),
            FileType::Symlink if self.directory => Err(Errno::NOTDIR.into()),
            FileType::Symlink => Err(Errno::LOOP.into()),
            _ => Err(Errno::PERM.into()),
        }
    }

    /// Creates the file. If another process creates a different object meanwhile, that one is opened without blocking,
    /// and refused.
    fn create(&self, directory: &File, path: &str) -> io::Result<Found> {
        let mut options = OpenOptions::new();
        options.read(self.read || !self.write).write(true).create(true).create_new(self.exclusive);
        options._cap_fs_ext_follow(if self.follow { FollowSymlinks::Yes } else { FollowSymlinks::No });
        options.custom_flags((OFlags::NONBLOCK | OFlags::NOCTTY).bits() as i32);
        let file = cap_primitives::fs::open(directory, Path::new(path), &options)?;
        match FileType::from_raw_mode(fstat(&file)?.st_mode) {
            FileType::RegularFile => Ok(Found { file, is_directory: false }),
            _ => Err(Errno::PERM.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, Mode, mknodat};
    use std::{fs, os::unix::fs::symlink, os::unix::net::UnixListener};

    const READ: Wanted = Wanted {
        follow: true,
        create: false,
        exclusive: false,
        truncate: false,
        cut_later: false,
        directory: false,
        read: true,
        write: false,
    };
    const WRITE: Wanted = Wanted { write: true, create: true, ..READ };

    fn open(directory: &Path, path: &str, wanted: Wanted) -> Result<bool, Option<i32>> {
        let directory = File::open(directory).unwrap();
        wanted.open(&directory, path, || Ok(())).map(|found| found.is_directory).map_err(|error| error.raw_os_error())
    }

    #[test]
    fn only_files_and_directories_are_opened() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        mknodat(CWD, path.join("pipe"), FileType::Fifo, Mode::RWXU, 0).unwrap();
        let _socket = UnixListener::bind(path.join("socket")).unwrap();
        symlink("pipe", path.join("link")).unwrap();
        fs::write(path.join("file"), "text").unwrap();
        fs::create_dir(path.join("inner")).unwrap();
        for name in ["pipe", "socket", "link"] {
            for wanted in [READ, WRITE, Wanted { create: false, ..WRITE }, Wanted { truncate: true, ..WRITE }] {
                assert_eq!(open(path, name, wanted), Err(Some(Errno::PERM.raw_os_error())), "{name}: {wanted:?}");
            }
        }
        assert_eq!(open(path, "file", READ), Ok(false));
        assert_eq!(open(path, "inner", READ), Ok(true));
        assert_eq!(open(path, "inner", WRITE), Err(Some(Errno::ISDIR.raw_os_error())));
        assert_eq!(open(path, "file", Wanted { directory: true, ..READ }), Err(Some(Errno::NOTDIR.raw_os_error())));
        assert_eq!(open(path, "link", Wanted { follow: false, ..READ }), Err(Some(Errno::LOOP.raw_os_error())));
    }

    #[test]
    fn files_are_created_and_truncated_as_requested() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        assert_eq!(open(path, "new", READ), Err(Some(Errno::NOENT.raw_os_error())));
        assert_eq!(open(path, "new", WRITE), Ok(false));
        assert_eq!(open(path, "new", Wanted { exclusive: true, ..WRITE }), Err(Some(Errno::EXIST.raw_os_error())));
        fs::write(path.join("new"), "text").unwrap();
        assert_eq!(open(path, "new", WRITE), Ok(false));
        assert_eq!(fs::read_to_string(path.join("new")).unwrap(), "text");
        assert_eq!(open(path, "new", Wanted { truncate: true, ..WRITE }), Ok(false));
        assert_eq!(fs::read_to_string(path.join("new")).unwrap(), "");
        symlink("made", path.join("dangling")).unwrap();
        assert_eq!(open(path, "dangling", WRITE), Ok(false));
        assert!(path.join("made").is_file());
        symlink("never", path.join("unfollowed")).unwrap();
        assert_eq!(open(path, "unfollowed", Wanted { follow: false, ..WRITE }), Err(Some(Errno::LOOP.raw_os_error())));
        assert!(!path.join("never").exists());
        assert!(open(path, "../outside", WRITE).is_err());
        assert!(open(path, "/etc/passwd", READ).is_err());
    }
}
