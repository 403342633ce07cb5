//! Waits for its input to end but does not end itself: it ignores a cancel.

fn main() -> std::io::Result<()> {
    commands::say("holding\n")?;
    commands::wait_for_the_end()?;
    commands::sleep_on()
}
