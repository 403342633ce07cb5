//! Schedules: runs calls at set times, for a user or the operator.
//!
//! `track` decides what is due; this module asks it at the right moments, and `run` performs one run. A run is
//! claimed in the database first, so that a due time has one run, whatever number of servers share the database. A run
//! is a detached process: its user can attach to it and cancel it.

mod counts;
mod run;
mod shown;
mod track;

pub use shown::Shown;

use crate::{detached::registry::Registry, dispatch::Dispatcher};
use counts::Counts;
use distillery_config::Schedule;
use distillery_core::{auth::Scope, drain::Drain};
use distillery_store::{
    accounts::Accounts,
    blocking,
    database::{Database, StoreError},
    schedules::{Progress, Schedules},
};
use parking_lot::Mutex;
use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::{Duration, Instant},
};
use time::OffsetDateTime;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use track::{Step, Track};

/// The longest time between two looks at the clock, which can jump.
const LOOK: Duration = Duration::from_secs(5);
/// The time between two looks while a due call waits for its plugin to load, or for a run of another server.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// What a scheduler works with.
pub struct Parts {
    pub dispatcher: Arc<Dispatcher>,
    pub registry: Arc<Registry>,
    pub accounts: Arc<Accounts>,
    /// The scopes of all callers.
    pub anonymous: Vec<Scope>,
    pub drain: Drain,
}

pub struct Scheduler {
    parts: Parts,
    store: Schedules,
    /// The configured schedules, until [`Scheduler::begin`] registers them. Held during a registration.
    waiting: Mutex<Option<BTreeMap<String, Schedule>>>,
    entries: Mutex<BTreeMap<String, Entry>>,
    /// Notified when something can have become due.
    changed: Notify,
    seed: u64,
    /// Until then, runs of the previous server can still be running.
    inherited: Mutex<Option<Instant>>,
}

/// A schedule and its runs.
struct Entry {
    schedule: Arc<Schedule>,
    /// `None` if the schedule is paused, or is no longer configured and only its runs are left.
    track: Option<Track>,
    is_configured: bool,
    runs: Vec<Active>,
    counts: Counts,
}

/// A run that has not ended.
struct Active {
    due: OffsetDateTime,
    cancel: CancellationToken,
}

/// A step of a schedule that is still to be done.
type Task = (Arc<Schedule>, Step, CancellationToken);

impl Scheduler {
    pub fn new(database: &Database, configured: BTreeMap<String, Schedule>, parts: Parts) -> Result<Self, StoreError> {
        Ok(Self {
            parts,
            store: Schedules::open(database)?,
            waiting: Mutex::new(Some(configured)),
            entries: Mutex::default(),
            changed: Notify::new(),
            seed: RandomState::new().hash_one(()),
            inherited: Mutex::default(),
        })
    }

    /// Registers the schedules in the database, before the first run. `predecessor` is the longest time for which runs
    /// of a server that is still running can go on; without such a server, unended runs are marked as interrupted.
    pub fn begin(&self, predecessor: Option<Duration>) -> Result<(), StoreError> {
        match predecessor {
            Some(longest) => *self.inherited.lock() = Instant::now().checked_add(longest),
            None => _ = self.store.mark_interrupted()?,
        }
        let mut waiting = self.waiting.lock();
        let configured = waiting.take().unwrap_or_default();
        self.register(configured)
    }

    /// Replaces the schedules. A run that has begun goes on.
    pub fn configure(&self, configured: BTreeMap<String, Schedule>) -> Result<(), StoreError> {
        let mut waiting = self.waiting.lock();
        match &mut *waiting {
            Some(waiting) => *waiting = configured,
            None => self.register(configured)?,
        }
        Ok(())
    }

    fn register(&self, configured: BTreeMap<String, Schedule>) -> Result<(), StoreError> {
        let names: Vec<_> = configured.keys().map(String::as_str).collect();
        let active = configured.values().filter(|schedule| !schedule.paused);
        let active: Vec<_> = active.map(|it| (it.name.as_str(), it.timetable.to_string())).collect();
        let progress = self.store.register(&names, &active, OffsetDateTime::now_utc())?;
        let mut entries = self.entries.lock();
        entries.retain(|name, entry| {
            if !configured.contains_key(name) {
                (entry.track, entry.is_configured) = (None, false);
            }
            entry.is_configured || !entry.runs.is_empty()
        });
        for (name, schedule) in configured {
            let schedule = Arc::new(schedule);
            let progress = progress.get(&name).copied();
            let entry = entries.entry(name).or_insert_with(|| Entry::new(schedule.clone()));
            entry.change(schedule, progress, self.seed);
        }
        drop(entries);
        self.changed.notify_one();
        Ok(())
    }

    /// Begins the runs that are due, until the server accepts no new work. Call after [`Scheduler::begin`].
    pub async fn run(self: Arc<Self>) {
        let retired = self.parts.drain.retired();
        while !retired.is_cancelled() {
            let look = self.tick().await;
            tokio::select! {
                () = retired.cancelled() => {}
                () = self.changed.notified() => {}
                () = tokio::time::sleep(look) => {}
            }
        }
    }

    /// Does what is due now, and returns the time until the next look.
    async fn tick(self: &Arc<Self>) -> Duration {
        let elsewhere = self.running_elsewhere().await;
        let now = OffsetDateTime::now_utc();
        let (tasks, look) = self.due(now, &elsewhere);
        for (schedule, step, cancel) in tasks {
            match step {
                Step::Run(due) => {
                    // Taken here: the server must not end between the claim of a run and its process.
                    let busy = self.parts.drain.busy();
                    let scheduler = self.clone();
                    tokio::spawn(async move {
                        let _busy = busy;
                        scheduler.perform(schedule, due, cancel).await;
                    });
                }
                Step::Skip(due, reason) => self.clone().skip(schedule, due, reason).await,
                Step::Cancel => {}
            }
        }
        look
    }

    fn due(&self, now: OffsetDateTime, elsewhere: &BTreeSet<String>) -> (Vec<Task>, Duration) {
        let (mut tasks, mut look) = (Vec::new(), LOOK);
        for (name, entry) in &mut *self.entries.lock() {
            let Some(track) = &mut entry.track else { continue };
            if track.wakes().is_some_and(|wakes| wakes <= now) && self.is_loading(&entry.schedule) {
                look = LOOK_AGAIN;
                continue;
            }
            for step in track.tick(now, !entry.runs.is_empty() || elsewhere.contains(name)) {
                let cancel = CancellationToken::new();
                match step {
                    Step::Run(due) => entry.runs.push(Active { due, cancel: cancel.clone() }),
                    Step::Cancel => entry.runs.iter().for_each(|run| run.cancel.cancel()),
                    Step::Skip(..) => {}
                }
                tasks.push((entry.schedule.clone(), step, cancel));
            }
            if track.waiting().is_some() && entry.runs.is_empty() {
                look = LOOK_AGAIN;
            }
            if let Some(wakes) = track.wakes() {
                look = look.min(Duration::try_from(wakes - now).unwrap_or_default());
            }
        }
        (tasks, look)
    }

    /// Returns whether the plugin of the call is in the first load. Its run waits for it.
    fn is_loading(&self, schedule: &Schedule) -> bool {
        let catalog = &self.parts.dispatcher.catalog;
        catalog.loading.provides(schedule.call.as_str()) && catalog.snapshot().call(schedule.call.as_str()).is_none()
    }

    /// Returns the schedules with runs that the previous server has not ended.
    async fn running_elsewhere(self: &Arc<Self>) -> BTreeSet<String> {
        let mut inherited = self.inherited.lock().is_some_and(|until| Instant::now() < until);
        if inherited {
            let scheduler = self.clone();
            let names: Vec<String> = self.entries.lock().keys().cloned().collect();
            let own = |entry: &Entry| !entry.runs.is_empty();
            let found = blocking(move || {
                let running = names.into_iter().filter_map(|name| match scheduler.store.is_running(&name) {
                    Ok(running) => running.then_some(Ok(name)),
                    Err(error) => Some(Err(error)),
                });
                running.collect::<Result<BTreeSet<_>, _>>()
            })
            .await;
            match found {
                Ok(mut found) => {
                    let entries = self.entries.lock();
                    // A schedule with a run of this server began it after the end of the other one's.
                    found.retain(|name| !entries.get(name).is_some_and(own));
                    inherited = !found.is_empty() || entries.values().any(own);
                    if inherited {
                        return found;
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot tell whether the previous server still runs a scheduled call");
                    return BTreeSet::new();
                }
            }
        }
        *self.inherited.lock() = None;
        BTreeSet::new()
    }

    /// Removes a run that has ended. One that could not begin waits for the next look.
    fn finished(&self, schedule: &Schedule, due: OffsetDateTime, put_back: bool) {
        let mut entries = self.entries.lock();
        if let Some(entry) = entries.get_mut(&schedule.name) {
            entry.runs.retain(|run| run.due != due);
            if let Some(track) = entry.track.as_mut().filter(|_| put_back) {
                track.put_back(due);
            }
            if !entry.is_configured && entry.runs.is_empty() {
                entries.remove(&schedule.name);
            }
        }
        drop(entries);
        self.changed.notify_one();
    }
}

impl Entry {
    fn new(schedule: Arc<Schedule>) -> Self {
        Self { schedule, track: None, is_configured: true, runs: Vec::new(), counts: Counts::default() }
    }

    /// Changes to `schedule`, with the progress in the database unless it is paused.
    fn change(&mut self, schedule: Arc<Schedule>, progress: Option<Progress>, seed: u64) {
        let same = self.schedule.timetable.to_string() == schedule.timetable.to_string();
        (self.schedule, self.is_configured) = (schedule.clone(), true);
        self.track = match (self.track.take().filter(|_| same), progress) {
            (_, None) => None,
            (Some(mut track), Some(_)) => {
                track.change(schedule);
                Some(track)
            }
            (None, Some(Progress { since, last })) => {
                Some(Track::new(schedule, last.map_or(since, |last| last.max(since)), seed))
            }
        };
    }
}
