//! The documentation: working links, commands that run as printed, working clients, and files of deploy/ that match the
//! server. One file for each theme.

mod boundaries;
mod clients;
mod commands;
mod cycles;
mod deployment;
mod installation;
mod pages;

use std::path::{Path, PathBuf};

/// Returns the path of a file of the repository.
fn repository(path: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).join(path)
}

/// Returns the text of a file of the repository.
fn read(path: &str) -> String {
    std::fs::read_to_string(repository(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Tells whether a test that needs `what` can run. If not, the test is skipped by name; CI skips nothing.
fn is_there(found: bool, what: &str) -> bool {
    assert!(found || std::env::var("CI").as_deref() != Ok("true"), "there is no {what}: run `make needed`");
    if !found {
        let test = std::thread::current();
        eprintln!("SKIPPED: {}, for want of {what}: run `make needed`", test.name().unwrap_or_default());
    }
    found
}

/// Tells whether a program is on the path.
fn is_on_the_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
}
