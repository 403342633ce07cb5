//! `ask`: prompts on an unfinished line, reads an answer, and exits with a status that tells whether it got one.

use std::io::{self, Write};
use wasip2::cli::exit::exit_with_code;

fn main() -> io::Result<()> {
    print!("What is your name? ");
    io::stdout().flush()?;

    let mut name = String::new();
    io::stdin().read_line(&mut name)?;
    let name = name.trim();
    if name.is_empty() {
        // The last line of stderr follows the status in the message of the failure.
        eprintln!("a name is needed");
        // `std::process::exit` of a component only supports 0 and 1.
        exit_with_code(2);
    }
    println!("Hello, {name}!");
    Ok(())
}
