//! Removes a directory with all in it, however a guest has nested it.

use std::{
    fs,
    io::{self, ErrorKind},
    path::Path,
};
use uuid::Uuid;

/// How many directories deep one is cleared by its path: with the longest names that is just short of the longest path.
const LEVELS: usize = 12;

/// Removes a directory and all in it, however deeply a guest has nested it: what lies too deep is moved up first, so that
/// no path grows long and no recursion deep.
pub fn remove_tree(top: &Path) -> io::Result<()> {
    // Names that no guest can have taken.
    let prefix = Uuid::now_v7();
    let mut moved = 0u64;
    loop {
        let mut move_up = |deep: &Path| {
            moved += 1;
            unless_gone(fs::rename(deep, top.join(format!("{prefix}-{moved}"))))
        };
        clear(top, 0, &mut move_up)?;
        match fs::remove_dir(top) {
            // Something was moved up, or the last call of a guest is still under way.
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
