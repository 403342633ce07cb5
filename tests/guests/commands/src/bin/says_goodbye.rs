//! Handles a cancel well: prints goodbye and ends with success.

fn main() -> std::io::Result<()> {
    commands::say("ready\n")?;
    commands::wait_for_the_end()?;
    commands::say("goodbye\n")
}
