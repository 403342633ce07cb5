//! A copy of the database in one file, taken while it is in use.

use super::{Database, StoreError};
use rustix::{
    fs::{CWD, RenameFlags, renameat_with},
    io::Errno,
};
use std::{
    fs::{self, File},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

impl Database {
    /// Writes the database as it is at this moment into a new file, even while it is in use.
    pub fn backup(&self, to: &Path) -> Result<(), StoreError> {
        let impossible = |error| StoreError::Impossible { file: to.to_owned(), error };
        if to.exists() {
            return Err(impossible(io::Error::new(io::ErrorKind::AlreadyExists, "there is such a file already")));
        }
        // A file with the name of the backup is always complete.
        let mut aside = to.as_os_str().to_owned();
        aside.push(".part");
        let aside = PathBuf::from(aside);
        // A leftover of a backup that was killed. A link of another user, even to a file of this user, is removed as
        // well.
        match fs::remove_file(&aside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(impossible(error)),
            _ => {}
        }
        File::options().create_new(true).write(true).mode(0o600).open(&aside).map_err(impossible)?;
        let write = || {
            let connection = self.connect()?;
            let path = aside.to_string_lossy();
            connection.execute("VACUUM INTO ?1", [&path]).map_err(Self { file: to.to_owned() }.told())?;
            File::open(&aside).and_then(|file| file.sync_all()).map_err(impossible)?;
            // Fails if the file exists by now.
            match renameat_with(CWD, &aside, CWD, to, RenameFlags::NOREPLACE) {
                // Some file systems do not support NOREPLACE.
                Err(Errno::INVAL | Errno::NOSYS) => fs::rename(&aside, to).map_err(impossible),
                renamed => renamed.map_err(|error| impossible(error.into())),
            }
        };
        write().inspect_err(|_| drop(fs::remove_file(&aside)))
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            FILE,
            tests::{add, count},
        },
        *,
    };
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn backup_is_complete_and_never_replaces_another_file() {
        let directory = tempfile::tempdir().unwrap();
        let database = Database::open(&directory.path().join("data")).unwrap();
        let open = database.connect().unwrap();
        add(&open, "ada").unwrap();
        let copy = directory.path().join(FILE);
        database.backup(&copy).unwrap();
        add(&open, "bob").unwrap();
        assert_eq!(count(&Database::open(directory.path()).unwrap().connect().unwrap()), 1);
        let again = database.backup(&copy).unwrap_err().to_string();
        assert!(again.contains("there is such a file already"), "{again}");
        assert!(!directory.path().join("distillery.db.part").exists());
        assert_eq!(fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn backup_never_writes_through_a_link_in_its_way() {
        let directory = tempfile::tempdir().unwrap();
        let database = Database::open(&directory.path().join("data")).unwrap();
        let (precious, copy) = (directory.path().join("precious"), directory.path().join("copy.db"));
        fs::write(&precious, "as it was").unwrap();
        std::os::unix::fs::symlink(&precious, directory.path().join("copy.db.part")).unwrap();
        database.backup(&copy).unwrap();
        assert_eq!(fs::read(&precious).unwrap(), b"as it was");
        assert!(fs::symlink_metadata(&copy).unwrap().is_file());
    }
}
