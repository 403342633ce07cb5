//! Sleeps for the largest number of nanoseconds that 64 bits can express, which is beyond the end of any clock.

use wasip2::clocks::monotonic_clock::{subscribe_duration, subscribe_instant};

fn main() {
    println!("asleep");
    subscribe_instant(u64::MAX).block();
    subscribe_duration(u64::MAX).block();
}
