//! One websocket and the one call that it makes: a thin loop around [`protocol::Protocol`].
//!
//! The loop is a single future that reads frames, runs the guest, and writes its lines, in this order, until none of
//! them gets any further. On a quiet machine a line therefore goes from the socket to the guest and back without a
//! change of threads.

pub mod protocol;

use crate::{
    auth::Caller,
    call::{CancelReason, Refusal},
    control::Control,
    dispatch::{Admitted, Dispatcher, Queued},
    process::Process,
    size::Size,
    socket::{Incoming, Lost, Socket},
    stream::{Room, lines},
    wire::ResultMessage,
};
use bytes::Bytes;
use protocol::{Action, CloseCode, Event, Protocol};
use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};
use tokio::time::Sleep;
use tokio_util::sync::CancellationToken;

/// How long the session waits for the client's half of the closing handshake.
const LINGER: Duration = Duration::from_secs(2);
/// How many frames are read before the guest has its turn.
const FRAMES: usize = 256;
/// How often the loop goes round before other sockets have their turn.
const ROUNDS: usize = 16;

/// The times and sizes that a session keeps to.
#[derive(Clone, Debug)]
pub struct Timing {
    pub call_timeout: Duration,
    pub write_timeout: Duration,
    pub ping_interval: Duration,
    pub silence_timeout: Duration,
    pub max_frame: Size,
}

pub struct Session {
    socket: Socket,
    protocol: Protocol,
    phase: Phase,
    caller: Caller,
    dispatcher: Arc<Dispatcher>,
    timing: Arc<Timing>,
    opened: Instant,
    heard: Instant,
    next_ping: Instant,
    /// Nothing can be read any more.
    deaf: bool,
    /// The process whose lines are sent.
    output: Option<Arc<Control>>,
    /// Lines that the socket has not taken yet.
    unsent: Bytes,
    blocked: Option<Blocked>,
    told_of_drain: bool,
}

enum Phase {
    /// No call yet.
    Open,
    /// The call waits for a place.
    Queued(Queued),
    Running(Process),
    /// The result follows what is left of the output.
    Finishing(ResultMessage, CloseCode),
    /// The result is sent; the client's close is awaited until then.
    Closing(Instant),
    Over,
}

/// The client does not take what it is sent.
struct Blocked {
    since: Instant,
    /// How many bytes it had taken by then.
    written: u64,
}

impl Session {
    pub fn new(socket: Socket, caller: Caller, dispatcher: Arc<Dispatcher>, timing: Arc<Timing>) -> Self {
        let now = Instant::now();
        Self {
            socket,
            protocol: Protocol::default(),
            phase: Phase::Open,
            caller,
            dispatcher,
            opened: now,
            heard: now,
            next_ping: now + timing.ping_interval,
            deaf: false,
            output: None,
            unsent: Bytes::new(),
            blocked: None,
            told_of_drain: false,
            timing,
        }
    }

    /// Serves the connection to its end. `drain` tells when the server begins to drain.
    pub async fn run(mut self, drain: CancellationToken) {
        let mut draining = pin!(drain.cancelled());
        let mut registered = false;
        let mut armed = self.opened + self.timing.call_timeout;
        let mut timer = pin!(tokio::time::sleep_until(armed.into()));
        poll_fn(|cx| {
            if !registered {
                registered = true;
                // Once is enough: this is one task, so the waker stays the same.
                let _ = draining.as_mut().poll(cx);
            }
            if drain.is_cancelled() && !self.told_of_drain {
                self.told_of_drain = true;
                self.on(Event::Shutdown, cx);
            }
            for _ in 0..ROUNDS {
                let further = self.round(cx);
                if matches!(self.phase, Phase::Over) {
                    return Poll::Ready(());
                }
                if !further {
                    self.arm(timer.as_mut(), &mut armed, cx);
                    return Poll::Pending;
                }
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }

    /// Sets the timer to the next time that anything is due.
    fn arm(&self, mut timer: Pin<&mut Sleep>, armed: &mut Instant, cx: &mut Context<'_>) {
        let due = self.due(cx);
        if due != *armed {
            *armed = due;
            timer.as_mut().reset(due.into());
        }
        if timer.poll(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
    }

    fn due(&self, cx: &Context<'_>) -> Instant {
        let phase = match &self.phase {
            Phase::Open => Some(self.opened + self.timing.call_timeout),
            Phase::Queued(queued) => Some(queued.until),
            Phase::Running(process) => process.deadline(),
            Phase::Closing(until) => Some(*until),
            Phase::Finishing(..) | Phase::Over => None,
        };
        let room = match (&self.output, &self.phase) {
            (Some(control), Phase::Queued(_) | Phase::Running(_)) if !self.deaf => {
                match control.input.room(Instant::now(), cx) {
                    Room::Later(time) => Some(time),
                    Room::Now | Room::Never => None,
                }
            }
            _ => None,
        };
        let blocked = self.blocked.as_ref().map(|blocked| blocked.since + self.timing.write_timeout);
        [phase, room, blocked].into_iter().flatten().fold(self.next_ping, Instant::min)
    }

    /// Goes once round: frames, clock, guest, lines. Says whether anything got further. What has come by now came in time,
    /// however late the loop looks: frames are read before the clock.
    fn round(&mut self, cx: &mut Context<'_>) -> bool {
        let now = Instant::now();
        let read = self.read(now, cx);
        self.look_at_clock(now, cx);
        let ran = self.run_call(now, cx);
        let wrote = self.write(now, cx);
        read || ran || wrote
    }

    fn look_at_clock(&mut self, now: Instant, cx: &mut Context<'_>) {
        match &self.phase {
            Phase::Open if now >= self.opened + self.timing.call_timeout => {
                self.on(Event::CallTimeout(self.timing.call_timeout), cx);
            }
            Phase::Closing(until) if now >= *until => self.phase = Phase::Over,
            _ => {}
        }
        if let Some(blocked) = &mut self.blocked {
            let written = self.socket.written();
            if written != blocked.written {
                *blocked = Blocked { since: now, written };
            } else if now >= blocked.since + self.timing.write_timeout {
                self.lose(cx);
            }
        }
        if now >= self.next_ping {
            self.next_ping = now + self.timing.ping_interval;
            let silent = now >= self.heard + self.timing.silence_timeout;
            if !self.deaf && (silent || self.socket.send_ping().is_err()) {
                self.lose(cx);
            }
        }
    }

    fn read(&mut self, now: Instant, cx: &mut Context<'_>) -> bool {
        for read in 0..FRAMES {
            if !self.may_read(now, cx) {
                return read > 0;
            }
            let Poll::Ready(incoming) = self.socket.poll_read(cx) else { return read > 0 };
            self.heard = now;
            match incoming {
                Incoming::Text(line) => match self.protocol.on(Event::Text) {
                    Action::Input => {
                        if let Some(control) = &self.output {
                            control.input.push_line(&line, now, cx);
                        }
                    }
                    action => self.act(action, cx),
                },
                Incoming::Binary(frame) => self.on(Event::Binary(&frame), cx),
                Incoming::Alive => {}
                Incoming::TooBig => {
                    self.deaf = true;
                    self.on(Event::TooBig(self.timing.max_frame), cx);
                }
                Incoming::Broken(what) => {
                    self.deaf = true;
                    self.on(Event::Broken(what), cx);
                }
                Incoming::Gone => self.lose(cx),
            }
        }
        true
    }

    /// A socket is read on while its guest keeps up, and when it does not, until the limit of its input.
    fn may_read(&mut self, now: Instant, cx: &mut Context<'_>) -> bool {
        if self.deaf {
            return false;
        }
        let running = matches!(self.phase, Phase::Running(_));
        let Some(control) = self.output.as_ref().filter(|_| running || matches!(self.phase, Phase::Queued(_))) else {
            return !matches!(self.phase, Phase::Over);
        };
        match control.input.room(now, cx) {
            Room::Now => true,
            Room::Later(_) => false,
            Room::Never => {
                let reason = CancelReason::InputLimit(control.input.limit());
                if running {
                    control.cancel(reason);
                } else {
                    self.on(Event::Refused(Refusal::Cancelled(reason)), cx);
                }
                true
            }
        }
    }

    /// Lets the call get on: out of the queue, and as far as its guest runs.
    fn run_call(&mut self, now: Instant, cx: &mut Context<'_>) -> bool {
        match &mut self.phase {
            Phase::Queued(queued) => match queued.poll(now, cx) {
                Poll::Ready(Ok(process)) => self.phase = Phase::Running(process),
                Poll::Ready(Err(refusal)) => self.on(Event::Refused(refusal), cx),
                Poll::Pending => return false,
            },
            Phase::Running(process) => {
                let Poll::Ready(outcome) = process.poll(now, cx) else { return false };
                let result = ResultMessage::from(&outcome);
                self.dispatcher.ended(process, &self.caller, &outcome);
                self.on(Event::Ended(result), cx);
            }
            _ => return false,
        }
        true
    }

    /// Sends lines as far as the client takes them, and the result behind the last one.
    fn write(&mut self, now: Instant, cx: &mut Context<'_>) -> bool {
        match self.send(cx) {
            Ok(any) => {
                match self.socket.poll_flush(cx) {
                    Poll::Ready(Ok(())) => self.blocked = None,
                    Poll::Ready(Err(Lost)) => self.lose(cx),
                    Poll::Pending if self.blocked.is_none() => {
                        self.blocked = Some(Blocked { since: now, written: self.socket.written() });
                    }
                    Poll::Pending => {}
                }
                any
            }
            Err(Lost) => {
                self.lose(cx);
                true
            }
        }
    }

    fn send(&mut self, cx: &mut Context<'_>) -> Result<bool, Lost> {
        let mut any = false;
        if let Some(control) = &self.output {
            loop {
                if self.unsent.is_empty() {
                    self.unsent = control.output.take(cx);
                }
                if self.unsent.is_empty() {
                    break;
                }
                any = true;
                if self.deaf && self.protocol.is_gone() {
                    self.unsent.clear();
                    continue;
                }
                let mut sent = 0;
                let mut full = false;
                for (line, end) in lines(&self.unsent) {
                    if self.socket.poll_ready(cx)?.is_pending() {
                        full = true;
                        break;
                    }
                    self.socket.send_line(line)?;
                    sent = end;
                }
                let _ = self.unsent.split_to(sent);
                if full {
                    return Ok(sent > 0);
                }
            }
            if let Phase::Running(process) = &self.phase
                && process.is_away()
                && control.output.poll_lines(cx).is_ready()
            {
                return Ok(true);
            }
        }
        if let Phase::Finishing(result, code) = &self.phase {
            self.socket.send_result(result.encode())?;
            self.socket.send_close(*code as u16)?;
            self.phase = Phase::Closing(Instant::now() + LINGER);
            any = true;
        }
        Ok(any)
    }

    /// The client is gone, or as good as gone.
    fn lose(&mut self, cx: &mut Context<'_>) {
        self.deaf = true;
        self.blocked = None;
        self.on(Event::Gone, cx);
    }

    fn on(&mut self, event: Event<'_>, cx: &mut Context<'_>) {
        let action = self.protocol.on(event);
        self.act(action, cx);
    }

    fn act(&mut self, action: Action, cx: &mut Context<'_>) {
        match action {
            Action::None | Action::Input => {}
            Action::Start(_) if self.told_of_drain => self.on(Event::Refused(Refusal::ShuttingDown), cx),
            Action::Start(call) => match self.dispatcher.admit(&self.caller, call) {
                Ok(admitted) => {
                    self.output = Some(admitted.control().clone());
                    self.phase = match admitted {
                        Admitted::Now(process) => Phase::Running(process),
                        Admitted::Later(queued) => Phase::Queued(queued),
                    };
                }
                Err(refusal) => self.on(Event::Refused(refusal), cx),
            },
            Action::Cancel(reason) => match &self.phase {
                Phase::Running(process) => process.control().cancel(reason),
                _ => self.on(Event::Refused(Refusal::Cancelled(reason)), cx),
            },
            Action::Force => {
                if let Phase::Running(process) = &mut self.phase {
                    process.force(Instant::now());
                }
            }
            Action::Finish(result, code) => self.phase = Phase::Finishing(result, code),
            Action::Drop => self.phase = Phase::Over,
        }
    }
}
