//! A running call: its guest, its cancellation, its deadlines and its outcome.
//!
//! A guest begins on the thread that serves its socket, so that a line makes the round trip without a change of
//! threads. A guest that computes for longer than a moment moves to the compute threads ([`compute`]), which have a
//! lower priority than sockets. It moves back when it is calm again. Guests therefore never delay sockets, timers or
//! each other, and guests that only exchange lines are as fast as a function call.
#![forbid(unsafe_code)]
// They panic where stdout or stderr cannot be written: only the command line prints.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

pub mod admission;
pub mod compute;
pub mod detached;
pub mod dispatch;
pub mod history;
mod platform;
pub mod schedules;

use compute::{Away, ComputeThreads, Returned};
use distillery_core::{
    call::{CancelReason, Cleanup, Outcome, Stop},
    control::{Control, ThreadClass},
    limits::Limits,
};
use distillery_plugin::Call;
use distillery_runtime::{End, Guest, Invocation, UNREACHABLE};
use std::{
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

/// The longest turn of a guest on a socket thread; the next tick of the clock ends the turn. Then its output is sent,
/// and its client's messages are read.
const TURN_AMONG_SOCKETS: Duration = Duration::from_micros(200);
/// Total time that a guest can compute there, beyond the time that it earns by waiting.
const CREDIT: Duration = Duration::from_millis(3);
/// The fraction of elapsed time that is earned: one in this many.
const EARNED_PART: u32 = 10;
/// Computing this little at a time is free: serving the socket costs as much.
const FREE: Duration = Duration::from_micros(100);

/// The deadlines of a process, beside its limits.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    /// Time from the cancel to the forced end.
    pub grace: Duration,
    /// Time that a fresh instance has to clean up after a forced end.
    pub cleanup: Duration,
}

pub struct Process {
    control: Arc<Control>,
    call: Arc<Call>,
    started: Instant,
    compute: Arc<ComputeThreads>,
    home: Home,
    credit: Credit,
    deadlines: Deadlines,
    stopping: Option<Stopping>,
    /// Makes the instance that cleans up, if the plugin wants one.
    cleaner: Option<Cleaner>,
    cleaning: Option<Cleaning>,
}

type Cleaner = Box<dyn FnOnce(&CancelReason) -> Guest + Send>;

/// The cleanup by a fresh instance, after the guest was forced to end.
struct Cleaning {
    /// The forced end of the previous instance.
    stop: Stop,
    until: Instant,
    /// The cleanup has used up its time.
    forced: bool,
}

enum Home {
    /// On the thread of the task that polls the process.
    Here(Guest),
    /// On the compute threads.
    Away(Away),
    Ended,
}

/// The state of a cancelled process.
struct Stopping {
    told: Instant,
    force_at: Instant,
    /// Time from the cancel to the forced end. `None` if the process was not forced.
    forced: Option<Duration>,
}

/// The time that a guest can still compute on socket threads.
struct Credit {
    left: Duration,
    counted: Instant,
    cpu: Duration,
}

impl Credit {
    fn full(now: Instant, cpu: Duration) -> Self {
        Self { left: CREDIT, counted: now, cpu }
    }

    /// Adds the earned time and subtracts the used time since the last call.
    fn settle(&mut self, now: Instant, cpu: Duration) {
        let earned = now.saturating_duration_since(self.counted) / EARNED_PART;
        let used = Some(cpu.saturating_sub(self.cpu)).filter(|used| *used > FREE).unwrap_or_default();
        self.left = (self.left + earned).min(CREDIT).saturating_sub(used);
        self.counted = now;
        self.cpu = cpu;
    }

    fn is_good(&self) -> bool {
        !self.left.is_zero()
    }
}

impl Process {
    /// Starts `call`. `held` is dropped when the memory of the last guest is released, including the one that cleans
    /// up.
    pub fn start<H: Send + Sync + 'static>(
        call: Arc<Call>,
        invocation: Invocation,
        deadlines: Deadlines,
        compute: &Arc<ComputeThreads>,
        control: Arc<Control>,
        held: H,
    ) -> Self {
        let plugin = &call.plugin;
        // Held until the memory of the last guest is released, including the one that cleans up.
        let held = Arc::new((plugin.enter(), held));
        let cleaner = plugin.manifest.cancel.cleanup.then(|| {
            let (plugin, invocation) = (plugin.clone(), invocation.clone());
            let (control, held) = (control.clone(), held.clone());
            Box::new(move |reason: &CancelReason| {
                plugin.program.start(invocation.cleaning_up(reason), &plugin.limits, control, held)
            }) as Cleaner
        });
        if deadlines.grace.is_zero() {
            control.leave_no_grace();
        }
        let guest = plugin.program.start(invocation, &plugin.limits, control.clone(), held);
        let started = Instant::now();
        let credit = Credit::full(started, Duration::ZERO);
        Self {
            control,
            call,
            started,
            compute: compute.clone(),
            home: Home::Here(guest),
            credit,
            deadlines,
            stopping: None,
            cleaner,
            cleaning: None,
        }
    }

    pub fn control(&self) -> &Arc<Control> {
        &self.control
    }

    pub fn call(&self) -> &Arc<Call> {
        &self.call
    }

    pub fn started(&self) -> Instant {
        self.started
    }

    fn limits(&self) -> &Limits {
        &self.call.plugin.limits
    }

    /// Returns whether the guest runs on other threads than the task that polls the process.
    pub fn is_away(&self) -> bool {
        matches!(self.home, Home::Away(_))
    }

    /// Returns when the process must be polled even if nothing wakes the task.
    pub fn deadline(&self) -> Option<Instant> {
        if let Some(cleaning) = &self.cleaning {
            return (!cleaning.forced).then_some(cleaning.until);
        }
        match &self.stopping {
            Some(Stopping { forced: None, force_at, .. }) => Some(*force_at),
            // Already forced: the guest ends within its turn, and wakes the task.
            Some(_) => None,
            None => Some(self.started + self.limits().time),
        }
    }

    /// Runs the guest as far as it gets. Cancels it at its time limit, forces its end after the grace, and then runs
    /// the cleanup if its plugin wants one.
    pub fn poll(&mut self, now: Instant, cx: &mut Context<'_>) -> Poll<Outcome> {
        if now.saturating_duration_since(self.started) >= self.limits().time {
            self.control.cancel(CancelReason::TimeLimit(self.limits().time));
        }
        if self.control.watch(cx).is_ready() {
            self.stop_by_its_time(now);
        }
        // A guest without grace, or past it, is not polled again.
        let end = self.force_if_due(now).or_else(|| match self.poll_home(now, cx) {
            Poll::Ready(end) => Some(end),
            Poll::Pending => {
                // The guest can have exceeded a limit of its own just now.
                if self.control.cancelled().is_some() {
                    self.stop_by_its_time(now);
                }
                self.force_if_due(now)
            }
        });
        let Some(end) = end else { return Poll::Pending };
        self.home = Home::Ended;
        // Wherever the guest was dropped, the line that it had begun is complete, and not the beginning of later
        // output.
        self.control.output.finish();
        if let (None, Some(stop)) = (&self.cleaning, self.stop(&end))
            && let Some(cleaner) = self.cleaner.take()
            && let Some((reason, _)) = self.control.cancelled()
        {
            self.control.begin_cleanup();
            self.home = Home::Here(cleaner(reason));
            self.credit = Credit::full(now, self.control.cpu());
            self.cleaning = Some(Cleaning { stop, until: now + self.deadlines.cleanup, forced: false });
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(self.outcome(end))
    }

    /// Sets the time of the forced end of a cancelled process: after the grace, or now if the grace was ended. The
    /// cleanup has its own time.
    fn stop_by_its_time(&mut self, now: Instant) {
        let Some((_, told)) = self.control.cancelled() else { return };
        let force_at = *told + self.deadlines.grace;
        let stopping = self.stopping.get_or_insert(Stopping { told: *told, force_at, forced: None });
        if self.control.is_forced() {
            stopping.force_at = stopping.force_at.min(now);
        }
    }

    fn poll_home(&mut self, now: Instant, cx: &mut Context<'_>) -> Poll<End> {
        loop {
            match &mut self.home {
                Home::Here(guest) => {
                    self.credit.settle(now, self.control.cpu());
                    if self.credit.is_good() {
                        let polled = guest.poll(TURN_AMONG_SOCKETS, ThreadClass::Sockets, cx);
                        let moves = self.control.used_its_turn() || self.control.residence.has_to_move();
                        match polled {
                            Poll::Ready(end) => return Poll::Ready(end),
                            Poll::Pending if !moves => return Poll::Pending,
                            Poll::Pending => {}
                        }
                    }
                    let Home::Here(guest) = std::mem::replace(&mut self.home, Home::Ended) else { unreachable!() };
                    self.home = Home::Away(self.compute.take_over(guest, cx));
                    return Poll::Pending;
                }
                Home::Away(away) => match away.poll_returned(cx) {
                    Poll::Ready(Returned::Ended(end)) => return Poll::Ready(end),
                    Poll::Ready(Returned::Calm(guest)) => {
                        self.credit = Credit::full(now, self.control.cpu());
                        self.home = Home::Here(guest);
                    }
                    Poll::Pending => return Poll::Pending,
                },
                Home::Ended => unreachable!("a process is not polled after its end"),
            }
        }
    }

    /// Forces the end of a guest past its grace. A guest in a host call is dropped at once; one that computes is
    /// interrupted at its next epoch check. The same applies to a cleanup past its own time.
    fn force_if_due(&mut self, now: Instant) -> Option<End> {
        if let Some(cleaning) = &mut self.cleaning {
            if now < cleaning.until && self.control.cleanup_exceeded().is_none() {
                return None;
            }
            cleaning.forced = true;
        } else {
            let stopping = self.stopping.as_mut()?;
            if now < stopping.force_at {
                return None;
            }
            stopping.forced.get_or_insert(now.saturating_duration_since(stopping.told));
        }
        self.control.kill();
        let ended = match &mut self.home {
            Home::Here(_) => Some(End::Dropped),
            Home::Away(away) => {
                away.drop_if_idle().map(|computing| if computing { End::Interrupted } else { End::Dropped })
            }
            Home::Ended => None,
        };
        match ended {
            Some(_) => {
                if let Home::Here(guest) = std::mem::replace(&mut self.home, Home::Ended) {
                    self.compute.discard(guest);
                }
            }
            None => self.call.plugin.program.move_epoch(),
        }
        ended
    }

    /// Returns how the guest was forced to end. `None` if it was not.
    fn stop(&self, end: &End) -> Option<Stop> {
        let forced_after = self.stopping.as_ref()?.forced?;
        match end {
            End::Interrupted => Some(Stop::Interrupted(forced_after)),
            End::Dropped => Some(Stop::Dropped(forced_after)),
            _ => None,
        }
    }

    fn outcome(&self, end: End) -> Outcome {
        let Some((reason, _)) = self.control.cancelled() else { return self.natural(end) };
        let (stop, cleanup) = match &self.cleaning {
            None => (self.stop(&end).unwrap_or(Stop::Told), Cleanup::None),
            Some(Cleaning { stop, .. }) => {
                let failed = match (self.control.cleanup_exceeded(), end) {
                    (Some(limit), _) => Some(limit.to_string()),
                    (None, End::Interrupted | End::Dropped) => {
                        Some(CancelReason::TimeLimit(self.deadlines.cleanup).to_string())
                    }
                    (None, end) => self.natural(end).failure(),
                };
                (*stop, failed.map_or(Cleanup::Done, Cleanup::Failed))
            }
        };
        Outcome::Cancelled { reason: reason.clone(), stop, cleanup }
    }

    /// Returns the outcome of a guest that was not cancelled.
    fn natural(&self, end: End) -> Outcome {
        match end {
            End::Exited(status) => {
                let last_words = (status != 0).then(|| self.control.stderr.last_words()).flatten();
                Outcome::Exited { status, last_words }
            }
            End::Trapped { trap, limit: None } if trap == UNREACHABLE => {
                let panic = self.control.stderr.panic();
                let trap = panic.map_or(trap, |panic| format!("{UNREACHABLE}: {panic}").into());
                Outcome::Trapped { trap, limit: None }
            }
            End::Trapped { trap, limit } => Outcome::Trapped { trap, limit },
            End::Full => Outcome::HostFailed { what: "too many running processes".into() },
            End::Failed(why) => {
                tracing::error!(process = %self.control.id, %why, "running a guest failed");
                Outcome::HostFailed { what: "the server failed to run the call".into() }
            }
            End::Interrupted | End::Dropped => unreachable!("only a cancelled process is forced"),
        }
    }
}

impl Drop for Process {
    /// Ends a process that is dropped before its end.
    fn drop(&mut self) {
        match std::mem::replace(&mut self.home, Home::Ended) {
            Home::Here(guest) => self.compute.discard(guest),
            Home::Away(mut away) => {
                self.control.kill();
                if away.drop_if_idle().is_none() {
                    self.call.plugin.program.move_epoch();
                }
            }
            Home::Ended => {}
        }
    }
}
