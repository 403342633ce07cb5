//! Number of processes that wait at once: opens many sockets, each with an `echo` that waits for its next line, and
//! reports what the server needs to hold them.
//!
//! A process counts as open once its first line is back: it was started, has read, and waits again.

use crate::{
    client::{Target, call_message, connect, text, told},
    frame::{self, Frame, Inbox, Kind},
    machine::{self, Occupied},
};
use anyhow::{Context, Result, bail};
use std::{
    collections::BTreeMap,
    io::Write,
    net::TcpStream,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

/// Threads that open sockets: enough to keep the server busy, few enough to fit its backlog.
const OPENERS: usize = 16;

/// Time until an unopened socket counts as failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// Failures after which an opener stops: a full server can let each call wait, and meanwhile drops open sockets that do
/// not answer its pings.
const FAILURES_EACH: usize = 2;

/// Cost of holding the processes.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Scale {
    pub asked: usize,
    pub opened: usize,
    /// Until the last process was open, without the time of failures and of measurements in between.
    pub seconds: f64,
    /// Measurements on the way.
    pub series: Vec<Mark>,
    /// Processes that were not tried, because every opener had failed too often.
    pub not_tried: usize,
    /// Messages of the failures, and the number of each.
    pub failures: BTreeMap<String, usize>,
    /// Seconds of the fastest and the slowest failure.
    pub failed_within: Option<(f64, f64)>,
    pub before: Occupied,
    pub open: Occupied,
    /// After every client hung up, the server closed their sockets, and its memory stopped changing.
    pub after: Occupied,
    /// Processes that still echoed, of those that were asked again (first, middle, last).
    pub still_echo: usize,
    pub asked_again: usize,
}

/// Resources of the server with this many open processes.
#[derive(Clone, Copy, Debug, serde::Serialize, serde::Deserialize)]
pub struct Mark {
    pub opened: usize,
    /// Seconds since the first socket was opened.
    pub seconds: f64,
    pub occupied: Occupied,
}

impl Scale {
    /// Returns the server's memory for each open process.
    pub fn kib_each(&self) -> f64 {
        self.open.rss_kib.saturating_sub(self.before.rss_kib) as f64 / self.opened.max(1) as f64
    }

    pub fn mappings_each(&self) -> f64 {
        self.open.mappings.saturating_sub(self.before.mappings) as f64 / self.opened.max(1) as f64
    }
}

/// Measurements on the way, evenly distributed.
const PARTS: usize = 10;

pub fn run(target: &Target, asked: usize) -> Result<Scale> {
    machine::raise_open_files()?;
    let before = machine::occupied(target.pid)?;
    let (mut streams, mut failures) = (Vec::new(), BTreeMap::<String, usize>::new());
    let (mut seconds, mut series, mut failed_within) = (0.0, Vec::new(), None);
    for step in 1..=PARTS {
        let wanted = asked * step / PARTS;
        let opened = open_until(target, wanted - streams.len().min(wanted), &mut streams)?;
        seconds += opened.seconds;
        series.push(Mark { opened: streams.len(), seconds, occupied: machine::occupied(target.pid)? });
        for (message, took) in opened.failures {
            *failures.entry(message).or_default() += 1;
            let (least, most) = failed_within.unwrap_or((took, took));
            failed_within = Some((took.min(least), took.max(most)));
        }
        if !failures.is_empty() {
            break;
        }
    }
    let open = machine::occupied(target.pid)?;

    let opened = streams.len();
    let not_tried = asked - opened - failures.values().sum::<usize>().min(asked - opened);
    let mut again = if opened == 0 { vec![] } else { vec![0, opened / 2, opened - 1] };
    again.dedup();
    let mut still_echo = 0;
    for index in &again {
        match echoes(&mut streams[*index], &mut Inbox::new(), b"are you still there") {
            Ok(()) => still_echo += 1,
            Err(failed) => *failures.entry(format!("when asked again: {failed:#}")).or_default() += 1,
        }
    }

    let close = frame::close();
    for stream in &mut streams {
        // Sockets that are closed already need no close frame.
        let _ = stream.write_all(&close);
    }
    drop(streams);
    let after = settled(target.pid, before.open_files)?;
    let asked_again = again.len();
    Ok(Scale {
        asked,
        opened,
        seconds,
        series,
        not_tried,
        failures,
        failed_within,
        before,
        open,
        after,
        still_echo,
        asked_again,
    })
}

/// Result of opening several sockets.
struct Opened {
    /// Until the last of them was open.
    seconds: f64,
    /// Reasons and seconds of the failures.
    failures: Vec<(String, f64)>,
}

/// Opens this many more sockets with several openers.
fn open_until(target: &Target, more: usize, streams: &mut Vec<TcpStream>) -> Result<Opened> {
    let begun = Instant::now();
    let next = AtomicUsize::new(0);
    let last_opened = Mutex::new(begun);
    let opener = || {
        let (mut streams, mut failures) = (Vec::new(), Vec::new());
        let mut inbox = Inbox::new();
        while failures.len() < FAILURES_EACH && next.fetch_add(1, Relaxed) < more {
            let asked = Instant::now();
            match open(target, &mut inbox) {
                Ok(stream) => {
                    streams.push(stream);
                    *last_opened.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
                }
                Err(failed) => failures.push((format!("{failed:#}"), asked.elapsed().as_secs_f64())),
            }
        }
        (streams, failures)
    };
    let mut failures = Vec::new();
    thread::scope(|scope| {
        let openers: Vec<_> = (0..OPENERS).map(|_| scope.spawn(opener)).collect();
        for opener in openers {
            let (opened, failed) = opener.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            streams.extend(opened);
            failures.extend(failed);
        }
    });
    let last_opened = last_opened.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(Opened { seconds: (last_opened - begun).as_secs_f64(), failures })
}

fn open(target: &Target, inbox: &mut Inbox) -> Result<TcpStream> {
    let mut stream = connect(target, &frame::upgrade_request(&target.path), inbox)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(&call_message(target)).context("cannot send the call")?;
    echoes(&mut stream, inbox, b"are you there")?;
    Ok(stream)
}

fn echoes(stream: &mut TcpStream, inbox: &mut Inbox, line: &[u8]) -> Result<()> {
    stream.write_all(&text(line)).context("cannot send a line")?;
    match inbox.next_message(stream).context("waiting for the line")? {
        Some(Frame { kind: Kind::Text, payload }) if payload == line => Ok(()),
        // The message of the result is what a user would read.
        Some(Frame { kind: Kind::Binary, payload }) => bail!("{}", String::from_utf8_lossy(payload)),
        other => bail!("expected the line back, got {}", told(other)),
    }
}

/// Returns the server's resources after all clients left: once they are stable, or after half a minute.
fn settled(pid: u32, idle_files: usize) -> Result<Occupied> {
    let mut last = machine::occupied(pid)?;
    for _ in 0..60 {
        thread::sleep(Duration::from_millis(500));
        let before = std::mem::replace(&mut last, machine::occupied(pid)?);
        // The log file or a connection of the server itself can have been added.
        let closed = last.open_files <= idle_files + 8;
        if closed && last.mappings == before.mappings && last.rss_kib == before.rss_kib {
            break;
        }
    }
    Ok(last)
}
