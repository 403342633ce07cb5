//! What goes on over one connection: requests that are worked on, answers that are on their way, and bytes that the client
//! takes. By that it is known whether anybody still needs the connection. It never knows what is asked and answered.

use super::connection::Meter;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

/// A client that takes less than this between two looks takes nothing: signs of life are smaller.
const TAKEN: u64 = 4 << 10;
/// How often a connection is looked at within the time that it may be quiet.
const LOOKS: u32 = 4;

#[derive(Clone)]
pub(super) struct Activity(Arc<Counts>);

struct Counts {
    meter: Arc<Meter>,
    working: AtomicUsize,
    sending: AtomicUsize,
    /// Grows with everything that begins, ends or moves.
    moves: AtomicU64,
}

/// Something that goes on for as long as this lives.
pub(super) struct Use {
    activity: Activity,
    is_work: bool,
}

impl Activity {
    /// `meter` counts what the connection has written.
    pub fn new(meter: Arc<Meter>) -> Self {
        Self(Arc::new(Counts {
            meter,
            working: AtomicUsize::default(),
            sending: AtomicUsize::default(),
            moves: AtomicU64::default(),
        }))
    }

    /// A request is worked on, or a websocket is open.
    pub fn work(&self) -> Use {
        self.begin(true)
    }

    /// An answer is on its way.
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

    /// A part of an answer went on.
    pub fn moved(&self) {
        self.0.moves.fetch_add(1, Relaxed);
    }

    /// Returns when nothing went on for `patience`.
    pub async fn idle(&self, patience: Duration) {
        let busy = || self.0.working.load(Relaxed) + self.0.sending.load(Relaxed) > 0;
        quiet(patience, busy, || self.0.moves.load(Relaxed)).await;
    }

    /// Returns when no request was worked on for `patience`, and the client took nothing of what it is sent.
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

/// Returns when `busy` was false and `sign` the same for so long.
async fn quiet<T: PartialEq>(patience: Duration, busy: impl Fn() -> bool, sign: impl Fn() -> T) {
    let mut looks = tokio::time::interval((patience / LOOKS).max(Duration::from_millis(1)));
    // Its first look is at once.
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
    async fn a_connection_is_idle_when_nothing_goes_on() {
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
    async fn an_answer_that_is_not_taken_keeps_no_connection_open() {
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
