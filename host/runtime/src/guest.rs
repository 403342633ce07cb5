//! One process as a future, polled for a turn and measured at each.

use super::ticker::Ticker;
use distillery_core::{
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

/// The end of a guest.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    Exited(u32),
    Trapped {
        trap: Cow<'static, str>,
        limit: Option<LimitHit>,
    },
    /// Killed while it computed.
    Interrupted,
    /// Killed during a host call.
    Dropped,
    /// No process slot is available, although one was free when the call came.
    Full,
    /// The host failed; the text is for the log.
    Failed(String),
}

pub(super) type Running = Pin<Box<dyn Future<Output = End> + Send>>;

/// A process that has begun or is about to. Dropping it ends the process in any state.
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
    /// `turn`. Adds its processor time to its account.
    pub fn poll(&mut self, turn: Duration, class: ThreadClass, cx: &mut Context<'_>) -> Poll<End> {
        let stopwatch = Stopwatch::start();
        self.control.residence.begin_turn(class);
        self.control.begin_turn(stopwatch.began, turn);
        let ticking = self.ticker.running();
        // A panic in a host function is the host's fault, and must not end the client's connection.
        let polled = catch_unwind(AssertUnwindSafe(|| self.running.as_mut().poll(cx)));
        drop(ticking);
        self.control.add_cpu(stopwatch.stop());
        polled.unwrap_or_else(|_| {
            self.running = Box::pin(std::future::pending());
            Poll::Ready(End::Failed("a host function panicked; the panic is in the log".into()))
        })
    }
}

/// A turn up to this length counts in full: no other thread is likely to have taken the processor.
const SHORT: Duration = Duration::from_micros(100);
/// The time for which a thread's last reading of its processor time stays valid.
const FRESH: Duration = Duration::from_millis(1);

thread_local! {
    /// The last reading of this thread's processor time, and its time.
    static LOOKED: Cell<Option<(Instant, Duration)>> = const { Cell::new(None) };
}

/// Measures the processor time of a turn. The kernel is asked only after a longer turn, because the request takes as
/// long as a guest needs for a line. If other threads had the processor during a long turn, up to [`FRESH`] too much is
/// counted: this thread's work between its last reading and the turn.
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

/// Returns the processor time of this thread.
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
    fn turn_counts_only_its_own_processor_time() {
        let stopwatch = Stopwatch::start();
        sleep(Duration::from_millis(50));
        let idle = stopwatch.stop();
        assert!(idle < Duration::from_millis(25), "{idle:?}");

        // The next turn begins at the end of the previous one.
        let stopwatch = Stopwatch::start();
        spin(Duration::from_millis(5));
        sleep(Duration::from_millis(50));
        let busy = stopwatch.stop();
        assert!((Duration::from_millis(5)..Duration::from_millis(30)).contains(&busy), "{busy:?}");
    }

    #[test]
    fn reading_of_processor_time_expires() {
        Stopwatch::start().stop();
        spin(Duration::from_millis(20));
        let stopwatch = Stopwatch::start();
        sleep(Duration::from_millis(50));
        let idle = stopwatch.stop();
        assert!(idle < Duration::from_millis(15), "{idle:?}");
    }
}
