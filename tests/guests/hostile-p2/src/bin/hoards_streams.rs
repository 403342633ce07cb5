//! Opens its stdout and its stdin again and again, and keeps each handle.

use wasip2::cli::{stdin::get_stdin, stdout::get_stdout};

fn main() {
    let mut hoard = Vec::new();
    loop {
        hoard.push((get_stdin(), get_stdout()));
    }
}
