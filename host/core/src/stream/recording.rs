//! A recording of what a guest writes, on its way to a store.
//!
//! The threads of guests only copy bytes into memory. A writer takes them from there. A guest never waits for the
//! writer: what has no room is left out, and the offsets tell how much that is.

use super::Stream;
use parking_lot::Mutex;
use std::{
    mem::take,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering::Relaxed},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::Thread,
    time::Instant,
};
use uuid::Uuid;

/// Maximum memory of all recordings that wait for the writer.
const WAITING: usize = 16 << 20;
/// Maximum memory of one of them.
const EACH_WAITING: usize = 2 << 20;
/// The size at which the writer gathers no longer.
const MUCH: usize = 256 << 10;
/// Maximum number of recordings that wait for the writer.
const QUEUE: usize = 16_384;
/// Maximum size of the end of a recording that is longer than its limit. The end waits in memory.
const TAIL: usize = 64 << 10;
/// Writes within this many milliseconds are one entry.
const ONE_ENTRY_MS: u32 = 10;
/// Size of the head of an entry: its stream, time, offset and length.
const HEAD: usize = 17;
/// The number of a stderr that only operators can read.
const LOGGED_STDERR: u8 = 2;

/// The source of recordings, and the way to their writer.
pub struct Recorder {
    /// Maximum bytes of one recording.
    each: usize,
    waiting: AtomicUsize,
    queue: SyncSender<Option<Arc<Recording>>>,
    writer: OnceLock<Thread>,
}

/// The output of one process.
pub struct Recording {
    pub process: Uuid,
    begun: Instant,
    recorder: Arc<Recorder>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Stderr is part of the log only.
    logged_stderr: bool,
    /// Entries that wait for the writer.
    buffer: Entries,
    /// The writer has been told, and takes the buffer.
    queued: bool,
    /// Bytes ever written to each stream.
    ends: [u64; 2],
    /// `ends` when the writer last took the buffer.
    taken: [u64; 2],
    /// Number of bytes that went to the buffer.
    recorded: usize,
    /// The last entries beyond the limit: an older and a newer half.
    tail: [Entries; 2],
}

#[derive(Default)]
struct Entries {
    bytes: Vec<u8>,
    /// The last entry, to which the next bytes can belong.
    last: Last,
}

#[derive(Clone, Copy, Default)]
struct Last {
    /// Where it begins.
    at: usize,
    number: u8,
    ms: u32,
    /// The offset behind it.
    end: u64,
    length: u32,
}

/// Entries of a recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    pub process: Uuid,
    /// Bytes ever written to each stream, including those that were left out.
    pub ends: [u64; 2],
    pub entries: Vec<u8>,
}

/// Bytes that a guest wrote to one stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    pub stream: Stream,
    /// Only operators can read it.
    pub logged: bool,
    /// Milliseconds after the start of the process.
    pub ms: u32,
    pub offset: u64,
    pub bytes: &'a [u8],
}

impl Recorder {
    /// Returns a recorder of at most `each` bytes of a process, and the queue of its writer. `None` in the queue only
    /// wakes the writer.
    pub fn new(each: usize) -> (Arc<Self>, Receiver<Option<Arc<Recording>>>) {
        let (queue, receiver) = sync_channel(QUEUE);
        (Arc::new(Self { each, waiting: AtomicUsize::new(0), queue, writer: OnceLock::new() }), receiver)
    }

    /// Returns the recording of a process that begins now. With `logged_stderr`, only operators can read its stderr.
    pub fn begin(self: &Arc<Self>, process: Uuid, logged_stderr: bool) -> Arc<Recording> {
        let state = Mutex::new(State { logged_stderr, ..State::default() });
        Arc::new(Recording { process, begun: Instant::now(), recorder: self.clone(), state })
    }

    /// Sets the thread of the writer. It is unparked when it gathers while there is much to write.
    pub fn written_by(&self, writer: Thread) {
        self.writer.get_or_init(|| writer);
    }

    /// Wakes the writer.
    pub fn wake(&self) {
        // A full queue has woken it.
        let _ = self.queue.try_send(None);
    }

    /// Counts `bytes` more that wait. Returns whether there is room for them.
    fn takes(&self, bytes: usize) -> bool {
        if self.waiting.fetch_add(bytes, Relaxed) + bytes <= WAITING {
            return true;
        }
        self.waiting.fetch_sub(bytes, Relaxed);
        false
    }
}

impl Recording {
    /// Records what the guest writes.
    pub fn write(self: &Arc<Self>, stream: Stream, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let since = self.begun.elapsed();
        let ms = (since.as_secs() as u32).saturating_mul(1000).saturating_add(since.subsec_millis());
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let offset = state.ends[stream as usize];
        state.ends[stream as usize] += bytes.len() as u64;
        let logged = state.logged_stderr && stream == Stream::Stderr;
        let room = self.recorder.each.saturating_sub(state.recorded);
        let (head, rest) = bytes.split_at(bytes.len().min(room));
        if !head.is_empty() {
            state.recorded += head.len();
            let waiting = state.buffer.bytes.len();
            if waiting + head.len() <= EACH_WAITING && self.recorder.takes(head.len()) {
                state.buffer.add(Entry { stream, logged, ms, offset, bytes: head });
            }
            if waiting < MUCH && state.buffer.bytes.len() >= MUCH {
                self.recorder.writer.get().inspect(|writer| writer.unpark());
            }
        }
        if !rest.is_empty() {
            self.add_to_tail(state, Entry { stream, logged, ms, offset: offset + head.len() as u64, bytes: rest });
        }
        self.queue(state);
    }

    /// Keeps the last bytes beyond the limit of the recording.
    fn add_to_tail(&self, state: &mut State, mut entry: Entry<'_>) {
        let half = (TAIL / 2).min(self.recorder.each / 2);
        let left_out = entry.bytes.len().saturating_sub(half);
        entry.bytes = &entry.bytes[left_out..];
        entry.offset += left_out as u64;
        if left_out > 0 {
            // What was written before is not part of the end any more.
            state.tail = Default::default();
        } else if state.tail[1].bytes.len() + entry.bytes.len() > half {
            state.tail[0] = take(&mut state.tail[1]);
        }
        state.tail[1].add(entry);
    }

    fn queue(self: &Arc<Self>, state: &mut State) {
        // A full queue is tried again at the next write.
        if !state.queued && !state.buffer.bytes.is_empty() {
            state.queued = self.recorder.queue.try_send(Some(self.clone())).is_ok();
        }
    }

    /// Ends the recording: its last entries go to the writer.
    pub fn end(self: &Arc<Self>) {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        for tail in take(&mut state.tail) {
            // The tails are small, and the last words of a process matter most.
            self.recorder.waiting.fetch_add(tail.payload(), Relaxed);
            state.buffer.append(tail);
        }
        if !state.queued && state.ends != state.taken {
            state.queued = self.recorder.queue.try_send(Some(self.clone())).is_ok();
        }
    }

    /// Takes what waits for the writer.
    pub fn take(&self) -> Recorded {
        let mut state = self.state.lock();
        state.queued = false;
        state.taken = state.ends;
        let buffer = take(&mut state.buffer);
        let recorded = Recorded { process: self.process, ends: state.ends, entries: buffer.bytes };
        drop(state);
        let bytes = entries(&recorded.entries).map(|entry| entry.bytes.len()).sum();
        self.recorder.waiting.fetch_sub(bytes, Relaxed);
        recorded
    }
}

impl Entries {
    fn add(&mut self, entry: Entry<'_>) {
        let Entry { stream, logged, ms, offset, bytes } = entry;
        let number = if logged { LOGGED_STDERR } else { stream as u8 };
        let last = &mut self.last;
        let continues = last.length > 0 && last.number == number && last.end == offset;
        if continues && ms.saturating_sub(last.ms) < ONE_ENTRY_MS {
            last.length += bytes.len() as u32;
            let length = last.at + HEAD - 4;
            self.bytes[length..length + 4].copy_from_slice(&last.length.to_le_bytes());
        } else {
            *last = Last { at: self.bytes.len(), number, ms, end: 0, length: bytes.len() as u32 };
            let mut head = [0; HEAD];
            head[0] = number;
            head[1..5].copy_from_slice(&ms.to_le_bytes());
            head[5..13].copy_from_slice(&offset.to_le_bytes());
            head[13..].copy_from_slice(&last.length.to_le_bytes());
            self.bytes.extend_from_slice(&head);
        }
        last.end = offset + bytes.len() as u64;
        self.bytes.extend_from_slice(bytes);
    }

    fn append(&mut self, other: Self) {
        if !other.bytes.is_empty() {
            self.last = Last::default();
            self.bytes.extend_from_slice(&other.bytes);
        }
    }

    fn payload(&self) -> usize {
        entries(&self.bytes).map(|entry| entry.bytes.len()).sum()
    }
}

/// Returns the entries in the result of [`Recording::take`], up to the first that is not whole.
pub fn entries(mut bytes: &[u8]) -> impl Iterator<Item = Entry<'_>> {
    std::iter::from_fn(move || {
        let (head, rest) = bytes.split_first_chunk::<HEAD>()?;
        let number = |range: std::ops::Range<usize>| {
            head[range].iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
        };
        let (content, after) = rest.split_at_checked(number(13..17) as usize)?;
        bytes = after;
        let stream = if head[0] == Stream::Stdout as u8 { Stream::Stdout } else { Stream::Stderr };
        let logged = head[0] == LOGGED_STDERR;
        Some(Entry { stream, logged, ms: number(1..5) as u32, offset: number(5..13), bytes: content })
    })
}

impl Recorded {
    /// Splits the entries into parts of about `most` bytes. Each part has the ends that it reaches.
    pub fn parts(self, most: usize) -> Vec<Self> {
        let Self { process, ends, entries: all } = self;
        let (mut parts, mut reached) = (Vec::new(), ends);
        for entry in entries(&all) {
            let at = entry.stream as usize;
            // Later parts reach beyond the first entry of each stream.
            reached[at] = reached[at].min(entry.offset);
        }
        let mut part = Entries::default();
        for mut entry in entries(&all) {
            while !entry.bytes.is_empty() {
                let (now, later) = entry.bytes.split_at(entry.bytes.len().min(most));
                part.last = Last::default();
                part.add(Entry { bytes: now, ..entry });
                entry = Entry { bytes: later, offset: entry.offset + now.len() as u64, ..entry };
                reached[entry.stream as usize] = entry.offset;
                if part.bytes.len() >= most {
                    parts.push(Self { process, ends: reached, entries: take(&mut part).bytes });
                }
            }
        }
        if !part.bytes.is_empty() || parts.is_empty() {
            parts.push(Self { process, ends, entries: part.bytes });
        }
        if let Some(last) = parts.last_mut() {
            last.ends = ends;
        }
        parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(recorded: &Recorded) -> Vec<(Stream, u64, String)> {
        entries(&recorded.entries)
            .map(|entry| (entry.stream, entry.offset, String::from_utf8_lossy(entry.bytes).into_owned()))
            .collect()
    }

    #[test]
    fn both_streams_keep_their_order_and_offsets() {
        let (recorder, queue) = Recorder::new(1000);
        let recording = recorder.begin(Uuid::nil(), true);
        recording.write(Stream::Stdout, b"one\n");
        recording.write(Stream::Stdout, b"two\n");
        recording.write(Stream::Stderr, b"bad\n");
        recording.write(Stream::Stdout, b"\xff\0");
        assert!(queue.try_iter().flatten().count() == 1, "queued once");
        let recorded = recording.take();
        assert_eq!(recorded.ends, [10, 4]);
        let whole: Vec<u8> = entries(&recorded.entries)
            .filter(|entry| entry.stream == Stream::Stdout)
            .flat_map(|entry| entry.bytes.to_vec())
            .collect();
        assert_eq!(whole, b"one\ntwo\n\xff\0");
        let stderr = entries(&recorded.entries).find(|entry| entry.stream == Stream::Stderr).unwrap();
        assert!(stderr.logged && stderr.offset == 0);
        assert_eq!(recorder.waiting.load(Relaxed), 0);
        recording.write(Stream::Stdout, b"more");
        assert_eq!(shown(&recording.take()), [(Stream::Stdout, 10, "more".into())]);
    }

    #[test]
    fn long_recording_keeps_its_beginning_and_its_end() {
        let (recorder, _queue) = Recorder::new(100);
        let recording = recorder.begin(Uuid::nil(), false);
        for n in 0..1000 {
            recording.write(Stream::Stdout, format!("{n:04}\n").as_bytes());
        }
        recording.end();
        let recorded = recording.take();
        assert_eq!(recorded.ends, [5000, 0]);
        let shown = shown(&recorded);
        assert!(shown[0].2.starts_with("0000\n") && shown.last().unwrap().2.ends_with("0999\n"), "{shown:?}");
        let kept: usize = shown.iter().map(|(.., text)| text.len()).sum();
        assert!((100..=200).contains(&kept), "{kept}");
        assert_eq!(recorder.waiting.load(Relaxed), 0);
    }

    #[test]
    fn end_of_a_recording_is_what_was_written_last() {
        let (recorder, _queue) = Recorder::new(100);
        let recording = recorder.begin(Uuid::nil(), false);
        for bytes in [vec![b'a'; 100], vec![b'b'; 10], vec![b'c'; 1000]] {
            recording.write(Stream::Stdout, &bytes);
        }
        recording.end();
        let kept = shown(&recording.take());
        assert_eq!(kept[0], (Stream::Stdout, 0, "a".repeat(100)));
        assert_eq!(kept[1..], [(Stream::Stdout, 1060, "c".repeat(50))]);
    }

    #[test]
    fn parts_have_the_ends_that_they_reach() {
        let (recorder, _queue) = Recorder::new(1000);
        let recording = recorder.begin(Uuid::nil(), false);
        recording.write(Stream::Stdout, &[b'a'; 100]);
        recording.write(Stream::Stderr, b"bad");
        recording.write(Stream::Stdout, &[b'b'; 30]);
        let parts = recording.take().parts(64);
        assert!(parts.len() > 2);
        assert_eq!((parts[0].ends, parts.last().unwrap().ends), ([64, 0], [130, 3]));
        let whole: String = parts.iter().flat_map(shown).filter(|it| it.0 == Stream::Stdout).map(|it| it.2).collect();
        assert_eq!(whole, format!("{}{}", "a".repeat(100), "b".repeat(30)));
    }

    #[test]
    fn bytes_without_room_are_left_out_and_counted() {
        let (recorder, _queue) = Recorder::new(usize::MAX);
        let recording = recorder.begin(Uuid::nil(), false);
        recorder.waiting.store(WAITING - 3, Relaxed);
        recording.write(Stream::Stdout, b"lost");
        recording.write(Stream::Stdout, b"yes");
        recorder.waiting.fetch_sub(WAITING - 3, Relaxed);
        let recorded = recording.take();
        assert_eq!(recorded.ends, [7, 0]);
        assert_eq!(shown(&recorded), [(Stream::Stdout, 4, "yes".into())]);
    }
}
