//! Sleeps for as long as 64 bits of nanoseconds can say, which is more than is left of any clock.

use wasip2::clocks::monotonic_clock::{subscribe_duration, subscribe_instant};

fn main() {
    println!("asleep");
    subscribe_instant(u64::MAX).block();
    subscribe_duration(u64::MAX).block();
}
