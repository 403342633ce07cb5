//! One websocket and its one call: a thin loop around [`protocol::Protocol`].
//!
//! The loop is a single future. It reads frames, runs the guest, and writes its lines, in this order, until none of
//! them makes progress. On a quiet machine, a line therefore goes from the socket to the guest and back without a
//! change of threads.

pub mod framing;
mod link;
mod notifications;
pub mod protocol;
mod reading;
mod sending;
mod starting;
mod transport;

use crate::wire::Frame;
use bytes::Bytes;
use distillery_core::{
    auth::Caller,
    call::Refusal,
    control::Control,
    size::Size,
    stream::{Lines, Room, Stream},
    timer::poll_due,
};
use distillery_process::{
    Process,
    detached::{Ending, Reader},
    dispatch::{Dispatcher, Queued},
};
use framing::{Framing, Piece};
use futures_util::future::OptionFuture;
use link::{Link, Trouble};
use notifications::Telling;
use protocol::{Action, CloseCode, Event, Protocol};
use std::{
    collections::VecDeque,
    future::poll_fn,
    pin::pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;
pub use transport::Transport;

/// The longest sleep if there is no deadline.
const IDLE: Duration = Duration::from_secs(3600);
/// Maximum rounds of the loop before the task yields to other sockets.
const ROUNDS: usize = 16;

/// The times and sizes of a session.
#[derive(Clone, Debug)]
pub struct Timing {
    pub call_timeout: Duration,
    pub write_timeout: Duration,
    pub ping_interval: Duration,
    pub silence_timeout: Duration,
    pub max_frame: Size,
}

pub struct Session {
    link: Link,
    protocol: Protocol,
    phase: Phase,
    caller: Caller,
    dispatcher: Arc<Dispatcher>,
    timing: Arc<Timing>,
    opened: Instant,
    /// The process that the client talks to.
    control: Option<Arc<Control>>,
    framing: Framing,
    /// How often the client was told that the process waits for input.
    waits_told: u64,
    /// Lines that the socket has not accepted yet.
    unsent: Bytes,
    /// Raw output that the socket has not accepted yet, and the bytes taken from each stream so far.
    piece: Piece,
    taken: [u64; 2],
    /// Detached: read through a view, never drained.
    keep: bool,
    /// Splits the output of a detached process into lines.
    cutters: Option<Box<[Lines; 2]>>,
    /// The end of a detached process, once all of its output is queued for the client.
    ending: Option<Arc<Ending>>,
    /// Frames that are sent before more of the output.
    answers: VecDeque<Frame>,
    /// Notifications about the process, if the protocol has them.
    notifications: Option<Telling>,
    told_of_drain: bool,
    /// The credential of the caller is no longer valid.
    revoked: bool,
}

enum Phase {
    /// No call yet.
    Open,
    /// The call waits for a slot.
    Queued(Queued),
    Running(Process),
    /// A detached process, started by this connection or by another.
    Watching(Reader),
    /// The result, which follows the rest of the output.
    Finishing(Frame, CloseCode),
    /// The result is sent, or the client is disconnected.
    Over,
}

impl Session {
    pub fn new(
        transport: impl Into<Transport>,
        protocol: Protocol,
        caller: Caller,
        dispatcher: Arc<Dispatcher>,
        timing: Arc<Timing>,
    ) -> Self {
        let now = Instant::now();
        Self {
            link: Link::new(transport.into(), now, &timing),
            framing: protocol.framing(),
            waits_told: 0,
            notifications: protocol.tells().then(|| Telling::new(now + timing.ping_interval)),
            protocol,
            phase: Phase::Open,
            caller,
            dispatcher,
            opened: now,
            control: None,
            unsent: Bytes::new(),
            piece: Piece { stream: Stream::Stdout, from: 0, bytes: Bytes::new() },
            taken: [0; 2],
            keep: false,
            cutters: None,
            ending: None,
            answers: VecDeque::new(),
            told_of_drain: false,
            revoked: false,
            timing,
        }
    }

    /// Serves the connection to its end. `drain` is cancelled when the server begins to drain, `revoked` when the
    /// caller's credential becomes invalid.
    pub async fn run(&mut self, drain: CancellationToken, revoked: Option<CancellationToken>) {
        let mut draining = pin!(drain.cancelled());
        let mut revoking = pin!(OptionFuture::from(revoked.as_ref().map(CancellationToken::cancelled)));
        let (mut registered, mut opened) = (false, false);
        let mut timer = pin!(tokio::time::sleep_until((self.opened + self.timing.call_timeout).into()));
        poll_fn(|cx| {
            if !registered {
                registered = true;
                // One poll is enough: this is one task, so the waker stays the same.
                let _ = draining.as_mut().poll(cx);
                let _ = revoking.as_mut().poll(cx);
            }
            if drain.is_cancelled() && !self.told_of_drain {
                self.told_of_drain = true;
                self.on(Event::Shutdown, cx);
            }
            if !self.revoked && revoked.as_ref().is_some_and(CancellationToken::is_cancelled) {
                self.revoke(cx);
            }
            if !std::mem::replace(&mut opened, true) {
                self.on(Event::Opened, cx);
            }
            // The wake can have been meant for the guest.
            let mut stirred = true;
            for _ in 0..ROUNDS {
                let further = self.round(&mut stirred, cx);
                if matches!(self.phase, Phase::Over) && self.link.is_closed() {
                    return Poll::Ready(());
                }
                if !further {
                    if poll_due(timer.as_mut(), self.due(cx), cx).is_ready() {
                        cx.waker().wake_by_ref();
                    }
                    return Poll::Pending;
                }
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }

    /// Returns the next deadline.
    fn due(&self, cx: &Context<'_>) -> Instant {
        let now = Instant::now();
        let phase = match &self.phase {
            Phase::Open => Some(self.opened + self.timing.call_timeout),
            Phase::Queued(queued) => Some(queued.until),
            Phase::Running(process) => process.deadline(),
            Phase::Watching(_) | Phase::Finishing(..) | Phase::Over => None,
        };
        let reader = self.reader().filter(|_| self.link.is_readable());
        let room = reader.and_then(|control| match control.input.room(now, cx) {
            Room::Later(time) => Some(time),
            Room::Now => None,
            Room::Full(since) => self.idle_until(control, since, now),
        });
        let notifications = self.notifications.as_ref().and_then(|notifications| match &self.phase {
            Phase::Queued(_) => notifications.next_look(),
            Phase::Running(_) | Phase::Watching(_) => Some(notifications.next_beat()),
            _ => None,
        });
        let link = self.link.due(&self.timing, self.told_of_drain);
        [phase, room, notifications, link].into_iter().flatten().min().unwrap_or(now + IDLE)
    }

    /// Runs one round: frames, clock, guest, lines. Returns whether any of them made progress. Frames are read before
    /// the clock, so a frame that has arrived is in time however late the loop runs.
    ///
    /// A waiting guest is polled only if it was `stirred`: by a wake of this task, by input, or by a new state of the
    /// call. Any other event that the guest waits for wakes the task.
    fn round(&mut self, stirred: &mut bool, cx: &mut Context<'_>) -> bool {
        let now = Instant::now();
        let read = self.read(now, cx);
        self.look_at_clock(now, cx);
        if self.notifications.is_some() {
            self.tell(now, cx);
        }
        let ran = (read || *stirred) && self.run_call(now, cx);
        *stirred = ran;
        let wrote = self.write(now, cx);
        read || ran || wrote
    }

    fn look_at_clock(&mut self, now: Instant, cx: &mut Context<'_>) {
        if matches!(self.phase, Phase::Open) && now >= self.opened + self.timing.call_timeout {
            self.dispatcher.metrics.refused(&Refusal::NoCall(self.timing.call_timeout));
            self.on(Event::CallTimeout(self.timing.call_timeout), cx);
        }
        match self.link.look_at_clock(now, &self.timing, self.told_of_drain) {
            Some(Trouble::Silent) => self.on(Event::Silent, cx),
            Some(Trouble::Lost) => self.lose(cx),
            None => {}
        }
        // What is sent to a process that outlives its client is read to its end.
        if self.link.has_hung_up(now, cx) && matches!(self.phase, Phase::Running(_)) {
            self.lose(cx);
        }
    }

    /// Handles an invalid credential: the client can no longer start, list or attach. A running process that is not
    /// detached continues with its client, as closing the connection would cancel it.
    fn revoke(&mut self, cx: &mut Context<'_>) {
        self.revoked = true;
        if !matches!(self.phase, Phase::Running(_) | Phase::Finishing(..) | Phase::Over) {
            self.part();
            self.unsent.clear();
            self.piece.bytes.clear();
            self.on(Event::Refused(Refusal::Revoked), cx);
        }
    }

    /// Makes progress with the call: takes it out of the queue, and runs its guest. Returns whether it made progress.
    fn run_call(&mut self, now: Instant, cx: &mut Context<'_>) -> bool {
        match &mut self.phase {
            Phase::Queued(queued) => match queued.poll(now, cx) {
                Poll::Ready(Ok(process)) => self.begin(process, cx),
                Poll::Ready(Err(refusal)) => self.on(Event::Refused(refusal), cx),
                Poll::Pending => return false,
            },
            Phase::Running(process) => {
                let Poll::Ready(outcome) = process.poll(now, cx) else { return false };
                self.dispatcher.ended(process, &self.caller, &outcome);
                let control = process.control().clone();
                self.tell_of_cancel(&control, cx);
                let value = control.value();
                self.on(Event::Ended(&outcome, value.as_deref()), cx);
            }
            _ => return false,
        }
        true
    }

    /// Handles a lost connection.
    fn lose(&mut self, cx: &mut Context<'_>) {
        self.link.lose();
        self.on(Event::Gone, cx);
    }

    fn on(&mut self, event: Event<'_>, cx: &mut Context<'_>) {
        let action = self.protocol.on(event);
        self.act(action, cx);
    }

    fn act(&mut self, action: Action, cx: &mut Context<'_>) {
        match action {
            // The code that holds the input passes it on.
            Action::None | Action::Line | Action::Bytes => {}
            Action::Start(_) if self.told_of_drain => self.on(Event::Refused(Refusal::ShuttingDown), cx),
            Action::Start(start) => self.start(*start, cx),
            Action::Attach(attach) => self.attach(*attach, cx),
            Action::List if self.revoked => self.on(Event::Listed(&[]), cx),
            Action::List => {
                let (running, detached) = self.dispatcher.visible(&self.caller);
                self.on(Event::Listed(&notifications::listed(&running, &detached)), cx);
            }
            Action::EndInput => {
                if let Some(control) = &self.control {
                    control.input.finish();
                }
            }
            Action::Send(frame) => self.answers.push_back(frame),
            Action::Cancel(reason) => match &self.phase {
                Phase::Running(process) => process.control().cancel(reason),
                Phase::Watching(view) => view.detached().cancel(reason),
                _ => self.on(Event::Refused(Refusal::Cancelled(reason)), cx),
            },
            Action::Force => match &self.phase {
                Phase::Running(process) => process.control().force(),
                Phase::Watching(view) => view.detached().control.force(),
                _ => {}
            },
            Action::Finish(result, code) => {
                if self.protocol.is_at_fault() {
                    self.dispatcher.metrics.at_fault();
                }
                self.phase = Phase::Finishing(result, code);
            }
            Action::Leave(frame) => self.leave(frame),
            Action::HandOver(frame) => {
                if let Some(control) = &self.control {
                    control.input.finish();
                }
                self.leave(frame);
            }
            Action::Drop => {
                self.part();
                self.phase = Phase::Over;
            }
        }
    }

    /// Detaches from the process, and closes after this frame.
    fn leave(&mut self, frame: Frame) {
        self.part();
        self.control = None;
        self.piece.bytes.clear();
        self.phase = Phase::Finishing(frame, CloseCode::Normal);
    }

    /// Logs that a process continues without this client.
    fn part(&self) {
        if let Phase::Watching(view) = &self.phase {
            let detached = view.detached();
            if detached.ending().is_none() {
                tracing::info!(
                    process = %detached.id(),
                    call = detached.begun.call,
                    user = self.caller.user,
                    "a client has left, and its process goes on"
                );
            }
        }
    }
}
