//! Does not end its last line.

fn main() -> std::io::Result<()> {
    commands::say("first\nlast")
}
