//! The thread behind [`Watcher`](super::Watcher): a loop that takes in what happened, asks the plan what to do, and does
//! it. Everything that it decides by itself is what a load means for the catalog.

use super::{Loads, Message, NoWayBack, Reloaded, Reread, report};
use crate::{
    config,
    plugin::{
        Catalog, Found, Plugin, Snapshot, discover,
        generation::Failure,
        load::{self, Again, Fresh, Loader},
        look::{Identity, Look, Root},
        notice::{Notice, Notices, Whose},
        plan::{Plan, Read, Sign, Step},
    },
};
use std::{
    collections::{BTreeMap, BTreeSet},
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};
use tokio::sync::oneshot;

/// How often plugins are looked at where the system tells of changes: on network file systems it does not.
const LOOK_BESIDE_EVENTS: Duration = Duration::from_secs(5);
/// How often they are looked at where nobody tells.
const LOOK: Duration = Duration::from_secs(1);
/// How often they are looked at while something changes.
const LOOK_CLOSELY: Duration = Duration::from_millis(250);
/// The least time between two looks, however much happens.
const LOOK_APART: Duration = Duration::from_millis(20);

/// Why a directory gives no plugin.
#[derive(Debug)]
enum Doubt {
    Gone,
    Failed(Failure, Duration),
}

/// What is remembered of one plugin.
#[derive(Default)]
struct Record {
    /// The number of its newest generation, good or bad.
    generation: u64,
    /// What lay in its directory when that was last read: the digest, and how often the rules had changed.
    seen: Option<(String, u64)>,
    /// It went back to the generation before: what was seen is not wanted.
    rolled_back: bool,
}

/// Somebody who waits until plugins are loaded.
struct Waiting {
    names: BTreeSet<String>,
    reloaded: Reloaded,
    answer: oneshot::Sender<Reloaded>,
}

pub(super) struct Keeper {
    root: PathBuf,
    how: config::Watch,
    loader: Arc<Loader>,
    /// How often what loads plugins has changed.
    rules: u64,
    catalog: Arc<Catalog>,
    reread: Box<dyn FnMut() -> Result<Reread, String> + Send>,
    inbox: mpsc::Sender<Message>,
    notices: Option<Notices>,
    plan: Plan<Doubt>,
    records: BTreeMap<String, Record>,
    found: BTreeMap<String, Found>,
    /// What the last look saw.
    looks: BTreeMap<String, Look>,
    identity: Option<Identity>,
    last_look: Instant,
    next_look: Option<Instant>,
    /// The next look is due because the system told of something.
    told: bool,
    /// Why the root cannot be looked at. It was said.
    rootless: Option<String>,
    /// It was said that something cannot be watched.
    blind: bool,
    waiting: Vec<Waiting>,
}

impl Keeper {
    pub(super) fn new(watch: Loads, inbox: mpsc::Sender<Message>) -> Self {
        let Loads { root, how, loader, catalog, loaded, reread } = watch;
        let record = |found: &Found| {
            let digest = match found {
                Ok(plugin) => Some(plugin.digest.clone()),
                Err(failure) => failure.digest.clone(),
            };
            Record { generation: 1, seen: digest.map(|digest| (digest, 0)), rolled_back: false }
        };
        let mut keeper = Self {
            how,
            loader: Arc::new(loader),
            rules: 0,
            catalog,
            reread,
            inbox,
            notices: None,
            plan: Plan::default(),
            records: loaded.iter().map(|it| (it.name.clone(), record(&it.result))).collect(),
            found: load::found(&loaded),
            looks: loaded.into_iter().filter_map(|it| Some((it.name, it.look?))).collect(),
            identity: Identity::of(&root).ok(),
            root,
            last_look: Instant::now(),
            next_look: None,
            told: false,
            rootless: None,
            blind: false,
            waiting: Vec::new(),
        };
        keeper.begin();
        keeper
    }

    pub(super) fn run(mut self, messages: &mpsc::Receiver<Message>) {
        loop {
            let due = self.plan.wake().into_iter().chain(self.next_look).min();
            let first = match due.map(|due| due.saturating_duration_since(Instant::now())) {
                Some(wait) => messages.recv_timeout(wait).ok(),
                None => messages.recv().ok(),
            };
            // Everything that is there is taken in before anything is done about it.
            for message in first.into_iter().chain(messages.try_iter()) {
                match message {
                    Message::Notice(notice) => self.on_notice(&notice),
                    Message::Loaded(name, took, fresh, look) => self.on_loaded(&name, took, fresh, look),
                    Message::Reload(answer) => self.on_reload(answer),
                    // Whoever asked may have gone.
                    Message::RollBack(name, answer) => _ = answer.send(self.roll_back(&name)),
                    Message::End => return,
                }
            }
            if self.next_look.is_some_and(|due| due <= Instant::now()) {
                let sign = if std::mem::take(&mut self.told) { Sign::Told } else { Sign::Seen };
                self.look(sign);
            }
            while let Some(step) = self.plan.next(Instant::now()) {
                match step {
                    Step::Load(name) => self.load(name),
                    Step::Believe(name, doubt) => self.believe(&name, doubt),
                }
            }
            self.answer_who_waits();
        }
    }

    fn begin(&mut self) {
        if self.how == config::Watch::Events {
            let inbox = self.inbox.clone();
            // Whoever does not listen any more is about to end.
            match Notices::start(move |notice| _ = inbox.send(Message::Notice(notice))) {
                Ok(notices) => self.notices = Some(notices),
                Err(error) => tracing::warn!(%error, "the system tells of no changes: plugins are looked at instead"),
            }
        }
        if self.how != config::Watch::Off {
            self.look(Sign::Told);
        }
    }

    fn on_notice(&mut self, notice: &Notice) {
        let Some(notices) = &self.notices else { return };
        let now = Instant::now();
        match (notices.whose(notice), notice) {
            (Whose::Plugins(owners), Notice::Written(file)) => {
                owners.iter().for_each(|name| self.plan.notice(name, Sign::Written(file), now));
            }
            (Whose::Plugins(owners), Notice::Closed(file)) => {
                owners.iter().for_each(|name| self.plan.notice(name, Sign::Closed(file), now));
            }
            (Whose::Plugins(owners), Notice::Changed(path)) => {
                // Whoever wrote to what was there before does not matter any more.
                owners.iter().for_each(|name| self.plan.notice(name, Sign::Closed(path), now));
                // Of a file only its plugin is another now; a directory may have been put in the place of another.
                if !path.file_name().map(Path::new).is_some_and(discover::matters) {
                    self.look_soon();
                }
            }
            (Whose::Plugins(_) | Whose::Unknown, Notice::Missed) => {
                self.looks.keys().for_each(|name| self.plan.notice(name, Sign::Told, now));
                self.look_soon();
            }
            (Whose::Unknown, _) => self.look_soon(),
            (Whose::Nobodys, _) => {}
        }
    }

    fn look_soon(&mut self) {
        let due = self.last_look + LOOK_APART;
        self.next_look = Some(self.next_look.map_or(due, |look| look.min(due)));
        self.told = true;
    }

    /// Looks at everything, and notes what is different from the last time.
    fn look(&mut self, sign: Sign<'_>) {
        // What happened in a directory before it was watched can only be seen.
        for _ in 0..3 {
            self.look_once(sign);
            if !self.watch_places() {
                break;
            }
        }
        self.last_look = Instant::now();
        let pause = match (self.how, &self.notices) {
            (config::Watch::Off, _) => None,
            (config::Watch::Events, Some(_)) => Some(LOOK_BESIDE_EVENTS),
            (config::Watch::Events, None) | (config::Watch::Poll, _) => Some(LOOK),
        };
        let pause = pause.map(|pause| if self.plan.is_watching() { LOOK_CLOSELY } else { pause });
        self.next_look = pause.map(|pause| self.last_look + pause);
    }

    fn look_once(&mut self, sign: Sign<'_>) {
        let seen = match Root::at(&self.root, &self.looks) {
            Ok(seen) => seen,
            Err(error) => return self.lose_root(error.to_string()),
        };
        let replaced = self.identity.is_some_and(|identity| identity != seen.identity);
        if seen.plugins.is_empty() && replaced && !self.looks.is_empty() && sign != Sign::Asked {
            let root = self.root.display();
            return self.lose_root(format!("{root}: another directory, which is empty, is in its place"));
        }
        if self.rootless.take().is_some() {
            tracing::info!(directory = %self.root.display(), "the directory of plugins is there again");
        }
        self.identity = Some(seen.identity);
        let now = Instant::now();
        for name in self.looks.keys().chain(seen.plugins.keys()) {
            if self.looks.get(name) != seen.plugins.get(name) {
                self.plan.notice(name, sign, now);
            }
        }
        self.looks = seen.plugins;
    }

    /// The root is gone, or as good as gone: a disk that is not mounted, most likely. What serves goes on.
    fn lose_root(&mut self, why: String) {
        if self.rootless.as_ref() != Some(&why) {
            tracing::error!(error = why, "the directory of plugins is gone: what was loaded from it serves on");
            self.rootless = Some(why);
        }
    }

    /// Watches what is to be watched now, and gives whether any of it is new.
    fn watch_places(&mut self) -> bool {
        let Some(notices) = &mut self.notices else { return false };
        let (new, problem) = notices.watch(&self.root, &self.looks);
        if let Some(error) = problem.filter(|_| !std::mem::replace(&mut self.blind, true)) {
            tracing::warn!(
                %error,
                every = ?LOOK_BESIDE_EVENTS,
                "not every directory can be watched: those are looked at (a higher fs.inotify.max_user_watches may help)"
            );
        }
        new
    }

    fn load(&mut self, name: String) {
        let snapshot = self.catalog.snapshot();
        let serving = snapshot.plugins().get(&name).and_then(|state| state.serving.as_ref());
        let record = self.records.entry(name.clone()).or_default();
        let seen = record.seen.iter().filter(|(_, rules)| *rules == self.rules || record.rolled_back);
        let serving = serving.filter(|plugin| plugin.rules == self.rules).map(|plugin| &plugin.digest);
        let look = self.looks.get(&name);
        let again = Again {
            directory: look.map_or_else(|| self.root.join(&name), |look| look.directory.clone()),
            generation: record.generation + 1,
            rules: self.rules,
            known: seen.map(|(digest, _)| digest).chain(serving).cloned().collect(),
        };
        tracing::debug!(plugin = name, generation = again.generation, "loading");
        let (loader, inbox, plugin, generation) =
            (self.loader.clone(), self.inbox.clone(), name.clone(), again.generation);
        let spawned = thread::Builder::new().name("load".into()).spawn(move || {
            let begun = Instant::now();
            let loaded = catch_unwind(AssertUnwindSafe(|| loader.load_again(&again)));
            let (fresh, look) = loaded.unwrap_or_else(|_| {
                let why = "the server failed to load it: what it printed to stderr has the reason";
                (Fresh::Failed(Failure::new(again.generation, None, why)), None)
            });
            // The server may have ended meanwhile.
            let _ = inbox.send(Message::Loaded(plugin, begun.elapsed(), fresh, look));
        });
        if let Err(error) = spawned {
            let failure = Failure::new(generation, None, format!("there is no thread to load it on: {error}"));
            self.on_loaded(&name, Duration::ZERO, Fresh::Failed(failure), None);
        }
    }

    fn on_loaded(&mut self, name: &str, took: Duration, fresh: Fresh, look: Option<Look>) {
        if let Some((known, look)) = self.looks.get_mut(name).zip(look).filter(|(known, look)| *known != look) {
            *known = look;
            if self.watch_places() {
                self.look_soon();
            }
        }
        let read = match &fresh {
            Fresh::Plugin(_) | Fresh::Known { .. } => Read::Whole,
            Fresh::Torn => Read::Torn,
            Fresh::Gone => Read::Doubtful(Doubt::Gone),
            Fresh::Failed(failure) => {
                tracing::debug!(plugin = name, error = %failure, "a plugin does not load yet");
                Read::Doubtful(Doubt::Failed(failure.clone(), took))
            }
        };
        self.plan.loaded(name, read, Instant::now());
        match fresh {
            Fresh::Plugin(plugin) => self.serve(name, plugin, took),
            Fresh::Known { digest } => self.known(name, digest),
            Fresh::Torn | Fresh::Gone | Fresh::Failed(_) => {}
        }
    }

    /// A new generation is ready.
    fn serve(&mut self, name: &str, plugin: Arc<Plugin>, took: Duration) {
        let record = self.records.entry(name.to_owned()).or_default();
        let seen = Some((plugin.digest.clone(), plugin.rules));
        *record = Record { generation: plugin.generation, seen, rolled_back: false };
        self.found.insert(name.to_owned(), Ok(plugin));
        let mut next = self.next();
        if next.plugins().get(name).is_some_and(|state| state.error.is_some()) {
            // The plugin whose call it wants may be gone: a directory that got another name. That is seen, whether or not
            // it was tried to load it as well.
            self.look_once(Sign::Told);
            let gone = self.found.keys().filter(|name| self.rootless.is_none() && !self.looks.contains_key(*name));
            for name in gone.cloned().collect::<Vec<_>>() {
                self.plan.believe(&name);
                self.forget(&name);
            }
            next = self.next();
        }
        self.swap(next, Some((name, took)));
    }

    /// What lies in the directory is what serves, or what did not come to serve.
    fn known(&mut self, name: &str, digest: String) {
        let snapshot = self.catalog.snapshot();
        let serving = snapshot.plugins().get(name).and_then(|state| state.serving.clone());
        let record = self.records.entry(name.to_owned()).or_default();
        if let Some(serving) = serving.filter(|serving| serving.digest == digest) {
            record.rolled_back = false;
            // A newer version that did not load, or not get its calls, was taken back.
            self.found.insert(name.to_owned(), Ok(serving));
            let next = self.next();
            self.swap(next, None);
        }
        let record = self.records.entry(name.to_owned()).or_default();
        record.seen = Some((digest, self.rules));
    }

    fn believe(&mut self, name: &str, doubt: Doubt) {
        match doubt {
            Doubt::Failed(failure, took) => self.fail(name, failure, took),
            Doubt::Gone => {
                self.look_once(Sign::Told);
                if self.rootless.is_none() && !self.looks.contains_key(name) {
                    self.forget(name);
                    let next = self.next();
                    self.swap(next, None);
                }
            }
        }
    }

    fn fail(&mut self, name: &str, failure: Failure, took: Duration) {
        let same = |known: &Failure| known.why == failure.why && known.digest == failure.digest;
        let record = self.records.entry(name.to_owned()).or_default();
        record.seen = failure.digest.clone().map(|digest| (digest, self.rules));
        if self.found.get(name).and_then(|found| found.as_ref().err()).is_some_and(same) {
            return;
        }
        record.generation = failure.generation;
        record.rolled_back = false;
        self.found.insert(name.to_owned(), Err(failure));
        let next = self.next();
        self.swap(next, Some((name, took)));
    }

    /// The directory is gone. Its numbers go on should it come again.
    fn forget(&mut self, name: &str) {
        self.found.remove(name);
        if let Some(record) = self.records.get_mut(name) {
            *record = Record { generation: record.generation, ..Record::default() };
        }
    }

    fn next(&self) -> Snapshot {
        self.catalog.snapshot().next(self.found.clone())
    }

    fn swap(&self, next: Snapshot, loaded: Option<(&str, Duration)>) {
        let changes = self.catalog.swap(next);
        let took = |plugin: &str| loaded.filter(|(name, _)| *name == plugin).map(|(_, took)| took);
        report(&changes, &self.catalog.snapshot(), took, None);
    }

    fn roll_back(&mut self, name: &str) -> Result<u64, NoWayBack> {
        let snapshot = self.catalog.snapshot();
        let state = snapshot.plugins().get(name).filter(|state| state.is_there());
        let state = state.ok_or_else(|| NoWayBack::Unknown(name.to_owned()))?;
        let previous = state.previous.clone().filter(|plugin| plugin.rules == self.rules);
        let previous = previous.ok_or_else(|| NoWayBack::NothingKept(name.to_owned()))?;
        let before = self.found.insert(name.to_owned(), Ok(previous.clone()));
        let next = self.next();
        let state = &next.plugins()[name];
        if let Some(failure) = &state.error {
            let refused = NoWayBack::Refused(failure.why.clone());
            self.found.extend(before.map(|before| (name.to_owned(), before)));
            return Err(refused);
        }
        let generation = previous.generation;
        tracing::info!(plugin = name, generation, "rolling back until the directory changes");
        self.records.entry(name.to_owned()).or_default().rolled_back = true;
        self.swap(next, None);
        Ok(generation)
    }

    fn on_reload(&mut self, answer: oneshot::Sender<Reloaded>) {
        let mut reloaded = Reloaded::default();
        match (self.reread)() {
            Ok(Reread { loader, changed, restart }) => {
                if let Some(loader) = loader {
                    self.loader = Arc::new(loader);
                    self.rules += 1;
                }
                tracing::info!(?changed, "reloading");
                if !restart.is_empty() {
                    tracing::warn!(keys = ?restart, "these keys have new values that need a restart");
                }
                reloaded = Reloaded { changed, restart, error: None };
            }
            Err(error) => {
                tracing::error!(error, "the configuration stays as it is, and plugins are looked at");
                reloaded.error = Some(error);
            }
        }
        self.look(Sign::Asked);
        if let Some(why) = &self.rootless {
            reloaded.error.get_or_insert_with(|| why.clone());
            // What serves serves on.
            let _ = answer.send(reloaded);
            return;
        }
        let names: BTreeSet<_> = self.looks.keys().chain(self.found.keys()).cloned().collect();
        let now = Instant::now();
        for name in &names {
            // What failed may have failed for a reason that is not in its directory.
            if self.found.get(name).is_some_and(Result::is_err) {
                self.records.entry(name.clone()).or_default().seen = None;
            }
            self.plan.notice(name, Sign::Asked, now);
        }
        self.waiting.push(Waiting { names, reloaded, answer });
    }

    fn answer_who_waits(&mut self) {
        let (busy, done) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition(|waiting: &Waiting| waiting.names.iter().any(|name| self.plan.is_busy(name)));
        self.waiting = busy;
        for Waiting { names, reloaded, answer } in done {
            tracing::info!(plugins = names.len(), "reloaded");
            // Whoever asked may have gone.
            let _ = answer.send(reloaded);
        }
    }
}
