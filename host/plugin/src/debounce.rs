//! Decides when to load which plugin: observations of each directory go in, and steps come out.
//!
//! A pure state machine. The caller passes the time in. The machine reads no file, and does not know the result of a
//! load beyond [`Read`].

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// The maximum number of concurrent loads: a plugin that compiles for minutes delays no other, and a hundred changes do
/// not exhaust memory.
pub const AT_ONCE: usize = 4;

/// The delays of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// The time without changes after which a plugin is read.
    pub quiet: Duration,
    /// The time after which a plugin that keeps changing is read.
    pub patience: Duration,
    /// How long a load failure must persist before it is reported: files can still be on their way.
    pub doubt: Duration,
}

impl Pace {
    /// The operating system reports every write, so a short silence is enough.
    pub const TOLD: Self =
        Self { quiet: Duration::from_millis(50), patience: Duration::from_secs(1), doubt: Duration::from_secs(1) };
    /// Only polling shows changes, and nothing is visible between two polls.
    pub const SEEN: Self =
        Self { quiet: Duration::from_millis(500), patience: Duration::from_secs(3), doubt: Duration::from_secs(3) };
}

/// The time to wait for a file that is open for writing, counted from the last write.
const OPEN: Duration = Duration::from_secs(5);

/// An observation about a plugin's directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hint<'a> {
    /// The operating system reported a change.
    Told,
    /// The operating system reported a write to this file, so a process has the file open.
    Written(&'a Path),
    /// The file is no longer open for writing.
    Closed(&'a Path),
    /// Polling found a difference.
    Seen,
    /// A caller asked for the plugin: load at once.
    Asked,
}

/// The result of a load; `D` is the failure to confirm if there was no plugin.
#[derive(Debug, PartialEq, Eq)]
pub enum Read<D> {
    /// The directory was read completely, and holds a plugin.
    Whole,
    /// The directory changed during the read.
    Torn,
    /// The load failed.
    Doubtful(D),
}

/// An action for the caller.
#[derive(Debug, PartialEq, Eq)]
pub enum Step<D> {
    Load(String),
    /// The load failure is confirmed.
    Believe(String, D),
}

/// The plugins with a pending load or a load in progress.
#[derive(Debug)]
pub struct Debouncer<D> {
    slots: BTreeMap<String, Slot<D>>,
    loading: usize,
}

#[derive(Debug)]
struct Slot<D> {
    /// The change noticed since the last load began.
    change: Option<Change>,
    loading: bool,
    /// The failure of the last load, and the time at which it is confirmed.
    doubt: Option<(D, Instant)>,
    /// Until this time a load failure is expected.
    unsettled: Option<Instant>,
    /// The files that are open for writing.
    open: BTreeSet<PathBuf>,
}

#[derive(Clone, Copy, Debug)]
struct Change {
    first: Instant,
    last: Instant,
    /// `None` means at once.
    pace: Option<Pace>,
}

impl Change {
    fn due(&self, open: bool) -> Instant {
        let Some(pace) = self.pace else { return self.first };
        let due = (self.last + pace.quiet).min(self.first + pace.patience);
        if open { due.max(self.last + OPEN) } else { due }
    }
}

impl<D> Default for Slot<D> {
    fn default() -> Self {
        Self { change: None, loading: false, doubt: None, unsettled: None, open: BTreeSet::new() }
    }
}

impl<D> Slot<D> {
    fn is_over(&self) -> bool {
        self.change.is_none() && !self.loading && self.doubt.is_none() && self.open.is_empty()
    }

    fn changed(&mut self, pace: Option<Pace>, now: Instant) {
        self.doubt = None;
        if let Some(pace) = pace {
            self.unsettled = Some(self.unsettled.map_or(now + pace.doubt, |until| until.max(now + pace.doubt)));
        }
        let change = self.change.get_or_insert(Change { first: now, last: now, pace });
        change.last = now;
        // The shorter delay wins.
        change.pace = match (change.pace, pace) {
            (Some(before), Some(pace)) if pace.quiet < before.quiet => Some(pace),
            (Some(before), Some(_)) => Some(before),
            _ => None,
        };
    }
}

impl<D> Default for Debouncer<D> {
    fn default() -> Self {
        Self { slots: BTreeMap::new(), loading: 0 }
    }
}

impl<D> Debouncer<D> {
    /// Records an observation about the plugin `name`.
    pub fn notice(&mut self, name: &str, sign: Hint<'_>, now: Instant) {
        let slot = self.slots.entry(name.to_owned()).or_default();
        match sign {
            Hint::Told => slot.changed(Some(Pace::TOLD), now),
            Hint::Written(file) => {
                slot.open.insert(file.to_owned());
                slot.changed(Some(Pace::TOLD), now);
            }
            Hint::Closed(file) => {
                slot.open.remove(file);
                slot.changed(Some(Pace::TOLD), now);
            }
            Hint::Seen => slot.changed(Some(Pace::SEEN), now),
            Hint::Asked => {
                slot.open.clear();
                slot.changed(None, now);
            }
        }
    }

    /// Records the result of loading the plugin `name`.
    pub fn loaded(&mut self, name: &str, read: Read<D>, now: Instant) {
        let slot = self.slots.entry(name.to_owned()).or_default();
        self.loading -= usize::from(std::mem::take(&mut slot.loading));
        match read {
            Read::Whole => {}
            Read::Torn => slot.changed(Some(Pace::TOLD), now),
            // A failure is irrelevant if the directory has changed since.
            Read::Doubtful(_) if slot.change.is_some() => {}
            Read::Doubtful(doubt) => slot.doubt = Some((doubt, slot.unsettled.unwrap_or(now))),
        }
        self.forget_if_over(name);
    }

    /// Returns the next step that is due.
    pub fn next(&mut self, now: Instant) -> Option<Step<D>> {
        let ripe = |slot: &Slot<D>| slot.doubt.as_ref().is_some_and(|(_, until)| *until <= now);
        if let Some(name) = self.slots.iter().find(|(_, slot)| ripe(slot)).map(|(name, _)| name.clone()) {
            return self.confirm(&name).map(|doubt| Step::Believe(name, doubt));
        }
        if self.loading == AT_ONCE {
            return None;
        }
        // The plugin that has waited longest comes first.
        let waiting = self.slots.iter_mut().filter_map(|(name, slot)| Some((slot.waits_until()?, name, slot)));
        let (due, name, slot) = waiting.min_by_key(|(due, ..)| *due)?;
        if due > now {
            return None;
        }
        slot.change = None;
        slot.loading = true;
        slot.open.clear();
        self.loading += 1;
        Some(Step::Load(name.clone()))
    }

    /// Confirms the load failure of `name` without further delay.
    pub fn confirm(&mut self, name: &str) -> Option<D> {
        let (doubt, _) = self.slots.get_mut(name)?.doubt.take()?;
        self.forget_if_over(name);
        Some(doubt)
    }

    /// Returns whether a load of `name` is pending or in progress.
    pub fn is_busy(&self, name: &str) -> bool {
        self.slots.get(name).is_some_and(|slot| slot.change.is_some() || slot.loading || slot.doubt.is_some())
    }

    /// Returns whether polling must continue, to see when a pending change is over.
    pub fn is_watching(&self) -> bool {
        self.slots.values().any(|slot| slot.change.is_some() || slot.doubt.is_some())
    }

    /// Returns the time of the next step if nothing else happens before.
    pub fn wake(&self) -> Option<Instant> {
        let load = self.slots.values().filter_map(Slot::waits_until).min().filter(|_| self.loading < AT_ONCE);
        let doubt = self.slots.values().filter_map(|slot| Some(slot.doubt.as_ref()?.1)).min();
        load.into_iter().chain(doubt).min()
    }

    fn forget_if_over(&mut self, name: &str) {
        if self.slots.get(name).is_some_and(Slot::is_over) {
            self.slots.remove(name);
        }
    }
}

impl<D> Slot<D> {
    /// Returns the time of the next load; `None` during a load, as the last of several changes wins.
    fn waits_until(&self) -> Option<Instant> {
        self.change.filter(|_| !self.loading).map(|change| change.due(!self.open.is_empty()))
    }
}

#[cfg(test)]
mod tests;
