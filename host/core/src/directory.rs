//! Directories that a server makes when it needs them.

use rustix::fs::{Access, access};
use std::{
    io::{self, ErrorKind},
    path::Path,
};

/// Says whether the directory at `path` can be written by this process, or made where it is missing. Makes nothing.
pub fn try_writable(path: &Path) -> io::Result<()> {
    let mut nearest = path;
    while !nearest.exists() {
        nearest = match nearest.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
    }
    if !nearest.is_dir() {
        return Err(io::Error::new(ErrorKind::NotADirectory, format!("{} is not a directory", nearest.display())));
    }
    access(nearest, Access::WRITE_OK | Access::EXEC_OK)
        .map_err(|error| io::Error::new(io::Error::from(error).kind(), format!("{}: {error}", nearest.display())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn missing_directory_is_as_writable_as_the_nearest_one() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("file"), "").unwrap();
        try_writable(root.path()).unwrap();
        try_writable(&root.path().join("a/b/c")).unwrap();
        try_writable(Path::new("relative/in/the/working/directory")).unwrap();
        let below_a_file = try_writable(&root.path().join("file/a")).unwrap_err();
        assert!(below_a_file.to_string().ends_with("file is not a directory"), "{below_a_file}");
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
    }
}
