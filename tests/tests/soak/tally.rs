//! The observations of the visitors.

use distillery_tests::Verdict;
use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

#[derive(Debug, Default)]
pub struct Tally {
    pub requests: AtomicU64,
    pub good: AtomicU64,
    pub cancelled_once: AtomicU64,
    pub cancelled_twice: AtomicU64,
    pub hostile: AtomicU64,
    pub cut_off: AtomicU64,
    pub not_let_in: AtomicU64,
    /// Sockets whose client stayed to the end.
    pub stayed: AtomicU64,
    successes: AtomicU64,
    failures: AtomicU64,
}

pub fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}

impl Tally {
    pub fn result(&self, verdict: &Verdict) {
        count(match verdict {
            Verdict::Success => &self.successes,
            Verdict::Failure(_) => &self.failures,
        });
    }

    pub fn visits(&self) -> u64 {
        let all =
            [&self.requests, &self.good, &self.cancelled_once, &self.cancelled_twice, &self.hostile, &self.cut_off];
        all.into_iter().map(|counter| counter.load(Relaxed)).sum()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = [
            ("requests", &self.requests),
            ("good calls", &self.good),
            ("cancelled once", &self.cancelled_once),
            ("cancelled twice", &self.cancelled_twice),
            ("hostile guests", &self.hostile),
            ("clients that vanished", &self.cut_off),
            ("not let in while draining", &self.not_let_in),
            ("sockets that stayed", &self.stayed),
            ("  with one result, success", &self.successes),
            ("  with one result, failure", &self.failures),
        ];
        rows.iter().try_for_each(|(what, counter)| writeln!(f, "{what:<30} {:>12}", counter.load(Relaxed)))
    }
}
