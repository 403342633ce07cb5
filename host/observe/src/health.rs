//! The state of the server: whether it accepts calls, and whether the threads that serve sockets make progress. This
//! module does not know its readers.

use parking_lot::Mutex;
use std::time::{Duration, Instant};

/// The interval at which the threads that serve sockets report.
pub const BEAT: Duration = Duration::from_secs(1);
/// The time without a report after which the threads count as stuck, with room for a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A stage in the life of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Not listening yet.
    Starting,
    /// Listening and serving the loaded plugins, but not ready yet.
    Loading,
    Serving,
    /// Accepting no new calls.
    Draining,
}

#[derive(Debug)]
pub struct Health(Mutex<State>);

#[derive(Debug)]
struct State {
    stage: Stage,
    /// The time of the threads' last report; `None` before they run.
    beat: Option<Instant>,
}

impl Default for Health {
    fn default() -> Self {
        Self(Mutex::new(State { stage: Stage::Starting, beat: None }))
    }
}

impl Health {
    /// Advances to `stage`. The server never goes back: a draining server never becomes ready again.
    pub fn enter(&self, stage: Stage) {
        let mut state = self.0.lock();
        state.stage = state.stage.max(stage);
    }

    pub fn stage(&self) -> Stage {
        self.0.lock().stage
    }

    /// Records that the threads that serve sockets make progress.
    pub fn beat(&self, now: Instant) {
        self.0.lock().beat = Some(now);
    }

    /// Returns how long the threads have been stuck, if they are.
    pub fn stuck(&self, now: Instant) -> Option<Duration> {
        let since = now.saturating_duration_since(self.0.lock().beat?);
        (since > PATIENCE).then_some(since)
    }

    /// Reports regularly while the threads make progress.
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
