//! Reads all lines, and writes them in their order when the input ends.

fn main() -> std::io::Result<()> {
    let mut lines = Vec::new();
    while let Some(line) = commands::hear()? {
        lines.push(line);
    }
    lines.sort();
    lines.iter().try_for_each(|line| commands::say(format!("{line}\n")))
}
