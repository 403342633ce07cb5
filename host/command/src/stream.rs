//! The streams of a command, on the side of the server: pipes that never block.
//!
//! Beside the kernel's buffers there is one small one, for input. So a command that writes faster than its guest reads
//! waits, and a guest that writes faster than the command reads waits too.

use super::running::State;
use bytes::{Buf, Bytes};
use std::{
    io,
    os::fd::OwnedFd,
    sync::Arc,
    task::{Context, Poll, ready},
};
use tokio::{
    io::AsyncWriteExt,
    net::unix::pipe::{Receiver, Sender},
    runtime::Handle,
};

/// The largest read.
const READ: usize = 64 << 10;
/// The largest write, and so the size of the buffer for input.
const WRITE: usize = 16 << 10;

/// The result of a read.
#[derive(Debug, PartialEq, Eq)]
pub enum Read {
    Data(Bytes),
    /// No bytes are there yet.
    Empty,
    Ended,
}

/// An output of a command.
#[derive(Debug)]
pub struct Stdout {
    pipe: Receiver,
    state: Arc<State>,
}

/// The input of a command. Dropping it ends the input after the last byte.
#[derive(Debug)]
pub struct Stdin {
    /// `None` if the command will never read again.
    pipe: Option<Sender>,
    /// Written by the guest, and not yet in the pipe.
    pending: Bytes,
    runtime: Handle,
}

impl Stdout {
    pub(super) fn new(pipe: OwnedFd, state: Arc<State>) -> io::Result<Self> {
        Ok(Self { pipe: Receiver::from_owned_fd(pipe)?, state })
    }

    /// Reads up to `most` bytes.
    pub fn read(&self, most: usize) -> Read {
        if most == 0 {
            return Read::Empty;
        }
        let mut bytes = vec![0; most.min(READ)];
        match self.pipe.try_read(&mut bytes) {
            Ok(0) => Read::Ended,
            Ok(count) => {
                bytes.truncate(self.state.count(count));
                if bytes.is_empty() { Read::Ended } else { Read::Data(bytes.into()) }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Read::Empty,
            Err(_) => Read::Ended,
        }
    }

    /// Becomes ready when there is something to read, or the end. A read can still find nothing.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.pipe.poll_read_ready(cx).map(drop)
    }
}

impl Stdin {
    pub(super) fn new(pipe: OwnedFd) -> io::Result<Self> {
        let pipe = Some(Sender::from_owned_fd(pipe)?);
        Ok(Self { pipe, pending: Bytes::new(), runtime: Handle::current() })
    }

    /// Moves pending bytes into the pipe, as many as it takes.
    fn flush(&mut self) {
        while let Some(pipe) = self.pipe.as_ref().filter(|_| !self.pending.is_empty()) {
            match pipe.try_write(&self.pending) {
                Ok(count) => self.pending.advance(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => self.pipe = None,
            }
        }
    }

    /// Returns the number of bytes that the next write can have; 0 while the command does not read. `None` if the
    /// command will never read again.
    pub fn permit(&mut self) -> Option<usize> {
        self.flush();
        self.pipe.as_ref()?;
        Some(if self.pending.is_empty() { WRITE } else { 0 })
    }

    /// Writes all of `bytes`, at most as many as were permitted. Returns whether the command can still read.
    pub fn write(&mut self, bytes: Bytes) -> bool {
        self.pending = bytes;
        self.flush();
        self.pipe.is_some()
    }

    /// Becomes ready when there is space to write, or the command will never read again.
    pub fn poll_writable(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            self.flush();
            match &self.pipe {
                Some(pipe) if !self.pending.is_empty() => {
                    if ready!(pipe.poll_write_ready(cx)).is_err() {
                        self.pipe = None;
                    }
                }
                _ => return Poll::Ready(()),
            }
        }
    }
}

impl Drop for Stdin {
    /// Delivers what the guest has written. The task ends at the latest with the command, which closes the pipe.
    fn drop(&mut self) {
        self.flush();
        if let Some(mut pipe) = self.pipe.take().filter(|_| !self.pending.is_empty()) {
            let pending = std::mem::take(&mut self.pending);
            self.runtime.spawn(async move {
                // The command can end before it reads everything.
                _ = pipe.write_all(&pending).await;
            });
        }
    }
}
