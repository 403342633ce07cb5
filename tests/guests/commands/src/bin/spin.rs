//! Computes forever and never calls the host again.

fn main() -> std::io::Result<()> {
    commands::say("spinning\n")?;
    let mut turns = 0_u64;
    loop {
        turns = std::hint::black_box(turns.wrapping_add(1));
    }
}
