//! Writes one line that never ends.

fn main() -> std::io::Result<()> {
    loop {
        commands::say([b'x'; 4096])?;
    }
}
