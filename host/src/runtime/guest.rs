//! One process as a future: polled for a turn, measured at each.

use super::ticker::Ticker;
use crate::{
    call::LimitHit,
    control::{Control, ThreadClass},
};
use rustix::time::{ClockId, clock_gettime};
use std::{
    borrow::Cow,
    cell::Cell,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
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

    /// Runs the guest until it ends, waits, is killed, needs threads of another class than `class`, or has computed for
    /// `turn`. What it used of the processor is added to its account.
    pub fn poll(&mut self, turn: Duration, class: ThreadClass, cx: &mut Context<'_>) -> Poll<End> {
        let stopwatch = Stopwatch::start();
        self.control.residence.begin_turn(class);
        self.control.begin_turn(stopwatch.began, turn);
        let ticking = self.ticker.running();
        // A panic of a host function is the host's mistake, and must not take the client's connection with it.
        let polled = catch_unwind(AssertUnwindSafe(|| self.running.as_mut().poll(cx)));
        drop(ticking);
        self.control.add_cpu(stopwatch.stop());
        polled.unwrap_or_else(|_| {
            self.running = Box::pin(std::future::pending());
            Poll::Ready(End::Failed("a host function panicked; the panic is in the log".into()))
        })
    }
}

/// A turn that is over so soon has used what it took, as nobody took the processor away from it.
const SHORT: Duration = Duration::from_micros(100);
/// For how long this thread's last look at its time on the processor is good.
const FRESH: Duration = Duration::from_millis(1);

thread_local! {
    /// When this thread last looked at its time on the processor, and how much that was.
    static LOOKED: Cell<Option<(Instant, Duration)>> = const { Cell::new(None) };
}

/// Measures what a turn uses of the processor. The kernel is asked for it only behind a turn that is not short: asking
/// takes as long as a guest needs for a line. Where others had the processor during a long turn, up to [`FRESH`] too much is
/// counted: what this thread did between its last look and the turn.
struct Stopwatch {
    began: Instant,
}

impl Stopwatch {
    fn start() -> Self {
        let began = Instant::now();
        if LOOKED.get().is_none_or(|(at, _)| began.saturating_duration_since(at) > FRESH) {
            LOOKED.set(Some((began, thread_time())));
        }
        Self { began }
    }

    fn stop(&self) -> Duration {
        let ended = Instant::now();
        let took = ended.saturating_duration_since(self.began);
        if took <= SHORT {
            return took;
        }
        let now = thread_time();
        let before = LOOKED.replace(Some((ended, now)));
        before.map_or(took, |(_, before)| took.min(now.saturating_sub(before)))
    }
}

/// The time that this thread has spent on a processor.
fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{hint::spin_loop, thread::sleep};

    fn spin(time: Duration) {
        let until = thread_time() + time;
        while thread_time() < until {
            spin_loop();
        }
    }

    #[test]
    fn a_turn_has_used_what_it_computed_and_not_what_others_did() {
        let stopwatch = Stopwatch::start();
        sleep(Duration::from_millis(50));
        let idle = stopwatch.stop();
        assert!(idle < Duration::from_millis(25), "{idle:?}");

        // Another turn right behind it begins where that one ended.
        let stopwatch = Stopwatch::start();
        spin(Duration::from_millis(5));
        sleep(Duration::from_millis(50));
        let busy = stopwatch.stop();
        assert!((Duration::from_millis(5)..Duration::from_millis(30)).contains(&busy), "{busy:?}");
    }

    #[test]
    fn a_look_at_the_time_is_good_for_a_moment_only() {
        Stopwatch::start().stop();
        spin(Duration::from_millis(20));
        let stopwatch = Stopwatch::start();
        sleep(Duration::from_millis(50));
        let idle = stopwatch.stop();
        assert!(idle < Duration::from_millis(15), "{idle:?}");
    }
}
