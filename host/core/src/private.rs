//! Files and directories that only the server's user can access. The module knows owners and modes, not the content of
//! files.
//!
//! A directory that the server's user owns gets the mode 0700, even if it existed before. A directory that root owns
//! stays as it is if no other user can write there: service managers and container volumes make such directories.

use rustix::process::{getegid, geteuid};
use std::{
    fs::{self, DirBuilder, Metadata, Permissions},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

const DIRECTORY: u32 = 0o700;
const FILE: u32 = 0o600;
/// The mode bits of all users except the owner.
const OTHERS: u32 = 0o077;

#[derive(Debug, thiserror::Error)]
pub enum NotPrivate {
    #[error(
        "{} belongs to another user (uid {owner}): give it to the user that runs the server (uid {own}) with chown",
        .path.display()
    )]
    Foreign { path: PathBuf, owner: u32, own: u32 },
    #[error("other users can write to {}: take that right away with chmod go-w", .0.display())]
    Writable(PathBuf),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The way in which a command uses a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Uses it for as long as the process runs.
    Serve,
    /// Reads or changes it, with or without a running server. Root does so for any user.
    Visit,
}

/// Makes the directory `path` if there is none, and removes all rights of other users.
pub fn directory(path: &Path, how: Use) -> Result<(), NotPrivate> {
    match fs::symlink_metadata(path) {
        Ok(link) => follow(path, &link, how)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            match DirBuilder::new().mode(DIRECTORY).create(path) {
                // Another process was faster.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                made => made?,
            }
        }
        Err(error) => return Err(error.into()),
    }
    let found = fs::metadata(path)?;
    if !found.is_dir() {
        return Err(io::Error::from(io::ErrorKind::NotADirectory).into());
    }
    let own = geteuid().as_raw();
    if found.uid() == own {
        return restrict(path, &found, DIRECTORY);
    }
    if found.uid() == 0 {
        // A group whose only member is the server's user is as safe as the user.
        let writable = if found.gid() == getegid().as_raw() { 0o002 } else { 0o022 };
        return if found.mode() & writable == 0 { Ok(()) } else { Err(NotPrivate::Writable(path.to_owned())) };
    }
    if own == 0 && how == Use::Visit {
        return Ok(());
    }
    Err(NotPrivate::Foreign { path: path.to_owned(), owner: found.uid(), own })
}

/// Removes all rights of other users to the file `path`, if the file exists.
pub fn file(path: &Path, how: Use) -> Result<(), NotPrivate> {
    let link = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        link => link?,
    };
    follow(path, &link, how)?;
    let found = fs::metadata(path)?;
    let own = geteuid().as_raw();
    if found.uid() == own {
        return restrict(path, &found, FILE);
    }
    let of_directory = path.parent().and_then(|it| fs::metadata(it).ok()).is_some_and(|it| it.uid() == found.uid());
    if own == 0 && how == Use::Visit && of_directory {
        return Ok(());
    }
    Err(NotPrivate::Foreign { path: path.to_owned(), owner: found.uid(), own })
}

/// Refuses a symbolic link of another user, as it can lead anywhere.
fn follow(path: &Path, link: &Metadata, how: Use) -> Result<(), NotPrivate> {
    let own = geteuid().as_raw();
    let trusted = [own, 0].contains(&link.uid()) || (own == 0 && how == Use::Visit);
    if trusted || !link.is_symlink() {
        return Ok(());
    }
    Err(NotPrivate::Foreign { path: path.to_owned(), owner: link.uid(), own })
}

fn restrict(path: &Path, found: &Metadata, mode: u32) -> Result<(), NotPrivate> {
    if found.mode() & OTHERS != 0 {
        fs::set_permissions(path, Permissions::from_mode(mode))?;
        tracing::info!(path = %path.display(), "removed the rights of other users");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{chown, symlink};

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn new_directory_is_private_to_its_owner() {
        let root = tempfile::tempdir().unwrap();
        let data = root.path().join("a/data");
        directory(&data, Use::Serve).unwrap();
        assert_eq!(mode(&data), 0o700);
        directory(&data, Use::Serve).unwrap();
    }

    #[test]
    fn looser_modes_are_tightened() {
        let root = tempfile::tempdir().unwrap();
        let (data, database) = (root.path().join("data"), root.path().join("data/db"));
        fs::create_dir(&data).unwrap();
        fs::write(&database, "").unwrap();
        fs::set_permissions(&data, Permissions::from_mode(0o777)).unwrap();
        fs::set_permissions(&database, Permissions::from_mode(0o666)).unwrap();
        directory(&data, Use::Serve).unwrap();
        file(&database, Use::Serve).unwrap();
        assert_eq!((mode(&data), mode(&database)), (0o700, 0o600));
        file(&data.join("none"), Use::Serve).unwrap();
    }

    #[test]
    fn own_symbolic_link_is_followed() {
        let root = tempfile::tempdir().unwrap();
        let (real, link) = (root.path().join("real"), root.path().join("link"));
        fs::create_dir(&real).unwrap();
        fs::set_permissions(&real, Permissions::from_mode(0o755)).unwrap();
        symlink(&real, &link).unwrap();
        directory(&link, Use::Serve).unwrap();
        assert_eq!(mode(&real), 0o700);
        symlink("/nowhere/at/all", root.path().join("dangling")).unwrap();
        assert!(matches!(directory(&root.path().join("dangling"), Use::Serve), Err(NotPrivate::Io(_))));
    }

    #[test]
    fn path_that_is_not_a_directory_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("file");
        fs::write(&path, "").unwrap();
        assert!(matches!(directory(&path, Use::Serve), Err(NotPrivate::Io(_))));
    }

    /// Needs root, which alone can give files away.
    #[test]
    fn property_of_another_user_is_refused() {
        const OTHER: u32 = 12_345;
        let root = tempfile::tempdir().unwrap();
        let (data, database, link) = (root.path().join("data"), root.path().join("data/db"), root.path().join("link"));
        fs::create_dir(&data).unwrap();
        fs::write(&database, "").unwrap();
        symlink(&data, &link).unwrap();
        if geteuid().as_raw() != 0 {
            return;
        }
        std::os::unix::fs::lchown(&link, Some(OTHER), None).unwrap();
        assert!(matches!(directory(&link, Use::Serve), Err(NotPrivate::Foreign { owner: OTHER, .. })));
        for path in [&database, &data] {
            chown(path, Some(OTHER), None).unwrap();
        }
        let refused = directory(&data, Use::Serve).unwrap_err().to_string();
        assert!(refused.contains("belongs to another user (uid 12345): give it to the user that runs"), "{refused}");
        assert!(matches!(file(&database, Use::Serve), Err(NotPrivate::Foreign { .. })));
        directory(&data, Use::Visit).unwrap();
        file(&database, Use::Visit).unwrap();
        chown(&data, Some(0), None).unwrap();
        assert!(matches!(file(&database, Use::Visit), Err(NotPrivate::Foreign { .. })), "it was planted there");
    }
}
