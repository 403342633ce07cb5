//! Writes to stderr forever.

fn main() -> std::io::Result<()> {
    commands::say("complaining\n")?;
    for number in 0_u64.. {
        eprintln!("complaint {number}");
    }
    Ok(())
}
