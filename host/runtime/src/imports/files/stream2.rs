//! File streams of WASI 0.2 components. A stream reads or writes one piece on a file thread while its guest waits for
//! the stream, and nothing happens in the background. The held data is counted ([`Pending`]).

use crate::files::{
    Opened, Worker,
    pending::{Held, PIECE, Pending},
};
use bytes::Bytes;
use std::{fs::File, io, mem, os::unix::fs::FileExt, sync::Arc};
use wasmtime_wasi::{
    async_trait, filesystem,
    p2::{InputStream, OutputStream, Pollable, StreamError, StreamResult},
};

/// The size of a read if the guest does not name one.
const READ_AHEAD: usize = 4 << 10;

fn failed(error: io::Error) -> StreamError {
    StreamError::LastOperationFailed(error.into())
}

/// A stream that reads a file.
pub struct Reader {
    worker: Worker,
    pending: Arc<Pending>,
    /// Keeps the descriptor counted as open.
    _opened: Arc<Opened>,
    file: Arc<File>,
    at: u64,
    /// The size of the guest's last read that found no data.
    wanted: usize,
    state: Reading,
}

enum Reading {
    Idle,
    Read(Bytes, Held),
    Failed(StreamError),
    Ended,
}

impl Reader {
    pub fn new(worker: Worker, pending: Arc<Pending>, opened: Arc<Opened>, file: Arc<File>, at: u64) -> Self {
        Self { worker, pending, _opened: opened, file, at, wanted: READ_AHEAD, state: Reading::Idle }
    }

    /// Reads a piece. Blocks.
    fn fetch(&self, size: usize) -> io::Result<Bytes> {
        let mut buffer = vec![0; size];
        loop {
            match self.file.read_at(&mut buffer, self.at) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
                Ok(count) => {
                    buffer.truncate(count);
                    return Ok(buffer.into());
                }
            }
        }
    }

    fn give(&mut self, read: io::Result<Bytes>) -> StreamResult<Bytes> {
        match read {
            Ok(bytes) if bytes.is_empty() => {
                self.state = Reading::Ended;
                Err(StreamError::Closed)
            }
            Ok(bytes) => {
                self.at += bytes.len() as u64;
                Ok(bytes)
            }
            Err(error) => {
                self.state = Reading::Ended;
                Err(failed(error))
            }
        }
    }

    /// Returns data that was read ahead, up to `size`.
    fn take(&mut self, size: usize) -> StreamResult<Option<Bytes>> {
        match mem::replace(&mut self.state, Reading::Idle) {
            Reading::Idle => Ok(None),
            Reading::Read(mut bytes, held) => {
                let taken = bytes.split_to(size.min(bytes.len()));
                self.at += taken.len() as u64;
                if !bytes.is_empty() {
                    self.state = Reading::Read(bytes, held);
                }
                Ok(Some(taken))
            }
            Reading::Failed(error) => {
                self.state = Reading::Ended;
                Err(error)
            }
            Reading::Ended => {
                self.state = Reading::Ended;
                Err(StreamError::Closed)
            }
        }
    }
}

#[async_trait]
impl InputStream for Reader {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        if let Some(bytes) = self.take(size)? {
            return Ok(bytes);
        }
        self.wanted = size.clamp(1, PIECE);
        if size == 0 {
            return Ok(Bytes::new());
        }
        match self.worker.try_file_call(|| self.fetch(size.min(PIECE))) {
            Some(read) => self.give(read),
            // The data comes when the guest waits, or repeats the read on a file thread.
            None => Ok(Bytes::new()),
        }
    }

    async fn blocking_read(&mut self, size: usize) -> StreamResult<Bytes> {
        if let Some(bytes) = self.take(size)? {
            return Ok(bytes);
        }
        if size == 0 {
            return Ok(Bytes::new());
        }
        let worker = self.worker.clone();
        let read = worker.file_call(async { self.fetch(size.min(PIECE)) }).await;
        self.give(read)
    }
}

#[async_trait]
impl Pollable for Reader {
    async fn ready(&mut self) {
        if !matches!(self.state, Reading::Idle) {
            return;
        }
        let size = self.wanted.min(self.pending.permit());
        self.state = match self.pending.hold(size) {
            Err(error) => Reading::Failed(StreamError::Trap(error.into())),
            Ok(held) => {
                let worker = self.worker.clone();
                match worker.file_call(async { self.fetch(size) }).await {
                    Ok(bytes) if bytes.is_empty() => Reading::Ended,
                    Ok(bytes) => Reading::Read(bytes, held),
                    Err(error) => Reading::Failed(failed(error)),
                }
            }
        };
    }
}

/// A stream that writes a file.
pub struct Writer {
    worker: Worker,
    pending: Arc<Pending>,
    opened: Arc<Opened>,
    file: filesystem::File,
    /// The next position; `None` means the end of the file.
    at: Option<u64>,
    /// The guest's last permit.
    permit: usize,
    state: Writing,
}

enum Writing {
    Idle,
    /// Written by the guest, which has not waited for it yet.
    Pending(Bytes, Held),
    Failed(io::Error),
    Closed,
}

impl Writer {
    pub fn new(
        worker: Worker,
        pending: Arc<Pending>,
        opened: Arc<Opened>,
        file: filesystem::File,
        at: Option<u64>,
    ) -> Self {
        Self { worker, pending, opened, file, at, permit: 0, state: Writing::Idle }
    }

    /// Writes all of `bytes`. Blocks.
    fn put(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let count = match self.opened.write(&self.file, bytes, self.at) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
                done => done?,
            };
            self.at = self.at.map(|at| at + count as u64);
            bytes = &bytes[count..];
        }
        Ok(())
    }

    /// Refuses a write while the stream is not ready.
    fn check(&mut self) -> StreamResult<()> {
        match self.state {
            Writing::Idle => Ok(()),
            Writing::Pending(..) => Err(StreamError::trap("it writes before it may")),
            Writing::Failed(_) | Writing::Closed => Err(self.take_failure()),
        }
    }

    fn take_failure(&mut self) -> StreamError {
        match mem::replace(&mut self.state, Writing::Closed) {
            Writing::Failed(error) => failed(error),
            _ => StreamError::Closed,
        }
    }
}

#[async_trait]
impl Pollable for Writer {
    async fn ready(&mut self) {
        if !matches!(self.state, Writing::Pending(..)) {
            return;
        }
        let worker = self.worker.clone();
        let written = worker.file_call(async {
            match mem::replace(&mut self.state, Writing::Idle) {
                Writing::Pending(bytes, _held) => self.put(&bytes),
                other => {
                    self.state = other;
                    Ok(())
                }
            }
        });
        if let Err(error) = written.await {
            self.state = Writing::Failed(error);
        }
    }
}

#[async_trait]
impl OutputStream for Writer {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        if matches!(self.state, Writing::Closed) {
            return Err(StreamError::Closed);
        }
        self.check()?;
        if bytes.len() > mem::take(&mut self.permit).max(self.pending.permit()) {
            return Err(StreamError::trap("it writes more than it was permitted to"));
        }
        let worker = self.worker.clone();
        match worker.try_file_call(|| self.put(&bytes)) {
            Some(Ok(())) => {}
            Some(Err(error)) => self.state = Writing::Failed(error),
            None => {
                let held = self.pending.hold(bytes.len()).map_err(|error| StreamError::Trap(error.into()))?;
                self.state = Writing::Pending(bytes, held);
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        match self.state {
            Writing::Idle | Writing::Pending(..) => Ok(()),
            Writing::Failed(_) | Writing::Closed => Err(self.take_failure()),
        }
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        match self.state {
            Writing::Idle => {
                self.permit = self.pending.permit();
                Ok(self.permit)
            }
            Writing::Pending(..) => Ok(0),
            Writing::Failed(_) | Writing::Closed => Err(self.take_failure()),
        }
    }

    async fn blocking_write_and_flush(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.ready().await;
        self.check()?;
        let worker = self.worker.clone();
        worker.file_call(async { self.put(&bytes) }).await.map_err(|error| {
            self.state = Writing::Closed;
            failed(error)
        })
    }

    async fn cancel(&mut self) {
        self.ready().await;
        self.state = Writing::Closed;
    }
}
