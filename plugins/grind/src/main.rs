//! `grind [from]`: searches prime numbers and never checks for a cancel: how to clean up for a call that does not
//! listen.
//!
//! A cancel interrupts it anywhere. Because of `cleanup: true` in `plugin.yaml`, the server then starts a fresh
//! instance with the same arguments and `DISTILLERY_CLEANUP` in its environment. This works in any language.

use std::process::ExitCode;

fn main() -> ExitCode {
    let from = std::env::args().nth(1).unwrap_or_else(|| "1000000000000000".to_owned());
    let Ok(from) = from.parse::<u64>() else {
        eprintln!("from must be a number");
        return ExitCode::FAILURE;
    };
    if let Ok(reason) = std::env::var("DISTILLERY_CLEANUP") {
        // A real call would remove half-written files here, and release its reservations.
        println!("cleaning up: stopped because of {reason:?}, began at {from}");
        return ExitCode::SUCCESS;
    }
    for number in from.. {
        if is_prime(number) {
            println!("{number}");
        }
    }
    ExitCode::SUCCESS
}

fn is_prime(number: u64) -> bool {
    number > 1 && (2..).take_while(|it| it * it <= number).all(|it| !number.is_multiple_of(it))
}
