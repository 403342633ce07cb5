//! A run of the granted command `compose`: its streams are pumped until both outputs have ended.

use super::{
    Guest,
    bindings::distillery::call::{
        cancellation,
        command_types::{Bound, Ended, Signal, StartError, Status},
        commands::{self, Running},
    },
};
use crate::{
    Host,
    compose::Compose,
    host::{Event, Input},
};
use anyhow::{Context, Result, bail};
use std::{io::Read, time::Duration};
use wasip2::{
    cli::stdin::get_stdin,
    clocks::monotonic_clock::subscribe_duration,
    io::{
        poll::{Pollable, poll},
        streams::{InputStream, OutputStream, StreamError},
    },
};

/// The name of the grant.
const NAME: &str = "compose";
/// Bytes of one read or write.
const PIECE: u64 = 64 << 10;
/// Interval of [`Event::Tick`], in nanoseconds.
const TICK: u64 = 1_000_000_000;
/// Interval of the attempts to start a command if too many run.
const BUSY: Duration = Duration::from_millis(250);
/// Ticks that a cancelled command has for its end, before it is killed.
const PATIENCE: u32 = 20;

type News<'a> = dyn FnMut(&mut Guest, Event<'_>) -> Result<()> + 'a;

pub(super) fn run(guest: &mut Guest, command: &Compose<'_>, input: Input<'_>, news: &mut News<'_>) -> Result<i32> {
    let Running { command: process, stdin, stdout, stderr } = start(guest, command, news)?;
    // A command that is dropped with its pump, because of an error, is killed.
    let mut source = Source::new(input, stdin);
    let mut outputs = [Some(stdout), Some(stderr)];
    let mut ticks_since_cancel = 0;
    loop {
        if process.poll().is_some() && outputs.iter().all(Option::is_none) {
            break;
        }
        let is_cancelled = !command.undoes && guest.is_cancelled();
        let ready = wait(&process.subscribe(), &outputs, &source, guest, is_cancelled || command.undoes);
        let [stdout, stderr] = &mut outputs;
        read(stdout, |bytes| news(guest, Event::Output(bytes)))?;
        read(stderr, |bytes| news(guest, Event::Error(bytes)))?;
        source.pump()?;
        if is_cancelled {
            // The server has sent a signal, too.
            if ticks_since_cancel == 0 {
                process.signal(Signal::Terminate);
            }
            ticks_since_cancel += u32::from(ready.is_tick);
            if ticks_since_cancel > PATIENCE {
                break;
            }
        } else if ready.is_tick {
            news(guest, Event::Tick)?;
        }
    }
    if !command.undoes {
        guest.go_on()?;
    }
    match process.poll() {
        Some(ended) => status(command, ended),
        None => bail!("compose {} does not end", command.verb),
    }
}

/// Starts the command, and waits as long as too many run.
fn start(guest: &mut Guest, command: &Compose<'_>, news: &mut News<'_>) -> Result<Running> {
    let params =
        [("verb", command.verb), ("slug", command.slug.as_str()), ("service", command.service), ("text", command.text)];
    let params = params.map(|(name, value)| (name.to_owned(), value.to_owned()));
    loop {
        match commands::start(NAME, &params) {
            Ok(running) => return Ok(running),
            Err(StartError::Busy(_)) => {
                news(guest, Event::Tick)?;
                guest.pause(BUSY);
                if !command.undoes {
                    guest.go_on()?;
                }
            }
            Err(StartError::NotGranted(why)) => bail!(
                "the containers of instances cannot be run, as the command {NAME} is not granted ({why}): the operator \
                 must grant it"
            ),
            Err(StartError::InvalidParameter(why)) => bail!("the grant of {NAME} does not fit this call: {why}"),
            Err(StartError::Failed(why)) => bail!("{NAME} cannot be run: {why}"),
        }
    }
}

struct Ready {
    is_tick: bool,
}

/// Waits until something can be done.
fn wait(
    end: &Pollable,
    outputs: &[Option<InputStream>; 2],
    source: &Source<'_>,
    guest: &Guest,
    ignores_cancel: bool,
) -> Ready {
    let clock = subscribe_duration(TICK);
    let mut all: Vec<Pollable> = outputs.iter().flatten().map(InputStream::subscribe).collect();
    all.extend(source.pollable());
    if !ignores_cancel && !guest.cleans_up {
        all.push(cancellation::subscribe());
    }
    let mut waited: Vec<&Pollable> = all.iter().collect();
    waited.push(&clock);
    // Outputs can last longer than the command, whose end is then no news.
    if outputs.iter().all(Option::is_none) {
        waited.push(end);
    }
    let tick = all.len() as u32;
    Ready { is_tick: poll(&waited).contains(&tick) }
}

fn read(output: &mut Option<InputStream>, news: impl FnOnce(&[u8]) -> Result<()>) -> Result<()> {
    let Some(stream) = output else { return Ok(()) };
    match InputStream::read(stream, PIECE) {
        Ok(bytes) if bytes.is_empty() => {}
        Ok(bytes) => news(&bytes)?,
        Err(_) => *output = None,
    }
    Ok(())
}

/// Where the input of the command comes from.
struct Source<'a> {
    from: From<'a>,
    /// Read, but not yet written.
    pending: Vec<u8>,
    /// `None` when the input has ended, or the command reads no more.
    to: Option<OutputStream>,
}

enum From<'a> {
    Content(&'a mut dyn Read),
    Client(InputStream),
    /// Whatever is pending is the rest.
    End,
}

impl<'a> Source<'a> {
    fn new(input: Input<'a>, to: OutputStream) -> Self {
        let from = match input {
            Input::Empty => From::End,
            Input::Content(content) => From::Content(content),
            Input::Client => From::Client(get_stdin()),
        };
        // The input of a command that gets none ends at once.
        let to = if matches!(from, From::End) { None } else { Some(to) };
        Self { from, pending: Vec::new(), to }
    }

    /// Returns what to wait for before the next [`Self::pump`].
    fn pollable(&self) -> Option<Pollable> {
        let to = self.to.as_ref()?;
        match &self.from {
            From::Client(stdin) if self.pending.is_empty() => Some(stdin.subscribe()),
            _ => Some(to.subscribe()),
        }
    }

    /// Moves bytes, as many as fit now.
    fn pump(&mut self) -> Result<()> {
        if self.to.is_none() {
            return Ok(());
        }
        if self.pending.is_empty() {
            self.fill()?;
        }
        let Some(to) = &self.to else { return Ok(()) };
        let written = match to.check_write() {
            Ok(room) => {
                let count = usize::try_from(room).unwrap_or(usize::MAX).min(self.pending.len());
                to.write(&self.pending[..count]).and_then(|()| to.flush()).map(|()| count)
            }
            Err(error) => Err(error),
        };
        match written {
            Ok(count) => _ = self.pending.drain(..count),
            Err(StreamError::Closed | StreamError::LastOperationFailed(_)) => {
                // The command reads no more, which is its own affair.
                self.pending.clear();
                self.to = None;
            }
        }
        if self.pending.is_empty() && matches!(self.from, From::End) {
            self.to = None;
        }
        Ok(())
    }

    fn fill(&mut self) -> Result<()> {
        match &mut self.from {
            From::Content(content) => {
                let mut piece = vec![0; PIECE as usize];
                let count = content.read(&mut piece).context("the input of a command cannot be read")?;
                piece.truncate(count);
                self.pending = piece;
                if count == 0 {
                    self.from = From::End;
                }
            }
            From::Client(stdin) => match InputStream::read(stdin, PIECE) {
                Ok(bytes) => self.pending = bytes,
                Err(_) => self.from = From::End,
            },
            From::End => {}
        }
        Ok(())
    }
}

fn status(command: &Compose<'_>, ended: Ended) -> Result<i32> {
    match (ended.bound, ended.status) {
        (Some(Bound::Time), _) => bail!("compose {} reached the time limit of its grant", command.verb),
        (Some(Bound::Output), _) => bail!("compose {} reached the output limit of its grant", command.verb),
        (None, Status::Exited(status)) => Ok(status.into()),
        // As shells say it.
        (None, Status::Signalled(signal)) => Ok(128 + i32::from(signal)),
    }
}
