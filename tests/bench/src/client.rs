//! The client: loads one server with one workload, checks every byte that comes back, and reports the cost.
//!
//! It is a separate process, frames by hand, and allocates its buffers before the clock starts: it leaves as much of
//! the machine as possible to the server.

use crate::{
    conversation::{Conversation, Ready},
    frame::{self, Frame, Inbox, Kind},
    machine,
    request::{Asker, Resource},
};
use anyhow::{Context, Result, bail, ensure};
use futures_util::{TryStreamExt, stream::FuturesUnordered};
use std::{
    io::Write,
    net::{SocketAddr, TcpStream},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

/// Line of the workloads that send one line at a time: 31 bytes, as in the pipeline.
pub const LINE: &[u8] = b"the line that is there and back";

/// Lines that are sent repeatedly. Each is numbered, so that a lost or reordered line is noticed.
const LINES: usize = 1 << 16;

/// Lines that the pipeline writes at once. Divides `LINES`.
const LINES_A_WRITE: usize = 2048;

/// Line that ends the pipeline.
const LAST: &[u8] = b"the last one";

/// Time before the clock starts, which warms caches and pools.
pub const WARM_UP: Duration = Duration::from_millis(300);

/// A server, and how to talk to it.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Target {
    pub address: SocketAddr,
    pub path: String,
    /// Process whose CPU time is measured.
    pub pid: u32,
    /// Call to run. `None` for a server that needs only a socket and sends no result.
    pub call: Option<String>,
    /// `Authorization` header of requests that need a user.
    pub token: Option<String>,
    /// Whether a whole call is a request with the line, because the server has no websocket.
    pub requests: bool,
}

/// A kind of load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Workload {
    /// Whole calls, one after the other, by this many clients at once.
    Calls { clients: usize },
    /// Lines through one socket, at most this many unanswered. An even number that divides 65,536.
    Window { lines: usize },
    /// Lines through one socket, as fast as it accepts them, while another thread reads the answers.
    Pipeline,
    /// Lines through one socket, each sent once the previous one has come back.
    ThereAndBack,
    /// Requests for one resource, by this many clients at once, each over its own connection.
    Requests { resource: Resource, clients: usize },
    /// Lines through this many sockets at once, one unanswered on each.
    Sockets { sockets: usize },
    /// Lines of this many bytes through one socket, with up to [`ON_THEIR_WAY`] bytes unanswered.
    Length { bytes: usize },
}

/// Unanswered bytes of long lines; a longer line goes alone.
const ON_THEIR_WAY: usize = 128 << 10;

/// Result of one run of a workload.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Run {
    /// Number of calls or lines.
    pub done: u64,
    pub seconds: f64,
    pub per_second: f64,
    pub p50_us: Option<f64>,
    pub p99_us: Option<f64>,
    /// Cores that the client kept busy.
    pub client_cores: f64,
    /// Cores that the server kept busy, including its ended children.
    pub server_cores: f64,
    /// Share of the time in which the busiest thread of the client was on a CPU.
    pub busiest_thread: f64,
    /// Bottleneck, if it was not the server.
    pub held_back_by: Option<HeldBack>,
}

/// A limit on the server that the client caused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HeldBack {
    /// A thread of the client was never idle.
    BusyClient,
    /// No core was idle, and the client used more of them than the server. Most of this is the kernel's half of each
    /// connection; a client on another machine would leave more to the server.
    FullMachine,
}

/// Measures from its creation on.
struct Meter {
    pid: u32,
    begun: Instant,
    client: Duration,
    server: Duration,
}

impl Meter {
    fn start(pid: u32) -> Result<Self> {
        Ok(Self { pid, server: machine::cpu_of(pid)?, client: machine::own_cpu(), begun: Instant::now() })
    }

    fn stop(self) -> Result<Used> {
        let time = self.begun.elapsed();
        let client = machine::own_cpu() - self.client;
        let server = machine::cpu_of(self.pid)?.saturating_sub(self.server);
        Ok(Used { time, client_cores: share(client, time), server_cores: share(server, time) })
    }
}

/// Measurements of a [`Meter`].
struct Used {
    time: Duration,
    client_cores: f64,
    server_cores: f64,
}

impl Run {
    fn new(used: &Used, done: u64, busiest_thread: f64, mut micros: Vec<f32>) -> Result<Self> {
        let Used { time, client_cores, server_cores } = *used;
        let (seconds, cores) = (time.as_secs_f64(), machine::cores() as f64);
        ensure!(done > 0, "nothing came back within {seconds:.1} s");
        let held_back_by = if busiest_thread >= 0.9 {
            Some(HeldBack::BusyClient)
        } else if client_cores + server_cores >= 0.9 * cores && client_cores > server_cores {
            Some(HeldBack::FullMachine)
        } else {
            None
        };
        micros.sort_unstable_by(f32::total_cmp);
        let percentile = |part: f64| micros.get((micros.len() as f64 * part) as usize).map(|it| f64::from(*it));
        Ok(Self {
            done,
            seconds,
            per_second: done as f64 / seconds,
            p50_us: percentile(0.5),
            p99_us: percentile(0.99),
            client_cores,
            server_cores,
            busiest_thread,
            held_back_by,
        })
    }
}

pub fn run(target: &Target, workload: Workload, time: Duration) -> Result<Run> {
    match workload {
        Workload::Calls { clients } => calls(target, clients, time),
        Workload::Window { lines } => window(target, lines, time),
        Workload::Pipeline => pipeline(target, time),
        Workload::ThereAndBack => there_and_back(target, time),
        Workload::Requests { resource, clients } => loaded(target, clients, time, |share, phase| {
            let token = target.token.as_deref().filter(|_| resource == Resource::Auth);
            askers(target, resource, token, share, phase)
        }),
        Workload::Sockets { sockets } => {
            machine::raise_open_files()?;
            loaded(target, sockets, time, |share, phase| echoes(target, share, phase))
        }
        Workload::Length { bytes } => long_lines(target, bytes, time),
    }
}

/// Opens a socket and requests an upgrade.
pub fn connect(target: &Target, request: &[u8], inbox: &mut Inbox) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(target.address).context("cannot connect")?;
    stream.set_nodelay(true)?;
    stream.write_all(request)?;
    inbox.clear();
    while !inbox.upgraded()? {
        ensure!(inbox.fill(&mut stream)? > 0, "the server hung up before it upgraded");
    }
    Ok(stream)
}

/// Runs a whole call without input, and returns the line of its output.
pub fn said(target: &Target, inbox: &mut Inbox) -> Result<Vec<u8>> {
    let mut stream = connect(target, &frame::upgrade_request(&target.path), inbox)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    stream.write_all(&call_message(target))?;
    let line = match inbox.next_message(&mut stream)? {
        Some(Frame { kind: Kind::Text, payload }) => payload.to_vec(),
        other => bail!("expected a line, got {}", told(other)),
    };
    match inbox.next_message(&mut stream)? {
        Some(Frame { kind: Kind::Binary, payload: br#"{"success":true}"# }) => {}
        other => bail!("expected the result, got {}", told(other)),
    }
    match inbox.next_message(&mut stream)? {
        Some(Frame { kind: Kind::Close, .. }) => {}
        other => bail!("expected a close frame, got {}", told(other)),
    }
    stream.write_all(&frame::close())?;
    Ok(line)
}

/// Returns the call message, if the server takes one.
pub fn call_message(target: &Target) -> Vec<u8> {
    let mut out = Vec::new();
    if let Some(call) = &target.call {
        let message = serde_json::json!({"call": call, "params": []}).to_string();
        frame::push(&mut out, Kind::Binary, message.as_bytes());
    }
    out
}

/// Returns a text frame with `line`.
pub fn text(line: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    frame::push(&mut out, Kind::Text, line);
    out
}

/// Takes the next message, which must be the text `line`.
pub fn expect_text(inbox: &mut Inbox, stream: &mut TcpStream, line: &[u8]) -> Result<()> {
    match inbox.next_message(stream)? {
        Some(Frame { kind: Kind::Text, payload }) if payload == line => Ok(()),
        other => bail!("expected the line back, got {}", told(other)),
    }
}

/// Describes a frame, for errors.
pub fn told(frame: Option<Frame<'_>>) -> String {
    match frame {
        Some(Frame { kind: Kind::Close, payload: [high, low, reason @ ..] }) => {
            format!("a close frame {} {}", u16::from_be_bytes([*high, *low]), String::from_utf8_lossy(reason))
        }
        Some(Frame { kind, payload }) => format!("a {kind:?} frame: {}", String::from_utf8_lossy(payload)),
        None => "the end of the stream".into(),
    }
}

/// Measurements of one client thread: the microseconds of each call, and its share of CPU time.
type Seen = (Vec<f32>, f64);

/// Start and end of the time in which calls count.
#[derive(Default)]
struct Phase {
    counting: AtomicBool,
    stop: AtomicBool,
    /// Clients that have completed their first call, or have a socket.
    begun: AtomicUsize,
}

impl Phase {
    fn goes_on(&self) -> bool {
        !self.stop.load(Relaxed)
    }

    fn counts(&self) -> bool {
        self.counting.load(Relaxed) && self.goes_on()
    }

    fn stop(&self) {
        self.stop.store(true, Relaxed);
    }
}

fn calls(target: &Target, clients: usize, time: Duration) -> Result<Run> {
    loaded(target, clients, time, |share, phase| {
        if clients == 1 { one_client(target, phase) } else { many_clients(target, share, phase) }
    })
}

/// Runs a task for each of many clients, distributed over threads.
fn loaded(
    target: &Target,
    clients: usize,
    time: Duration,
    client: impl Fn(usize, &Phase) -> Result<Seen> + Sync,
) -> Result<Run> {
    let phase = Phase::default();
    // One thread for each client would switch on each wait; more threads than cores gain nothing.
    let threads = clients.min(machine::cores());
    thread::scope(|scope| {
        let started: Vec<_> = (0..threads)
            .map(|thread| {
                let (phase, share) = (&phase, clients / threads + usize::from(thread < clients % threads));
                let client = &client;
                scope.spawn(move || {
                    // One failure stops all clients.
                    client(share, phase).inspect_err(|_| phase.stop())
                })
            })
            .collect();
        // Counting starts once every client is active.
        while phase.begun.load(Relaxed) < clients && phase.goes_on() {
            thread::sleep(Duration::from_millis(5));
        }
        sleep_while(&phase, WARM_UP);
        let meter = Meter::start(target.pid);
        phase.counting.store(true, Relaxed);
        sleep_while(&phase, time);
        phase.stop();
        let used = meter.and_then(Meter::stop);
        let (mut micros, mut busiest) = (Vec::new(), 0f64);
        for thread in started {
            let (more, busy) = joined(thread.join())?;
            micros.extend(more);
            busiest = busiest.max(busy);
        }
        Run::new(&used?, micros.len() as u64, busiest, micros)
    })
}

fn one_client(target: &Target, phase: &Phase) -> Result<Seen> {
    let mut conversation = Conversation::new(target);
    let mut micros = Vec::with_capacity(1 << 16);
    let (started, cpu) = (Instant::now(), machine::thread_cpu());
    conversation.hold()?;
    phase.begun.fetch_add(1, Relaxed);
    while phase.goes_on() {
        let begun = Instant::now();
        conversation.hold()?;
        if phase.counts() {
            micros.push(begun.elapsed().as_secs_f32() * 1e6);
        }
    }
    Ok((micros, share(machine::thread_cpu() - cpu, started.elapsed())))
}

fn many_clients(target: &Target, clients: usize, phase: &Phase) -> Result<Seen> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let client = || async {
        let mut conversation = Conversation::new(target);
        let mut micros = Vec::new();
        conversation.hold_among_others().await?;
        phase.begun.fetch_add(1, Relaxed);
        while phase.goes_on() {
            let begun = Instant::now();
            conversation.hold_among_others().await?;
            if phase.counts() {
                micros.push(begun.elapsed().as_secs_f32() * 1e6);
            }
        }
        anyhow::Ok(micros)
    };
    let (started, cpu) = (Instant::now(), machine::thread_cpu());
    let all: FuturesUnordered<_> = (0..clients).map(|_| client()).collect();
    let micros: Vec<Vec<f32>> = runtime.block_on(all.try_collect())?;
    Ok((micros.concat(), share(machine::thread_cpu() - cpu, started.elapsed())))
}

fn askers(target: &Target, resource: Resource, token: Option<&str>, clients: usize, phase: &Phase) -> Result<Seen> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let client = || async {
        let mut asker = Asker::connect(target.address, resource, token).await?;
        let mut micros = Vec::with_capacity(1 << 16);
        asker.ask().await?;
        phase.begun.fetch_add(1, Relaxed);
        while phase.goes_on() {
            let begun = Instant::now();
            asker.ask().await?;
            if phase.counts() {
                micros.push(begun.elapsed().as_secs_f32() * 1e6);
            }
        }
        anyhow::Ok(micros)
    };
    let (started, cpu) = (Instant::now(), machine::thread_cpu());
    let all: FuturesUnordered<_> = (0..clients).map(|_| client()).collect();
    let micros: Vec<Vec<f32>> = runtime.block_on(all.try_collect())?;
    Ok((micros.concat(), share(machine::thread_cpu() - cpu, started.elapsed())))
}

/// Numbered lines of equal length, and their frames.
struct Numbered {
    lines: Vec<Vec<u8>>,
    frames: Vec<u8>,
}

impl Numbered {
    fn new() -> Self {
        let lines: Vec<Vec<u8>> =
            (0..LINES).map(|number| format!("line {number:05} of the long pipeline").into_bytes()).collect();
        let mut frames = Vec::new();
        lines.iter().for_each(|line| frame::push(&mut frames, Kind::Text, line));
        Self { lines, frames }
    }

    /// Returns the frames of `count` lines, starting with number `first`, counted over all repetitions.
    fn frames(&self, first: u64, count: usize) -> &[u8] {
        let length = self.frames.len() / LINES;
        let first = first as usize % LINES;
        &self.frames[first * length..(first + count) * length]
    }

    /// Tells whether `payload` is the line with this number.
    fn is(&self, number: u64, payload: &[u8]) -> bool {
        self.lines[number as usize % LINES] == payload
    }
}

fn window(target: &Target, lines: usize, time: Duration) -> Result<Run> {
    let half = lines / 2;
    ensure!(half > 0 && LINES.is_multiple_of(half), "a window of {lines} lines is not an even part of {LINES}");
    let numbered = Numbered::new();
    let mut inbox = Inbox::new();
    let mut stream = connect(target, &frame::upgrade_request(&target.path), &mut inbox)?;
    stream.write_all(&call_message(target))?;
    let (mut sent, mut received) = (0, 0);
    let begun = Instant::now();
    let mut measuring: Option<(u64, Meter, Duration)> = None;
    loop {
        // The server always has between half a window and a whole one to work on.
        while sent - received <= half as u64 {
            stream.write_all(numbered.frames(sent, half))?;
            sent += half as u64;
        }
        ensure!(inbox.fill(&mut stream)? > 0, "the server hung up after {received} lines");
        while let Some(frame) = inbox.ready()? {
            match frame {
                Frame { kind: Kind::Text, payload } if numbered.is(received, payload) => received += 1,
                Frame { kind: Kind::Ping | Kind::Pong, .. } => {}
                other => bail!("expected line {received}, got {}", told(Some(other))),
            }
        }
        match measuring.take() {
            None if begun.elapsed() < WARM_UP => {}
            None => measuring = Some((received, Meter::start(target.pid)?, machine::thread_cpu())),
            Some(it) if begun.elapsed() < WARM_UP + time => measuring = Some(it),
            Some((before, meter, cpu)) => {
                let used = meter.stop()?;
                let busy = share(machine::thread_cpu() - cpu, used.time);
                stream.write_all(&frame::close())?;
                return Run::new(&used, received - before, busy, Vec::new());
            }
        }
    }
}

fn pipeline(target: &Target, time: Duration) -> Result<Run> {
    let numbered = Numbered::new();
    let mut inbox = Inbox::new();
    let mut stream = connect(target, &frame::upgrade_request(&target.path), &mut inbox)?;
    stream.write_all(&call_message(target))?;
    let mut sending = stream.try_clone()?;

    thread::scope(|scope| {
        let sender = scope.spawn(|| -> Result<(u64, f64)> {
            let (begun, cpu) = (Instant::now(), machine::thread_cpu());
            let mut sent = 0;
            while begun.elapsed() < WARM_UP + time {
                sending.write_all(numbered.frames(sent, LINES_A_WRITE))?;
                sent += LINES_A_WRITE as u64;
            }
            sending.write_all(&text(LAST))?;
            Ok((sent, share(machine::thread_cpu() - cpu, begun.elapsed())))
        });
        let received = receive(target, &numbered, &mut stream, &mut inbox);
        if received.is_err() {
            // The sender can be waiting for a server that waits for the reader.
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
        let sent = joined(sender.join());
        let received = received?;
        let (sent, sender_busy) = sent?;
        ensure!(sent == received.all, "{sent} lines were sent, and {} came back", received.all);
        // Tells the server that the client is gone.
        stream.write_all(&frame::close())?;
        Run::new(&received.used, received.counted, received.busy.max(sender_busy), Vec::new())
    })
}

/// Lines that came out of the pipeline.
struct Received {
    all: u64,
    /// Lines after the warm-up.
    counted: u64,
    used: Used,
    busy: f64,
}

fn receive(target: &Target, numbered: &Numbered, stream: &mut TcpStream, inbox: &mut Inbox) -> Result<Received> {
    let begun = Instant::now();
    let mut all = 0u64;
    let mut measuring = None;
    loop {
        while let Some(frame) = inbox.ready()? {
            match frame {
                Frame { kind: Kind::Text, payload } if numbered.is(all, payload) => all += 1,
                Frame { kind: Kind::Text, payload } if payload == LAST => {
                    let (before, meter, cpu): (u64, Meter, Duration) =
                        measuring.context("the pipeline ended before it was warm")?;
                    let used = meter.stop()?;
                    let busy = share(machine::thread_cpu() - cpu, used.time);
                    return Ok(Received { all, counted: all - before, used, busy });
                }
                Frame { kind: Kind::Ping | Kind::Pong, .. } => {}
                other => bail!("expected line {all} of the pipeline, got {}", told(Some(other))),
            }
        }
        if measuring.is_none() && begun.elapsed() >= WARM_UP {
            measuring = Some((all, Meter::start(target.pid)?, machine::thread_cpu()));
        }
        ensure!(inbox.fill(stream)? > 0, "the server hung up after {all} lines");
    }
}

fn there_and_back(target: &Target, time: Duration) -> Result<Run> {
    let mut inbox = Inbox::new();
    let mut stream = connect(target, &frame::upgrade_request(&target.path), &mut inbox)?;
    stream.write_all(&call_message(target))?;
    let line = text(LINE);
    let mut once = || {
        stream.write_all(&line)?;
        expect_text(&mut inbox, &mut stream, LINE)
    };
    let warm = Instant::now() + WARM_UP;
    while Instant::now() < warm {
        once()?;
    }
    let mut micros = Vec::with_capacity(1 << 18);
    let (meter, cpu) = (Meter::start(target.pid)?, machine::thread_cpu());
    let mut before = Instant::now();
    let until = before + time;
    while before < until {
        once()?;
        let now = Instant::now();
        micros.push((now - before).as_secs_f32() * 1e6);
        before = now;
    }
    let used = meter.stop()?;
    let busy = share(machine::thread_cpu() - cpu, used.time);
    stream.write_all(&frame::close())?;
    Run::new(&used, micros.len() as u64, busy, micros)
}

/// Sockets of one thread, each with one unanswered line at a time.
fn echoes(target: &Target, sockets: usize, phase: &Phase) -> Result<Seen> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let (request, opening, line) = (frame::upgrade_request(&target.path), call_message(target), text(LINE));
    let _entered = runtime.enter();
    let mut streams = Vec::with_capacity(sockets);
    for _ in 0..sockets {
        let mut inbox = Inbox::small();
        let mut stream = connect(target, &request, &mut inbox)?;
        stream.write_all(&opening)?;
        stream.set_nonblocking(true)?;
        streams.push((tokio::net::TcpStream::from_std(stream)?, inbox));
        phase.begun.fetch_add(1, Relaxed);
    }
    let echo = |(stream, mut inbox): (tokio::net::TcpStream, Inbox)| {
        let line = &line;
        async move {
            let mut micros = Vec::new();
            // The runtime has not reported the socket as ready yet.
            stream.writable().await?;
            while phase.goes_on() {
                let begun = Instant::now();
                // One line always fits the socket.
                Ready(&stream).write_all(line)?;
                while !came_back(&mut inbox, &stream)? {
                    stream.readable().await?;
                }
                if phase.counts() {
                    micros.push(begun.elapsed().as_secs_f32() * 1e6);
                }
            }
            Ready(&stream).write_all(&frame::close())?;
            anyhow::Ok(micros)
        }
    };
    let (started, cpu) = (Instant::now(), machine::thread_cpu());
    let all: FuturesUnordered<_> = streams.into_iter().map(echo).collect();
    let micros: Vec<Vec<f32>> = runtime.block_on(all.try_collect())?;
    Ok((micros.concat(), share(machine::thread_cpu() - cpu, started.elapsed())))
}

/// Reads available bytes, and tells whether they complete the line.
fn came_back(inbox: &mut Inbox, stream: &tokio::net::TcpStream) -> Result<bool> {
    match inbox.fill(&mut Ready(stream)) {
        Ok(0) => bail!("the server hung up"),
        Err(later) if later.kind() == std::io::ErrorKind::WouldBlock => return Ok(false),
        read => read?,
    };
    while let Some(frame) = inbox.ready()? {
        match frame {
            Frame { kind: Kind::Text, payload } if payload == LINE => return Ok(true),
            Frame { kind: Kind::Ping | Kind::Pong, .. } => {}
            other => bail!("expected the line back, got {}", told(Some(other))),
        }
    }
    Ok(false)
}

fn long_lines(target: &Target, bytes: usize, time: Duration) -> Result<Run> {
    let line: Vec<u8> = (0..bytes).map(|at| b'a' + (at % 23) as u8).collect();
    let frame = text(&line);
    let at_once = (ON_THEIR_WAY / bytes.max(32)).clamp(1, 1024) as u64;
    let half = at_once.div_ceil(2);
    let frames = frame.repeat(half as usize);
    let mut inbox = Inbox::new();
    let mut stream = connect(target, &frame::upgrade_request(&target.path), &mut inbox)?;
    stream.write_all(&call_message(target))?;
    let (mut sent, mut received) = (0, 0u64);
    let begun = Instant::now();
    let mut measuring: Option<(u64, Meter, Duration)> = None;
    loop {
        while sent - received < half {
            stream.write_all(&frames)?;
            sent += half;
        }
        ensure!(inbox.fill(&mut stream)? > 0, "the server hung up after {received} lines");
        while let Some(frame) = inbox.ready()? {
            match frame {
                Frame { kind: Kind::Text, payload } if payload == line => received += 1,
                Frame { kind: Kind::Ping | Kind::Pong, .. } => {}
                other => bail!("expected a line of {bytes} bytes back, got {:.200}", told(Some(other))),
            }
        }
        match measuring.take() {
            None if begun.elapsed() < WARM_UP => {}
            None => measuring = Some((received, Meter::start(target.pid)?, machine::thread_cpu())),
            Some(it) if begun.elapsed() < WARM_UP + time => measuring = Some(it),
            Some((before, meter, cpu)) => {
                let used = meter.stop()?;
                let busy = share(machine::thread_cpu() - cpu, used.time);
                stream.write_all(&frame::close())?;
                return Run::new(&used, received - before, busy, Vec::new());
            }
        }
    }
}

fn share(cpu: Duration, of: Duration) -> f64 {
    cpu.as_secs_f64() / of.as_secs_f64().max(1e-9)
}

/// Sleeps until the deadline, or until something fails.
fn sleep_while(phase: &Phase, time: Duration) {
    let until = Instant::now() + time;
    while let Some(left) = until.checked_duration_since(Instant::now())
        && phase.goes_on()
    {
        thread::sleep(left.min(Duration::from_millis(50)));
    }
}

fn joined<T>(joined: thread::Result<Result<T>>) -> Result<T> {
    joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::floor;

    /// A floor within this process.
    fn floor(call: &str) -> Target {
        served(call, floor::router(None))
    }

    fn served(call: &str, router: axum::Router) -> Target {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let listen = || tokio::net::TcpListener::from_std(listener).unwrap();
            runtime.block_on(async { floor::serve(listen(), router).await })
        });
        Target {
            address,
            path: floor::PATH.into(),
            pid: std::process::id(),
            call: Some(call.into()),
            token: None,
            requests: false,
        }
    }

    const SHORT: Duration = Duration::from_millis(100);

    #[test]
    fn both_floors_answer_every_workload() {
        for (call, workload) in [
            ("once", Workload::Calls { clients: 1 }),
            ("once", Workload::Calls { clients: 8 }),
            ("echo", Workload::Window { lines: 64 }),
            ("echo", Workload::Pipeline),
            ("echo", Workload::ThereAndBack),
            ("echo", Workload::Sockets { sockets: 5 }),
            ("echo", Workload::Length { bytes: 1 }),
            ("echo", Workload::Length { bytes: 1 << 20 }),
        ] {
            for target in [floor(call), served(call, floor::plain())] {
                let run = run(&target, workload, SHORT).unwrap();
                assert!(run.done > 0 && run.per_second > 0.0, "{workload:?}: {run:?}");
            }
        }
    }

    #[test]
    fn missing_result_is_an_error() {
        let mut echo = floor("echo");
        let mut inbox = Inbox::new();
        let mut stream = connect(&echo, &frame::upgrade_request(&echo.path), &mut inbox).unwrap();
        stream.write_all(&call_message(&echo)).unwrap();
        stream.write_all(&text(b"another line")).unwrap();
        let wrong = expect_text(&mut inbox, &mut stream, LINE).unwrap_err();
        assert_eq!(wrong.to_string(), "expected the line back, got a Text frame: another line");

        echo.path = "/nowhere".into();
        let refused = Conversation::new(&echo).hold().unwrap_err();
        assert!(refused.to_string().contains("404"), "{refused}");
    }
}
