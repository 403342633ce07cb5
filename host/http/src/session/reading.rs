//! Input from the client, and the limit on how much of it is read.

use super::{
    Phase, Session,
    protocol::{Action, CloseCode, Event},
};
use crate::socket::Incoming;
use distillery_core::{call::CancelReason, control::Control, stream::Room};
use std::{
    task::{Context, Poll},
    time::Instant,
};

/// Maximum frames that are read before the guest has its turn.
const FRAMES: usize = 256;
/// Maximum number of unsent answers. With more, the server stops reading from the client.
const ANSWERS: usize = 16;

impl Session {
    pub(super) fn read(&mut self, now: Instant, cx: &mut Context<'_>) -> bool {
        for read in 0..FRAMES {
            let reads = self.may_read(now, cx);
            self.link.listen(reads, now);
            if !reads {
                return read > 0;
            }
            let Poll::Ready(incoming) = self.link.socket.poll_read(cx) else { return read > 0 };
            self.link.note_heard(now);
            self.take_in(incoming, now, cx);
        }
        true
    }

    fn take_in(&mut self, incoming: Incoming, now: Instant, cx: &mut Context<'_>) {
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
            Incoming::Ended => self.on(Event::Complete, cx),
            Incoming::Alive => {}
            Incoming::TooBig => {
                self.link.invalidate();
                self.on(Event::TooBig(self.timing.max_frame), cx);
            }
            Incoming::Broken(what) => {
                self.link.invalidate();
                self.on(Event::Broken(what, CloseCode::Protocol), cx);
            }
            Incoming::NotText => {
                self.link.invalidate();
                self.on(Event::Broken("text that is not UTF-8".into(), CloseCode::InvalidText), cx);
            }
            Incoming::Closed => {
                self.link.begin_close(now);
                self.on(Event::Gone, cx);
            }
            Incoming::Lost => self.lose(cx),
        }
    }

    fn push(&self, bytes: &[u8], now: Instant, cx: &Context<'_>) {
        if let Some(control) = &self.control {
            control.input.push(bytes, now, cx);
        }
    }

    /// Returns whether to read a frame: while the guest's waiting input is below its limit. A cancel behind input then
    /// takes effect however slowly the guest reads. Above the limit, the client waits as long as the guest still reads.
    fn may_read(&mut self, now: Instant, cx: &mut Context<'_>) -> bool {
        if !self.link.is_readable() || self.answers.len() >= ANSWERS || self.link.socket.is_choked() {
            return false;
        }
        let Some(control) = self.reader() else {
            let ending = matches!(self.phase, Phase::Finishing(..)) && !self.link.socket.is_heard_at_end();
            return !ending && !matches!(self.phase, Phase::Over);
        };
        match control.input.room(now, cx) {
            Room::Now => true,
            Room::Later(_) => false,
            Room::Full(since) => {
                if self.idle_until(control, since, now).is_some_and(|until| now >= until) {
                    control.cancel(CancelReason::InputLimit(control.input.limit()));
                }
                false
            }
        }
    }

    /// Returns the process that reads the client's input, now or once it has a slot.
    pub(super) fn reader(&self) -> Option<&Control> {
        let reads = matches!(self.phase, Phase::Queued(_) | Phase::Running(_) | Phase::Watching(_));
        self.control.as_deref().filter(|_| reads)
    }

    /// Returns when a guest counts as idle if it has read nothing of its full input `since` then. `None` if the guest
    /// has not begun. A guest that waits for its client to accept output is not idle.
    pub(super) fn idle_until(&self, control: &Control, since: Instant, now: Instant) -> Option<Instant> {
        let started = match &self.phase {
            Phase::Running(process) => process.started(),
            Phase::Watching(view) => view.detached().started,
            _ => return None,
        };
        if control.cancelled().is_some() {
            return None;
        }
        let outputs = super::sending::outputs(control).filter_map(|(_, output)| output.held_until(now));
        Some(outputs.fold(since.max(started), Instant::max) + control.input.idle())
    }
}
