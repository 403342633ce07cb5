//! Delays for others while guests compute: a request, a new call, and the cancel of guests that end in each of the
//! three ways; first on an idle server, then among more and more spinning guests.
//!
//! One client makes one request at a time, so that it never waits for itself.

use crate::{
    client::{Target, call_message, connect, expect_text, text, told},
    conversation::Conversation,
    frame::{self, Frame, Inbox, Kind},
    report::short,
    section::{Chart, Section, part},
    site,
};
use anyhow::{Context, Result, bail, ensure};
use std::{
    collections::VecDeque,
    io::Write,
    net::TcpStream,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

/// Longest measured delay; anything longer counts as never.
const PATIENCE: Duration = Duration::from_secs(20);

/// First output of the guests. A guest that echoes repeats its input.
const SPINS: &[u8] = b"spinning";
const SLEEPS: &[u8] = b"sleeping";
const ECHOES: &[u8] = b"echoing";

/// Fact with the time in which the floor ends a thread of its own.
pub const NATIVE: &str = "a cancel, a thread of the floor p99";

/// Numbers of spinning guests.
const LOADS: [usize; 5] = [0, 1, 4, 16, 64];

/// How long guests are busy before they begin anew.
const STAY: Duration = Duration::from_millis(300);

/// Interval of the client that makes requests all the time.
const PAUSE: Duration = Duration::from_millis(5);

/// Guests to cancel, by the way they end: what each is sent, and its first output.
pub struct Steps {
    /// Ends when its input ends.
    pub told: Target,
    /// Waits in a host call, without a grace period.
    pub dropped: Target,
    /// Computes, without a grace period.
    pub interrupted: Target,
    /// The same by the floor: a thread of its own, and a flag.
    pub native: Target,
    /// Guests that keep the host busy, rather than a processor.
    pub busy: Vec<Busy>,
}

/// Guests of one kind, beside which requests are made.
pub struct Busy {
    pub what: &'static str,
    pub count: usize,
    pub target: Target,
    /// What each says when it has begun.
    pub says: &'static [u8],
}

/// Measures for `time` at each load.
pub fn run(steps: &Steps, once: &Target, time: Duration) -> Result<Section> {
    let mut section = Section::new(
        "Cancel and fairness",
        "Many guests compute forever. Meanwhile one client makes a whole call with one line each way, starts a guest that \
         prints a line and then computes, and cancels three guests: one that ends by itself, one that sleeps in the host \
         and is dropped, and one that computes and is interrupted, the last two without a grace period; each from the \
         signal to the result. Another client requests GET `auth` all the time, over a new connection each time.",
    );
    let (_, mut native) =
        beside_requests(&steps.native, || cancels(&steps.native, time)).context("a thread of the floor")?;
    let (median, late) = (part(&mut native, 0.5), part(&mut native, 0.99));
    section.notes.push(format!(
        "The floor ends a computing thread, as nice as the guest threads, by a flag, with the same requests for GET `auth`: \
         {} ms median, {} ms p99. Anything above is the server's own.",
        short(median),
        short(late)
    ));
    section.fact(NATIVE, late);
    let chart = |file: &str, title: &str| {
        // An axis by tens has no zero.
        Chart { log_x: false, ..Chart::by_tens(file, title, "guests that spin", "ms") }
    };
    let mut p50 = chart("waits-by-load-p50", "Delay for others, median");
    let mut p99 = chart("waits-by-load-p99", "Delay for others, p99");
    let mut spinning = VecDeque::new();
    for load in LOADS {
        while spinning.len() < load {
            spinning.push_back(begin(&steps.interrupted, SPINS)?);
        }
        let waits = measure(steps, once, &mut spinning, time).with_context(|| format!("while {load} guests spin"))?;
        for (what, mut times) in waits {
            ensure!(!times.is_empty(), "nothing was measured: use more --seconds");
            let (median, late) = (part(&mut times, 0.5), part(&mut times, 0.99));
            eprintln!("  {load} spin: {what:<28} {median:>8.3} ms median {late:>8.3} ms p99, {} times", times.len());
            p50.add(what, load as f64, median);
            p99.add(what, load as f64, late);
            section.fact(&format!("{what} {load} p50"), median);
            section.fact(&format!("{what} {load} p99"), late);
        }
    }
    drop(spinning);
    for busy in &steps.busy {
        let (median, late) =
            beside_busy(busy, once, time).with_context(|| format!("beside guests that {}", busy.what))?;
        section.notes.push(format!(
            "Beside {} guests that {}, GET `auth` takes {} ms median, {} ms p99.",
            busy.count,
            busy.what,
            short(median),
            short(late)
        ));
        section.fact(&format!("GET auth beside guests that {} p99", busy.what), late);
    }
    section.charts = vec![p50, p99];
    Ok(section)
}

/// How long GET `auth` takes while guests are busy that begin over and over: the median, and p99.
fn beside_busy(busy: &Busy, asked: &Target, time: Duration) -> Result<(f64, f64)> {
    let (mut requests, ()) = beside_requests(asked, || {
        let until = Instant::now() + time;
        while Instant::now() < until {
            let held = (0..busy.count).map(|_| begin(&busy.target, busy.says)).collect::<Result<Vec<_>>>()?;
            thread::sleep(STAY);
            drop(held);
        }
        Ok(())
    })?;
    ensure!(!requests.is_empty(), "nothing was measured: give it more --seconds");
    let (median, late) = (part(&mut requests, 0.5), part(&mut requests, 0.99));
    eprintln!("  beside {} that {}: GET auth {median:.3} ms median {late:.3} ms p99", busy.count, busy.what);
    Ok((median, late))
}

type Waits = [(&'static str, Vec<Duration>); 6];

fn measure(steps: &Steps, once: &Target, spinning: &mut VecDeque<Held>, time: Duration) -> Result<Waits> {
    let (requests, measured) = beside_requests(once, || calls_and_cancels(steps, once, spinning, time))?;
    let [calls, begun, told, dropped, interrupted] = measured;
    Ok([
        ("GET auth", requests),
        ("a whole new call", calls),
        ("a first line before computing", begun),
        ("a cancel, told", told),
        ("a cancel, dropped", dropped),
        ("a cancel, interrupted", interrupted),
    ])
}

/// Requests GET `auth` while something else runs, and returns the duration of each response.
fn beside_requests<T>(asked: &Target, what: impl FnOnce() -> Result<T>) -> Result<(Vec<Duration>, T)> {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let asking = scope.spawn(|| -> Result<Vec<Duration>> {
            let mut requests = Vec::new();
            while !stop.load(Relaxed) {
                requests.push(site::request(asked.address, "/api/v1/auth")?);
                thread::sleep(PAUSE);
            }
            Ok(requests)
        });
        let done = what();
        stop.store(true, Relaxed);
        let requests = asking.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok((requests, done?))
    })
}

fn calls_and_cancels(
    steps: &Steps,
    once: &Target,
    spinning: &mut VecDeque<Held>,
    time: Duration,
) -> Result<[Vec<Duration>; 5]> {
    let mut waits: [Vec<Duration>; 5] = Default::default();
    let [calls, first, told, dropped, interrupted] = &mut waits;
    let mut conversation = Conversation::new(once);
    let until = Instant::now() + time;
    while Instant::now() < until {
        calls.push(timed(|| conversation.hold())?);
        let mut guest = begin(&steps.told, ECHOES)?;
        told.push(timed(|| guest.cancel())?);
        let mut guest = begin(&steps.dropped, SLEEPS)?;
        dropped.push(timed(|| guest.cancel())?);
        // Starts one more than wanted and ends the oldest, so that the number stays the same.
        let begun = Instant::now();
        spinning.push_back(begin(&steps.interrupted, SPINS)?);
        first.push(begun.elapsed());
        let mut oldest = spinning.pop_front().context("one was just added")?;
        interrupted.push(timed(|| oldest.cancel())?);
    }
    Ok(waits)
}

fn cancels(target: &Target, time: Duration) -> Result<Vec<Duration>> {
    let mut waits = Vec::new();
    let until = Instant::now() + time;
    while Instant::now() < until {
        let mut spinning = begin(target, SPINS)?;
        waits.push(timed(|| spinning.cancel())?);
    }
    Ok(waits)
}

fn timed(what: impl FnOnce() -> Result<()>) -> Result<Duration> {
    let begun = Instant::now();
    what()?;
    Ok(begun.elapsed())
}

/// A running guest, as its client holds it.
struct Held {
    stream: TcpStream,
    inbox: Inbox,
}

fn begin(target: &Target, says: &[u8]) -> Result<Held> {
    let mut inbox = Inbox::new();
    let mut stream = connect(target, &frame::upgrade_request(&target.path), &mut inbox)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(&call_message(target)).context("cannot send the call")?;
    if says == ECHOES {
        stream.write_all(&text(ECHOES))?;
    }
    expect_text(&mut inbox, &mut stream, says).context("waiting for a guest to begin")?;
    Ok(Held { stream, inbox })
}

impl Held {
    /// Waits for the result.
    fn cancel(&mut self) -> Result<()> {
        let mut signal = Vec::new();
        frame::push(&mut signal, Kind::Binary, br#"{"signal":"cancel"}"#);
        self.stream.write_all(&signal)?;
        match self.inbox.next_message(&mut self.stream).context("waiting for the end of a cancelled guest")? {
            Some(Frame { kind: Kind::Binary, payload })
                if payload.starts_with(br#"{"success":false,"message":"cancelled by the client"#) =>
            {
                Ok(())
            }
            other => bail!("expected the result of a cancelled call, got {}", told(other)),
        }
    }
}
