//! Waits for no time at all, over and over: it computes, though it never does anything but wait.

use wasip2::{clocks::monotonic_clock::subscribe_duration, io::poll::poll};

fn main() {
    println!("polling");
    loop {
        poll(&[&subscribe_duration(0)]);
    }
}
