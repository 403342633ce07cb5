//! `countdown [from]`: one number a second, then `liftoff`. It waits for the clock and for a cancel at the same time,
//! so that it can print where it stopped.

use std::process::ExitCode;
use wasip2::{
    cli::stdin::{InputStream, get_stdin},
    clocks::monotonic_clock::{now, subscribe_instant},
    io::poll::poll,
};

const SECOND: u64 = 1_000_000_000;

fn main() -> ExitCode {
    let from = std::env::args().nth(1).unwrap_or_else(|| "10".to_owned());
    let Ok(from) = from.parse::<u32>() else {
        eprintln!("from must be a number");
        return ExitCode::FAILURE;
    };
    let input = get_stdin();
    let mut tick = now();
    for number in (1..=from).rev() {
        println!("{number}");
        tick += SECOND;
        if cancelled_before(tick, &input) {
            println!("countdown stopped at {number}");
            return ExitCode::FAILURE;
        }
    }
    println!("liftoff");
    ExitCode::SUCCESS
}

/// Waits until `instant`, or until a cancel ends the input. Discards all other input.
fn cancelled_before(instant: u64, input: &InputStream) -> bool {
    let clock = subscribe_instant(instant);
    let arrived = input.subscribe();
    loop {
        poll(&[&clock, &arrived]);
        if clock.ready() {
            return false;
        }
        if input.read(4096).is_err() {
            return true;
        }
    }
}
