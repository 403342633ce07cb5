//! Splits characters of two and of four bytes over several writes, and leaves one unfinished at the end.

use commands::say;

fn main() -> std::io::Result<()> {
    say(b"caf\xc3")?;
    say(b"\xa9\n")?;
    for byte in "🦀\n".bytes() {
        say([byte])?;
    }
    say(b"half a crab \xf0\x9f\xa6")
}
