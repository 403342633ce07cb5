//! `reads_files PATH…`: tries to read, list, write and remove each, and prints every attempt that was not refused.

use std::fs;

fn main() {
    for path in std::env::args().skip(1) {
        tell("read", &path, fs::read(&path));
        tell("list", &path, fs::read_dir(&path));
        tell("look at", &path, fs::metadata(&path));
        tell("write", &path, fs::OpenOptions::new().append(true).open(&path));
        tell("create in", &path, fs::write(format!("{path}/new"), "new"));
        tell("make", &path, fs::create_dir(&path));
        tell("link", &path, fs::hard_link(&path, "new"));
        tell("remove", &path, fs::remove_file(&path));
    }
}

fn tell<T>(what: &str, path: &str, tried: std::io::Result<T>) {
    if tried.is_ok() {
        println!("{what} {path}: open");
    }
}
