//! A temporary cache of compiled code: includes the code that a server has compiled, and is removed with the command.

use std::{
    fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};
use tempfile::TempDir;

/// A directory that shows the files of another one. Writes do not reach that directory.
#[derive(Debug)]
pub(super) struct Overlay(TempDir);

/// The maximum size of a file that is copied. Larger files are linked: the cache replaces files and never writes into
/// them.
const COPIED: u64 = 4 << 10;

impl Overlay {
    pub fn over(cache: &Path) -> io::Result<Self> {
        let overlay = TempDir::with_prefix("distillery-")?;
        if cache.is_dir() {
            show(&fs::canonicalize(cache)?, overlay.path())?;
        }
        Ok(Self(overlay))
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

fn show(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (path, shown): (PathBuf, _) = (entry.path(), to.join(entry.file_name()));
        let Ok(metadata) = entry.metadata() else { continue };
        if metadata.is_dir() {
            fs::create_dir(&shown)?;
            // A file that this user cannot read is compiled anew.
            let _ = show(&path, &shown);
        } else if metadata.len() > COPIED {
            symlink(path, shown)?;
        } else {
            let _ = fs::copy(path, shown);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_to_an_overlay_do_not_change_the_cache() {
        let cache = tempfile::tempdir().unwrap();
        fs::create_dir(cache.path().join("modules")).unwrap();
        fs::write(cache.path().join("modules/small"), "note").unwrap();
        fs::write(cache.path().join("modules/large"), vec![7; 5000]).unwrap();
        let overlay = Overlay::over(cache.path()).unwrap();
        assert_eq!(fs::read(overlay.path().join("modules/large")).unwrap().len(), 5000);
        fs::write(overlay.path().join("modules/small"), "other").unwrap();
        fs::write(overlay.path().join("modules/new"), "new").unwrap();
        fs::write(overlay.path().join("aside"), "new").unwrap();
        fs::rename(overlay.path().join("aside"), overlay.path().join("modules/large")).unwrap();
        let at = overlay.path().to_owned();
        drop(overlay);
        assert!(!at.exists());
        assert_eq!(fs::read_to_string(cache.path().join("modules/small")).unwrap(), "note");
        assert_eq!(fs::read(cache.path().join("modules/large")).unwrap().len(), 5000);
        assert_eq!(fs::read_dir(cache.path().join("modules")).unwrap().count(), 2);
    }

    #[test]
    fn no_cache_is_an_empty_overlay() {
        let overlay = Overlay::over(Path::new("/nowhere/at/all")).unwrap();
        assert_eq!(fs::read_dir(overlay.path()).unwrap().count(), 0);
    }
}
