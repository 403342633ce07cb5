//! Reads one line, writes it, and exits.

use commands::{hear, say};

fn main() -> std::io::Result<()> {
    match hear()? {
        Some(line) => say(format!("{line}\n")),
        None => Ok(()),
    }
}
