//! The history of processes, running and past.
//!
//! Recording adds no noticeable latency to a call: notes go into a bounded queue, and one thread writes them in
//! batches. Notes that do not fit are dropped and counted, and the log reports them.

mod outputs;

pub use outputs::{Cursor, Outputs, Piece};

use distillery_core::{
    call::{CancelReason, Outcome},
    control::Control,
    principal::Principal,
};
use distillery_plugin::{Call, params::ParamSpec};
use distillery_store::{
    blocking,
    database::{Database, StoreError},
    processes::{Begun, CommandsUsed, Ended, Processes, Used, Wanted, Writer},
};
use parking_lot::Mutex;
use std::{
    collections::HashMap,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
    time::Duration,
};
use time::OffsetDateTime;
use uuid::Uuid;

/// Maximum number of notes that wait to be written. Half is for beginnings: an end contains everything.
const WAITING: usize = 16_384;
const WAITING_BYTES: usize = 16 << 20;
/// Time that notes gather before they are written.
const GATHER: Duration = Duration::from_millis(50);
/// Interval between prunings while no notes arrive.
const TIDY: Duration = Duration::from_secs(60);
/// Maximum size of the stored parameters of a process.
const PARAMS: usize = 4 << 10;
/// Shards of the map of running processes, so that processes that begin and end at once do not wait for each other.
const SHARDS: usize = 16;

/// Bounds of the history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    pub age: Duration,
    pub count: u64,
    /// Maximum size of all output on disk.
    pub output: u64,
    /// Maximum size of the output of one process, before it is compressed.
    pub output_each: u64,
}

pub struct History {
    running: Arc<Running>,
    notes: SyncSender<Note>,
    queue: Arc<Queue>,
    processes: Arc<Processes>,
    /// `None` if no output is kept.
    pub outputs: Option<Outputs>,
    writing: Mutex<Option<JoinHandle<()>>>,
}

/// Running processes, sharded by the last bits of their ids, which are random.
#[derive(Default)]
struct Running([Mutex<HashMap<Uuid, Arc<Entry>>>; SHARDS]);

/// Notes that wait to be written.
#[derive(Default)]
struct Queue {
    notes: AtomicUsize,
    bytes: AtomicUsize,
    /// Dropped notes that the log has not reported yet.
    dropped: AtomicU64,
    dropped_ever: AtomicU64,
}

enum Note {
    /// An event of a process, and the bytes that its note counts for.
    Of(Arc<Entry>, usize),
    /// The last note.
    Last,
}

/// A process, from its beginning until its end is written.
struct Entry {
    begun: Begun,
    control: Arc<Control>,
    ended: OnceLock<Ended>,
    written: AtomicBool,
}

/// The user that a process belongs to, and the schedule that started it for the user.
#[derive(Clone, Debug)]
pub struct Starter {
    pub user: String,
    pub owner: Principal,
    pub schedule: Option<Arc<str>>,
}

/// A snapshot of a process.
#[derive(Clone, Debug)]
pub struct Seen {
    pub begun: Begun,
    /// `None` while it runs.
    pub ended: Option<Ended>,
    /// The resources that it has used so far.
    pub used: Used,
}

impl Running {
    fn shard(&self, id: Uuid) -> &Mutex<HashMap<Uuid, Arc<Entry>>> {
        &self.0[id.as_bytes()[15] as usize % SHARDS]
    }

    fn remove(&self, id: Uuid) {
        self.shard(id).lock().remove(&id);
    }
}

impl Entry {
    fn size(&self) -> usize {
        let params = self.begun.params.iter().flatten().map(String::len).sum::<usize>();
        let value = self.ended.get().and_then(|it| it.value.as_deref()).map_or(0, str::len);
        size_of::<Self>() + params + value
    }

    fn seen(&self) -> Seen {
        let ended = self.ended.get().cloned();
        let used = ended.as_ref().map_or_else(|| used(&self.control), |ended| ended.used);
        Seen { begun: self.begun.clone(), ended, used }
    }
}

impl From<(Begun, Option<Ended>)> for Seen {
    fn from((begun, ended): (Begun, Option<Ended>)) -> Self {
        // The entry has a beginning, but the process does not run: it was interrupted, and is not marked yet.
        let ended = ended.unwrap_or_else(Ended::interrupted);
        Self { begun, used: ended.used, ended: Some(ended) }
    }
}

impl Seen {
    /// Returns the outcome in one word.
    pub fn outcome(&self) -> &str {
        self.ended.as_ref().map_or(RUNNING, |ended| &ended.outcome)
    }

    /// Returns whether a parameter or the message contains this text in lower case.
    fn contains(&self, text: &str) -> bool {
        let message = self.ended.as_ref().and_then(|ended| ended.message.as_ref());
        self.begun.params.iter().flatten().chain(message).any(|it| it.to_ascii_lowercase().contains(text))
    }

    fn is(&self, wanted: &Wanted) -> bool {
        let fits = |wanted: &Option<String>, is: &str| wanted.as_deref().is_none_or(|wanted| wanted == is);
        wanted.before.is_none_or(|before| self.begun.id < before)
            && fits(&wanted.call, &self.begun.call)
            && fits(&wanted.user, &self.begun.user)
            && wanted.owner.as_ref().is_none_or(|owner| *owner == self.begun.owner)
            && fits(&wanted.outcome, self.outcome())
            && wanted.since.is_none_or(|since| self.begun.started >= since)
            && wanted.until.is_none_or(|until| self.begun.started < until)
            && wanted.text.as_deref().is_none_or(|text| self.contains(&text.to_ascii_lowercase()))
    }
}

/// The word that stands for the outcome of a running process.
pub const RUNNING: &str = "running";

/// Returns the present time, as exact as the database stores it.
fn now() -> OffsetDateTime {
    let now = OffsetDateTime::now_utc();
    now.replace_millisecond(now.millisecond()).unwrap_or(now)
}

fn used(control: &Control) -> Used {
    Used {
        cpu_ms: control.cpu().as_millis() as u64,
        memory: control.memory_peak(),
        bytes_in: control.input.total(),
        bytes_out: control.output.total(),
        commands: CommandsUsed {
            count: control.commands.count(),
            ms: control.commands.time().as_millis() as u64,
            cpu_ms: control.commands.cpu().as_millis() as u64,
            memory: control.commands.memory_peak(),
        },
    }
}

impl History {
    /// Opens the history in `database`, and starts the thread that writes it.
    pub fn start(database: &Database, retention: Retention) -> anyhow::Result<Self> {
        Self::start_as(database, retention, true)
    }

    /// Opens the history beside a server that still runs, without marking its running processes as interrupted.
    pub fn start_beside(database: &Database, retention: Retention) -> anyhow::Result<Self> {
        Self::start_as(database, retention, false)
    }

    fn start_as(database: &Database, retention: Retention, alone: bool) -> anyhow::Result<Self> {
        let (mut history, mut scribe) = Self::open(database, retention)?;
        history.outputs = (retention.output > 0).then(|| Outputs::start(database, retention)).transpose()?;
        scribe.alone = alone;
        *history.writing.lock() = Some(thread::Builder::new().name("history".into()).spawn(move || scribe.run())?);
        Ok(history)
    }

    /// Opens the history, and its writer for the thread that is still to be started.
    fn open(database: &Database, retention: Retention) -> anyhow::Result<(Self, Scribe)> {
        let (sender, receiver) = sync_channel(WAITING);
        let processes = Arc::new(Processes::open(database)?);
        let (running, queue) = (Arc::<Running>::default(), Arc::<Queue>::default());
        let scribe = Scribe {
            writer: Writer::open(database)?,
            notes: receiver,
            running: running.clone(),
            queue: queue.clone(),
            retention,
            alone: true,
            since_pruned: 0,
        };
        Ok((Self { running, notes: sender, queue, processes, outputs: None, writing: Mutex::default() }, scribe))
    }

    /// Records that a process begins.
    pub fn begin(&self, control: &Arc<Control>, begun: Begun) {
        let entry = Arc::new(Entry {
            begun,
            control: control.clone(),
            ended: OnceLock::new(),
            written: AtomicBool::new(false),
        });
        self.running.shard(control.id).lock().insert(control.id, entry.clone());
        if self.queue.notes.load(Relaxed) < WAITING / 2 && self.queue.bytes.load(Relaxed) < WAITING_BYTES / 2 {
            // If there is no room, the note of its end contains the beginning as well.
            self.note(entry);
        }
    }

    /// Records that the process has ended, with the value that can be kept.
    pub fn end(&self, control: &Control, outcome: &Outcome, value: Option<Box<str>>) {
        control.end_recording();
        let Some(entry) = self.running.shard(control.id).lock().get(&control.id).cloned() else { return };
        let ended = Ended {
            at: Some(now()),
            outcome: if outcome.is_success() { "success".into() } else { outcome.kind().into() },
            message: outcome.failure(),
            stop: outcome.stop().map(|stop| stop.name().into()),
            cleanup: outcome.cleanup().map(Into::into),
            value,
            used: used(control),
        };
        if entry.ended.set(ended).is_ok() && !self.note(entry) {
            self.running.remove(control.id);
            self.queue.dropped.fetch_add(1, Relaxed);
            self.queue.dropped_ever.fetch_add(1, Relaxed);
        }
    }

    /// Returns how many processes have no entry because the queue was full.
    pub fn dropped(&self) -> u64 {
        self.queue.dropped_ever.load(Relaxed)
    }

    /// Queues a note for `entry`. Returns false if the queue is full.
    fn note(&self, entry: Arc<Entry>) -> bool {
        let size = entry.size();
        if self.queue.bytes.fetch_add(size, Relaxed) + size > WAITING_BYTES {
            self.queue.bytes.fetch_sub(size, Relaxed);
            return false;
        }
        self.queue.notes.fetch_add(1, Relaxed);
        let sent = self.notes.try_send(Note::Of(entry, size)).is_ok();
        if !sent {
            self.queue.notes.fetch_sub(1, Relaxed);
            self.queue.bytes.fetch_sub(size, Relaxed);
        }
        sent
    }

    /// Cancels a process; with `force`, also ends its grace. Returns whether the process is running.
    pub fn cancel(&self, id: Uuid, force: bool) -> bool {
        let entry = self.running.shard(id).lock().get(&id).cloned();
        let Some(entry) = entry.filter(|entry| entry.ended.get().is_none()) else { return false };
        entry.control.cancel(CancelReason::Operator);
        if force {
            entry.control.force();
        }
        true
    }

    /// Returns how a running process began. `None` if it does not run.
    pub fn begun(&self, id: Uuid) -> Option<Begun> {
        self.running.shard(id).lock().get(&id).map(|entry| entry.begun.clone())
    }

    /// Returns the running processes whose owner passes `may`, newest first.
    pub fn running(&self, may: impl Fn(&Principal) -> bool) -> Vec<Seen> {
        let mut running: Vec<Seen> = Vec::new();
        for shard in &self.running.0 {
            let shard = shard.lock();
            let shown = shard.values().filter(|entry| entry.ended.get().is_none() && may(&entry.begun.owner));
            running.extend(shown.map(|entry| entry.seen()));
        }
        running.sort_unstable_by_key(|seen| std::cmp::Reverse(seen.begun.id));
        running
    }

    /// Returns the requested processes, running and past, newest first.
    pub async fn page(&self, wanted: Wanted) -> Result<Vec<Seen>, StoreError> {
        // Collected before the database is read: a process that is written in between is then in both.
        let mut running: Vec<Arc<Entry>> = Vec::new();
        for shard in &self.running.0 {
            running.extend(shard.lock().values().cloned());
        }
        let past = match wanted.outcome.as_deref() {
            Some(RUNNING) => Vec::new(),
            _ => {
                let wanted = wanted.clone();
                self.read(move |processes| processes.page(&wanted)).await?
            }
        };
        let mut all: HashMap<Uuid, Seen> = past.into_iter().map(Seen::from).map(|it| (it.begun.id, it)).collect();
        all.extend(running.iter().map(|entry| (entry.begun.id, entry.seen())));
        let mut all: Vec<_> = all.into_values().filter(|seen| seen.is(&wanted)).collect();
        all.sort_unstable_by_key(|seen| std::cmp::Reverse(seen.begun.id));
        all.truncate(wanted.limit);
        Ok(all)
    }

    pub async fn one(&self, id: Uuid) -> Result<Option<Seen>, StoreError> {
        let running = self.running.shard(id).lock().get(&id).map(|entry| entry.seen());
        match running {
            Some(seen) => Ok(Some(seen)),
            None => Ok(self.read(move |processes| processes.one(id)).await?.map(Seen::from)),
        }
    }

    async fn read<T: Send + 'static>(&self, read: impl FnOnce(&Processes) -> T + Send + 'static) -> T {
        let processes = self.processes.clone();
        blocking(move || read(&processes)).await
    }

    /// Waits until all notes are written. Accepts no more notes.
    pub fn finish(&self) {
        if let Some(writing) = self.writing.lock().take() {
            // The send fails if the thread has already ended.
            let _ = self.notes.send(Note::Last);
            // A thread that panicked has already reported it.
            let _ = writing.join();
        }
        if let Some(outputs) = &self.outputs {
            outputs.finish();
        }
    }
}

/// Describes the beginning of a process of `call` for `starter`.
pub fn begun(control: &Control, starter: &Starter, call: &Call, params: &[String]) -> Begun {
    Begun {
        id: control.id,
        user: starter.user.clone(),
        owner: starter.owner.clone(),
        schedule: starter.schedule.as_deref().map(str::to_owned),
        call: call.spec.name.to_string(),
        params: kept(call.spec.params.as_deref().unwrap_or_default(), params),
        plugin: call.plugin.name.clone(),
        generation: call.plugin.generation,
        started: now(),
    }
}

/// Returns the parameters as they are stored: without secrets, and truncated to a bound.
pub(crate) fn kept(specs: &[ParamSpec], params: &[String]) -> Vec<Option<String>> {
    let mut room = PARAMS;
    let mut kept = Vec::new();
    for (at, param) in params.iter().enumerate() {
        // The last parameter can take all remaining values.
        if specs.get(at).or(specs.last()).is_some_and(|spec| spec.secret) {
            kept.push(None);
            continue;
        }
        let end = param.floor_char_boundary(room);
        room -= end;
        if end < param.len() {
            kept.push(Some(format!("{}…", &param[..end])));
            break;
        }
        kept.push(Some(param.clone()));
    }
    kept
}

/// The thread that writes the history.
struct Scribe {
    writer: Writer,
    notes: Receiver<Note>,
    running: Arc<Running>,
    queue: Arc<Queue>,
    retention: Retention,
    /// No other server writes to this database.
    alone: bool,
    /// Number of processes written since the last pruning.
    since_pruned: u64,
}

impl Scribe {
    fn run(mut self) {
        let interrupted = if self.alone { self.writer.mark_interrupted() } else { Ok(0) };
        match interrupted {
            Ok(0) => {}
            Ok(processes) => tracing::warn!(processes, "the previous server crashed while processes were running"),
            Err(error) => tracing::error!(%error, "cannot mark the processes of the previous server as interrupted"),
        }
        self.prune();
        loop {
            let first = match self.notes.recv_timeout(TIDY) {
                Ok(note) => note,
                Err(RecvTimeoutError::Timeout) => {
                    self.prune();
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return,
            };
            if matches!(first, Note::Of(..)) {
                // The thread sleeps without a waker, so a note costs its sender only the push to the queue.
                thread::sleep(GATHER);
            }
            let (mut batch, mut bytes, mut last) = (Vec::new(), 0, false);
            for note in [first].into_iter().chain(self.notes.try_iter().take(WAITING)) {
                match note {
                    Note::Of(entry, size) => {
                        batch.push(entry);
                        bytes += size;
                    }
                    Note::Last => last = true,
                }
            }
            self.queue.notes.fetch_sub(batch.len(), Relaxed);
            self.queue.bytes.fetch_sub(bytes, Relaxed);
            self.write(&batch);
            if last {
                return;
            }
        }
    }

    fn write(&mut self, batch: &[Arc<Entry>]) {
        let mut rows: Vec<(&Arc<Entry>, Option<&Ended>)> = Vec::with_capacity(batch.len());
        for entry in batch {
            // A process that has ended is written whole with the first of its two notes.
            if !entry.written.load(Relaxed) {
                let ended = entry.ended.get();
                entry.written.store(ended.is_some(), Relaxed);
                rows.push((entry, ended));
            }
        }
        let ends = rows.iter().filter(|(_, ended)| ended.is_some()).count() as u64;
        if let Err(error) = self.writer.write(rows.iter().map(|(entry, ended)| (&entry.begun, *ended))) {
            tracing::error!(%error, processes = ends, "writing the history failed; these processes have no entry");
        }
        for (entry, _) in rows.iter().filter(|(_, ended)| ended.is_some()) {
            self.running.remove(entry.begun.id);
        }
        let dropped = self.queue.dropped.swap(0, Relaxed);
        if dropped > 0 {
            tracing::warn!(
                processes = dropped,
                "history entries dropped; processes end faster than they can be written"
            );
        }
        self.since_pruned += ends;
        if self.since_pruned > (self.retention.count / 10).max(1000) {
            self.prune();
        }
    }

    fn prune(&mut self) {
        self.since_pruned = 0;
        let age = time::Duration::try_from(self.retention.age).unwrap_or(time::Duration::MAX);
        let oldest = OffsetDateTime::now_utc().checked_sub(age).unwrap_or(OffsetDateTime::UNIX_EPOCH);
        if let Err(error) = self.writer.prune(oldest, self.retention.count) {
            tracing::error!(%error, "pruning failed; old processes stay in the history");
        }
    }
}

#[cfg(test)]
mod tests;
