//! Notifications about a process beside its output: its position in the queue, heartbeats, and cancels.

use super::{
    Phase, Session,
    protocol::{Beat, Event},
};
use crate::wire::distillery1::Listed;
use distillery_core::control::Control;
use distillery_process::{detached::Detached, history::Seen};
use distillery_store::processes::Begun;
use std::{
    collections::BTreeMap,
    sync::Arc,
    task::Context,
    time::{Duration, Instant},
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use uuid::Uuid;

/// Interval between checks of the position in the queue.
const LOOK: Duration = Duration::from_millis(250);

/// The last notifications, and the time of the next one.
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

    /// Sets the time of the first heartbeat of a process.
    pub fn begin(&mut self, first_beat: Instant) {
        self.next_beat = first_beat;
    }

    pub fn next_beat(&self) -> Instant {
        self.next_beat
    }

    /// Suppresses the notification of a cancel: the result of an ended process contains it.
    pub fn leave_cancel_untold(&mut self) {
        self.of_cancel = true;
    }

    /// Returns when to check the position in the queue again. `None` before the first check.
    pub fn next_look(&self) -> Option<Instant> {
        self.looked.map(|looked| looked + LOOK)
    }
}

impl Session {
    pub(super) fn tell(&mut self, now: Instant, cx: &mut Context<'_>) {
        let Some(notifications) = &mut self.notifications else { return };
        match &self.phase {
            Phase::Queued(queued) if notifications.next_look().is_none_or(|look| now >= look) => {
                notifications.looked = Some(now);
                let position = queued.position();
                if std::mem::replace(&mut notifications.position, position) != position {
                    self.on(Event::Queued(position), cx);
                }
            }
            Phase::Running(_) | Phase::Watching(_) => {
                let (control, started) = match &self.phase {
                    Phase::Running(process) => (process.control().clone(), process.started()),
                    Phase::Watching(view) => (view.detached().control.clone(), view.detached().started),
                    _ => return,
                };
                self.tell_of_cancel(&control, cx);
                let Some(notifications) = &mut self.notifications else { return };
                if now >= notifications.next_beat {
                    notifications.next_beat = now + self.timing.ping_interval;
                    // No heartbeats while the client is not reading.
                    if !self.link.is_blocked() {
                        self.on(
                            Event::Beat(&Beat {
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

    /// Notifies the client of a cancel, once, whatever its reason.
    pub(super) fn tell_of_cancel(&mut self, control: &Control, cx: &mut Context<'_>) {
        if let (Some(notifications), Some((reason, _))) = (&mut self.notifications, control.cancelled())
            && !std::mem::replace(&mut notifications.of_cancel, true)
        {
            self.on(Event::Cancelling(reason), cx);
        }
    }
}

/// Maximum number of listed processes: the newest.
const LISTED: usize = 1000;

/// Returns the entries of a list for running and detached processes.
pub(super) fn listed(running: &[Seen], detached: &[Arc<Detached>]) -> Vec<Listed> {
    let mut all: BTreeMap<Uuid, Listed> = BTreeMap::new();
    for detached in detached {
        let ending = detached.ending();
        all.insert(detached.id(), listed_as(&detached.begun, true, ending.map(|ending| ending.word())));
    }
    for seen in running {
        all.entry(seen.begun.id).or_insert_with(|| listed_as(&seen.begun, false, None));
    }
    all.into_values().rev().take(LISTED).collect()
}

fn listed_as(begun: &Begun, detached: bool, outcome: Option<&'static str>) -> Listed {
    Listed {
        id: begun.id.to_string(),
        call: begun.call.clone(),
        user: begun.user.clone(),
        generation: begun.generation,
        started: moment(begun.started),
        running: outcome.is_none(),
        kept: detached,
        outcome,
    }
}

pub(super) fn moment(at: OffsetDateTime) -> String {
    at.format(&Rfc3339).unwrap_or_default()
}
