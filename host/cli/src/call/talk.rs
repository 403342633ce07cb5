//! The conversation of `distillery call` and `distillery attach` with a server: events become output, signals become
//! cancels, and the result becomes an exit status.

use super::{
    super::{output, signals::Signals, status},
    Manner, of_signal,
    streams::{Output, feed},
};
use distillery_client::conversation::{End, Event, From, Listener, Speaker, Told};
use distillery_core::call::CancelReason;
use serde_json::{Value, json};
use std::{
    future::poll_fn,
    io::{self, ErrorKind, IsTerminal},
};

/// After this many signals the client ends without waiting for the server.
const PATIENT_SIGNALS: u32 = 2;

pub(super) struct Talk<'a> {
    listener: Listener,
    canceller: Speaker,
    signals: &'a mut Signals,
    manner: &'a Manner,
    output: Output,
    errors: Output,
    /// The first signal that cancelled the call.
    cancelled: Option<CancelReason>,
    signals_seen: u32,
    /// Whether the call has written to stderr. The protocol of lines has no stderr, and other protocols forward it only if
    /// the plugin asks for that.
    stderr_seen: bool,
}

/// The next step of a conversation.
enum Step {
    Event(Event),
    Again,
    /// The client ends with this status, whatever becomes of the process.
    Leave(u8),
}

/// The state after an event.
enum After {
    Next,
    /// The process has ended, or goes on without this client.
    Over(Option<End>),
}

impl<'a> Talk<'a> {
    pub fn begin((speaker, listener): (Speaker, Listener), signals: &'a mut Signals, manner: &'a Manner) -> Self {
        let canceller = speaker.canceller();
        feed(speaker, manner.input);
        let (output, errors) = (Output::start(io::stdout()), Output::start(io::stderr()));
        Self {
            listener,
            canceller,
            signals,
            manner,
            output,
            errors,
            cancelled: None,
            signals_seen: 0,
            stderr_seen: false,
        }
    }

    /// Talks until the end, and returns the exit status.
    pub async fn go_on(mut self) -> anyhow::Result<u8> {
        let end = loop {
            let event = match self.next().await? {
                Step::Event(event) => event,
                Step::Again => continue,
                Step::Leave(status) => return Ok(status),
            };
            if let After::Over(end) = self.take(event).await {
                break end;
            }
        };
        self.finish(end).await
    }

    async fn next(&mut self) -> anyhow::Result<Step> {
        let Self { signals, listener, output, errors, .. } = self;
        tokio::select! {
            biased;
            reason = poll_fn(|cx| signals.poll_next(cx)) => Ok(self.signalled(reason)),
            () = output.failed.cancelled(), if !output.is_closed() => {
                if !self.manner.cancels {
                    return Ok(Step::Leave(status::NO_READER));
                }
                output.close();
                self.canceller.cancel();
                Ok(Step::Again)
            }
            () = errors.failed.cancelled(), if !errors.is_closed() => {
                // If stderr is closed, further errors are dropped.
                errors.close();
                Ok(Step::Again)
            }
            // Events are read only if they can be written: a slow reader of stdout slows the call down.
            event = async {
                output.room().await;
                errors.room().await;
                listener.next().await
            } => Ok(Step::Event(event?)),
        }
    }

    fn signalled(&mut self, reason: CancelReason) -> Step {
        self.signals_seen += 1;
        if !self.manner.cancels || self.signals_seen > PATIENT_SIGNALS {
            return Step::Leave(of_signal(&reason));
        }
        self.cancelled.get_or_insert(reason);
        self.canceller.cancel();
        Step::Again
    }

    async fn take(&mut self, event: Event) -> After {
        match event {
            // Output is left to clients that attach.
            Event::Data(..) if self.manner.detach => {}
            Event::Data(From::Stderr, _, bytes) if !self.manner.json => {
                self.stderr_seen = true;
                self.errors.give(bytes);
            }
            Event::Data(from, offset, bytes) if self.manner.json => self.print_json(&data(from, offset, &bytes)),
            Event::Data(_, _, bytes) => self.output.give(bytes),
            Event::Told(told, value) => {
                if self.manner.json {
                    self.print_json(&value);
                } else {
                    tell(&told);
                }
                if let (true, Told::Started { id, key }) = (self.manner.detach, told) {
                    self.detach(&id, key.as_deref()).await;
                }
            }
            Event::Ended(end, value) => {
                if self.manner.json {
                    self.print_json(&value);
                }
                return After::Over(Some(end));
            }
            Event::Detached => return After::Over(None),
        }
        After::Next
    }

    fn print_json(&self, value: &Value) {
        self.output.give(output::json_line(value).into());
    }

    /// Prints the id of the process, then leaves it. A process without a known id and key could never be found, so a
    /// failure to print them cancels it.
    async fn detach(&mut self, id: &str, key: Option<&str>) {
        if !self.manner.json {
            let key = key.map(|key| format!(":{key}")).unwrap_or_default();
            self.output.give(format!("{id}{key}\n").into());
        }
        let signals = &mut *self.signals;
        let written = tokio::select! {
            written = self.output.written() => written,
            reason = poll_fn(|cx| signals.poll_next(cx)) => {
                self.cancelled.get_or_insert(reason);
                self.canceller.cancel();
                false
            }
        };
        if written {
            self.canceller.detach();
        }
    }

    /// Writes the rest of the output, and returns the exit status.
    async fn finish(self, end: Option<End>) -> anyhow::Result<u8> {
        let Self { signals, output: stdout, errors, cancelled, stderr_seen, .. } = self;
        let written = tokio::select! {
            written = async { (stdout.finish().await, errors.finish().await).0 } => written,
            // After a signal the reader is not waited for.
            _ = poll_fn(|cx| signals.poll_next(cx)) => Ok(()),
        };
        match written {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(status::NO_READER),
            Err(error) => {
                output::error(format_args!("cannot write to stdout: {error}"));
                return Ok(status::LIMIT);
            }
            Ok(()) => {}
        }
        let Some(end) = end else { return Ok(0) };
        // The last words are already on the terminal.
        if let Some(message) = end.message.as_ref().filter(|_| !(stderr_seen && end.kind == "exited")) {
            output::error(message);
        }
        Ok(status_of(&end, cancelled.as_ref()))
    }
}

/// Returns the exit status for the end of a process.
fn status_of(end: &End, cancelled: Option<&CancelReason>) -> u8 {
    match (end.success, end.kind.as_str(), end.reason.as_deref()) {
        (true, ..) => 0,
        (false, "exited", _) => {
            // An exit status out of range must not become a success.
            end.status.map_or(1, |status| u8::try_from(status).unwrap_or(u8::MAX)).max(1)
        }
        (false, "refused", _) => status::NOT_STARTED,
        (false, "trapped", _) if end.message.as_ref().is_some_and(|it| it.contains("limit of")) => status::LIMIT,
        (false, "trapped", _) => status::TRAP,
        (false, _, Some("client")) => cancelled.map_or(status::INTERRUPTED, of_signal),
        (false, _, Some("shutdown")) => status::TERMINATED,
        (false, _, Some("time limit" | "cpu limit")) => status::TIME,
        (false, ..) => status::LIMIT,
    }
}

/// Prints a server message for people.
fn tell(told: &Told) {
    match told {
        Told::Queued { position } if io::stderr().is_terminal() => {
            output::error(format_args!("waiting for a slot, number {position} in the queue"));
        }
        Told::Lost { stream, from, to } => {
            output::error(format_args!(
                "{} bytes of {stream} were dropped before they were read",
                to.saturating_sub(*from)
            ));
        }
        _ => {}
    }
}

/// Formats data as text if it is valid UTF-8.
fn data(from: From, offset: u64, bytes: &[u8]) -> Value {
    let kind = match from {
        From::Stdout => "stdout",
        From::Stderr => "stderr",
    };
    match std::str::from_utf8(bytes) {
        Ok(text) => json!({"type": kind, "offset": offset, "text": text}),
        Err(_) => {
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            json!({"type": kind, "offset": offset, "hex": hex})
        }
    }
}
