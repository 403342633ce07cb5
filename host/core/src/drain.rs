//! Shutdown of the server: notifies every session, and waits for all of them.

use std::time::Duration;
use tokio_util::{
    sync::CancellationToken,
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};

/// A handle for code that serves connections.
#[derive(Clone, Debug, Default)]
pub struct Drain {
    retired: CancellationToken,
    begun: CancellationToken,
    tasks: TaskTracker,
}

/// Keeps the server running until it is dropped.
pub struct Busy(#[expect(dead_code, reason = "held for its drop")] TaskTrackerToken);

impl Drain {
    /// Announces that the server accepts no new work. Running processes continue.
    pub fn retire(&self) {
        self.retired.cancel();
        self.tasks.close();
    }

    /// Returns a token that is cancelled when the server accepts no new work.
    pub fn retired(&self) -> CancellationToken {
        self.retired.clone()
    }

    /// Announces that the server accepts no new work, and that running processes must end.
    pub fn begin(&self) {
        self.retire();
        self.begun.cancel();
    }

    pub fn has_begun(&self) -> bool {
        self.begun.is_cancelled()
    }

    /// Returns a token that is cancelled when the drain begins.
    pub fn signal(&self) -> CancellationToken {
        self.begun.clone()
    }

    /// Returns a guard that keeps the server running.
    pub fn busy(&self) -> Busy {
        Busy(self.tasks.token())
    }

    /// Waits until no guard is left, but at most for `limit`. Returns the number of remaining guards.
    pub async fn wait(&self, limit: Duration) -> usize {
        let _ = tokio::time::timeout(limit, self.tasks.wait()).await;
        self.tasks.len()
    }
}
