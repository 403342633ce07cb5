//! Reads a line every 20 ms and sends it back.

use std::{thread, time::Duration};

fn main() -> std::io::Result<()> {
    while let Some(line) = commands::hear()? {
        thread::sleep(Duration::from_millis(20));
        commands::say(format!("{line}\n"))?;
    }
    Ok(())
}
