//! State of the server: whether it takes calls, and whether the threads that serve sockets make progress. It does not
//! know who asks.

use parking_lot::Mutex;
use std::time::{Duration, Instant};

/// Interval in which the threads that serve sockets report.
pub const BEAT: Duration = Duration::from_secs(1);
/// Time without a report after which they count as stuck. It leaves room for a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Stage in the life of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// It does not listen yet.
    Starting,
    /// It listens and serves the plugins that are loaded, but is not ready yet.
    Loading,
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
    /// Goes on to `stage`. A server never goes back: one that drains does not get ready any more.
    pub fn enter(&self, stage: Stage) {
        let mut state = self.0.lock();
        state.stage = state.stage.max(stage);
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
    fn draining_server_never_gets_ready() {
        let health = Health::default();
        for (entered, stage) in
            [(Stage::Loading, Stage::Loading), (Stage::Draining, Stage::Draining), (Stage::Serving, Stage::Draining)]
        {
            health.enter(entered);
            assert_eq!(health.stage(), stage);
        }
    }

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
