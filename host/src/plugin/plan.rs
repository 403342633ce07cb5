//! When to load which plugin: what was noticed of each directory goes in, and what is to be done comes out.
//!
//! A plain machine. It is told the time, reads no file, and knows nothing of what a load finds out.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// How many plugins load at once, so that one which takes minutes to compile keeps no other waiting, and a hundred
/// changes do not take all memory.
pub const AT_ONCE: usize = 4;

/// How long the machine waits for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// So long nothing may have happened before a plugin is read.
    pub quiet: Duration,
    /// A plugin that never is quiet is read after this.
    pub patience: Duration,
    /// So long what did not load must stay as it is before that is believed: files may still be on their way.
    pub doubt: Duration,
}

impl Pace {
    /// The system tells of every write, so that a short silence means something.
    pub const TOLD: Self =
        Self { quiet: Duration::from_millis(50), patience: Duration::from_secs(1), doubt: Duration::from_secs(1) };
    /// Only looks show that something changed, and there is nothing to be seen between two.
    pub const SEEN: Self =
        Self { quiet: Duration::from_millis(500), patience: Duration::from_secs(3), doubt: Duration::from_secs(3) };
}

/// How long a file that somebody writes to is waited for, since the last write.
const OPEN: Duration = Duration::from_secs(5);

/// What was noticed of a plugin's directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign<'a> {
    /// The system told that something is different.
    Told,
    /// The system told of a write to this file, which somebody therefore has open.
    Written(&'a Path),
    /// Nobody writes to this file any more.
    Closed(&'a Path),
    /// A look showed something else than the one before.
    Seen,
    /// Somebody asks for it: there is nothing to wait for.
    Asked,
}

/// What came of a load; `D` is what has to be believed when it gave no plugin.
#[derive(Debug, PartialEq, Eq)]
pub enum Read<D> {
    /// The directory was read whole, and holds a plugin.
    Whole,
    /// It changed while it was read.
    Torn,
    /// It gave no plugin.
    Doubtful(D),
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub enum Step<D> {
    Load(String),
    /// It gave no plugin, and is not going to.
    Believe(String, D),
}

/// Every plugin of which something is to be done or awaited.
#[derive(Debug)]
pub struct Plan<D> {
    slots: BTreeMap<String, Slot<D>>,
    loading: usize,
}

#[derive(Debug)]
struct Slot<D> {
    /// What was noticed since the last load began.
    change: Option<Change>,
    loading: bool,
    /// What the last load gave instead of a plugin, and when that is to be believed.
    doubt: Option<(D, Instant)>,
    /// Until then it is no surprise if the directory does not load.
    unsettled: Option<Instant>,
    /// The files that somebody has open for writing.
    open: BTreeSet<PathBuf>,
}

#[derive(Clone, Copy, Debug)]
struct Change {
    first: Instant,
    last: Instant,
    /// Nothing means at once.
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
        // Whoever waits less has the better reason.
        change.pace = match (change.pace, pace) {
            (Some(before), Some(pace)) if pace.quiet < before.quiet => Some(pace),
            (Some(before), Some(_)) => Some(before),
            _ => None,
        };
    }
}

impl<D> Default for Plan<D> {
    fn default() -> Self {
        Self { slots: BTreeMap::new(), loading: 0 }
    }
}

impl<D> Plan<D> {
    /// Takes in what was noticed of the plugin `name`.
    pub fn notice(&mut self, name: &str, sign: Sign<'_>, now: Instant) {
        let slot = self.slots.entry(name.to_owned()).or_default();
        match sign {
            Sign::Told => slot.changed(Some(Pace::TOLD), now),
            Sign::Written(file) => {
                slot.open.insert(file.to_owned());
                slot.changed(Some(Pace::TOLD), now);
            }
            Sign::Closed(file) => {
                slot.open.remove(file);
                slot.changed(Some(Pace::TOLD), now);
            }
            Sign::Seen => slot.changed(Some(Pace::SEEN), now),
            Sign::Asked => {
                slot.open.clear();
                slot.changed(None, now);
            }
        }
    }

    /// Takes in what came of the load of the plugin `name`.
    pub fn loaded(&mut self, name: &str, read: Read<D>, now: Instant) {
        let slot = self.slots.entry(name.to_owned()).or_default();
        self.loading -= usize::from(std::mem::take(&mut slot.loading));
        match read {
            Read::Whole => {}
            Read::Torn => slot.changed(Some(Pace::TOLD), now),
            // What did not load is of no interest where there is something newer already.
            Read::Doubtful(_) if slot.change.is_some() => {}
            Read::Doubtful(doubt) => slot.doubt = Some((doubt, slot.unsettled.unwrap_or(now))),
        }
        self.forget_if_over(name);
    }

    /// What is to be done now, one thing after the other.
    pub fn next(&mut self, now: Instant) -> Option<Step<D>> {
        let ripe = |slot: &Slot<D>| slot.doubt.as_ref().is_some_and(|(_, until)| *until <= now);
        if let Some(name) = self.slots.iter().find(|(_, slot)| ripe(slot)).map(|(name, _)| name.clone()) {
            return self.believe(&name).map(|doubt| Step::Believe(name, doubt));
        }
        if self.loading == AT_ONCE {
            return None;
        }
        // Whoever waits for longest is first.
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

    /// Takes for true that `name` gives no plugin, without waiting any longer.
    pub fn believe(&mut self, name: &str) -> Option<D> {
        let (doubt, _) = self.slots.get_mut(name)?.doubt.take()?;
        self.forget_if_over(name);
        Some(doubt)
    }

    /// Whether `name` is yet to be loaded, or is just being.
    pub fn is_busy(&self, name: &str) -> bool {
        self.slots.get(name).is_some_and(|slot| slot.change.is_some() || slot.loading || slot.doubt.is_some())
    }

    /// Whether any change waits to be read that only a look can show to be over.
    pub fn is_watching(&self) -> bool {
        self.slots.values().any(|slot| slot.change.is_some() || slot.doubt.is_some())
    }

    /// When there is something to be done, if nothing else happens before.
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
    /// When it is to be loaded: never while it loads, as the last of several changes wins.
    fn waits_until(&self) -> Option<Instant> {
        self.change.filter(|_| !self.loading).map(|change| change.due(!self.open.is_empty()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A plan and a clock that stands still unless it is told to go.
    struct Table {
        plan: Plan<&'static str>,
        now: Instant,
    }

    const QUIET: Duration = Pace::TOLD.quiet;
    const SECOND: Duration = Duration::from_secs(1);

    impl Table {
        fn new() -> Self {
            Self { plan: Plan::default(), now: Instant::now() }
        }

        fn notice(&mut self, name: &str, sign: Sign<'_>) {
            self.plan.notice(name, sign, self.now);
        }

        fn loaded(&mut self, name: &str, read: Read<&'static str>) {
            self.plan.loaded(name, read, self.now);
        }

        /// Everything that is to be done after `time`.
        fn after(&mut self, time: Duration) -> Vec<Step<&'static str>> {
            self.now += time;
            std::iter::from_fn(|| self.plan.next(self.now)).collect()
        }

        fn at_once(&mut self) -> Vec<Step<&'static str>> {
            self.after(Duration::ZERO)
        }
    }

    fn load(name: &str) -> Vec<Step<&'static str>> {
        vec![Step::Load(name.to_owned())]
    }

    #[test]
    fn a_plugin_is_loaded_when_its_directory_is_quiet() {
        let mut table = Table::new();
        table.notice("a", Sign::Told);
        assert_eq!(table.after(QUIET / 2), []);
        table.notice("a", Sign::Told);
        assert_eq!(table.after(QUIET / 2), []);
        assert_eq!(table.plan.wake(), Some(table.now + QUIET / 2));
        assert_eq!(table.after(QUIET / 2), load("a"));
        table.loaded("a", Read::Whole);
        assert_eq!((table.after(SECOND * 60), table.plan.wake()), (vec![], None));
        assert!(table.plan.slots.is_empty());
    }

    #[test]
    fn one_that_never_is_quiet_is_loaded_all_the_same() {
        let mut table = Table::new();
        let mut steps = Vec::new();
        for _ in 0..60 {
            table.notice("a", Sign::Told);
            steps.extend(table.after(QUIET / 2));
        }
        assert_eq!(steps, load("a"));
    }

    #[test]
    fn one_load_runs_and_one_waits_however_often_it_changes() {
        let mut table = Table::new();
        table.notice("a", Sign::Told);
        assert_eq!(table.after(QUIET), load("a"));
        for _ in 0..100 {
            table.notice("a", Sign::Told);
            assert_eq!(table.after(QUIET), []);
        }
        table.loaded("a", Read::Whole);
        assert_eq!(table.at_once(), load("a"));
        table.loaded("a", Read::Whole);
        assert_eq!(table.after(SECOND * 60), []);
    }

    #[test]
    fn a_hundred_plugins_load_a_few_at_a_time_and_each_once() {
        let mut table = Table::new();
        let names: Vec<_> = (0..100).map(|n| format!("{n:02}")).collect();
        names.iter().for_each(|name| table.notice(name, Sign::Told));
        let mut loaded = Vec::new();
        let mut running = table.after(QUIET);
        while !running.is_empty() {
            assert!(running.len() <= AT_ONCE);
            for step in std::mem::take(&mut running) {
                let Step::Load(name) = step else { panic!("{step:?}") };
                table.loaded(&name, Read::Whole);
                loaded.push(name);
            }
            running = table.at_once();
        }
        assert_eq!(loaded, names);
    }

    #[test]
    fn one_that_loads_for_long_keeps_no_other_waiting() {
        let mut table = Table::new();
        table.notice("long", Sign::Told);
        assert_eq!(table.after(QUIET), load("long"));
        table.notice("short", Sign::Told);
        assert_eq!(table.after(QUIET), load("short"));
    }

    #[test]
    fn what_does_not_load_is_believed_when_nothing_changed_for_a_while() {
        let mut table = Table::new();
        table.notice("a", Sign::Told);
        assert_eq!(table.after(QUIET), load("a"));
        table.loaded("a", Read::Doubtful("half"));
        assert!(table.plan.is_busy("a"));
        assert_eq!(table.after(Pace::TOLD.doubt - QUIET * 2), []);
        assert_eq!(table.after(QUIET), [Step::Believe("a".into(), "half")]);
        assert!(!table.plan.is_busy("a") && table.plan.slots.is_empty());
    }

    #[test]
    fn a_file_that_comes_in_pieces_is_no_error_until_the_last() {
        let mut table = Table::new();
        for _ in 0..10 {
            table.notice("a", Sign::Told);
            assert_eq!(table.after(QUIET), load("a"));
            table.loaded("a", Read::Doubtful("half"));
            assert_eq!(table.after(Pace::TOLD.doubt / 2), []);
        }
        table.notice("a", Sign::Told);
        assert_eq!(table.after(QUIET), load("a"));
        table.loaded("a", Read::Whole);
        assert_eq!(table.after(SECOND * 60), []);
    }

    #[test]
    fn what_did_not_load_is_dropped_where_there_is_something_newer() {
        let mut table = Table::new();
        table.notice("a", Sign::Told);
        assert_eq!(table.after(QUIET), load("a"));
        table.notice("a", Sign::Told);
        table.loaded("a", Read::Doubtful("old"));
        assert_eq!(table.after(QUIET), load("a"));
        table.loaded("a", Read::Doubtful("new"));
        assert_eq!(table.after(SECOND), [Step::Believe("a".into(), "new")]);
    }

    #[test]
    fn a_directory_that_changed_while_it_was_read_is_read_again() {
        let mut table = Table::new();
        table.notice("a", Sign::Told);
        assert_eq!(table.after(QUIET), load("a"));
        table.loaded("a", Read::Torn);
        assert_eq!(table.at_once(), []);
        assert_eq!(table.after(QUIET), load("a"));
    }

    #[test]
    fn a_file_that_is_being_written_is_waited_for() {
        let (mut table, file) = (Table::new(), Path::new("x.wasm"));
        table.notice("a", Sign::Written(file));
        assert_eq!(table.after(OPEN / 2), []);
        table.notice("a", Sign::Written(file));
        assert_eq!(table.after(OPEN / 2), []);
        table.notice("a", Sign::Closed(file));
        assert_eq!(table.after(QUIET), load("a"));
        table.loaded("a", Read::Whole);
        // Whoever wrote may be gone without a word, as on a network file system.
        table.notice("a", Sign::Written(file));
        assert_eq!(table.after(OPEN), load("a"));
        table.loaded("a", Read::Whole);
        table.notice("a", Sign::Told);
        assert_eq!(table.after(QUIET), load("a"));
    }

    #[test]
    fn what_only_looks_show_has_more_time_to_settle() {
        let mut table = Table::new();
        table.notice("a", Sign::Seen);
        assert_eq!(table.after(QUIET), []);
        assert!(table.plan.is_watching());
        assert_eq!(table.after(Pace::SEEN.quiet), load("a"));
        assert!(!table.plan.is_watching());
        table.loaded("a", Read::Doubtful("half"));
        assert_eq!(table.after(Pace::TOLD.doubt), []);
        assert_eq!(table.after(Pace::SEEN.doubt), [Step::Believe("a".into(), "half")]);
    }

    #[test]
    fn what_is_told_as_well_as_seen_waits_no_longer_than_what_is_told() {
        for signs in [[Sign::Told, Sign::Seen], [Sign::Seen, Sign::Told]] {
            let mut table = Table::new();
            signs.into_iter().for_each(|sign| table.notice("a", sign));
            assert_eq!(table.after(QUIET), load("a"), "{signs:?}");
        }
    }

    #[test]
    fn whoever_asks_is_answered_at_once() {
        let mut table = Table::new();
        table.notice("a", Sign::Asked);
        assert_eq!(table.at_once(), load("a"));
        table.loaded("a", Read::Doubtful("bad"));
        assert_eq!(table.at_once(), [Step::Believe("a".into(), "bad")]);

        table.notice("a", Sign::Written(Path::new("x.wasm")));
        table.notice("a", Sign::Asked);
        assert_eq!(table.at_once(), load("a"));
        table.loaded("a", Read::Doubtful("half"));
        assert_eq!(table.at_once(), []);
    }

    #[test]
    fn a_doubt_may_be_believed_before_its_time() {
        let mut table = Table::new();
        table.notice("a", Sign::Told);
        table.after(QUIET);
        table.loaded("a", Read::Doubtful("gone"));
        assert_eq!(table.plan.believe("a"), Some("gone"));
        assert_eq!((table.plan.believe("a"), table.after(SECOND * 60)), (None, vec![]));
    }
}
