//! `many_lines COUNT`: writes numbered lines, and ends.

use std::io::{self, BufWriter, Write};

fn main() -> io::Result<()> {
    let count: u64 = std::env::args().nth(1).and_then(|it| it.parse().ok()).unwrap_or_default();
    let mut stdout = BufWriter::with_capacity(16 * 1024, io::stdout().lock());
    for number in 1..=count {
        writeln!(stdout, "line {number} of {count}, which is as long as such lines are")?;
    }
    stdout.flush()
}
