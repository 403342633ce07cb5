//! The end of the server: everyone is told, and everyone is waited for.

use std::time::Duration;
use tokio_util::{
    sync::CancellationToken,
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};

/// Whoever serves connections holds one of these.
#[derive(Clone, Debug, Default)]
pub struct Drain {
    retired: CancellationToken,
    begun: CancellationToken,
    tasks: TaskTracker,
}

/// The server waits for this to be dropped.
pub struct Busy(#[expect(dead_code, reason = "held for its drop")] TaskTrackerToken);

impl Drain {
    /// Says that nothing new is taken on. What runs goes on.
    pub fn retire(&self) {
        self.retired.cancel();
        self.tasks.close();
    }

    /// Cancelled when nothing new is taken on any more.
    pub fn retired(&self) -> CancellationToken {
        self.retired.clone()
    }

    /// Says that nothing new is taken on, and that what runs shall end.
    pub fn begin(&self) {
        self.retire();
        self.begun.cancel();
    }

    pub fn has_begun(&self) -> bool {
        self.begun.is_cancelled()
    }

    /// Cancelled when the drain begins.
    pub fn signal(&self) -> CancellationToken {
        self.begun.clone()
    }

    /// Keeps the server from exiting as long as the answer lives.
    pub fn busy(&self) -> Busy {
        Busy(self.tasks.token())
    }

    /// Waits until nobody is busy, but no longer than `limit`. Gives how many are left.
    pub async fn wait(&self, limit: Duration) -> usize {
        let _ = tokio::time::timeout(limit, self.tasks.wait()).await;
        self.tasks.len()
    }
}
