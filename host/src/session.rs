//! One websocket and the one call that it makes: a thin loop around [`protocol::Protocol`].
//!
//! The loop is a single future that reads frames, runs the guest, and writes its lines, in this order, until none of
//! them gets any further. On a quiet machine a line therefore goes from the socket to the guest and back without a
//! change of threads.

pub mod framing;
pub mod protocol;
mod telling;

use crate::{
    alarm::poll_due,
    auth::Caller,
    call::{CancelReason, OnDisconnect, Refusal},
    control::Control,
    dispatch::{Admitted, Dispatcher, Queued},
    kept::{Ending, Sight, View},
    process::Process,
    size::Size,
    socket::{Incoming, Lost, Socket},
    stream::{Lines, Output, Room, Stream, lines},
    wire::{
        Frame,
        distillery1::{Attach, DATA},
    },
};
use bytes::Bytes;
use framing::{Framing, Piece};
use protocol::{Action, Attached, CloseCode, Event, Protocol, Start, Started};
use std::{
    collections::VecDeque,
    future::poll_fn,
    pin::pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};
use telling::Telling;
use tokio_util::sync::CancellationToken;

/// How long the session waits for the client's half of the closing handshake.
const LINGER: Duration = Duration::from_secs(2);
/// How many frames are read before the guest has its turn.
const FRAMES: usize = 256;
/// How long a guest may take to go on reading after its client took what it wrote.
const PATIENCE: Duration = Duration::from_secs(1);
/// How many answers may wait for a client before no more of what it sends is read.
const ANSWERS: usize = 16;
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
    /// The process that is spoken to.
    control: Option<Arc<Control>>,
    framing: Framing,
    /// Lines that the socket has not taken yet.
    unsent: Bytes,
    /// The same for output that is not made into lines, and how much of each stream there was.
    piece: Piece,
    taken: [u64; 2],
    /// The process outlives the connection, once there is one. What it writes is for others as well: it is looked at, and
    /// never taken, whatever becomes of this client.
    keep: bool,
    /// Makes lines of the output of such a process.
    cutters: Option<Box<[Lines; 2]>>,
    /// How such a process ended, when all of its output is on its way.
    ending: Option<Arc<Ending>>,
    /// What goes out before more of the output.
    answers: VecDeque<Frame>,
    /// Where the client is told how its process fares.
    telling: Option<Telling>,
    blocked: Option<Blocked>,
    /// When the client was last found not to take what it is sent.
    held_up: Instant,
    told_of_drain: bool,
}

enum Phase {
    /// No call yet.
    Open,
    /// The call waits for a place.
    Queued(Queued),
    Running(Process),
    /// A process that outlives this connection, whether it was started by it or not.
    Watching(View),
    /// The result follows what is left of the output.
    Finishing(Frame, CloseCode),
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
    pub fn new(
        socket: Socket,
        protocol: Protocol,
        caller: Caller,
        dispatcher: Arc<Dispatcher>,
        timing: Arc<Timing>,
    ) -> Self {
        let now = Instant::now();
        Self {
            socket,
            framing: protocol.framing(),
            telling: protocol.tells().then(|| Telling::new(now + timing.ping_interval)),
            protocol,
            phase: Phase::Open,
            caller,
            dispatcher,
            opened: now,
            heard: now,
            next_ping: now + timing.ping_interval,
            deaf: false,
            control: None,
            unsent: Bytes::new(),
            piece: Piece { stream: Stream::Stdout, from: 0, bytes: Bytes::new() },
            taken: [0; 2],
            keep: false,
            cutters: None,
            ending: None,
            answers: VecDeque::new(),
            blocked: None,
            held_up: now,
            told_of_drain: false,
            timing,
        }
    }

    /// Serves the connection to its end. `drain` tells when the server begins to drain.
    pub async fn run(&mut self, drain: CancellationToken) {
        let mut draining = pin!(drain.cancelled());
        let mut registered = false;
        let mut timer = pin!(tokio::time::sleep_until((self.opened + self.timing.call_timeout).into()));
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
            // Who was woken may have been so for the guest.
            let mut stirred = true;
            for _ in 0..ROUNDS {
                let further = self.round(&mut stirred, cx);
                if matches!(self.phase, Phase::Over) {
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

    /// The next time that anything is due.
    fn due(&self, cx: &Context<'_>) -> Instant {
        let phase = match &self.phase {
            Phase::Open => Some(self.opened + self.timing.call_timeout),
            Phase::Queued(queued) => Some(queued.until),
            Phase::Running(process) => process.deadline(),
            Phase::Closing(until) => Some(*until),
            Phase::Watching(_) | Phase::Finishing(..) | Phase::Over => None,
        };
        let room = match (&self.control, &self.phase) {
            (Some(control), Phase::Queued(_) | Phase::Running(_) | Phase::Watching(_)) if !self.deaf => {
                match control.input.room(Instant::now(), cx) {
                    Room::Later(time) => Some(time),
                    Room::Now => None,
                    Room::Never => {
                        let until = self.held_up + PATIENCE;
                        (self.blocked.is_none() && until > Instant::now()).then_some(until)
                    }
                }
            }
            _ => None,
        };
        let blocked = self.blocked.as_ref().map(|blocked| blocked.since + self.timing.write_timeout);
        let telling = self.telling.as_ref().and_then(|telling| match &self.phase {
            Phase::Queued(_) => telling.next_look(),
            Phase::Running(_) | Phase::Watching(_) => Some(telling.next_beat()),
            _ => None,
        });
        [phase, room, blocked, telling].into_iter().flatten().fold(self.next_ping, Instant::min)
    }

    /// Goes once round: frames, clock, guest, lines. Says whether anything got further. What has come by now came in time,
    /// however late the loop looks: frames are read before the clock.
    ///
    /// A guest that waits is left alone unless it was `stirred`: by a wake of this task, by what was read, or by what became
    /// of the call just now. Whatever else it waits for wakes the task.
    fn round(&mut self, stirred: &mut bool, cx: &mut Context<'_>) -> bool {
        let now = Instant::now();
        let read = self.read(now, cx);
        self.look_at_clock(now, cx);
        if self.telling.is_some() {
            self.tell(now, cx);
        }
        let ran = (read || *stirred) && self.run_call(now, cx);
        *stirred = ran;
        let wrote = self.write(now, cx);
        read || ran || wrote
    }

    fn look_at_clock(&mut self, now: Instant, cx: &mut Context<'_>) {
        match &self.phase {
            Phase::Open if now >= self.opened + self.timing.call_timeout => {
                self.dispatcher.metrics.refused(&Refusal::NoCall(self.timing.call_timeout));
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
                Incoming::Text(line) => match self.protocol.on(Event::Text(&line)) {
                    Action::Line => {
                        if let Some(control) = &self.control {
                            control.input.push_line(&line, now, cx);
                        }
                    }
                    Action::Bytes => self.push(line.as_bytes(), now, cx),
                    action => self.act(action, cx),
                },
                Incoming::Binary(frame) => match self.protocol.on(Event::Binary(&frame)) {
                    Action::Bytes => self.push(&frame, now, cx),
                    action => self.act(action, cx),
                },
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

    fn push(&self, bytes: &[u8], now: Instant, cx: &Context<'_>) {
        if let Some(control) = &self.control {
            control.input.push(bytes, now, cx);
        }
    }

    /// A socket is read on while its guest keeps up, and when it does not, until the limit of its input.
    fn may_read(&mut self, now: Instant, cx: &mut Context<'_>) -> bool {
        if self.deaf || self.answers.len() >= ANSWERS {
            return false;
        }
        let running = matches!(self.phase, Phase::Running(_) | Phase::Watching(_));
        let Some(control) = self.control.as_ref().filter(|_| running || matches!(self.phase, Phase::Queued(_))) else {
            return !matches!(self.phase, Phase::Over);
        };
        match control.input.room(now, cx) {
            Room::Now => true,
            Room::Later(_) => false,
            // A guest that waits for its client to take bytes reads none itself. A client that pipes waits for it.
            Room::Never
                if !matches!(self.framing, Framing::Lines)
                    && (self.blocked.is_some() || now < self.held_up + PATIENCE) =>
            {
                false
            }
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

    /// Sends lines as far as the client takes them, and the result behind the last one.
    fn write(&mut self, now: Instant, cx: &mut Context<'_>) -> bool {
        match self.send(cx) {
            Ok(any) => {
                match self.socket.poll_flush(cx) {
                    Poll::Ready(Ok(())) => {
                        if self.blocked.take().is_some() {
                            self.held_up = now;
                        }
                    }
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
        while !self.answers.is_empty() {
            if self.socket.poll_ready(cx)?.is_pending() {
                return Ok(any);
            }
            let answer = self.answers.pop_front().expect("it is not empty");
            self.socket.send_frame(answer)?;
            any = true;
        }
        let (sent, full) = match self.framing {
            Framing::Lines => self.send_lines(cx)?,
            Framing::Text { .. } | Framing::Data => self.send_pieces(cx)?,
        };
        any |= sent | !self.answers.is_empty();
        if full {
            return Ok(any);
        }
        if let Some(ending) = self.ending.take() {
            if let Some(control) = self.control.clone() {
                self.tell_of_cancel(&control, cx);
            }
            self.on(Event::Ended(&ending.outcome, ending.value.as_deref()), cx);
            // What was just said goes out before the end.
            if !self.answers.is_empty() {
                return Ok(true);
            }
        }
        if let (Phase::Running(process), Some(control)) = (&self.phase, &self.control)
            && process.is_away()
            && outputs(control).any(|(_, output)| output.poll_lines(cx).is_ready())
        {
            return Ok(true);
        }
        if let Phase::Finishing(result, code) = &self.phase {
            for frame in self.framing.finish() {
                self.socket.send_frame(frame)?;
            }
            self.socket.send_frame(result.clone())?;
            self.socket.send_close(*code as u16)?;
            self.phase = Phase::Closing(Instant::now() + LINGER);
            any = true;
        }
        Ok(any)
    }

    /// Sends what there is of lines, as far as the socket takes it. Says whether it took any, and whether it is full.
    fn send_lines(&mut self, cx: &mut Context<'_>) -> Result<(bool, bool), Lost> {
        let mut any = false;
        loop {
            if self.unsent.is_empty() {
                self.unsent = match (&mut self.phase, &self.control) {
                    (Phase::Watching(view), _) => {
                        let cutters = self.cutters.get_or_insert_default();
                        let (lines, ending) = cut(view, cutters, cx);
                        self.ending = ending;
                        lines
                    }
                    (_, Some(control)) if !self.keep => control.output.take(),
                    _ => Bytes::new(),
                };
            }
            if self.unsent.is_empty() {
                return Ok((any, false));
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
                return Ok((sent > 0, true));
            }
        }
    }

    /// The same for output that is not made into lines.
    fn send_pieces(&mut self, cx: &mut Context<'_>) -> Result<(bool, bool), Lost> {
        let mut any = false;
        while self.next_piece(cx) {
            if self.deaf && self.protocol.is_gone() {
                self.piece.bytes.clear();
                any = true;
                continue;
            }
            while !self.piece.bytes.is_empty() {
                if self.socket.poll_ready(cx)?.is_pending() {
                    return Ok((any, true));
                }
                if let Some(frame) = self.framing.frame(&mut self.piece) {
                    self.socket.send_frame(frame)?;
                }
                any = true;
            }
        }
        Ok((any, false))
    }

    /// Takes what the guest wrote, if there is nothing left of what was taken before. Says whether there is anything.
    fn next_piece(&mut self, cx: &mut Context<'_>) -> bool {
        if !self.piece.bytes.is_empty() {
            return true;
        }
        if let Phase::Watching(view) = &mut self.phase {
            let Poll::Ready(sight) = view.poll_next(DATA, cx) else { return false };
            match sight {
                Sight::Bytes(stream, from, bytes) => {
                    self.piece = Piece { stream, from, bytes };
                    return true;
                }
                // Said before what comes behind it.
                Sight::Lost(stream, lost) => self.on(Event::Lost(stream, lost), cx),
                Sight::Ended(ending) => self.ending = Some(ending),
            }
            return false;
        }
        let Some(control) = self.control.as_ref().filter(|_| !self.keep) else { return false };
        for (stream, output) in outputs(control) {
            let bytes = output.take();
            if !bytes.is_empty() {
                let taken = &mut self.taken[stream as usize];
                self.piece = Piece { stream, from: *taken, bytes };
                *taken += self.piece.bytes.len() as u64;
                return true;
            }
        }
        false
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
            // Input is put in by who has it in hand.
            Action::None | Action::Line | Action::Bytes => {}
            Action::Start(_) if self.told_of_drain => self.on(Event::Refused(Refusal::ShuttingDown), cx),
            Action::Start(start) => self.start(*start, cx),
            Action::Attach(attach) => self.attach(*attach, cx),
            Action::List => {
                let (running, kept) = self.dispatcher.visible(&self.caller);
                self.on(Event::Listed(&telling::listed(&running, &kept)), cx);
            }
            Action::EndInput => {
                if let Some(control) = &self.control {
                    control.input.finish();
                }
            }
            Action::Send(frame) => self.answers.push_back(frame),
            Action::Cancel(reason) => match &self.phase {
                Phase::Running(process) => process.control().cancel(reason),
                Phase::Watching(view) => view.kept().cancel(reason),
                _ => self.on(Event::Refused(Refusal::Cancelled(reason)), cx),
            },
            Action::Force => match &self.phase {
                Phase::Running(process) => process.control().force(),
                Phase::Watching(view) => view.kept().control.force(),
                _ => {}
            },
            Action::Finish(result, code) => {
                if self.protocol.is_at_fault() {
                    self.dispatcher.metrics.at_fault();
                }
                self.phase = Phase::Finishing(result, code);
            }
            Action::Leave(frame) => {
                self.part();
                self.control = None;
                self.piece.bytes.clear();
                self.phase = Phase::Finishing(frame, CloseCode::Normal);
            }
            Action::Drop => {
                self.part();
                self.phase = Phase::Over;
            }
        }
    }

    /// Notes that a process goes on without this client.
    fn part(&self) {
        if let Phase::Watching(view) = &self.phase {
            let kept = view.kept();
            if kept.ending().is_none() {
                tracing::info!(
                    process = %kept.id(),
                    call = kept.begun.call,
                    user = self.caller.user,
                    "a client has left, and its process goes on"
                );
            }
        }
    }

    fn start(&mut self, start: Start, cx: &mut Context<'_>) {
        let admitted = match self.dispatcher.admit(&self.caller, start.call) {
            Ok(admitted) => admitted,
            Err(refusal) => return self.on(Event::Refused(refusal), cx),
        };
        let (control, spec) = (admitted.control(), &admitted.call().spec);
        let detach = start.on_disconnect.unwrap_or(spec.on_disconnect) == OnDisconnect::Detach;
        self.keep = detach && self.dispatcher.shelf.is_some();
        if self.keep || !matches!(self.framing, Framing::Lines) {
            admitted.be_plain();
        }
        if !start.input.is_empty() {
            control.input.push(&start.input, Instant::now(), cx);
        }
        self.control = Some(control.clone());
        match admitted {
            Admitted::Now(process) => self.begin(process, cx),
            Admitted::Later(queued) => self.phase = Phase::Queued(queued),
        }
    }

    /// There is a place for the call.
    fn begin(&mut self, process: Process, cx: &mut Context<'_>) {
        let told = (self.keep || self.telling.is_some()).then(|| (process.call().clone(), process.control().id));
        let mut key = None;
        match &self.dispatcher.shelf {
            Some(shelf) if self.keep => {
                let view = self.dispatcher.keep(shelf, process, &self.caller);
                key = view.kept().owner.key.clone();
                self.phase = Phase::Watching(view);
            }
            _ => self.phase = Phase::Running(process),
        }
        if let Some((call, id)) = told {
            let started = Started {
                id,
                call: call.spec.name.as_str(),
                generation: call.plugin.generation,
                kept: self.keep,
                key: key.as_deref(),
            };
            self.on(Event::Started(&started), cx);
        }
    }

    fn attach(&mut self, attach: Attach, cx: &mut Context<'_>) {
        let Some(kept) = self.dispatcher.kept(&self.caller, &attach.id, attach.key.as_deref()) else {
            let refusal = Refusal::NoProcess(attach.id);
            self.dispatcher.metrics.refused(&refusal);
            return self.on(Event::Refused(refusal), cx);
        };
        self.control = Some(kept.control.clone());
        self.keep = true;
        self.phase = Phase::Watching(kept.view([attach.stdout, attach.stderr]));
        let running = kept.ending().is_none();
        if let Some(telling) = self.telling.as_mut().filter(|_| !running) {
            telling.leave_cancel_untold();
        }
        let attached = Attached {
            id: kept.id(),
            call: &kept.begun.call,
            params: &kept.begun.params,
            generation: kept.begun.generation,
            started: telling::moment(kept.begun.started),
            running,
            stdout: kept.range(Stream::Stdout),
            stderr: kept.range(Stream::Stderr),
        };
        self.on(Event::Attached(&attached), cx);
    }
}

/// What `view` sees next, made into lines; how the process ended, if nothing follows.
fn cut(view: &mut View, cutters: &mut [Lines; 2], cx: &Context<'_>) -> (Bytes, Option<Arc<Ending>>) {
    loop {
        let sight = view.poll_next(DATA, cx);
        let mut ending = None;
        match &sight {
            Poll::Ready(Sight::Bytes(stream, _, bytes)) => cutters[*stream as usize].write(bytes),
            // Whoever started it holds it back.
            Poll::Ready(Sight::Lost(..)) | Poll::Pending => {}
            Poll::Ready(Sight::Ended(it)) => {
                cutters.iter_mut().for_each(Lines::finish);
                ending = Some(it.clone());
            }
        }
        if view.is_prompted() {
            cutters[0].prompt();
        }
        let lines: Vec<Bytes> = cutters.iter_mut().map(Lines::take).filter(|lines| !lines.is_empty()).collect();
        if sight.is_pending() || ending.is_some() || !lines.is_empty() {
            let lines = match <[Bytes; 1]>::try_from(lines) {
                Ok([lines]) => lines,
                Err(both) => both.concat().into(),
            };
            return (lines, ending);
        }
    }
}

/// The streams that are sent to a client.
fn outputs(control: &Control) -> impl Iterator<Item = (Stream, &Output)> {
    [(Stream::Stdout, Some(&control.output)), (Stream::Stderr, control.stderr.whole())]
        .into_iter()
        .filter_map(|(stream, output)| Some((stream, output?)))
}
