//! Prints invalid UTF-8 between valid text.

fn main() -> std::io::Result<()> {
    commands::say(b"before \xff\xfe after\nlone \xc3\n")
}
