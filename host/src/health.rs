//! State of the server: whether it takes calls, and whether the threads that serve sockets make progress. It does not
//! know who asks.

use parking_lot::Mutex;
use std::time::{Duration, Instant};

/// Interval in which the threads that serve sockets report.
pub const BEAT: Duration = Duration::from_secs(1);
/// Time without a report after which they count as stuck. It leaves room for a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Stage in the life of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Loading plugins.
    Starting,
    Serving,
    /// Taking nothing new.
    Draining,
}

#[derive(Debug)]
pub struct Health(Mutex<State>);

#[derive(Debug)]
struct State {
    stage: Stage,
    /// Time of the last report of the threads, once they run.
    beat: Option<Instant>,
}

impl Default for Health {
    fn default() -> Self {
        Self(Mutex::new(State { stage: Stage::Starting, beat: None }))
    }
}

impl Health {
    pub fn enter(&self, stage: Stage) {
        self.0.lock().stage = stage;
    }

    pub fn stage(&self) -> Stage {
        self.0.lock().stage
    }

    /// Reports that the threads that serve sockets make progress.
    pub fn beat(&self, now: Instant) {
        self.0.lock().beat = Some(now);
    }

    /// Returns how long those threads have been stuck, if they are.
    pub fn stuck(&self, now: Instant) -> Option<Duration> {
        let since = now.saturating_duration_since(self.0.lock().beat?);
        (since > PATIENCE).then_some(since)
    }

    /// Reports regularly, as long as these threads make progress.
    pub async fn keep_beating(&self) {
        let mut interval = tokio::time::interval(BEAT);
        loop {
            interval.tick().await;
            self.beat(Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silent_threads_count_as_stuck() {
        let health = Health::default();
        let now = Instant::now();
        assert_eq!(health.stuck(now + 10 * PATIENCE), None, "they do not run yet");
        health.beat(now);
        assert_eq!(health.stuck(now + PATIENCE), None);
        assert_eq!(health.stuck(now + PATIENCE + BEAT), Some(PATIENCE + BEAT));
    }
}
