//! `exit STATUS`: ends with that status and no output.

fn main() {
    let status = std::env::args().nth(1).and_then(|status| status.parse().ok());
    commands::exit(status.expect("a status from 0 to 255"));
}
