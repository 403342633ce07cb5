//! `grind [from]`: looks for the next prime numbers, one after the other, and never looks up: the way to clean up for a
//! call that does not listen.
//!
//! A cancel interrupts it wherever it is. Because `plugin.yaml` says `cleanup: true`, the server then starts a fresh
//! instance with the same arguments and `DISTILLERY_CLEANUP` in its environment. Any language can do that.

use std::process::ExitCode;

fn main() -> ExitCode {
    let from = std::env::args().nth(1).unwrap_or_else(|| "1000000000000000".to_owned());
    let Ok(from) = from.parse::<u64>() else {
        eprintln!("from must be a number");
        return ExitCode::FAILURE;
    };
    if let Ok(reason) = std::env::var("DISTILLERY_CLEANUP") {
        // Here would be the place to remove half-written files and to give back what was reserved.
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
