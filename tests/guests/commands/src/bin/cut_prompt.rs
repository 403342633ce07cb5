//! Waits for input in the middle of a character of its output.

use commands::{hear, say};

fn main() -> std::io::Result<()> {
    say(b"caf\xc3")?;
    hear()?;
    say(b"\xa9\n")
}
