//! Tests of a schedule on a clock that the test sets.

use super::{Reason::*, Step::*, *};
use distillery_config::RunAs;
use distillery_core::timetable::{Timetable, Zone};
use proptest::prelude::*;
use std::collections::BTreeSet;
use time::macros::datetime;

fn schedule(cron: &str, zone: &str, overlap: Overlap, missed: Missed) -> Schedule {
    Schedule {
        name: "a".into(),
        timetable: Timetable::new(cron, Zone::new(zone).unwrap()).unwrap(),
        call: "echo".parse().unwrap(),
        params: Vec::new(),
        user: RunAs::Operator,
        overlap,
        missed,
        jitter: std::time::Duration::ZERO,
        paused: false,
    }
}

fn track(cron: &str, overlap: Overlap, missed: Missed, passed: OffsetDateTime) -> Track {
    Track::new(Arc::new(schedule(cron, "UTC", overlap, missed)), passed, 0)
}

const NOON: OffsetDateTime = datetime!(2026-11-30 12:00 UTC);

fn at(minutes: i64) -> OffsetDateTime {
    NOON + Duration::minutes(minutes)
}

#[test]
fn run_begins_at_its_due_time() {
    let mut track = track("0 * * * *", Overlap::Skip, Missed::Skip, NOON);
    assert_eq!((track.next(), track.wakes()), (Some(at(60)), Some(at(60))));
    assert_eq!(track.tick(at(60) - Duration::MILLISECOND, false), []);
    assert_eq!(track.tick(at(60), false), [Run(at(60))]);
    assert_eq!(track.tick(at(60), false), []);
    assert_eq!(track.next(), Some(at(120)));
}

#[test]
fn missed_runs_are_left_out_or_run_once() {
    let tick = |missed, now| track("0 * * * *", Overlap::Skip, missed, NOON).tick(now, false);
    for missed in [Missed::Skip, Missed::RunOnce] {
        assert_eq!(tick(missed, at(181)), [Run(at(180))], "the last one is not late");
    }
    assert_eq!(tick(Missed::Skip, at(182)), [Skip(at(180), TooLate)]);
    assert_eq!(tick(Missed::RunOnce, at(182)), [Run(at(180))]);
    let years_later = NOON.replace_year(2036).unwrap() + Duration::minutes(30);
    assert_eq!(tick(Missed::RunOnce, years_later), [Run(NOON.replace_year(2036).unwrap())]);
}

#[test]
fn late_seconds_are_found_without_counting_all() {
    let mut track = track("* * * * * *", Overlap::Skip, Missed::RunOnce, NOON);
    let later = datetime!(2036-11-30 12:00:00.5 UTC);
    assert_eq!(track.tick(later, false), [Run(datetime!(2036-11-30 12:00 UTC))]);
}

#[test]
fn overlapping_run_follows_the_policy() {
    let two = |overlap, busy| {
        let mut track = track("0 * * * *", overlap, Missed::Skip, NOON);
        assert_eq!(track.tick(at(60), false), [Run(at(60))]);
        (track.tick(at(120), busy), track)
    };
    assert_eq!(two(Overlap::Skip, true).0, [Skip(at(120), StillRunning)]);
    assert_eq!(two(Overlap::Allow, true).0, [Run(at(120))]);
    for overlap in [Overlap::Skip, Overlap::Queue, Overlap::Cancel, Overlap::Allow] {
        assert_eq!(two(overlap, false).0, [Run(at(120))]);
    }
    let (steps, mut queue) = two(Overlap::Queue, true);
    assert_eq!((steps, queue.waiting()), (vec![], Some(at(120))));
    assert_eq!(queue.tick(at(180), true), [], "the later one takes the place of the earlier");
    assert_eq!(queue.tick(at(185), false), [Run(at(180))]);
    let (steps, mut cancel) = two(Overlap::Cancel, true);
    assert_eq!(steps, [Cancel]);
    assert_eq!(cancel.tick(at(121), true), [], "cancelled once");
    assert_eq!(cancel.tick(at(122), false), [Run(at(120))]);
}

#[test]
fn clock_that_goes_back_repeats_no_run() {
    let mut track = track("0 * * * *", Overlap::Skip, Missed::RunOnce, NOON);
    assert_eq!(track.tick(at(61), false), [Run(at(60))]);
    for minutes in [10, 60, 119] {
        assert_eq!(track.tick(at(minutes), false), [], "{minutes}");
    }
    assert_eq!(track.tick(at(120), false), [Run(at(120))]);
}

#[test]
fn clock_that_was_years_ahead_is_forgotten() {
    let mut track = track("0 * * * *", Overlap::Skip, Missed::Skip, NOON);
    assert_eq!(track.tick(datetime!(2030-01-01 0:00 UTC), false), [Run(datetime!(2030-01-01 0:00 UTC))]);
    assert_eq!(track.tick(at(30), false), []);
    assert_eq!(track.tick(at(60), false), [Run(at(60))]);
}

#[test]
fn run_that_could_not_begin_waits() {
    let mut track = track("0 * * * *", Overlap::Skip, Missed::Skip, NOON);
    assert_eq!(track.tick(at(60), false), [Run(at(60))]);
    track.put_back(at(60));
    assert_eq!(track.tick(at(60), true), []);
    assert_eq!(track.tick(at(61), false), [Run(at(60))]);
}

#[test]
fn changed_schedule_keeps_its_progress() {
    let mut track = track("0 * * * *", Overlap::Skip, Missed::Skip, NOON);
    track.tick(at(60), false);
    track.change(Arc::new(schedule("0 * * * *", "UTC", Overlap::Allow, Missed::Skip)));
    assert_eq!(track.tick(at(61), false), []);
    assert_eq!(track.tick(at(120), true), [Run(at(120))]);
}

#[test]
fn jitter_differs_and_stays_below_the_next_due_time() {
    let with = |jitter, seed| {
        let schedule = Schedule { jitter, ..schedule("0 * * * *", "UTC", Overlap::Skip, Missed::Skip) };
        let mut track = Track::new(Arc::new(schedule), NOON, seed);
        let mut delays = Vec::new();
        while delays.len() < 50 {
            let (due, start) = (track.next().unwrap(), track.wakes().unwrap());
            assert!(due <= start && start < due + Duration::HOUR);
            assert_eq!(track.tick(start - Duration::MILLISECOND, false), []);
            assert_eq!(track.tick(start, false), [Run(due)]);
            delays.push(start - due);
        }
        delays
    };
    let minutes = std::time::Duration::from_secs(600);
    let delays = with(minutes, 1);
    assert!(delays.iter().all(|delay| *delay < minutes) && delays.iter().collect::<BTreeSet<_>>().len() > 40);
    assert_ne!(delays, with(minutes, 2));
    with(minutes * 1000, 3);
    assert!(with(std::time::Duration::ZERO, 4).iter().all(|delay| delay.is_zero()));
}

/// An event in the life of a schedule.
#[derive(Clone, Debug)]
enum Event {
    /// The clock goes on, or jumps: by so many seconds.
    Clock(i64),
    /// All running runs end.
    End,
    /// The server ends, and another one starts on what the database has.
    Restart,
    /// The running runs are killed with the server.
    Crash,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (0i64..300).prop_map(Event::Clock),
        3 => (0i64..100_000).prop_map(Event::Clock),
        1 => (0i64..40_000_000).prop_map(Event::Clock),
        // Not beyond the limit for jumps back.
        2 => (-80_000i64..0).prop_map(Event::Clock),
        4 => Just(Event::End),
        1 => Just(Event::Restart),
        1 => Just(Event::Crash),
    ]
}

const CRONS: [&str; 6] = ["*/5 * * * *", "0 * * * *", "30 2 * * *", "*/7 1,2 * * *", "0 0 1 * *", "*/20 15 2 * * SUN"];
const ZONES: [&str; 3] = ["UTC", "Europe/Berlin", "America/New_York"];
const POLICIES: [Overlap; 4] = [Overlap::Skip, Overlap::Queue, Overlap::Cancel, Overlap::Allow];

/// A server with a database, as far as schedules concern them.
struct World {
    schedule: Arc<Schedule>,
    track: Track,
    since: OffsetDateTime,
    now: OffsetDateTime,
    /// The latest moment that the clock showed.
    latest: OffsetDateTime,
    /// The claims in the database: due times with runs, and those that were left out.
    runs: BTreeSet<OffsetDateTime>,
    skips: BTreeSet<OffsetDateTime>,
    running: usize,
}

impl World {
    fn new(schedule: Schedule, now: OffsetDateTime) -> Self {
        let schedule = Arc::new(schedule);
        let track = Track::new(schedule.clone(), now, 7);
        let (runs, skips) = Default::default();
        Self { schedule, track, since: now, now, latest: now, runs, skips, running: 0 }
    }

    fn happen(&mut self, event: &Event) -> Result<(), TestCaseError> {
        match event {
            Event::Clock(seconds) => self.now += Duration::seconds(*seconds),
            Event::End => self.running = 0,
            Event::Restart | Event::Crash => {
                if matches!(event, Event::Crash) {
                    self.running = 0;
                }
                let claimed = self.runs.union(&self.skips).max().copied();
                let passed = claimed.map_or(self.since, |last| last.max(self.since));
                self.track = Track::new(self.schedule.clone(), passed, 8);
            }
        }
        // The clock of a test stays within a day of its latest moment, as jumps back add up.
        self.now = self.now.max(self.latest - Duration::hours(23));
        self.latest = self.latest.max(self.now);
        self.tick()
    }

    fn tick(&mut self) -> Result<(), TestCaseError> {
        for step in self.track.tick(self.now, self.running > 0) {
            match step {
                Run(due) => {
                    prop_assert!(self.schedule.overlap == Overlap::Allow || self.running == 0, "two run at once");
                    // A run that waited can begin after a jump back.
                    prop_assert!(self.since < due && due <= self.latest, "{due} at {}", self.now);
                    prop_assert!(self.runs.insert(due), "{due} ran twice");
                    prop_assert!(!self.skips.contains(&due), "{due} was left out");
                    self.running += 1;
                }
                Skip(due, _) => prop_assert!(self.skips.insert(due) && !self.runs.contains(&due), "{due} passed twice"),
                Cancel => prop_assert!(self.running > 0),
            }
        }
        Ok(())
    }

    /// Returns the due times until now that no run took the place of, and that were not left out.
    fn lost(&self) -> Vec<OffsetDateTime> {
        let covered = self.runs.union(&self.skips).max().copied().unwrap_or(self.since);
        let next = self.schedule.timetable.next_after(covered.max(self.since));
        next.into_iter().filter(|due| *due + Duration::try_from(self.schedule.jitter).unwrap() <= self.now).collect()
    }
}

proptest! {
    /// With any clock, restarts and crashes: no due time has two runs, and with `run_once` none is lost.
    #[test]
    fn no_due_time_runs_twice_or_is_lost(
        cron in 0..CRONS.len(), zone in 0..ZONES.len(), overlap in 0..POLICIES.len(), run_once: bool,
        jitter in prop_oneof![Just(0u64), 1u64..10_000],
        // Two years with their changes of the clock.
        start in 1_767_225_600i64..1_830_297_600,
        events in prop::collection::vec(event(), 1..40),
    ) {
        let missed = if run_once { Missed::RunOnce } else { Missed::Skip };
        let schedule = schedule(CRONS[cron], ZONES[zone], POLICIES[overlap], missed);
        let schedule = Schedule { jitter: std::time::Duration::from_secs(jitter), ..schedule };
        let mut world = World::new(schedule, OffsetDateTime::from_unix_timestamp(start).unwrap());
        for event in &events {
            world.happen(event)?;
            let late = world.skips.iter().filter(|_| run_once && POLICIES[overlap] != Overlap::Skip);
            prop_assert_eq!(late.count(), 0, "run_once leaves nothing out");
        }
        world.happen(&Event::End)?;
        prop_assert!(world.lost().is_empty(), "{:?}", world.lost());
    }
}
