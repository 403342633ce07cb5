//! How long others wait while guests compute: a request, the cancel of one of those guests, and a whole new call, first on
//! a server that has nothing else to do, then among guests that spin.
//!
//! One client asks for one thing at a time, so that it never waits for itself.

use crate::{
    client::{Target, call_message, connect, expect_text, told},
    conversation::Conversation,
    frame::{self, Frame, Inbox, Kind},
};
use anyhow::{Context, Result, bail, ensure};
use std::{
    collections::VecDeque,
    io::{Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

/// How long anything may take before it counts as never.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a spinning guest says before it spins.
const BEGUN: &[u8] = b"spinning";

#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Fairness {
    pub guests: usize,
    pub idle: Waits,
    pub busy: Waits,
}

#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Waits {
    pub request: Wait,
    pub cancel: Wait,
    pub call: Wait,
}

/// Milliseconds.
#[derive(Clone, Copy, Debug, serde::Serialize, serde::Deserialize)]
pub struct Wait {
    pub times: usize,
    pub p50: f64,
    pub p99: f64,
    pub most: f64,
}

impl Wait {
    fn of(mut times: Vec<Duration>) -> Result<Self> {
        times.sort_unstable();
        let at = |part: f64| {
            let index = (times.len() as f64 * part) as usize;
            times.get(index.min(times.len().saturating_sub(1))).map(|time| time.as_secs_f64() * 1e3)
        };
        let none = "nothing was measured: give it more --seconds";
        Ok(Self {
            times: times.len(),
            p50: at(0.5).context(none)?,
            p99: at(0.99).context(none)?,
            most: at(1.0).context(none)?,
        })
    }
}

/// Measures for `time` without and for `time` with so many `guests` that spin.
pub fn run(spin: &Target, once: &Target, guests: usize, time: Duration) -> Result<Fairness> {
    let mut spinning = VecDeque::new();
    let idle = measure(spin, once, &mut spinning, time).context("while nothing else runs")?;
    for _ in 0..guests {
        spinning.push_back(begin(spin)?);
    }
    let busy = measure(spin, once, &mut spinning, time).context("while guests spin")?;
    Ok(Fairness { guests, idle, busy })
}

fn measure(spin: &Target, once: &Target, spinning: &mut VecDeque<Spinning>, time: Duration) -> Result<Waits> {
    let (mut requests, mut cancels, mut calls) = (Vec::new(), Vec::new(), Vec::new());
    let mut conversation = Conversation::new(once);
    let until = Instant::now() + time;
    while Instant::now() < until {
        requests.push(timed(|| request(once))?);
        calls.push(timed(|| conversation.hold())?);
        // One more than shall spin, the longest of which ends: as many are left.
        spinning.push_back(begin(spin)?);
        let mut oldest = spinning.pop_front().context("one was just added")?;
        cancels.push(timed(|| oldest.cancel())?);
    }
    Ok(Waits { request: Wait::of(requests)?, cancel: Wait::of(cancels)?, call: Wait::of(calls)? })
}

fn timed(what: impl FnOnce() -> Result<()>) -> Result<Duration> {
    let begun = Instant::now();
    what()?;
    Ok(begun.elapsed())
}

/// Asks who is there, over a connection of its own.
fn request(target: &Target) -> Result<()> {
    let mut stream = TcpStream::connect(target.address).context("cannot connect")?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET /api/v1/auth HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).context("waiting for the answer to a request")?;
    ensure!(answer.starts_with("HTTP/1.1 200 "), "a request was answered with {answer:?}");
    Ok(())
}

/// A guest that spins, as its client holds it.
struct Spinning {
    stream: TcpStream,
    inbox: Inbox,
}

fn begin(target: &Target) -> Result<Spinning> {
    let mut inbox = Inbox::new();
    let mut stream = connect(target, &frame::upgrade_request(&target.path), &mut inbox)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(&call_message(target)).context("cannot send the call")?;
    expect_text(&mut inbox, &mut stream, BEGUN).context("waiting for a guest to begin")?;
    Ok(Spinning { stream, inbox })
}

impl Spinning {
    /// Until the result is there.
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
