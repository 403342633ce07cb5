//! How many processes wait at once: opens as many sockets as it is told, each with an `echo` that waits for its next
//! line, and says what the server needs to hold them.
//!
//! A process counts as open once its first line is back: it was started, read, and waits again.

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

/// Sockets are opened by so many threads at once: enough to keep the server busy, few enough to stay in its backlog.
const OPENERS: usize = 16;

/// How long one socket may take before it counts as failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// An opener that failed so often stops: a full server may let each call wait, and meanwhile it would give up those
/// that are open, because they do not answer its pings.
const FAILURES_EACH: usize = 2;

/// What it took to hold the processes.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Scale {
    pub asked: usize,
    pub opened: usize,
    /// Until the last of them was open; neither how long the others took to fail counts, nor the looks in between.
    pub seconds: f64,
    /// How it was on the way.
    pub series: Vec<Mark>,
    /// Those that were left when every opener had failed too often.
    pub not_tried: usize,
    /// The failures of those that did not open, and how many had each.
    pub failures: BTreeMap<String, usize>,
    /// How long the quickest and the slowest of those took, in seconds.
    pub failed_within: Option<(f64, f64)>,
    pub before: Occupied,
    pub open: Occupied,
    /// After every client hung up, once the server closed their sockets and its memory stopped changing.
    pub after: Occupied,
    /// How many of those that were asked again while all were open (first, middle, last) still echoed.
    pub still_echo: usize,
    pub asked_again: usize,
}

/// What the server occupies when so many are open.
#[derive(Clone, Copy, Debug, serde::Serialize, serde::Deserialize)]
pub struct Mark {
    pub opened: usize,
    /// Since the first was begun.
    pub seconds: f64,
    pub occupied: Occupied,
}

impl Scale {
    /// Memory of the server for each open process.
    pub fn kib_each(&self) -> f64 {
        self.open.rss_kib.saturating_sub(self.before.rss_kib) as f64 / self.opened.max(1) as f64
    }

    pub fn mappings_each(&self) -> f64 {
        self.open.mappings.saturating_sub(self.before.mappings) as f64 / self.opened.max(1) as f64
    }
}

/// Looks in between after each of these parts of all.
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
        // Those that are gone already need no goodbye.
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

/// What came of opening some.
struct Opened {
    /// Until the last of them was open.
    seconds: f64,
    /// Why others did not, and after how many seconds.
    failures: Vec<(String, f64)>,
}

/// Opens so many more, by several openers at once.
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
        // The message of the result is what the user would read.
        Some(Frame { kind: Kind::Binary, payload }) => bail!("{}", String::from_utf8_lossy(payload)),
        other => bail!("expected the line back, got {}", told(other)),
    }
}

/// What the server occupies once it is done with those that left, or when it is still not done after half a minute.
fn settled(pid: u32, idle_files: usize) -> Result<Occupied> {
    let mut last = machine::occupied(pid)?;
    for _ in 0..60 {
        thread::sleep(Duration::from_millis(500));
        let before = std::mem::replace(&mut last, machine::occupied(pid)?);
        // A log file or a connection of its own may have come since.
        let closed = last.open_files <= idle_files + 8;
        if closed && last.mappings == before.mappings && last.rss_kib == before.rss_kib {
            break;
        }
    }
    Ok(last)
}
