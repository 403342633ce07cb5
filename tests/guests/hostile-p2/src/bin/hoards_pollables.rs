//! Waits for a day to pass in as many ways as the host lets it, without ever waiting.

use wasip2::clocks::monotonic_clock::subscribe_duration;

const DAY: u64 = 24 * 3600 * 1_000_000_000;

fn main() {
    let mut hoard = Vec::new();
    loop {
        hoard.push(subscribe_duration(DAY));
    }
}
