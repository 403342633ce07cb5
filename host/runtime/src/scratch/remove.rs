//! Removes a directory tree of any depth.

use std::{
    fs,
    io::{self, ErrorKind},
    path::Path,
};
use uuid::Uuid;

/// The depth that is removed by path: with the longest names just below the maximum path length.
const LEVELS: usize = 12;

/// Removes a directory tree of any depth. Moves deep directories to the top first, so that neither paths nor recursion
/// grow long.
pub fn remove_tree(top: &Path) -> io::Result<()> {
    // A prefix that no guest can have used.
    let prefix = Uuid::now_v7();
    let mut moved = 0u64;
    loop {
        let mut move_up = |deep: &Path| {
            moved += 1;
            unless_gone(fs::rename(deep, top.join(format!("{prefix}-{moved}"))))
        };
        clear(top, 0, &mut move_up)?;
        match fs::remove_dir(top) {
            // Directories were moved up, or the guest's last call is still in progress.
            Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => {}
            done => return unless_gone(done),
        }
    }
}

fn clear(directory: &Path, level: usize, move_up: &mut impl FnMut(&Path) -> io::Result<()>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let path = entry.path();
        if !entry.file_type()?.is_dir() {
            unless_gone(fs::remove_file(&path))?;
        } else if level == LEVELS {
            move_up(&path)?;
        } else {
            clear(&path, level + 1, move_up)?;
            match unless_gone(fs::remove_dir(&path)) {
                Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => {}
                done => done?,
            }
        }
    }
    Ok(())
}

fn unless_gone(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        done => done,
    }
}
