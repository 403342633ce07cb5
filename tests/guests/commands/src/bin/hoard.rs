//! Allocates memory until there is no more, and uses all of it.

fn main() -> std::io::Result<()> {
    commands::say("hoarding\n")?;
    let mut hoard = Vec::new();
    loop {
        hoard.push(std::hint::black_box(vec![1_u8; 1024 * 1024]));
    }
}
