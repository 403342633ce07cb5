//! The thread behind [`Watcher`](super::Watcher): a loop that receives messages, asks the plan for steps, and takes
//! them. Its only own decision is the effect of a load on the catalog.
//!
//! Each turn of the loop makes one snapshot for all its findings, because a snapshot takes time for each plugin.

use super::{Loads, Message, Reloaded, Reread};
use crate::{
    Catalog, Found, Snapshot,
    archive::Rollback,
    debounce::{Debouncer, Hint, Read, Step},
    discover,
    generation::{Failure, What},
    load::{self, Again, Fresh, Loaded, Loader},
    look::Look,
    notice::{Notice, Notices, Whose},
    report::report,
    stat::Identity,
};
use distillery_config as config;
use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};
use tokio::sync::oneshot;

/// The reason why a directory gives no plugin.
#[derive(Debug)]
pub(super) enum PendingFailure {
    Gone,
    Failed(Failure, Duration),
}

/// A finished load.
#[derive(Debug)]
pub(super) struct Done {
    name: String,
    took: Duration,
    /// The number of times that the rules had been read when the load began.
    rules: u64,
    fresh: Fresh,
    look: Option<Look>,
}

/// The state of one plugin.
#[derive(Default)]
pub(super) struct Record {
    /// The number of its newest generation, served or not.
    pub generation: u64,
    /// The fingerprint of its directory at the last read; `None` if the directory could not be read.
    pub seen: Option<String>,
    /// Whether a load of the same content can now have another result.
    pub stale: bool,
    /// The rollback in effect: the version in the directory is not served.
    pub rollback: Option<Rollback>,
}

/// A caller that waits until plugins are loaded.
pub(super) struct Waiting {
    pub names: BTreeSet<String>,
    pub reloaded: Reloaded,
    pub answer: oneshot::Sender<Reloaded>,
}

pub(super) struct Reconciler {
    pub root: PathBuf,
    pub how: config::Watch,
    pub loader: Arc<Loader>,
    /// The number of times that the rules were read; a plugin loaded under older rules is not served.
    pub rules: u64,
    pub catalog: Arc<Catalog>,
    pub reread: Box<dyn FnMut() -> Result<Reread, String> + Send>,
    inbox: mpsc::Sender<Message>,
    pub notices: Option<Notices>,
    pub debounce: Debouncer<PendingFailure>,
    pub records: BTreeMap<String, Record>,
    pub found: BTreeMap<String, Found>,
    /// Plugins with findings that are not yet in the catalog, and the times of their loads.
    pub uncommitted: BTreeMap<String, Option<Duration>>,
    /// The results of the last look.
    pub looks: BTreeMap<String, Look>,
    pub identity: Option<Identity>,
    pub last_look: Instant,
    pub look_took: Duration,
    pub next_look: Option<Instant>,
    /// Whether an event of the operating system caused the next look.
    pub told: bool,
    /// The reason why the root cannot be read, once logged.
    pub rootless: Option<String>,
    /// Whether a failure to watch a directory was logged.
    pub blind: bool,
    pub waiting: Vec<Waiting>,
}

impl Record {
    fn of(loaded: &Loaded) -> Self {
        let seen = match (&loaded.rollback, &loaded.result) {
            (Some(rollback), _) => rollback.from.clone(),
            (None, Ok(plugin)) => Some(plugin.fingerprint().to_owned()),
            (None, Err(failure)) => failure.fingerprint.clone(),
        };
        Self { generation: 1, seen, stale: false, rollback: loaded.rollback.clone() }
    }
}

impl Reconciler {
    pub fn new(watch: Loads, inbox: mpsc::Sender<Message>) -> Self {
        let Loads { root, how, loader, catalog, loaded, reread } = watch;
        let mut reconciler = Self {
            how,
            loader: Arc::new(loader),
            rules: 0,
            catalog,
            reread,
            inbox,
            notices: None,
            debounce: Debouncer::default(),
            records: loaded.iter().map(|it| (it.name.clone(), Record::of(it))).collect(),
            found: load::found(&loaded),
            uncommitted: BTreeMap::new(),
            looks: loaded.into_iter().filter_map(|it| Some((it.name, it.look?))).collect(),
            identity: Identity::of(&root).ok(),
            root,
            last_look: Instant::now(),
            look_took: Duration::ZERO,
            next_look: None,
            told: false,
            rootless: None,
            blind: false,
            waiting: Vec::new(),
        };
        reconciler.begin();
        reconciler
    }

    pub fn run(mut self, messages: &mpsc::Receiver<Message>) {
        loop {
            let due = self.debounce.wake().into_iter().chain(self.next_look).min();
            let first = match due.map(|due| due.saturating_duration_since(Instant::now())) {
                Some(wait) => messages.recv_timeout(wait).ok(),
                None => messages.recv().ok(),
            };
            // All waiting messages are received before any is acted on.
            for message in first.into_iter().chain(messages.try_iter()) {
                match message {
                    Message::Notice(notice) => self.on_notice(&notice),
                    Message::Loaded(done) => self.on_loaded(*done),
                    Message::Reload(answer) => self.on_reload(answer),
                    // The caller can have gone.
                    Message::RollBack(name, answer) => _ = answer.send(self.roll_back(&name)),
                    Message::End => return,
                }
            }
            if self.next_look.is_some_and(|due| due <= Instant::now()) {
                let sign = if mem::take(&mut self.told) { Hint::Told } else { Hint::Seen };
                self.look(sign);
            }
            self.take_steps();
            self.commit();
            self.answer_who_waits();
        }
    }

    /// Takes all steps that are due. Nothing here takes time for all plugins once for each missing one.
    fn take_steps(&mut self) {
        while let Some(step) = self.debounce.next(Instant::now()) {
            match step {
                Step::Load(name) => self.load(name),
                Step::Believe(name, PendingFailure::Failed(failure, took)) => self.fail(&name, failure, took),
                Step::Believe(name, PendingFailure::Gone) if self.is_gone(&name) => self.forget(&name),
                // The directory came back, or the root is gone: a look will tell.
                Step::Believe(_, PendingFailure::Gone) => self.look_soon(),
            }
        }
    }

    fn begin(&mut self) {
        if self.how == config::Watch::Events {
            let inbox = self.inbox.clone();
            // Without a listener the server is about to end.
            match Notices::start(move |notice| _ = inbox.send(Message::Notice(notice))) {
                Ok(notices) => self.notices = Some(notices),
                Err(error) => {
                    tracing::warn!(%error, "no change events from the operating system; polling plugins instead");
                }
            }
        }
        if self.how != config::Watch::Off {
            self.look(Hint::Told);
        }
    }

    fn on_notice(&mut self, notice: &Notice) {
        let Some(notices) = &self.notices else { return };
        let now = Instant::now();
        match (notices.whose(notice), notice) {
            (Whose::Plugins(owners), Notice::Written(file)) => {
                owners.iter().for_each(|name| self.debounce.notice(name, Hint::Written(file), now));
            }
            (Whose::Plugins(owners), Notice::Closed(file)) => {
                owners.iter().for_each(|name| self.debounce.notice(name, Hint::Closed(file), now));
            }
            (Whose::Plugins(owners), Notice::Changed(path)) => {
                // Writers of the previous content no longer matter.
                owners.iter().for_each(|name| self.debounce.notice(name, Hint::Closed(path), now));
                // A file affects its plugin only; a directory can have replaced another one.
                if !path.file_name().map(Path::new).is_some_and(discover::matters) {
                    self.look_soon();
                }
            }
            (Whose::Plugins(_) | Whose::Unknown, Notice::Missed) => {
                self.looks.keys().for_each(|name| self.debounce.notice(name, Hint::Told, now));
                self.look_soon();
            }
            (Whose::Unknown, _) => self.look_soon(),
            (Whose::Nobodys, _) => {}
        }
    }

    fn load(&mut self, name: String) {
        let snapshot = self.catalog.snapshot();
        let last_good = snapshot.plugins().get(&name).and_then(|state| state.last_good());
        let found = self.found.get(&name).and_then(|found| found.as_ref().ok());
        let known = last_good.into_iter().chain(found).map(|plugin| plugin.fingerprint().to_owned());
        let record = self.records.entry(name.clone()).or_default();
        let seen = record.seen.clone().filter(|_| !record.stale || record.rollback.is_some());
        let again = Again {
            directory: self.looks.get(&name).map_or_else(|| self.root.join(&name), |look| look.directory.clone()),
            generation: record.generation + 1,
            known: known.chain(seen).collect(),
            rollback: record.rollback.clone().filter(|_| found.is_none()),
        };
        let (generation, rules) = (again.generation, self.rules);
        tracing::debug!(plugin = name, generation, "loading");
        let (loader, inbox, plugin) = (self.loader.clone(), self.inbox.clone(), name.clone());
        let spawned = thread::Builder::new().name("load".into()).spawn(move || {
            let begun = Instant::now();
            let loaded = catch_unwind(AssertUnwindSafe(|| loader.load_again(&again)));
            let (fresh, look) = loaded.unwrap_or_else(|_| {
                let why = "the server failed to load it: what it printed to stderr has the reason";
                (Fresh::Failed(Failure::new(again.generation, why)), None)
            });
            let done = Done { name: plugin, took: begun.elapsed(), rules, fresh, look };
            // The server can have ended meanwhile.
            let _ = inbox.send(Message::Loaded(Box::new(done)));
        });
        if let Err(error) = spawned {
            let failure = Failure::new(generation, format!("there is no thread to load it on: {error}"));
            self.on_loaded(Done { name, took: Duration::ZERO, rules, fresh: Fresh::Failed(failure), look: None });
        }
    }

    fn on_loaded(&mut self, Done { name, took, rules, fresh, look }: Done) {
        if let Some((known, look)) = self.looks.get_mut(&name).zip(look).filter(|(known, look)| *known != look) {
            *known = look;
            if self.watch_places_of(&name) {
                self.look_soon();
            }
        }
        if rules != self.rules {
            // Loaded under rules that no longer apply.
            self.debounce.notice(&name, Hint::Asked, Instant::now());
            return self.debounce.loaded(&name, Read::Whole, Instant::now());
        }
        let read = match &fresh {
            Fresh::Plugin(_) | Fresh::RolledBack(_) | Fresh::Known { .. } => Read::Whole,
            Fresh::Torn => Read::Torn,
            Fresh::Gone => Read::Doubtful(PendingFailure::Gone),
            Fresh::Failed(failure) => {
                tracing::debug!(plugin = name, error = %failure, "a plugin does not load yet");
                Read::Doubtful(PendingFailure::Failed(failure.clone(), took))
            }
        };
        self.debounce.loaded(&name, read, Instant::now());
        match fresh {
            Fresh::Plugin(plugin) => {
                self.see(&name, Some(plugin.fingerprint().to_owned()));
                self.serve(name, Ok(plugin), took);
            }
            Fresh::RolledBack(found) => self.serve(name, found, took),
            Fresh::Known { fingerprint } => self.known(name, fingerprint),
            Fresh::Torn | Fresh::Gone | Fresh::Failed(_) => {}
        }
    }

    /// Records a new generation, or the failure to make one.
    fn serve(&mut self, name: String, found: Found, took: Duration) {
        let generation = found.as_ref().map_or_else(|failure| failure.generation, |plugin| plugin.generation);
        self.records.entry(name.clone()).or_default().generation = generation;
        self.found.insert(name.clone(), found);
        self.uncommitted.insert(name, Some(took));
    }

    /// Records that the directory holds the served version, or one that is known to fail.
    fn known(&mut self, name: String, fingerprint: String) {
        let snapshot = self.catalog.snapshot();
        let last_good = snapshot.plugins().get(&name).and_then(|state| state.last_good());
        let last_good = last_good.filter(|plugin| plugin.fingerprint() == fingerprint);
        self.see(&name, Some(fingerprint));
        // A newer version that failed was withdrawn.
        if let Some(plugin) = last_good.filter(|_| self.found.get(&name).is_some_and(Result::is_err)) {
            self.found.insert(name.clone(), Ok(plugin.clone()));
            self.uncommitted.entry(name).or_default();
        }
    }

    /// Records the fingerprint of a directory. A change ends a rollback.
    fn see(&mut self, name: &str, seen: Option<String>) {
        let record = self.records.entry(name.to_owned()).or_default();
        record.stale = false;
        if record.rollback.as_ref().is_some_and(|rollback| rollback.from != seen) {
            record.rollback = None;
            let forgot = self.loader.archive.as_ref().map(|archive| archive.set_rollback(name, None));
            if let Some(Err(error)) = forgot {
                tracing::warn!(plugin = name, %error, "cannot save the end of a rollback");
            }
        }
        record.seen = seen;
    }

    fn fail(&mut self, name: &str, failure: Failure, took: Duration) {
        let same = |known: &Failure| known.why == failure.why && known.digest == failure.digest;
        let rolled_back = self.records.get(name).and_then(|record| record.rollback.clone());
        self.see(name, failure.fingerprint.clone());
        let holds = rolled_back.is_some_and(|rollback| rollback.from == failure.fingerprint);
        if !holds && !self.found.get(name).and_then(|found| found.as_ref().err()).is_some_and(same) {
            self.serve(name.to_owned(), Err(failure), took);
        }
    }

    /// Forgets a plugin whose directory holds none. Its numbering continues if it comes back. While the directory
    /// itself exists, it remains the same plugin, with or without a manifest.
    fn forget(&mut self, name: &str) {
        self.found.remove(name);
        self.looks.remove(name);
        self.uncommitted.entry(name.to_owned()).or_default();
        if let Some(record) = self.records.get_mut(name) {
            *record = Record { generation: record.generation, ..Record::default() };
        }
        if let Some(archive) = self.loader.archive.as_ref().filter(|_| self.root.join(name).symlink_metadata().is_err())
        {
            archive.forget(name);
        }
    }

    pub fn next(&self) -> Snapshot {
        self.catalog.snapshot().next(&self.found)
    }

    /// Publishes one snapshot with all findings.
    fn commit(&mut self) {
        if self.uncommitted.is_empty() {
            return;
        }
        let before = self.catalog.snapshot();
        let mut next = self.next();
        let newly_refused = next.plugins().iter().any(|(name, state)| {
            let known = before.plugins().get(name).is_some_and(|before| before.error == state.error);
            state.error.is_some() && !known && self.found.get(name).is_some_and(Result::is_ok)
        });
        if newly_refused {
            // One of two plugins with the same call can be gone, after a directory was renamed. A look finds out, even
            // if loading it was also tried.
            self.look_once(Hint::Told);
            let gone = self.found.keys().filter(|name| self.rootless.is_none() && !self.looks.contains_key(*name));
            for name in gone.cloned().collect::<Vec<_>>() {
                self.debounce.confirm(&name);
                self.forget(&name);
            }
            next = self.next();
        }
        self.swap(next);
    }

    /// Publishes `next`, and keeps copies of the served versions and of the rollback targets.
    pub fn swap(&mut self, next: Snapshot) {
        let loaded = mem::take(&mut self.uncommitted);
        let changes = self.catalog.swap(next);
        let snapshot = self.catalog.snapshot();
        report(&changes, &snapshot, |plugin| loaded.get(plugin).copied().flatten(), None);
        let Some(archive) = &self.loader.archive else { return };
        if changes.iter().any(|change| change.what == What::Removed) {
            archive.clear();
        }
        for (name, state) in loaded.keys().filter_map(|name| Some((name, snapshot.plugins().get(name)?))) {
            let found = self.found.get(name).and_then(|found| found.as_ref().ok());
            let generations = found.into_iter().chain(state.last_good()).chain(&state.previous);
            let rollback = self.records.get(name).and_then(|record| record.rollback.as_ref());
            let digests = generations.map(|it| it.digest.as_str()).chain(rollback.map(|it| it.to.as_str()));
            archive.prune(name, &digests.collect::<Vec<_>>());
        }
        self.loader.operator.grants.files.collect_soon();
    }
}
