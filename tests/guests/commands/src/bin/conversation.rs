//! The conversation that every kind of guest can hold: `hello NAME`, then `echo: LINE` for each line until the input
//! ends or the line is `end`. With the name `fail` it exits immediately with status 3.

use commands::exit;
use std::io::{self, BufRead, Write};

fn main() -> io::Result<()> {
    let name = std::env::args().nth(1).unwrap_or_default();
    println!("hello {name}");
    if name == "fail" {
        exit(3);
    }
    let mut stdout = io::stdout().lock();
    for line in io::stdin().lock().lines() {
        let line = line?;
        if line == "end" {
            break;
        }
        writeln!(stdout, "echo: {line}")?;
    }
    Ok(())
}
