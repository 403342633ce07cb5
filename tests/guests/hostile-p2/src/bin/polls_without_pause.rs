//! Waits for zero time in a loop: it computes, although it only waits.

use wasip2::{clocks::monotonic_clock::subscribe_duration, io::poll::poll};

fn main() {
    println!("polling");
    loop {
        poll(&[&subscribe_duration(0)]);
    }
}
