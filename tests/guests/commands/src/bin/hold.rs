//! Waits for its input to end and then does not end itself: a cancel that is ignored.

fn main() -> std::io::Result<()> {
    commands::say("holding\n")?;
    commands::wait_for_the_end()?;
    commands::sleep_on()
}
