//! The three streams of a process for WASI: thin adapters between `wasmtime-wasi` and [`distillery_core::stream`].
//!
//! A read or write that need not wait completes at once, on the guest's stack.

use bytes::Bytes;
use distillery_core::{
    call::{CallName, CancelReason},
    control::Control,
    size::Size,
    stream::{Output, Read, Written},
};
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

/// The largest blocking write of a guest.
const FULL_WRITE: usize = 4096;
/// The largest write to the log.
const LOG_WRITE: usize = 64 << 10;

/// The destination of stderr.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StderrTo {
    #[default]
    Log,
    /// The log, and the client together with the lines of stdout.
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

impl StdinStream for Stdin {
    fn async_stream(&self) -> Box<dyn AsyncRead + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn InputStream> {
        Box::new(self.clone())
    }
}

impl Stdin {
    /// Polls for input. A guest that waits here has written all its output for now.
    pub fn poll_readable(&self, cx: &Context<'_>) -> Poll<()> {
        let readable = self.0.input.poll_readable(cx);
        if readable.is_pending() {
            self.0.output.prompt(|| self.0.input.total());
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

/// An output of the guest. The WASI implementation for both outputs follows from this trait.
trait Sink: Clone + Send + Sync + Unpin + 'static {
    fn control(&self) -> &Control;

    /// Writes all of `bytes`, at most as many as were permitted.
    fn take(&self, bytes: &[u8]);

    /// Returns the number of bytes that can be written now; 0 while the client does not read.
    fn permit(&self) -> usize;

    /// Polls for space to write.
    fn poll_writable(&self, cx: &Context<'_>) -> Poll<()>;

    /// Returns whether a guest with an earlier permit is allowed to write this many bytes.
    fn admits(&self, bytes: usize) -> bool;
}

/// Stops a guest that writes more than its limits allow.
fn stop_if_too_much(control: &Control, written: Written) {
    match written {
        Written::Yes => {}
        Written::OverLimit(limit) => control.exceed(CancelReason::OutputLimit(Size::bytes(limit))),
        Written::LineTooLong(limit) => control.exceed(CancelReason::LineLimit(Size::bytes(limit as u64))),
    }
}

impl Sink for Stdout {
    fn control(&self) -> &Control {
        &self.0
    }

    fn take(&self, bytes: &[u8]) {
        stop_if_too_much(&self.0, self.0.output.write(bytes));
    }

    fn permit(&self) -> usize {
        self.0.output.permit()
    }

    fn poll_writable(&self, cx: &Context<'_>) -> Poll<()> {
        self.0.output.poll_writable(cx)
    }

    fn admits(&self, bytes: usize) -> bool {
        self.0.output.admits(bytes)
    }
}

impl Sink for Stderr {
    fn control(&self) -> &Control {
        &self.control
    }

    fn take(&self, bytes: &[u8]) {
        if let Some(whole) = self.control.stderr.whole() {
            stop_if_too_much(&self.control, whole.write(bytes));
        }
        self.control.stderr.write(bytes, |line| self.line(line));
    }

    /// Waits for the client like the lines of stdout.
    fn permit(&self) -> usize {
        self.waits_for().map_or(LOG_WRITE, Output::permit)
    }

    fn poll_writable(&self, cx: &Context<'_>) -> Poll<()> {
        self.waits_for().map_or(Poll::Ready(()), |output| output.poll_writable(cx))
    }

    fn admits(&self, bytes: usize) -> bool {
        self.waits_for().is_none_or(|output| output.admits(bytes))
    }
}

impl Stderr {
    /// Returns the output that a write waits for; `None` for the log, which never makes a guest wait.
    fn waits_for(&self) -> Option<&Output> {
        let client = (self.to == StderrTo::Client).then_some(&self.control.output);
        self.control.stderr.whole().or(client)
    }

    fn line(&self, line: &[u8]) {
        if !self.control.stderr.is_logged() {
            return;
        }
        tracing::info!(
            target: "distillery::stderr",
            process = %self.control.id,
            call = %self.call,
            line = %String::from_utf8_lossy(line),
            "stderr",
        );
        if self.to == StderrTo::Client && self.control.stderr.whole().is_none() {
            stop_if_too_much(&self.control, self.control.output.write_line(line));
        }
    }

    /// Writes the last line of an ended guest, even without a line terminator.
    pub fn finish(&self) {
        self.control.stderr.finish(|line| self.line(line));
    }
}

/// A [`Sink`] in the form that WASI uses.
#[derive(Clone)]
pub struct Writer<S>(pub S);

impl<S> IsTerminal for Writer<S> {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl<S: Sink> StdoutStream for Writer<S> {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[async_trait]
impl<S: Sink> Pollable for Writer<S> {
    async fn ready(&mut self) {
        poll_fn(|cx| self.0.poll_writable(cx)).await;
    }
}

#[async_trait]
impl<S: Sink> OutputStream for Writer<S> {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        // A guest can skip the request for a permit, or repeat it before it writes.
        if !self.0.admits(bytes.len()) {
            return Err(StreamError::trap("it writes more than it was permitted to"));
        }
        self.0.take(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(self.0.permit())
    }

    async fn blocking_write_and_flush(&mut self, bytes: Bytes) -> StreamResult<()> {
        if bytes.len() >= FULL_WRITE {
            // A single call of a preview 1 module can cause many of these, depending on its buffer size.
            self.0.control().yield_if_turn_over().await;
        }
        poll_fn(|cx| self.0.poll_writable(cx)).await;
        self.0.take(&bytes);
        Ok(())
    }
}

impl<S: Sink> AsyncWrite for Writer<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.0.poll_writable(cx));
        let bytes = &bytes[..bytes.len().min(self.0.permit().max(1))];
        self.0.take(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
