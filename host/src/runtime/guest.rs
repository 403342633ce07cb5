//! One process as a future: polled for a turn, measured at each.

use super::ticker::Ticker;
use crate::{call::LimitHit, control::Control};
use rustix::time::{ClockId, clock_gettime};
use std::{
    borrow::Cow,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

/// How a guest ended.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    Exited(u32),
    Trapped {
        trap: Cow<'static, str>,
        limit: Option<LimitHit>,
    },
    /// It was killed while it computed.
    Interrupted,
    /// It was killed while it sat in a host call.
    Dropped,
    /// Every place for a process is taken, though one was free when the call came.
    Full,
    /// The host failed; the text is for the log.
    Failed(String),
}

pub(super) type Running = Pin<Box<dyn Future<Output = End> + Send>>;

/// A process that has begun, or is about to. Dropping it ends it wherever it is.
pub struct Guest {
    running: Running,
    control: Arc<Control>,
    ticker: Arc<Ticker>,
}

impl Guest {
    pub(super) fn new(running: Running, control: Arc<Control>, ticker: Arc<Ticker>) -> Self {
        Self { running, control, ticker }
    }

    pub fn control(&self) -> &Arc<Control> {
        &self.control
    }

    /// Runs the guest until it ends, waits, is killed, or has computed for `turn`. The time on the processor of this
    /// thread is added to its account.
    pub fn poll(&mut self, turn: Duration, cx: &mut Context<'_>) -> Poll<End> {
        self.control.begin_turn(turn);
        let before = thread_time();
        let ticking = self.ticker.running();
        // A panic of a host function is the host's mistake, and must not take the client's connection with it.
        let polled = catch_unwind(AssertUnwindSafe(|| self.running.as_mut().poll(cx)));
        drop(ticking);
        self.control.add_cpu(thread_time().saturating_sub(before));
        polled.unwrap_or_else(|_| {
            self.running = Box::pin(std::future::pending());
            Poll::Ready(End::Failed("a host function panicked; the panic is in the log".into()))
        })
    }
}

/// The time that this thread has spent on a processor.
fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
