//! Prints bytes that are no UTF-8 between some that are.

fn main() -> std::io::Result<()> {
    commands::say(b"before \xff\xfe after\nlone \xc3\n")
}
