//! Creates as many timers of one day as the host allows, without waiting for any.

use wasip2::clocks::monotonic_clock::subscribe_duration;

const DAY: u64 = 24 * 3600 * 1_000_000_000;

fn main() {
    let mut hoard = Vec::new();
    loop {
        hoard.push(subscribe_duration(DAY));
    }
}
