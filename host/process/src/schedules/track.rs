//! The progress of one schedule: which due time is next, and what a passed one means. A pure state machine without a
//! clock, a database or processes.
//!
//! The clock on which it is asked can jump. After a jump ahead, all passed due times count as one: the latest. After a
//! jump back, due times that have already passed once do not pass again.

use distillery_config::{Missed, Overlap, Schedule};
use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};
use time::{Duration, OffsetDateTime};

/// The delay after which a due time counts as missed. A restart of the server takes less.
pub const ON_TIME: Duration = Duration::minutes(1);
/// The longest jump back of the clock for which due times do not pass again. A longer one corrects a clock that was
/// wrong: otherwise the schedule would stand still until the wrong time is reached.
const JUMP_BACK: Duration = Duration::DAY;
/// The first part of the past in which the latest due time is sought. Each further part is longer by the factor.
const WINDOW: Duration = Duration::minutes(1);
const WINDOW_FACTOR: i32 = 4;

pub struct Track {
    schedule: Arc<Schedule>,
    /// All due times up to here have passed.
    passed: OffsetDateTime,
    /// The next due time and its start, which lie after `passed`.
    next: Option<Due>,
    /// A due time whose run waits for the end of an earlier one.
    waiting: Option<OffsetDateTime>,
    /// Makes the delays of this server differ from those of others.
    seed: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Due {
    at: OffsetDateTime,
    /// The due time with its random delay.
    start: OffsetDateTime,
}

/// An action of a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Begin a run for this due time.
    Run(OffsetDateTime),
    /// Leave the run out.
    Skip(OffsetDateTime, Reason),
    /// Cancel the runs that have not ended.
    Cancel,
}

/// The reason why a run is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// An earlier run is still running.
    StillRunning,
    /// No server was running in time.
    TooLate,
}

impl Track {
    /// Returns the track of a schedule whose due times up to `passed` have passed.
    pub fn new(schedule: Arc<Schedule>, passed: OffsetDateTime, seed: u64) -> Self {
        let mut track = Self { schedule, passed, next: None, waiting: None, seed };
        track.pass(passed);
        track
    }

    /// Goes on with a changed schedule that has the same timetable.
    pub fn change(&mut self, schedule: Arc<Schedule>) {
        self.schedule = schedule;
        self.pass(self.passed);
    }

    /// Returns the next due time.
    pub fn next(&self) -> Option<OffsetDateTime> {
        self.next.map(|next| next.at)
    }

    /// Returns the due time whose run waits for the end of an earlier one.
    pub fn waiting(&self) -> Option<OffsetDateTime> {
        self.waiting
    }

    /// Returns the moment at which the next run begins, unless another one is in its way.
    pub fn wakes(&self) -> Option<OffsetDateTime> {
        self.next.map(|next| next.start)
    }

    /// Returns what is to be done at `now`. `busy` says whether an earlier run has not ended. There is at most one run.
    pub fn tick(&mut self, now: OffsetDateTime, busy: bool) -> Vec<Step> {
        let mut steps = Vec::new();
        if self.passed.saturating_sub(JUMP_BACK) > now {
            self.pass(now);
        }
        if let Some(due) = self.latest(now) {
            self.pass(due.at);
            let overlap = self.schedule.overlap;
            let in_the_way = (busy || self.waiting.is_some()) && overlap != Overlap::Allow;
            if now - due.start > ON_TIME && self.schedule.missed == Missed::Skip {
                steps.push(Step::Skip(due.at, Reason::TooLate));
            } else if in_the_way && overlap == Overlap::Skip {
                steps.push(Step::Skip(due.at, Reason::StillRunning));
            } else {
                if in_the_way && overlap == Overlap::Cancel {
                    steps.push(Step::Cancel);
                }
                // Takes the place of one that waits.
                self.waiting = Some(due.at);
            }
        }
        if !busy || self.schedule.overlap == Overlap::Allow {
            steps.extend(self.waiting.take().map(Step::Run));
        }
        steps
    }

    /// Lets a run that could not begin wait for the next tick, unless a later one waits.
    pub fn put_back(&mut self, due: OffsetDateTime) {
        self.waiting = self.waiting.max(Some(due));
    }

    fn pass(&mut self, moment: OffsetDateTime) {
        self.passed = moment;
        self.next = self.due_after(moment);
    }

    fn due_after(&self, moment: OffsetDateTime) -> Option<Due> {
        let timetable = &self.schedule.timetable;
        let at = timetable.next_after(moment)?;
        // A start never reaches the next due time, so the runs of a schedule begin in the order of their due times.
        let most = match timetable.next_after(at) {
            _ if self.schedule.jitter.is_zero() => 0,
            None => self.schedule.jitter.as_millis(),
            Some(next) => self.schedule.jitter.as_millis().min((next - at).whole_milliseconds().unsigned_abs()),
        };
        let mut hasher = DefaultHasher::new();
        (self.seed, &self.schedule.name, at.unix_timestamp()).hash(&mut hasher);
        let delay = u128::from(hasher.finish()).checked_rem(most).unwrap_or_default();
        Some(Due { at, start: at.saturating_add(Duration::milliseconds(delay as i64)) })
    }

    /// Returns the latest due time that has passed and whose start is not after `now`.
    fn latest(&self, now: OffsetDateTime) -> Option<Due> {
        let first = self.next.filter(|next| next.start <= now)?;
        let mut window = WINDOW;
        loop {
            let from = now.saturating_sub(window).max(self.passed);
            let mut latest = None;
            let mut after = from;
            while let Some(due) = self.due_after(after).filter(|due| due.start <= now) {
                (latest, after) = (Some(due), due.at);
            }
            if latest.is_some() {
                return latest;
            }
            if from == self.passed {
                return Some(first);
            }
            window = window.checked_mul(WINDOW_FACTOR).unwrap_or(Duration::MAX);
        }
    }
}

#[cfg(test)]
mod tests;
