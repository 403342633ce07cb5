//! The three streams of a process as WASI sees them: thin adapters between `wasmtime-wasi` and [`crate::stream`].
//!
//! A read or write that need not wait completes at once, without leaving the guest's stack.

use crate::{
    call::{CallName, CancelReason},
    control::Control,
    size::Size,
    stream::{Read, Written},
};
use bytes::Bytes;
use std::{
    future::poll_fn,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Instant,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use wasmtime_wasi::{
    async_trait,
    cli::{IsTerminal, StdinStream, StdoutStream},
    p2::{InputStream, OutputStream, Pollable, StreamError, StreamResult},
};

/// Where stderr goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StderrTo {
    #[default]
    Log,
    /// To the log, and to the client among the lines of stdout.
    Client,
}

#[derive(Clone)]
pub struct Stdin(pub Arc<Control>);

#[derive(Clone)]
pub struct Stdout(pub Arc<Control>);

#[derive(Clone)]
pub struct Stderr {
    pub control: Arc<Control>,
    pub call: CallName,
    pub to: StderrTo,
}

impl IsTerminal for Stdin {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl IsTerminal for Stdout {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl IsTerminal for Stderr {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdinStream for Stdin {
    fn async_stream(&self) -> Box<dyn AsyncRead + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn InputStream> {
        Box::new(self.clone())
    }
}

impl StdoutStream for Stdout {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl StdoutStream for Stderr {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl Stdin {
    /// Ready when there is something to read. A guest that waits here has said all that it says for now.
    fn poll_readable(&self, cx: &Context<'_>) -> Poll<()> {
        let readable = self.0.input.poll_readable(cx);
        if readable.is_pending() {
            self.0.output.prompt();
        }
        readable
    }
}

#[async_trait]
impl Pollable for Stdin {
    async fn ready(&mut self) {
        poll_fn(|cx| self.poll_readable(cx)).await;
    }
}

#[async_trait]
impl InputStream for Stdin {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        match self.0.input.read(size, Instant::now()) {
            Read::Data(data) => Ok(data),
            Read::Empty => Ok(Bytes::new()),
            Read::Ended => Err(StreamError::Closed),
        }
    }

    async fn blocking_read(&mut self, size: usize) -> StreamResult<Bytes> {
        loop {
            match self.0.input.read(size, Instant::now()) {
                Read::Data(data) => return Ok(data),
                Read::Ended => return Err(StreamError::Closed),
                Read::Empty => poll_fn(|cx| self.poll_readable(cx)).await,
            }
            if size == 0 {
                return Ok(Bytes::new());
            }
        }
    }
}

impl AsyncRead for Stdin {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            match self.0.input.read(buffer.remaining(), Instant::now()) {
                Read::Data(data) => buffer.put_slice(&data),
                Read::Ended => {}
                Read::Empty => {
                    ready!(self.poll_readable(cx));
                    continue;
                }
            }
            return Poll::Ready(Ok(()));
        }
    }
}

impl Stdout {
    fn take(&self, bytes: &[u8]) {
        let control = &self.0;
        match control.output.write(bytes) {
            Written::Yes => {}
            Written::OverLimit(limit) => control.cancel(CancelReason::OutputLimit(Size::bytes(limit))),
            Written::LineTooLong(limit) => control.cancel(CancelReason::LineLimit(Size::bytes(limit as u64))),
        }
    }
}

#[async_trait]
impl Pollable for Stdout {
    async fn ready(&mut self) {
        poll_fn(|cx| self.0.output.poll_writable(cx)).await;
    }
}

#[async_trait]
impl OutputStream for Stdout {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.take(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(self.0.output.permit())
    }

    async fn blocking_write_and_flush(&mut self, bytes: Bytes) -> StreamResult<()> {
        poll_fn(|cx| self.0.output.poll_writable(cx)).await;
        self.take(&bytes);
        Ok(())
    }
}

impl AsyncWrite for Stdout {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.0.output.poll_writable(cx));
        let bytes = &bytes[..bytes.len().min(self.0.output.permit().max(1))];
        self.take(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Stderr {
    fn line(&self, line: &[u8]) {
        tracing::info!(
            target: "distillery::stderr",
            process = %self.control.id,
            call = %self.call,
            line = %String::from_utf8_lossy(line),
            "stderr",
        );
        if self.to == StderrTo::Client {
            self.control.output.write_line(line);
        }
    }

    fn take(&self, bytes: &[u8]) {
        self.control.stderr.write(bytes, |line| self.line(line));
    }

    /// The guest has ended: its last line need not have a terminator.
    pub fn finish(&self) {
        self.control.stderr.finish(|line| self.line(line));
    }

    /// Lines that go to the client wait for it like those of stdout.
    fn poll_writable(&self, cx: &Context<'_>) -> Poll<()> {
        match self.to {
            StderrTo::Log => Poll::Ready(()),
            StderrTo::Client => self.control.output.poll_writable(cx),
        }
    }
}

#[async_trait]
impl Pollable for Stderr {
    async fn ready(&mut self) {
        poll_fn(|cx| self.poll_writable(cx)).await;
    }
}

#[async_trait]
impl OutputStream for Stderr {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.take(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(match self.to {
            StderrTo::Log => 64 << 10,
            StderrTo::Client => self.control.output.permit(),
        })
    }
}

impl AsyncWrite for Stderr {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_writable(cx));
        let bytes = &bytes[..bytes.len().min(64 << 10)];
        self.take(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
