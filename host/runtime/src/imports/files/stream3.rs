//! File and directory streams of WASI 0.3 components. Data moves directly between the file and the guest's memory.

use crate::{
    descriptors::Descriptor as Counted,
    files::{
        Opened, Worker,
        listing::{Entry, Listing},
    },
    state::State,
};
use rustix::{fs::FileType, io::Errno};
use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tokio::sync::oneshot;
use wasmtime::{
    StoreContextMut,
    component::{Destination, Source, StreamConsumer, StreamProducer, StreamResult},
};
use wasmtime_wasi::{
    filesystem,
    p3::bindings::filesystem::types::{DescriptorType, DirectoryEntry, ErrorCode},
};

/// The maximum of one transfer.
const PIECE: usize = 64 << 10;

type Store<'a> = StoreContextMut<'a, State>;
type Done = Poll<wasmtime::Result<StreamResult>>;

/// Returns the guest's code of an error.
pub fn refused(error: io::Error) -> ErrorCode {
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::XDEV) => ErrorCode::CrossDevice,
        // The interface has no code for too many descriptors.
        Some(Errno::MFILE) => ErrorCode::InsufficientMemory,
        _ => error.into(),
    }
}

/// The one-time report to the guest of how its stream ended.
pub struct Ending(Option<oneshot::Sender<Result<(), ErrorCode>>>);

impl Ending {
    pub fn new() -> (Self, oneshot::Receiver<Result<(), ErrorCode>>) {
        let (ended, end) = oneshot::channel();
        (Self(Some(ended)), end)
    }

    fn tell(&mut self, how: Result<(), ErrorCode>) {
        if let Some(ended) = self.0.take() {
            // The guest can ignore the report.
            _ = ended.send(how);
        }
    }

    fn failed(&mut self, error: io::Error) -> Done {
        self.tell(Err(refused(error)));
        Poll::Ready(Ok(StreamResult::Dropped))
    }

    fn ended(&mut self) -> Done {
        self.tell(Ok(()));
        Poll::Ready(Ok(StreamResult::Dropped))
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.tell(Ok(()));
    }
}

/// Works on a file if the guest is on a file thread. Otherwise the guest is polled there next.
fn poll_file_call<T>(worker: &Worker, finish: bool, cx: &Context<'_>, call: impl FnOnce() -> T) -> Result<T, Done> {
    worker.try_file_call(call).ok_or_else(|| {
        if finish {
            return Poll::Ready(Ok(StreamResult::Cancelled));
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
}

/// A stream that reads a file from a position.
pub struct Reader {
    pub worker: Worker,
    /// Keeps the descriptor counted as open.
    pub _opened: Arc<Opened>,
    pub file: Arc<File>,
    pub at: u64,
    pub ending: Ending,
}

impl StreamProducer<State> for Reader {
    type Item = u8;
    type Buffer = bytes::BytesMut;

    fn poll_produce<'a>(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        store: Store<'a>,
        destination: Destination<'a, u8, Self::Buffer>,
        finish: bool,
    ) -> Done {
        let this = &mut *self;
        if !this.worker.is_on_file_thread() {
            return poll_file_call(&this.worker, finish, cx, || ()).err().unwrap_or(Poll::Pending);
        }
        let mut destination = destination.as_direct(store, PIECE / 8);
        let buffer = destination.remaining();
        if buffer.is_empty() {
            return Poll::Ready(Ok(StreamResult::Completed));
        }
        let most = buffer.len().min(PIECE);
        match poll_file_call(&this.worker, finish, cx, || this.file.read_at(&mut buffer[..most], this.at)) {
            Err(not_now) => not_now,
            Ok(Ok(0)) => this.ending.ended(),
            Ok(Ok(count)) => {
                destination.mark_written(count);
                this.at += count as u64;
                Poll::Ready(Ok(StreamResult::Completed))
            }
            Ok(Err(error)) => this.ending.failed(error),
        }
    }
}

/// A stream that writes a guest's data to a file.
pub struct Writer {
    pub worker: Worker,
    pub opened: Arc<Opened>,
    pub file: filesystem::File,
    /// The next position; `None` means the end of the file.
    pub at: Option<u64>,
    pub ending: Ending,
}

impl StreamConsumer<State> for Writer {
    type Item = u8;

    fn poll_consume(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        store: Store<'_>,
        source: Source<'_, u8>,
        finish: bool,
    ) -> Done {
        let this = &mut *self;
        let mut source = source.as_direct(store);
        let waiting = source.remaining();
        let bytes = &waiting[..waiting.len().min(PIECE)];
        match poll_file_call(&this.worker, finish, cx, || this.opened.write(&this.file, bytes, this.at)) {
            Err(not_now) => not_now,
            Ok(Ok(count)) => {
                source.mark_read(count);
                this.at = this.at.map(|at| at + count as u64);
                Poll::Ready(Ok(StreamResult::Completed))
            }
            Ok(Err(error)) => this.ending.failed(error),
        }
    }
}

/// A directory that is opened for listing at the first read.
pub enum ToList {
    Directory(Arc<File>, Option<Counted>),
    Open(Listing),
}

impl ToList {
    /// Returns whether the next entry is already read.
    fn has_next(&self) -> bool {
        matches!(self, Self::Open(listing) if listing.has_next())
    }

    /// Returns the next entry. Blocks.
    fn next(&mut self) -> io::Result<Option<Entry>> {
        if let Self::Directory(directory, counted) = self
            && let Some(counted) = counted.take()
        {
            *self = Self::Open(Listing::open(directory, counted)?);
        }
        match self {
            Self::Open(listing) => listing.next(),
            Self::Directory(..) => Ok(None),
        }
    }
}

/// A stream of the entries of a directory.
pub struct Entries {
    pub worker: Worker,
    pub listing: ToList,
    pub ending: Ending,
}

impl StreamProducer<State> for Entries {
    type Item = DirectoryEntry;
    type Buffer = Option<DirectoryEntry>;

    fn poll_produce<'a>(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut store: Store<'a>,
        mut destination: Destination<'a, DirectoryEntry, Self::Buffer>,
        finish: bool,
    ) -> Done {
        let this = &mut *self;
        if destination.remaining(&mut store) == Some(0) {
            return Poll::Ready(Ok(StreamResult::Completed));
        }
        let next = if this.listing.has_next() {
            this.listing.next()
        } else {
            match poll_file_call(&this.worker, finish, cx, || this.listing.next()) {
                Ok(next) => next,
                Err(not_now) => return not_now,
            }
        };
        match next {
            Ok(Some(entry)) => {
                destination.set_buffer(Some(DirectoryEntry { type_: kind(entry.kind), name: entry.name }));
                Poll::Ready(Ok(StreamResult::Completed))
            }
            Ok(None) => this.ending.ended(),
            Err(error) => this.ending.failed(error),
        }
    }
}

fn kind(kind: FileType) -> DescriptorType {
    match kind {
        FileType::RegularFile => DescriptorType::RegularFile,
        FileType::Directory => DescriptorType::Directory,
        FileType::Symlink => DescriptorType::SymbolicLink,
        FileType::BlockDevice => DescriptorType::BlockDevice,
        FileType::CharacterDevice => DescriptorType::CharacterDevice,
        FileType::Fifo => DescriptorType::Fifo,
        FileType::Socket => DescriptorType::Socket,
        _ => DescriptorType::Other(None),
    }
}
