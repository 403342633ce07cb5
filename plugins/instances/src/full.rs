//! A full disk, which is worth its own words: no retry helps.

use anyhow::Error;
use std::{
    fs::File,
    io::{self, ErrorKind, Write},
    path::{Path, PathBuf},
};

/// Errors of the system for which there is no kind everywhere: no space, and the end of a quota.
#[cfg(target_family = "wasm")]
const CODES: [i32; 2] = [51, 19];
#[cfg(not(target_family = "wasm"))]
const CODES: [i32; 2] = [28, 122];

/// A file that is written, with errors that say whether its disk is full.
#[derive(Debug)]
pub struct Written {
    pub file: File,
    directory: PathBuf,
}

impl Written {
    pub fn new(file: File, directory: &Path) -> Self {
        Self { file, directory: directory.to_owned() }
    }
}

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes).map_err(|error| named(error, &self.directory))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush().map_err(|error| named(error, &self.directory))
    }
}

/// Returns the reason of an error of writing. In the sandbox, every failed write is an input/output error, while other
/// changes of a directory name the reason.
pub fn named(error: io::Error, directory: &Path) -> io::Error {
    if !cfg!(target_family = "wasm") {
        return error;
    }
    let probe = directory.join(PROBE);
    // Longer than what file systems keep beside the name.
    match crate::mount::link(Path::new(&"x".repeat(1000)), &probe) {
        Err(reason) if reason.kind() != ErrorKind::AlreadyExists => reason,
        _ => {
            _ = std::fs::remove_file(probe);
            error
        }
    }
}

/// A name that only exists for a moment.
const PROBE: &str = ".full";

/// The words of commands for it.
const WORDS: [&str; 2] = ["no space left on device", "disk quota exceeded"];

/// Formats an error for the client.
pub fn explained(error: &Error) -> String {
    if is_full(error) {
        format!("the disk is full: free space, then try again ({error:#})")
    } else {
        format!("{error:#}")
    }
}

fn is_full(error: &Error) -> bool {
    let of_system = |error: &io::Error| {
        matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
            || error.raw_os_error().is_some_and(|code| CODES.contains(&code))
    };
    let text = format!("{error:#}").to_lowercase();
    error.chain().any(|it| it.downcast_ref::<io::Error>().is_some_and(of_system))
        || WORDS.iter().any(|words| text.contains(words))
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;
    use std::{fs::File, io::Write};

    #[test]
    fn full_disk_is_reported_as_such() {
        let mut full = File::options().write(true).open("/dev/full").unwrap();
        let error = full.write_all(b"x").context("cannot write .env").unwrap_err();
        let said = explained(&error);
        assert!(said.starts_with("the disk is full: free space, then try again (cannot write .env: "), "{said}");
        let engine = anyhow::anyhow!("compose up ended with status 1: write /data: no space left on device");
        assert!(explained(&engine).starts_with("the disk is full: "));
        assert_eq!(explained(&anyhow::anyhow!("other")), "other");
    }
}
