//! `assemble [parts]`: adds one part a second. After a cancel it removes the parts again, the last one first, so that
//! nothing half done is left: how to clean up for a call that listens.
//!
//! `distillery:call` reports the cancel and its reason, and takes the value of the call.

mod bindings {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "call",
        with: { "wasi:io/poll@0.2.0": wasip2::io::poll },
    });
}

use bindings::distillery::call::{
    cancellation::{self, Reason},
    outcome::set_value,
};
use std::process::ExitCode;
use wasip2::{clocks::monotonic_clock::subscribe_duration, io::poll::poll};

const SECOND: u64 = 1_000_000_000;

fn main() -> ExitCode {
    let wanted = std::env::args().nth(1).unwrap_or_else(|| "5".to_owned());
    let Ok(wanted) = wanted.parse::<u32>() else {
        eprintln!("parts must be a number");
        return ExitCode::FAILURE;
    };
    let mut parts = Vec::new();
    for part in 1..=wanted {
        if let Some(reason) = cancelled_within_a_second() {
            return take_apart(parts, reason);
        }
        println!("part {part} is on");
        parts.push(part);
    }
    finish(parts.len());
    ExitCode::SUCCESS
}

/// Waits for the clock and for a cancel at the same time.
fn cancelled_within_a_second() -> Option<Reason> {
    poll(&[&subscribe_duration(SECOND), &cancellation::subscribe()]);
    cancellation::poll()
}

fn take_apart(mut parts: Vec<u32>, reason: Reason) -> ExitCode {
    println!("stopping ({reason:?})");
    while let Some(part) = parts.pop() {
        println!("part {part} is off");
    }
    finish(0);
    ExitCode::FAILURE
}

/// Sets the number of parts as the value of the call, for the log and the history.
fn finish(parts: usize) {
    if let Err(error) = set_value(&format!(r#"{{"parts": {parts}}}"#)) {
        eprintln!("{error}");
    }
}
