//! The documentation: pages that lead somewhere, commands that run as they are printed, clients that work, and files of
//! deploy/ that fit the server. A file a theme.

mod clients;
mod commands;
mod deployment;
mod installation;
mod pages;

use std::path::{Path, PathBuf};

/// A file of the repository.
fn repository(path: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).join(path)
}

/// Its text.
fn read(path: &str) -> String {
    std::fs::read_to_string(repository(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Whether a test can run that needs `what`. If not, it is skipped by name; in CI nothing is skipped.
fn is_there(found: bool, what: &str) -> bool {
    assert!(found || std::env::var("CI").as_deref() != Ok("true"), "there is no {what}: run `make needed`");
    if !found {
        let test = std::thread::current();
        eprintln!("SKIPPED: {}, for want of {what}: run `make needed`", test.name().unwrap_or_default());
    }
    found
}

/// Whether a program is on the path.
fn is_on_the_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
}
