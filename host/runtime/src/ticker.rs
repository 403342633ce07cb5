//! The clock that interrupts guests: advances the epoch while guests run, and sleeps otherwise.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    thread::{self, Thread},
    time::Duration,
};

/// The interval at which guests check whether their turn is over.
pub const TICK: Duration = Duration::from_millis(1);
/// The number of ticks without a running guest after which the clock sleeps.
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

/// A guard that keeps the clock running.
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

    /// Keeps the clock running until the returned guard is dropped.
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
            // A guest that started before the flag was set is seen here; a later one sees the flag.
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
    fn clock_resumes_when_a_guest_runs() {
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
