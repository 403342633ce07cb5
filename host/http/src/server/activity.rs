//! The activity of one connection: requests in progress, answers in transit, and bytes that the client reads. The
//! activity decides whether the connection is still needed. This module never knows the contents.

use super::connection::Meter;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

/// A client that reads less than this between two checks counts as not reading: heartbeats are smaller.
const TAKEN: u64 = 4 << 10;
/// The number of checks within the timeout of a connection.
const LOOKS: u32 = 4;

#[derive(Clone)]
pub(super) struct Activity(Arc<Counts>);

struct Counts {
    meter: Arc<Meter>,
    working: AtomicUsize,
    sending: AtomicUsize,
    /// Increases with every start, end and progress of an activity.
    moves: AtomicU64,
}

/// A guard for an activity in progress.
pub(super) struct Use {
    activity: Activity,
    is_work: bool,
}

impl Activity {
    /// Returns the activity of a connection; `meter` counts its written bytes.
    pub fn new(meter: Arc<Meter>) -> Self {
        Self(Arc::new(Counts {
            meter,
            working: AtomicUsize::default(),
            sending: AtomicUsize::default(),
            moves: AtomicU64::default(),
        }))
    }

    /// Records that a request is in progress or a websocket is open.
    pub fn work(&self) -> Use {
        self.begin(true)
    }

    /// Records that an answer is in transit.
    pub fn send(&self) -> Use {
        self.begin(false)
    }

    fn begin(&self, is_work: bool) -> Use {
        self.count(is_work).fetch_add(1, Relaxed);
        self.moved();
        Use { activity: self.clone(), is_work }
    }

    fn count(&self, is_work: bool) -> &AtomicUsize {
        if is_work { &self.0.working } else { &self.0.sending }
    }

    /// Records progress of an answer.
    pub fn moved(&self) {
        self.0.moves.fetch_add(1, Relaxed);
    }

    /// Waits until nothing has happened for `patience`.
    pub async fn idle(&self, patience: Duration) {
        let busy = || self.0.working.load(Relaxed) + self.0.sending.load(Relaxed) > 0;
        quiet(patience, busy, || self.0.moves.load(Relaxed)).await;
    }

    /// Waits until there was no request in progress for `patience`, and the client read nothing.
    pub async fn stuck(&self, patience: Duration) {
        let busy = || self.0.working.load(Relaxed) > 0;
        quiet(patience, busy, || (self.0.moves.load(Relaxed), self.0.meter.written() / TAKEN)).await;
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        self.activity.count(self.is_work).fetch_sub(1, Relaxed);
        self.activity.moved();
    }
}

/// Waits until `busy` was false and `sign` unchanged for `patience`.
async fn quiet<T: PartialEq>(patience: Duration, busy: impl Fn() -> bool, sign: impl Fn() -> T) {
    let mut looks = tokio::time::interval((patience / LOOKS).max(Duration::from_millis(1)));
    // The first check is immediate.
    looks.tick().await;
    let (mut seen, mut quiet) = (sign(), 0);
    while quiet < LOOKS {
        looks.tick().await;
        let now = sign();
        quiet = if busy() || now != seen { 0 } else { quiet + 1 };
        seen = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    const SOON: Duration = Duration::from_millis(4);

    #[tokio::test]
    async fn connection_without_activity_is_idle() {
        let activity = Activity::new(Arc::default());
        for begin in [Activity::work, Activity::send] {
            let held = begin(&activity);
            let idle = activity.idle(SOON);
            let mut idle = std::pin::pin!(idle);
            assert!(idle.as_mut().now_or_never().is_none());
            tokio::select! {
                () = idle.as_mut() => panic!("it is in use"),
                () = tokio::time::sleep(SOON * 10) => {}
            }
            drop(held);
            idle.await;
        }
    }

    #[tokio::test]
    async fn unread_answer_does_not_keep_a_connection_open() {
        let activity = Activity::new(Arc::default());
        let _answer = activity.send();
        activity.stuck(SOON).await;
        let work = activity.work();
        tokio::select! {
            () = activity.stuck(SOON) => panic!("a request is worked on"),
            () = tokio::time::sleep(SOON * 10) => {}
        }
        drop(work);
        activity.stuck(SOON).await;
    }
}
