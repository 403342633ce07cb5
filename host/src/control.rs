//! What the two sides of a process share: whoever runs the guest, and whoever speaks for the client.
//!
//! It holds the streams, the one cancel reason, the flag that interrupts the guest, what the guest used up, and the value
//! that it set.

mod residence;

pub use residence::{Residence, ThreadClass};

use crate::{
    call::CancelReason,
    limits::Limits,
    size::Size,
    stream::{Input, Output, Stderr},
};
use parking_lot::Mutex;
use serde::de::IgnoredAny;
use std::{
    future::poll_fn,
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst},
    },
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};
use tokio::sync::Notify;
use uuid::Uuid;

/// The most bytes that the value of a call may have.
pub const VALUE: Size = Size::kib(16);

pub struct Control {
    pub id: Uuid,
    /// What the clock of its turns counts from.
    born: Instant,
    pub input: Input,
    pub output: Output,
    pub stderr: Stderr,
    /// The first reason to stop, and when it came.
    cancel: OnceLock<(CancelReason, Instant)>,
    /// Whoever is told to stop is ended without its grace.
    forced: AtomicBool,
    /// Whoever owns the process, to be woken when it is told to stop or has no grace any more.
    owner: Mutex<Option<Waker>>,
    /// Guests that wait to be told.
    guests: Notify,
    /// The guest is a fresh one that cleans up: it was started because of the reason, and is not told it again.
    cleaning: AtomicBool,
    cleanup_exceeded: OnceLock<CancelReason>,
    /// There is no time between being told and being stopped, so that the guest is not told.
    graceless: AtomicBool,
    killed: AtomicBool,
    /// When the present turn of the guest is over, in nanoseconds after `born`.
    turn_ends: AtomicU64,
    turn_over: AtomicBool,
    /// Where the guest runs.
    pub residence: Residence,
    cpu_limit: Duration,
    cpu_nanos: AtomicU64,
    memory_peak: AtomicU64,
    /// JSON.
    value: Mutex<Option<Box<str>>>,
}

/// What is not the value of a call.
#[derive(Debug, thiserror::Error)]
pub enum BadValue {
    #[error("larger than {VALUE}")]
    TooLarge,
    #[error("not JSON: {0}")]
    NotJson(serde_json::Error),
}

impl Control {
    pub fn new(limits: &Limits) -> Self {
        Self {
            id: Uuid::now_v7(),
            born: Instant::now(),
            input: Input::new(limits.input.as_usize(), limits.input_idle),
            output: Output::new(limits.output.map(|it| it.get()), limits.line.as_usize()),
            stderr: Stderr::default(),
            cancel: OnceLock::new(),
            forced: AtomicBool::new(false),
            owner: Mutex::default(),
            guests: Notify::new(),
            cleaning: AtomicBool::new(false),
            cleanup_exceeded: OnceLock::new(),
            graceless: AtomicBool::new(false),
            killed: AtomicBool::new(false),
            turn_ends: AtomicU64::new(0),
            turn_over: AtomicBool::new(false),
            residence: Residence::default(),
            cpu_limit: limits.cpu,
            cpu_nanos: AtomicU64::new(0),
            memory_peak: AtomicU64::new(0),
            value: Mutex::default(),
        }
    }

    /// Tells the process to stop. The first reason sticks; later ones change nothing.
    pub fn cancel(&self, reason: CancelReason) {
        if self.cancel.set((reason, Instant::now())).is_ok() {
            if !self.graceless.load(SeqCst) {
                self.input.end();
                self.guests.notify_waiters();
            }
            self.wake_owner();
        }
    }

    /// Ends the grace of the process, be it that it is told to stop already or will be.
    pub fn force(&self) {
        self.forced.store(true, SeqCst);
        self.wake_owner();
    }

    pub fn is_forced(&self) -> bool {
        self.forced.load(SeqCst)
    }

    fn wake_owner(&self) {
        if let Some(owner) = self.owner.lock().take() {
            owner.wake();
        }
    }

    /// The reason to stop and when it came, once there is one.
    pub fn cancelled(&self) -> Option<&(CancelReason, Instant)> {
        self.cancel.get()
    }

    /// Ready when the process was told to stop; wakes `cx`, the one owner of the process, when it is, and when its grace
    /// is ended.
    pub fn watch(&self, cx: &Context<'_>) -> Poll<()> {
        if self.cancel.get().is_some() && self.is_forced() {
            return Poll::Ready(());
        }
        crate::stream::remember(&mut self.owner.lock(), cx);
        // A cancel between the look and the registration has not seen the waker.
        if self.cancel.get().is_some() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// The reason to stop, as far as it is any of the guest's business.
    pub fn reason(&self) -> Option<&CancelReason> {
        let told = !self.cleaning.load(SeqCst) && !self.graceless.load(SeqCst);
        self.cancel.get().filter(|_| told).map(|(reason, _)| reason)
    }

    /// Waits, for the guest, for the reason to stop.
    pub async fn told(&self) -> &CancelReason {
        loop {
            let mut told = std::pin::pin!(self.guests.notified());
            // Registered before the look, so that no cancel falls between the two.
            told.as_mut().enable();
            match self.reason() {
                Some(reason) => return reason,
                None => told.await,
            }
        }
    }

    /// The process has no grace: whoever tells it to stop also stops it, and the guest learns nothing of it.
    pub fn leave_no_grace(&self) {
        self.graceless.store(true, SeqCst);
    }

    /// The killed guest is gone, and a fresh one is about to clean up after it.
    pub fn begin_cleanup(&self) {
        self.cleaning.store(true, SeqCst);
        self.residence.next_guest();
        self.killed.store(false, SeqCst);
        self.output.renew();
        self.stderr.renew();
        self.input.end();
    }

    /// The guest writes more than its limits allow: a reason to stop the process, or the one that cleans up after it.
    pub fn exceed(&self, limit: CancelReason) {
        if !self.cleaning.load(SeqCst) {
            return self.cancel(limit);
        }
        if self.cleanup_exceeded.set(limit).is_ok() {
            self.wake_owner();
        }
    }

    /// The limit that the guest which cleans up ran into.
    pub fn cleanup_exceeded(&self) -> Option<&CancelReason> {
        self.cleanup_exceeded.get()
    }

    /// From now on the guest is interrupted at its next epoch check. Whoever calls this also moves the epoch on.
    pub fn kill(&self) {
        self.killed.store(true, SeqCst);
    }

    pub fn is_killed(&self) -> bool {
        self.killed.load(SeqCst)
    }

    /// Whether this guest of the process, by its number, must not go on.
    pub fn is_over(&self, guest: u32) -> bool {
        self.is_killed() || self.residence.guest() != guest
    }

    /// The guest may compute for `turn` from `now`.
    pub fn begin_turn(&self, now: Instant, turn: Duration) {
        let ends = (now.saturating_duration_since(self.born) + turn).as_nanos() as u64;
        self.turn_ends.store(ends, Relaxed);
        self.turn_over.store(false, Relaxed);
    }

    /// Whether the guest's turn is over; asked by the guest itself, at an epoch check, before it yields.
    pub fn ask_turn_over(&self) -> bool {
        let over = self.born.elapsed().as_nanos() as u64 >= self.turn_ends.load(Relaxed);
        if over {
            self.turn_over.store(true, Relaxed);
        }
        over
    }

    /// Gives the thread back, within a long host call, if the turn of the guest is over.
    pub async fn yield_if_turn_over(&self) {
        let mut asked = false;
        poll_fn(|cx| {
            if std::mem::replace(&mut asked, true) || !self.ask_turn_over() {
                return Poll::Ready(());
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }

    /// Whether the guest stopped because its turn was over, rather than to wait for something.
    pub fn used_its_turn(&self) -> bool {
        self.turn_over.load(Relaxed)
    }

    /// Adds to the time on a processor, and cancels the process once that reaches its limit.
    pub fn add_cpu(&self, time: Duration) {
        let nanos = time.as_nanos() as u64;
        let used = self.cpu_nanos.fetch_add(nanos, Relaxed) + nanos;
        if Duration::from_nanos(used) >= self.cpu_limit {
            self.cancel(CancelReason::CpuLimit(self.cpu_limit));
        }
    }

    pub fn cpu(&self) -> Duration {
        Duration::from_nanos(self.cpu_nanos.load(Relaxed))
    }

    pub fn note_memory(&self, bytes: u64) {
        self.memory_peak.fetch_max(bytes, Relaxed);
    }

    /// The most bytes that the guest's linear memories had together.
    pub fn memory_peak(&self) -> u64 {
        self.memory_peak.load(Relaxed)
    }

    /// Sets what came of the call. The length is looked at first, as the text may be of any length.
    pub fn set_value(&self, json: &str) -> Result<(), BadValue> {
        if json.len() > VALUE.as_usize() {
            return Err(BadValue::TooLarge);
        }
        let IgnoredAny = serde_json::from_str(json).map_err(BadValue::NotJson)?;
        *self.value.lock() = Some(json.trim_ascii().into());
        Ok(())
    }

    /// What came of the call, as JSON, if it has set anything.
    pub fn value(&self) -> Option<Box<str>> {
        self.value.lock().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::Read;

    #[test]
    fn the_first_reason_sticks_and_ends_the_input() {
        let control = Control::new(&Limits::default());
        let cx = Context::from_waker(Waker::noop());
        control.input.push_line("unread", Instant::now(), &cx);
        assert!(control.watch(&cx).is_pending());
        control.cancel(CancelReason::Client);
        control.cancel(CancelReason::Shutdown);
        assert!(control.watch(&cx).is_ready());
        assert_eq!(control.cancelled().unwrap().0, CancelReason::Client);
        assert_eq!(control.input.read(10, Instant::now()), Read::Ended);
    }

    #[tokio::test]
    async fn the_owner_is_woken_when_the_grace_ends() {
        let control = Control::new(&Limits::default());
        let ended = std::future::poll_fn(|cx| {
            let told = control.watch(cx).is_ready();
            if told && control.is_forced() { Poll::Ready(()) } else { Poll::Pending }
        });
        let force = async {
            control.cancel(CancelReason::Operator);
            tokio::task::yield_now().await;
            control.force();
        };
        tokio::join!(ended, force);
    }

    #[tokio::test]
    async fn a_guest_learns_the_reason_and_the_one_that_cleans_up_does_not() {
        let control = Control::new(&Limits::default());
        assert_eq!(control.reason(), None);
        let (told, ()) = tokio::join!(control.told(), async { control.cancel(CancelReason::Shutdown) });
        assert_eq!(told, &CancelReason::Shutdown);
        control.kill();
        control.begin_cleanup();
        assert_eq!((control.reason(), control.is_killed()), (None, false));
        assert!(control.cancelled().is_some());
    }

    #[test]
    fn a_guest_without_grace_learns_nothing() {
        let control = Control::new(&Limits::default());
        let cx = Context::from_waker(Waker::noop());
        control.leave_no_grace();
        control.input.push_line("unread", Instant::now(), &cx);
        control.cancel(CancelReason::Client);
        assert!(control.cancelled().is_some() && control.reason().is_none());
        assert!(matches!(control.input.read(10, Instant::now()), Read::Data(_)));
        control.begin_cleanup();
        assert_eq!(control.input.read(10, Instant::now()), Read::Ended);
    }

    #[test]
    fn the_value_is_the_last_that_is_json_and_small_enough() {
        let control = Control::new(&Limits::default());
        assert!(control.value().is_none());
        control.set_value("1").unwrap();
        control.set_value(r#"{"made": ["a"]}"#).unwrap();
        assert!(control.set_value("{").unwrap_err().to_string().starts_with("not JSON: "));
        let large = format!("\"{}\"", "x".repeat(16 << 10));
        assert_eq!(control.set_value(&large).unwrap_err().to_string(), "larger than 16KiB");
        assert_eq!(&*control.value().unwrap(), r#"{"made": ["a"]}"#);
    }
}
