//! Writes a line every few milliseconds, and never reads one.

use std::{thread, time::Duration};

fn main() -> std::io::Result<()> {
    loop {
        commands::say("busy\n")?;
        thread::sleep(Duration::from_millis(5));
    }
}
