//! Writes one endless line to stderr.

use std::io::{self, Write};

fn main() -> io::Result<()> {
    commands::say("complaining\n")?;
    loop {
        io::stderr().write_all(&[b'x'; 4096])?;
    }
}
