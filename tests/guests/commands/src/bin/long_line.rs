//! `long_line N`: one line of N bytes.

fn main() -> std::io::Result<()> {
    let length = std::env::args().nth(1).and_then(|length| length.parse().ok()).expect("a length");
    let mut line = vec![b'x'; length];
    line.push(b'\n');
    commands::say(line)
}
