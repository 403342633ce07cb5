//! Sleeps in the host without reading anything.

fn main() -> std::io::Result<()> {
    commands::say("asleep\n")?;
    commands::sleep_on()
}
