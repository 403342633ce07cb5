//! Asks on an unfinished line and continues after the answer: `name? `, then `hello NAME` on a line of its own.

use commands::{hear, say};

fn main() -> std::io::Result<()> {
    say("name? ")?;
    let name = hear()?.unwrap_or_default();
    say(format!("hello {name}\n"))
}
