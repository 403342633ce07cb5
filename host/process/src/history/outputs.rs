//! What processes have written: from their recordings to the store, and back to readers.
//!
//! One thread writes. It waits for no reader, and no guest waits for it.

use super::Retention;
use distillery_core::{
    control::Control,
    stream::{
        Stream,
        recording::{Recorder, Recording, entries},
    },
};
use distillery_store::{
    blocking,
    database::{Database, StoreError},
    outputs::{self, Bounds, OutputWriter},
};
use parking_lot::Mutex;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
        mpsc::{Receiver, RecvTimeoutError},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};
use time::OffsetDateTime;
use tokio::sync::oneshot;
use uuid::Uuid;

/// Time that output gathers before it is written.
const GATHER: Duration = Duration::from_millis(100);
/// Interval between prunings.
const TIDY: Duration = Duration::from_secs(60);

/// The output of running and ended processes.
pub struct Outputs {
    recorder: Arc<Recorder>,
    store: Arc<outputs::Outputs>,
    shared: Arc<Shared>,
    writing: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct Shared {
    /// Readers that wait until everything so far is written.
    waiting: Mutex<Vec<oneshot::Sender<()>>>,
    finishing: AtomicBool,
}

impl Shared {
    /// Returns whether somebody waits for the thread. The message that wakes it can be gone: taken together with what
    /// the thread gathered, or not sent because the queue was full.
    fn is_asked(&self) -> bool {
        self.finishing.load(SeqCst) || !self.waiting.lock().is_empty()
    }
}

/// Bytes of one stream, and where they begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    pub offset: u64,
    pub bytes: Vec<u8>,
}

/// A position in the output of a process.
#[derive(Clone, Copy, Debug)]
pub struct Cursor {
    pub process: Uuid,
    pub stream: Stream,
    /// Whether stderr that only went to the log is read as well.
    pub logged: bool,
    pub offset: u64,
    part: i64,
}

impl Cursor {
    pub fn new(process: Uuid, stream: Stream, logged: bool, offset: u64) -> Self {
        Self { process, stream, logged, offset, part: 0 }
    }
}

impl Outputs {
    /// Opens the output beside `database`, and starts the thread that writes it.
    pub(super) fn start(database: &Database, retention: Retention) -> anyhow::Result<Self> {
        let database = outputs::open(database)?;
        let each = retention.output_each.min(retention.output);
        let (recorder, queue) = Recorder::new(usize::try_from(each).unwrap_or(usize::MAX));
        let (store, shared) = (Arc::new(outputs::Outputs::open(&database)?), Arc::<Shared>::default());
        let bounds = Bounds { size: retention.output, count: retention.count };
        let writer = OutputWriter::open(&database)?;
        let thread = Thread { writer, queue, shared: shared.clone(), age: retention.age, bounds, size: 0 };
        let writing = thread::Builder::new().name("output".into()).spawn(move || thread.run())?;
        recorder.written_by(writing.thread().clone());
        Ok(Self { recorder, store, shared, writing: Mutex::new(Some(writing)) })
    }

    /// Records what the guest of `control` writes. With `logged_stderr`, only operators can read its stderr.
    pub fn record(&self, control: &Control, logged_stderr: bool) {
        control.record(&self.recorder.begin(control.id, logged_stderr));
    }

    /// Returns how many bytes the process has written to each stream, including those that are not stored. `None` if
    /// nothing is stored.
    pub async fn ends(&self, process: Uuid) -> Result<Option<[u64; 2]>, StoreError> {
        self.written().await;
        let store = self.store.clone();
        blocking(move || store.ends(process)).await
    }

    /// Returns the next bytes at `cursor`, and moves it behind them. `None` at the end of what is stored.
    pub async fn next(&self, cursor: &mut Cursor) -> Result<Option<Vec<Piece>>, StoreError> {
        let (store, Cursor { process, stream, logged, offset, part }) = (self.store.clone(), *cursor);
        let Some(part) = blocking(move || store.next(process, stream, offset, part)).await? else { return Ok(None) };
        cursor.part = part.id;
        let mut pieces = Vec::new();
        for entry in entries(&part.entries).filter(|entry| entry.stream == stream && (logged || !entry.logged)) {
            let skipped = cursor.offset.saturating_sub(entry.offset).min(entry.bytes.len() as u64);
            let bytes = &entry.bytes[skipped as usize..];
            if !bytes.is_empty() {
                pieces.push(Piece { offset: entry.offset + skipped, bytes: bytes.to_vec() });
                cursor.offset = entry.offset + entry.bytes.len() as u64;
            }
        }
        Ok(Some(pieces))
    }

    /// Waits until everything that was written so far is stored.
    pub async fn written(&self) {
        let (done, wait) = oneshot::channel();
        self.shared.waiting.lock().push(done);
        self.recorder.wake();
        // Fails if the thread has ended: then everything is stored.
        let _ = wait.await;
    }

    /// Waits until all output is stored.
    pub(super) fn finish(&self) {
        if let Some(writing) = self.writing.lock().take() {
            self.shared.finishing.store(true, SeqCst);
            self.recorder.wake();
            // A thread that panicked has already reported it.
            let _ = writing.join();
            self.shared.waiting.lock().clear();
        }
    }
}

/// The thread that writes output.
struct Thread {
    writer: OutputWriter,
    queue: Receiver<Option<Arc<Recording>>>,
    shared: Arc<Shared>,
    age: Duration,
    bounds: Bounds,
    /// The size on disk.
    size: u64,
}

impl Thread {
    fn run(mut self) {
        self.prune();
        let mut pruned = Instant::now();
        loop {
            let first = match if self.shared.is_asked() { Ok(None) } else { self.queue.recv_timeout(TIDY) } {
                Ok(first) => first,
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let finishing = self.shared.finishing.load(SeqCst);
            if first.is_some() && !finishing {
                // Most output costs its process only the push to the queue: the thread is woken if there is much.
                thread::park_timeout(GATHER);
            }
            // Taken before the queue: everything that these readers can have seen is in the queue now.
            let waiting = std::mem::take(&mut *self.shared.waiting.lock());
            let all: Vec<_> = [first].into_iter().chain(self.queue.try_iter()).flatten().collect();
            self.write(&all);
            for done in waiting {
                // Fails if the reader has gone.
                let _ = done.send(());
            }
            if self.size > self.bounds.size || pruned.elapsed() >= TIDY {
                self.prune();
                pruned = Instant::now();
            }
            if finishing {
                return;
            }
        }
    }

    fn write(&mut self, all: &[Arc<Recording>]) {
        if all.is_empty() {
            return;
        }
        let recorded: Vec<_> = all.iter().map(|recording| recording.take()).collect();
        match self.writer.write(recorded) {
            Ok(size) => self.size += size,
            Err(error) => {
                tracing::error!(%error, processes = all.len(), "writing output failed; these processes have a gap");
            }
        }
    }

    fn prune(&mut self) {
        let age = time::Duration::try_from(self.age).unwrap_or(time::Duration::MAX);
        let oldest = OffsetDateTime::now_utc().checked_sub(age).unwrap_or(OffsetDateTime::UNIX_EPOCH);
        match self.writer.prune(oldest, self.bounds) {
            Ok(size) => self.size = size,
            Err(error) => tracing::error!(%error, "pruning failed; old output stays"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_that_is_being_gathered_does_not_delay_the_end() {
        let directory = tempfile::tempdir().unwrap();
        let database = Database::open(directory.path()).unwrap();
        let retention = Retention { age: TIDY, count: 10, output: 1 << 20, output_each: 1 << 20 };
        let outputs = Outputs::start(&database, retention).unwrap();
        let process = Uuid::now_v7();
        outputs.recorder.begin(process, false).write(Stream::Stdout, b"x");
        // The thread gathers now, and takes the message that the end sends it with what it has gathered.
        thread::sleep(GATHER / 2);
        let begun = Instant::now();
        outputs.finish();
        assert!(begun.elapsed() < TIDY / 2, "{:?}", begun.elapsed());
        assert_eq!(outputs.store.ends(process).unwrap(), Some([1, 0]));
    }
}
