//! State shared by the task that runs the guest and the client's session.
//!
//! It holds the streams, the cancel reason, the flag that interrupts the guest, the resource usage, and the value.

mod commands;
mod residence;

pub use commands::CommandUsage;
pub use residence::{Residence, ThreadClass};

use crate::{
    call::CancelReason,
    limits::Limits,
    size::Size,
    stream::{Input, Output, Stderr, recording::Recording},
};
use parking_lot::Mutex;
use serde::de::IgnoredAny;
use std::{
    future::poll_fn,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst},
    },
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};
use tokio::sync::Notify;
use uuid::Uuid;

/// The maximum size of the value of a call.
pub const VALUE: Size = Size::kib(16);

pub struct Control {
    pub id: Uuid,
    /// The start of the clock that measures turns.
    born: Instant,
    pub input: Input,
    pub output: Output,
    pub stderr: Stderr,
    /// The first cancel reason, and when it came.
    cancel: OnceLock<(CancelReason, Instant)>,
    /// Skips the grace period.
    forced: AtomicBool,
    /// Waker of the task that owns the process; woken when the process is cancelled and when its grace ends.
    owner: Mutex<Option<Waker>>,
    /// Guests that wait for a cancel.
    guests: Notify,
    /// A fresh guest is cleaning up because of the cancel. It is not notified of the cancel.
    cleaning: AtomicBool,
    cleanup_exceeded: OnceLock<CancelReason>,
    /// There is no time between cancel and forced end, so the guest is not notified.
    graceless: AtomicBool,
    killed: AtomicBool,
    /// The end of the guest's present turn, in nanoseconds after `born`.
    turn_ends: AtomicU64,
    turn_over: AtomicBool,
    /// The threads that the guest runs on.
    pub residence: Residence,
    cpu_limit: Duration,
    cpu_nanos: AtomicU64,
    memory_peak: AtomicU64,
    /// The usage of granted commands.
    pub commands: CommandUsage,
    /// The value of the call, as JSON.
    value: Mutex<Option<Box<str>>>,
    /// What the guest writes, on its way to the history.
    recording: OnceLock<Arc<Recording>>,
}

/// An invalid value of a call.
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
            commands: CommandUsage::default(),
            value: Mutex::default(),
            recording: OnceLock::new(),
        }
    }

    /// Records what the guest writes. Call before the guest starts.
    pub fn record(&self, recording: &Arc<Recording>) {
        if self.recording.set(recording.clone()).is_ok() {
            self.output.record(recording.clone());
            self.stderr.record(recording.clone());
        }
    }

    /// Ends the recording, if there is one. Call after the end of the last guest.
    pub fn end_recording(&self) {
        if let Some(recording) = self.recording.get() {
            recording.end();
        }
    }

    /// Cancels the process. The first reason sticks; later ones change nothing.
    pub fn cancel(&self, reason: CancelReason) {
        if self.cancel.set((reason, Instant::now())).is_ok() {
            if !self.graceless.load(SeqCst) {
                self.input.end();
                self.guests.notify_waiters();
            }
            self.wake_owner();
        }
    }

    /// Ends the grace of the process, whether the process is already cancelled or will be later.
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

    /// Returns the cancel reason and when it came. `None` if the process is not cancelled.
    pub fn cancelled(&self) -> Option<&(CancelReason, Instant)> {
        self.cancel.get()
    }

    /// Becomes ready when the process is cancelled. Wakes `cx`, the one owner of the process, then and when the grace
    /// ends.
    pub fn watch(&self, cx: &Context<'_>) -> Poll<()> {
        if self.cancel.get().is_some() && self.is_forced() {
            return Poll::Ready(());
        }
        crate::stream::remember(&mut self.owner.lock(), cx);
        // A cancel between the check and the registration has not seen the waker.
        if self.cancel.get().is_some() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Returns the cancel reason. `None` if there is none, or if the guest must not learn of it.
    pub fn reason(&self) -> Option<&CancelReason> {
        let told = !self.cleaning.load(SeqCst) && !self.graceless.load(SeqCst);
        self.cancel.get().filter(|_| told).map(|(reason, _)| reason)
    }

    /// Waits for a cancel on behalf of the guest, and returns its reason.
    pub async fn told(&self) -> &CancelReason {
        loop {
            let mut told = std::pin::pin!(self.guests.notified());
            // Registered before the check, so that no cancel falls between the two.
            told.as_mut().enable();
            match self.reason() {
                Some(reason) => return reason,
                None => told.await,
            }
        }
    }

    /// Removes the grace of the process: a cancel also kills the guest, which is not notified.
    pub fn leave_no_grace(&self) {
        self.graceless.store(true, SeqCst);
    }

    /// Prepares for the fresh guest that cleans up after the killed one.
    pub fn begin_cleanup(&self) {
        self.cleaning.store(true, SeqCst);
        self.residence.next_guest();
        self.killed.store(false, SeqCst);
        self.output.renew();
        self.stderr.renew();
        self.input.end();
    }

    /// Reports that the guest exceeds its output limits. Cancels the process, or stops the guest that cleans up after
    /// it.
    pub fn exceed(&self, limit: CancelReason) {
        if !self.cleaning.load(SeqCst) {
            return self.cancel(limit);
        }
        if self.cleanup_exceeded.set(limit).is_ok() {
            self.wake_owner();
        }
    }

    /// Returns the limit that the guest which cleans up ran into, if any.
    pub fn cleanup_exceeded(&self) -> Option<&CancelReason> {
        self.cleanup_exceeded.get()
    }

    /// Interrupts the guest at its next epoch check. The calling code must also advance the epoch.
    pub fn kill(&self) {
        self.killed.store(true, SeqCst);
    }

    pub fn is_killed(&self) -> bool {
        self.killed.load(SeqCst)
    }

    /// Returns whether this guest of the process, by its number, must stop.
    pub fn is_over(&self, guest: u32) -> bool {
        self.is_killed() || self.residence.guest() != guest
    }

    /// Lets the guest compute for `turn` from `now`.
    pub fn begin_turn(&self, now: Instant, turn: Duration) {
        let ends = (now.saturating_duration_since(self.born) + turn).as_nanos() as u64;
        self.turn_ends.store(ends, Relaxed);
        self.turn_over.store(false, Relaxed);
    }

    /// Returns whether the guest's turn is over. The guest itself asks, at an epoch check, before it yields.
    pub fn ask_turn_over(&self) -> bool {
        let over = self.born.elapsed().as_nanos() as u64 >= self.turn_ends.load(Relaxed);
        if over {
            self.turn_over.store(true, Relaxed);
        }
        over
    }

    /// Yields the thread, within a long host call, if the turn of the guest is over.
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

    /// Returns whether the guest stopped because its turn was over, rather than to wait for something.
    pub fn used_its_turn(&self) -> bool {
        self.turn_over.load(Relaxed)
    }

    /// Adds to the CPU time, and cancels the process once the sum reaches its limit.
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

    /// Returns the peak size in bytes of all linear memories of the guest together.
    pub fn memory_peak(&self) -> u64 {
        self.memory_peak.load(Relaxed)
    }

    /// Sets the value of the call. Checks the length first, as the text can be of any length.
    pub fn set_value(&self, json: &str) -> Result<(), BadValue> {
        if json.len() > VALUE.as_usize() {
            return Err(BadValue::TooLarge);
        }
        let IgnoredAny = serde_json::from_str(json).map_err(BadValue::NotJson)?;
        *self.value.lock() = Some(json.trim_ascii().into());
        Ok(())
    }

    /// Returns the value of the call as JSON. `None` if it has set none.
    pub fn value(&self) -> Option<Box<str>> {
        self.value.lock().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::Read;

    #[test]
    fn first_reason_sticks_and_ends_the_input() {
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
    async fn owner_is_woken_when_the_grace_ends() {
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
    async fn guest_learns_the_reason_and_its_cleaner_does_not() {
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
    fn guest_without_grace_learns_nothing() {
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
    fn value_is_the_last_valid_one() {
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
