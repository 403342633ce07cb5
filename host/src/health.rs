//! How the server is: whether it takes calls, and whether the threads that serve sockets still get anywhere. It never
//! knows who wants to know.

use parking_lot::Mutex;
use std::time::{Duration, Instant};

/// How often the threads that serve sockets show that they live.
pub const BEAT: Duration = Duration::from_secs(1);
/// After how long without that they count as stuck. A machine that is merely busy takes its time too.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where the server is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// It does not listen yet.
    Starting,
    /// It listens and serves the plugins that are loaded, but is not ready yet.
    Loading,
    Serving,
    /// It takes nothing new on.
    Draining,
}

#[derive(Debug)]
pub struct Health(Mutex<State>);

#[derive(Debug)]
struct State {
    stage: Stage,
    /// When the threads last showed that they live, once they run.
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

    /// The threads that serve sockets live.
    pub fn beat(&self, now: Instant) {
        self.0.lock().beat = Some(now);
    }

    /// For how long those threads have been stuck, if they are.
    pub fn stuck(&self, now: Instant) -> Option<Duration> {
        let since = now.saturating_duration_since(self.0.lock().beat?);
        (since > PATIENCE).then_some(since)
    }

    /// Shows once in a while that these threads live, for as long as they do.
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
    fn threads_that_show_nothing_for_long_are_stuck() {
        let health = Health::default();
        let now = Instant::now();
        assert_eq!(health.stuck(now + 10 * PATIENCE), None, "they do not run yet");
        health.beat(now);
        assert_eq!(health.stuck(now + PATIENCE), None);
        assert_eq!(health.stuck(now + PATIENCE + BEAT), Some(PATIENCE + BEAT));
    }
}
