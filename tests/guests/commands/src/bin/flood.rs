//! Writes numbered lines forever.

use std::io::{self, BufWriter, Write};

fn main() -> io::Result<()> {
    let mut stdout = BufWriter::with_capacity(16 * 1024, io::stdout().lock());
    for number in 0_u64.. {
        writeln!(stdout, "line {number}")?;
    }
    Ok(())
}
