//! Prints its arguments, its own name first, one a line.

use std::io;

fn main() -> io::Result<()> {
    for arg in std::env::args_os() {
        commands::say([arg.as_encoded_bytes(), b"\n"].concat())?;
    }
    Ok(())
}
