//! The clock that makes guests look up: it moves the epoch on while guests run, and sleeps while none does.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    thread::{self, Thread},
    time::Duration,
};

/// How often guests look whether their turn is over.
pub const TICK: Duration = Duration::from_millis(1);
/// After this many ticks without a running guest the clock sleeps.
const IDLE_TICKS: u32 = 50;

pub struct Ticker {
    shared: Arc<Shared>,
    thread: Thread,
}

struct Shared {
    running: AtomicUsize,
    asleep: AtomicBool,
    stopped: AtomicBool,
}

/// Keeps the clock going.
pub struct Running<'a>(&'a Shared);

impl Ticker {
    /// Calls `tick` while guests run, on a thread of its own.
    pub fn start(tick: impl Fn() + Send + 'static) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            running: AtomicUsize::new(0),
            asleep: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
        });
        let handle = thread::Builder::new().name("epoch".into()).spawn({
            let shared = shared.clone();
            move || shared.run(tick)
        })?;
        Ok(Self { shared, thread: handle.thread().clone() })
    }

    /// Notes that a guest runs, until the answer is dropped.
    pub fn running(&self) -> Running<'_> {
        self.shared.running.fetch_add(1, SeqCst);
        if self.shared.asleep.load(SeqCst) && self.shared.asleep.swap(false, SeqCst) {
            self.thread.unpark();
        }
        Running(&self.shared)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, SeqCst);
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.stopped.store(true, SeqCst);
        self.thread.unpark();
    }
}

impl Shared {
    fn run(&self, tick: impl Fn()) {
        let mut idle = 0;
        while !self.stopped.load(SeqCst) {
            thread::sleep(TICK);
            tick();
            idle = if self.running.load(SeqCst) == 0 { idle + 1 } else { 0 };
            if idle < IDLE_TICKS {
                continue;
            }
            self.asleep.store(true, SeqCst);
            // A guest that began before it saw the flag is seen here; one that begins later sees the flag.
            while self.asleep.load(SeqCst) && self.running.load(SeqCst) == 0 && !self.stopped.load(SeqCst) {
                thread::park();
            }
            self.asleep.store(false, SeqCst);
            idle = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn the_clock_ticks_while_a_guest_runs_even_after_it_slept() {
        let (tell, ticks) = mpsc::channel();
        let ticker = Ticker::start(move || _ = tell.send(())).unwrap();
        while !ticker.shared.asleep.load(SeqCst) {
            thread::yield_now();
        }
        while ticks.try_recv().is_ok() {}
        let running = ticker.running();
        for _ in 0..IDLE_TICKS * 2 {
            ticks.recv_timeout(Duration::from_secs(10)).unwrap();
        }
        drop(running);
        drop(ticker);
        while ticks.recv_timeout(Duration::from_secs(10)).is_ok() {}
    }
}
