//! Waits for its input to end and then writes forever.

fn main() -> std::io::Result<()> {
    commands::say("ready\n")?;
    commands::wait_for_the_end()?;
    loop {
        commands::say("and another thing\n")?;
    }
}
