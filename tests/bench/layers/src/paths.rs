//! The measured paths, from the smallest part to everything but the kernel. Each is prepared once and then run
//! repeatedly. It checks its result, so that no path is fast by doing nothing.

use crate::{memory::Memory, world::World};
use anyhow::{Context as _, Result};
use bytes::Bytes;
use distillery_bench::bare::{Component, Module};
use distillery_core::{
    auth::Who,
    call::Outcome,
    control::{Control, ThreadClass},
    stream::{Input, Output, Read, lines, recording::Recorder},
};
use distillery_http::{
    session::protocol::{Action, Event, Protocol},
    wire::{Frame, ResultMessage, decode},
};
use distillery_plugin::Call;
use distillery_process::{
    admission::{Asked, Wanted},
    history,
};
use distillery_runtime::{End, Guest, Invocation, StderrTo};
use futures_util::FutureExt;
use std::{
    hint::black_box,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

/// As long as the lines of the workloads that use a socket.
pub const LINE: &str = "the line that is there and back";
/// Lines that are cut at once.
const LINES: usize = 1024;
const CALL: &[u8] = br#"{"call":"call-500","params":["one","two"]}"#;
/// Longer than any path takes, also with a tool that slows it down: guests are never moved to other threads.
const TURN: Duration = Duration::from_secs(3600);

/// A part of the server.
pub struct HotPath {
    pub name: &'static str,
    /// Runs for one count of instructions. `None` if the server runs a guest: its CPU time is read through the kernel's
    /// vDSO, which valgrind removes, and rustix crashes without it.
    pub counted: Option<u32>,
    pub make: fn(&World) -> Result<Option<Run>>,
}

/// Runs a path once.
pub type Run = Box<dyn FnMut()>;

macro_rules! paths {
    ($($name:literal $counted:expr => $make:expr;)*) => {
        pub const ALL: &[HotPath] = &[$(HotPath { name: $name, counted: $counted, make: $make }),*];
    };
}

paths! {
    "wire: read a call message" Some(500) => |_| ready(|| {
        assert!(decode(black_box(CALL)).is_ok());
    });
    "wire: write a result" Some(2000) => |_| ready(|| {
        assert!(matches!(black_box(ResultMessage::success()).encode(), Frame::Binary(json) if json.len() == 16));
    });
    "protocol: a line" Some(5000) => |_| {
        let mut protocol = running();
        ready(move || assert_eq!(protocol.on(black_box(Event::Text(LINE))), Action::Line))
    };
    "protocol: a whole call" Some(500) => |_| ready(|| {
        let mut protocol = running();
        assert_eq!(protocol.on(Event::Text(LINE)), Action::Line);
        let ended = protocol.on(Event::Ended(&Outcome::Exited { status: 0, last_words: None }, None));
        assert!(matches!(ended, Action::Finish(..)));
    });
    "input: a line in and out" Some(2000) => |_| {
        let (input, now) = (Input::new(16 << 20, Duration::from_secs(60)), Instant::now());
        ready(move || {
            input.push_line(black_box(LINE), now, &noop());
            assert!(matches!(input.read(usize::MAX, now), Read::Data(data) if data.len() == LINE.len() + 1));
        })
    };
    "output: a line in and out" Some(2000) => |_| {
        let output = Output::new(None, 1 << 20);
        let line = with_end(LINE);
        ready(move || {
            output.write(black_box(&line));
            assert_eq!(lines(&output.take()).count(), 1);
        })
    };
    "output: a line in and out, recorded" Some(2000) => |_| {
        let output = Output::new(None, 1 << 20);
        let (recorder, queue) = Recorder::new(usize::MAX);
        output.record(recorder.begin(Default::default(), false));
        let line = with_end(LINE);
        ready(move || {
            let _queue = &queue;
            output.write(black_box(&line));
            assert_eq!(lines(&output.take()).count(), 1);
        })
    };
    "output: cut 1024 lines" Some(20) => |_| {
        let output = Output::new(None, 1 << 20);
        let piece = with_end(LINE).repeat(LINES);
        ready(move || {
            output.write(black_box(&piece));
            assert_eq!(lines(&output.take()).map(black_box).count(), LINES);
        })
    };
    "admission: a place taken and given back" Some(2000) => |_| {
        let admission = World::admission();
        let wanted = Wanted { caller: Who::User(distillery_core::principal::Principal::Forwarded("somebody".into())), plugin: "a-plugin".into(), most_of_plugin: Some(4) };
        ready(move || assert!(matches!(admission.ask(black_box(wanted.clone())), Asked::Admitted(_))))
    };
    "catalog: find one of 1000 calls" Some(5000) => |world| {
        let catalog = world.catalog.clone();
        ready(move || assert!(catalog.snapshot().call(black_box("call-500")).is_some()))
    };
    "history: a process noted" Some(200) => |world| {
        let history = world.history()?;
        let (call, limits) = (world.call("call-500").context("no call")?, world.limits.clone());
        let params = ["one".to_owned(), "two".to_owned()];
        let owner = distillery_core::principal::Principal::Anonymous;
        let starter = history::Starter { user: "somebody".to_owned(), owner, schedule: None };
        let outcome = Outcome::Exited { status: 0, last_words: None };
        ready(move || {
            let control = Arc::new(Control::new(&limits));
            history.begin(&control, history::begun(&control, &starter, &call, &params));
            history.end(&control, &outcome, None);
        })
    };
    "bare wasmtime: start, a line, end" Some(100) => |_| {
        let bare = Module::load(include_bytes!("../../guests/once-tiny.wat"), 2, 0);
        let bare = bare.map_err(|error| anyhow::anyhow!("{error:#}"))?;
        let line = with_end(LINE);
        ready(move || assert_eq!(bare.run(black_box(line.clone())).expect("it runs"), line))
    };
    "bare wasmtime: start, a line, end, Rust component" None => |world| {
        let Some(once) = &world.built.once else { return Ok(None) };
        let bare = Component::load(once, 2).map_err(|error| anyhow::anyhow!("{error:#}"))?;
        let line = with_end(LINE);
        ready(move || {
            let ran = bare.run(black_box(line.clone())).now_or_never().expect("all that it reads is there");
            assert_eq!(ran.expect("it runs"), line);
        })
    };
    "runtime: start, a line, end" None => |world| process(world, "once-tiny");
    "runtime: start, a line, end, Rust component" None => |world| process(world, "once");
    "runtime: a line there and back" None => |world| there_and_back(world, "echo-tiny");
    "runtime: a line there and back, Rust component" None => |world| there_and_back(world, "echo");
    "runtime: 1024 lines there and back" None => |world| {
        let Some(call) = world.call("echo-tiny") else { return Ok(None) };
        let (mut guest, control) = start(&call);
        let now = Instant::now();
        ready(move || {
            for _ in 0..LINES {
                control.input.push_line(black_box(LINE), now, &noop());
            }
            let mut back = 0;
            while back < LINES {
                assert!(guest.poll(TURN, ThreadClass::Files, &mut noop()).is_pending());
                back += lines(&control.output.take()).map(black_box).count();
            }
        })
    };
    "frames: a line echoed without a guest" Some(200) => |world| {
        let mut memory = Memory::echo(world)?;
        memory.upgrade();
        ready(move || memory.there_and_back(LINE))
    };
    "frames: a whole connection without a guest" Some(50) => |world| {
        let mut memory = Memory::answer(world)?;
        ready(move || memory.whole_call("none", LINE))
    };
    "session: a line there and back" None => |world| {
        let mut memory = Memory::calls(world)?;
        memory.upgrade();
        memory.begin("echo-tiny");
        ready(move || memory.there_and_back(LINE))
    };
    "session: a whole call" None => |world| {
        let mut memory = Memory::calls(world)?;
        ready(move || memory.whole_call("once-tiny", LINE))
    };
}

fn ready(run: impl FnMut() + 'static) -> Result<Option<Run>> {
    Ok(Some(Box::new(run)))
}

fn noop() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

fn with_end(line: &str) -> Vec<u8> {
    [line.as_bytes(), b"\n"].concat()
}

fn running() -> Protocol {
    let mut protocol = Protocol::default();
    assert!(matches!(protocol.on(Event::Binary(black_box(CALL))), Action::Start(_)));
    protocol
}

/// Starts a process without a socket, which has not been polled yet.
fn start(call: &Call) -> (Guest, Arc<Control>) {
    let plugin = &call.plugin;
    let control = Arc::new(Control::new(&plugin.limits));
    let invocation = Invocation {
        call: call.spec.name.clone(),
        leading: vec![],
        params: vec![],
        env: vec![("DISTILLERY_CALL".to_owned(), call.spec.name.to_string())],
        stderr: StderrTo::Log,
        grants: plugin.grants.clone(),
    };
    (plugin.program.start(invocation, &plugin.limits, control.clone(), ()), control)
}

/// Returns the line that the guest has written so far.
fn taken(control: &Control) -> Bytes {
    control.output.take()
}

fn process(world: &World, call: &str) -> Result<Option<Run>> {
    let Some(call) = world.call(call) else { return Ok(None) };
    let now = Instant::now();
    ready(move || {
        let (mut guest, control) = start(&call);
        control.input.push_line(black_box(LINE), now, &noop());
        loop {
            match guest.poll(TURN, ThreadClass::Files, &mut noop()) {
                Poll::Ready(end) => {
                    assert_eq!(end, End::Exited(0));
                    break;
                }
                // The guest has woken itself and wants to continue.
                Poll::Pending => {}
            }
        }
        assert_eq!(taken(&control).len(), LINE.len() + 1);
    })
}

fn there_and_back(world: &World, call: &str) -> Result<Option<Run>> {
    let Some(call) = world.call(call) else { return Ok(None) };
    let (mut guest, control) = start(&call);
    let now = Instant::now();
    ready(move || {
        control.input.push_line(black_box(LINE), now, &noop());
        loop {
            assert!(guest.poll(TURN, ThreadClass::Files, &mut noop()).is_pending());
            let line = taken(&control);
            if !line.is_empty() {
                assert_eq!(line.len(), LINE.len() + 1);
                break;
            }
        }
    })
}
