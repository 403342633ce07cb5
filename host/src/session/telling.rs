//! What a client is told of its process beside its output: its place in the queue, that it lives, that it is to stop.

use super::{
    Phase, Session,
    protocol::{Beat, Event},
};
use crate::{control::Control, history::Seen, wire::distillery1::Listed};
use std::{
    task::Context,
    time::{Duration, Instant},
};
use time::format_description::well_known::Rfc3339;

/// How often the place in the queue is looked at.
const LOOK: Duration = Duration::from_millis(250);

/// What was told last, and what is next.
pub(super) struct Telling {
    next_beat: Instant,
    looked: Option<Instant>,
    position: usize,
    of_cancel: bool,
}

impl Telling {
    pub fn new(first_beat: Instant) -> Self {
        Self { next_beat: first_beat, looked: None, position: 0, of_cancel: false }
    }

    pub fn next_beat(&self) -> Instant {
        self.next_beat
    }

    /// When the place in the queue is looked at again, after a first look.
    pub fn next_look(&self) -> Option<Instant> {
        self.looked.map(|looked| looked + LOOK)
    }
}

impl Session {
    pub(super) fn tell(&mut self, now: Instant, cx: &mut Context<'_>) {
        let Some(telling) = &mut self.telling else { return };
        match &self.phase {
            Phase::Queued(queued) if telling.next_look().is_none_or(|look| now >= look) => {
                telling.looked = Some(now);
                let position = queued.position();
                if std::mem::replace(&mut telling.position, position) != position {
                    self.on(Event::Queued(position), cx);
                }
            }
            Phase::Running(process) => {
                let (control, started) = (process.control().clone(), process.started());
                self.tell_of_cancel(&control, cx);
                let Some(telling) = &mut self.telling else { return };
                if now >= telling.next_beat {
                    telling.next_beat = now + self.timing.ping_interval;
                    // Who does not take what it is sent needs no sign of life.
                    if self.blocked.is_none() {
                        self.on(
                            Event::Beat(Beat {
                                elapsed: now.saturating_duration_since(started),
                                cpu: control.cpu(),
                                memory: control.memory_peak(),
                                bytes_in: control.input.total(),
                                bytes_out: control.output.total(),
                            }),
                            cx,
                        );
                    }
                }
            }
            _ => {}
        }
    }

    /// Says that the process was told to stop, once, by whomever it was.
    pub(super) fn tell_of_cancel(&mut self, control: &Control, cx: &mut Context<'_>) {
        if let (Some(telling), Some((reason, _))) = (&mut self.telling, control.cancelled())
            && !std::mem::replace(&mut telling.of_cancel, true)
        {
            self.on(Event::Cancelling(reason), cx);
        }
    }
}

/// A process as it is listed.
pub(super) fn listed(seen: &Seen) -> Listed {
    let begun = &seen.begun;
    Listed {
        id: begun.id.to_string(),
        call: begun.call.clone(),
        user: begun.user.clone(),
        generation: begun.generation,
        started: begun.started.format(&Rfc3339).unwrap_or_default(),
        running: seen.ended.is_none(),
        kept: false,
        outcome: seen.ended.as_ref().map(|ended| ended.outcome.clone().into_owned()),
    }
}
