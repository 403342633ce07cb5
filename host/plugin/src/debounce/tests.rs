use super::*;

/// A plan with a clock that advances on request only.
struct Table {
    debounce: Debouncer<&'static str>,
    now: Instant,
}

const QUIET: Duration = Pace::TOLD.quiet;
const SECOND: Duration = Duration::from_secs(1);

impl Table {
    fn new() -> Self {
        Self { debounce: Debouncer::default(), now: Instant::now() }
    }

    fn notice(&mut self, name: &str, sign: Hint<'_>) {
        self.debounce.notice(name, sign, self.now);
    }

    fn loaded(&mut self, name: &str, read: Read<&'static str>) {
        self.debounce.loaded(name, read, self.now);
    }

    /// Returns all steps due after `time`.
    fn after(&mut self, time: Duration) -> Vec<Step<&'static str>> {
        self.now += time;
        std::iter::from_fn(|| self.debounce.next(self.now)).collect()
    }

    fn at_once(&mut self) -> Vec<Step<&'static str>> {
        self.after(Duration::ZERO)
    }
}

fn load(name: &str) -> Vec<Step<&'static str>> {
    vec![Step::Load(name.to_owned())]
}

#[test]
fn quiet_plugin_is_loaded() {
    let mut table = Table::new();
    table.notice("a", Hint::Told);
    assert_eq!(table.after(QUIET / 2), []);
    table.notice("a", Hint::Told);
    assert_eq!(table.after(QUIET / 2), []);
    assert_eq!(table.debounce.wake(), Some(table.now + QUIET / 2));
    assert_eq!(table.after(QUIET / 2), load("a"));
    table.loaded("a", Read::Whole);
    assert_eq!((table.after(SECOND * 60), table.debounce.wake()), (vec![], None));
    assert!(table.debounce.slots.is_empty());
}

#[test]
fn constantly_changing_plugin_is_loaded_eventually() {
    let mut table = Table::new();
    let mut steps = Vec::new();
    for _ in 0..60 {
        table.notice("a", Hint::Told);
        steps.extend(table.after(QUIET / 2));
    }
    assert_eq!(steps, load("a"));
}

#[test]
fn frequent_changes_cause_one_running_and_one_pending_load() {
    let mut table = Table::new();
    table.notice("a", Hint::Told);
    assert_eq!(table.after(QUIET), load("a"));
    for _ in 0..100 {
        table.notice("a", Hint::Told);
        assert_eq!(table.after(QUIET), []);
    }
    table.loaded("a", Read::Whole);
    assert_eq!(table.at_once(), load("a"));
    table.loaded("a", Read::Whole);
    assert_eq!(table.after(SECOND * 60), []);
}

#[test]
fn hundred_plugins_load_a_few_at_a_time_and_each_once() {
    let mut table = Table::new();
    let names: Vec<_> = (0..100).map(|n| format!("{n:02}")).collect();
    names.iter().for_each(|name| table.notice(name, Hint::Told));
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
fn slow_load_delays_no_other_plugin() {
    let mut table = Table::new();
    table.notice("long", Hint::Told);
    assert_eq!(table.after(QUIET), load("long"));
    table.notice("short", Hint::Told);
    assert_eq!(table.after(QUIET), load("short"));
}

#[test]
fn load_failure_is_confirmed_after_a_quiet_period() {
    let mut table = Table::new();
    table.notice("a", Hint::Told);
    assert_eq!(table.after(QUIET), load("a"));
    table.loaded("a", Read::Doubtful("half"));
    assert!(table.debounce.is_busy("a"));
    assert_eq!(table.after(Pace::TOLD.doubt - QUIET * 2), []);
    assert_eq!(table.after(QUIET), [Step::Believe("a".into(), "half")]);
    assert!(!table.debounce.is_busy("a") && table.debounce.slots.is_empty());
}

#[test]
fn partly_copied_file_is_no_error() {
    let mut table = Table::new();
    for _ in 0..10 {
        table.notice("a", Hint::Told);
        assert_eq!(table.after(QUIET), load("a"));
        table.loaded("a", Read::Doubtful("half"));
        assert_eq!(table.after(Pace::TOLD.doubt / 2), []);
    }
    table.notice("a", Hint::Told);
    assert_eq!(table.after(QUIET), load("a"));
    table.loaded("a", Read::Whole);
    assert_eq!(table.after(SECOND * 60), []);
}

#[test]
fn load_failure_is_dropped_after_a_newer_change() {
    let mut table = Table::new();
    table.notice("a", Hint::Told);
    assert_eq!(table.after(QUIET), load("a"));
    table.notice("a", Hint::Told);
    table.loaded("a", Read::Doubtful("old"));
    assert_eq!(table.after(QUIET), load("a"));
    table.loaded("a", Read::Doubtful("new"));
    assert_eq!(table.after(SECOND), [Step::Believe("a".into(), "new")]);
}

#[test]
fn directory_that_changed_during_a_read_is_read_again() {
    let mut table = Table::new();
    table.notice("a", Hint::Told);
    assert_eq!(table.after(QUIET), load("a"));
    table.loaded("a", Read::Torn);
    assert_eq!(table.at_once(), []);
    assert_eq!(table.after(QUIET), load("a"));
}

#[test]
fn load_waits_for_a_file_that_is_being_written() {
    let (mut table, file) = (Table::new(), Path::new("x.wasm"));
    table.notice("a", Hint::Written(file));
    assert_eq!(table.after(OPEN / 2), []);
    table.notice("a", Hint::Written(file));
    assert_eq!(table.after(OPEN / 2), []);
    table.notice("a", Hint::Closed(file));
    assert_eq!(table.after(QUIET), load("a"));
    table.loaded("a", Read::Whole);
    // The writer can disappear without notice, as on a network file system.
    table.notice("a", Hint::Written(file));
    assert_eq!(table.after(OPEN), load("a"));
    table.loaded("a", Read::Whole);
    table.notice("a", Hint::Told);
    assert_eq!(table.after(QUIET), load("a"));
}

#[test]
fn polled_change_has_more_time_to_settle() {
    let mut table = Table::new();
    table.notice("a", Hint::Seen);
    assert_eq!(table.after(QUIET), []);
    assert!(table.debounce.is_watching());
    assert_eq!(table.after(Pace::SEEN.quiet), load("a"));
    assert!(!table.debounce.is_watching());
    table.loaded("a", Read::Doubtful("half"));
    assert_eq!(table.after(Pace::TOLD.doubt), []);
    assert_eq!(table.after(Pace::SEEN.doubt), [Step::Believe("a".into(), "half")]);
}

#[test]
fn reported_change_does_not_wait_for_polling() {
    for signs in [[Hint::Told, Hint::Seen], [Hint::Seen, Hint::Told]] {
        let mut table = Table::new();
        signs.into_iter().for_each(|sign| table.notice("a", sign));
        assert_eq!(table.after(QUIET), load("a"), "{signs:?}");
    }
}

#[test]
fn requested_load_starts_at_once() {
    let mut table = Table::new();
    table.notice("a", Hint::Asked);
    assert_eq!(table.at_once(), load("a"));
    table.loaded("a", Read::Doubtful("bad"));
    assert_eq!(table.at_once(), [Step::Believe("a".into(), "bad")]);

    table.notice("a", Hint::Written(Path::new("x.wasm")));
    table.notice("a", Hint::Asked);
    assert_eq!(table.at_once(), load("a"));
    table.loaded("a", Read::Doubtful("half"));
    assert_eq!(table.at_once(), []);
}

#[test]
fn load_failure_can_be_confirmed_early() {
    let mut table = Table::new();
    table.notice("a", Hint::Told);
    table.after(QUIET);
    table.loaded("a", Read::Doubtful("gone"));
    assert_eq!(table.debounce.confirm("a"), Some("gone"));
    assert_eq!((table.debounce.confirm("a"), table.after(SECOND * 60)), (None, vec![]));
}
