//! Modules and components that no compiler would produce, and damaged ones, as guests.

use crate::{
    bytes::{changed, changes},
    hunt::hunt,
    sentences::assert_line,
    target,
};
use arbitrary::Unstructured;
use distillery_core::{
    call::{CancelReason, Outcome},
    control::{Control, ThreadClass},
    limits::Limits,
    size::Size,
};
use distillery_runtime::{Capacity, End, Invocation, Linking, Program, Runtime, StderrTo};
use proptest::{collection::vec, prelude::*, sample::select};
use std::{
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};
use wasm_smith::{Config, Module};

/// Imports of a generated module: all of preview 1 that needs no files.
const PREVIEW1: &str = r#"(module
    (import "wasi_snapshot_preview1" "args_get" (func (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "args_sizes_get" (func (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "environ_get" (func (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "environ_sizes_get" (func (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "clock_res_get" (func (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "clock_time_get" (func (param i32 i64 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_advise" (func (param i32 i64 i64 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_close" (func (param i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_fdstat_get" (func (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_fdstat_set_flags" (func (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_filestat_get" (func (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_prestat_get" (func (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_prestat_dir_name" (func (param i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_read" (func (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_pread" (func (param i32 i32 i32 i64 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_readdir" (func (param i32 i32 i32 i64 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_renumber" (func (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_seek" (func (param i32 i64 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_pwrite" (func (param i32 i32 i32 i64 i32) (result i32)))
    (import "wasi_snapshot_preview1" "path_open" (func (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "path_readlink" (func (param i32 i32 i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "poll_oneoff" (func (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "proc_exit" (func (param i32)))
    (import "wasi_snapshot_preview1" "proc_raise" (func (param i32) (result i32)))
    (import "wasi_snapshot_preview1" "sched_yield" (func (result i32)))
    (import "wasi_snapshot_preview1" "random_get" (func (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "sock_shutdown" (func (param i32 i32) (result i32))))"#;

const COMMAND: &str = r#"(module (memory (export "memory") 1) (func (export "_start")))"#;

/// A component around a core module, which can ask for the time, sleep, and exit.
const COMPONENT: &str = r#"(component
    (import "wasi:io/poll@0.2.0" (instance $poll
        (export "pollable" (type $pollable (sub resource)))
        (export "[method]pollable.block" (func (param "self" (borrow $pollable))))))
    (alias export $poll "pollable" (type $pollable))
    (import "wasi:clocks/monotonic-clock@0.2.0" (instance $clock
        (alias outer 1 $pollable (type $outer))
        (export "pollable" (type $pollable (eq $outer)))
        (export "now" (func (result u64)))
        (export "subscribe-duration" (func (param "when" u64) (result (own $pollable))))))
    (import "wasi:cli/exit@0.2.0" (instance $exit (export "exit" (func (param "status" (result))))))
    (core module $guest
        (func (export "run") (result i32) i32.const 0)
        (func (export "after") (param i32)))
    (core func $now (canon lower (func $clock "now")))
    (core func $wait (canon lower (func $clock "subscribe-duration")))
    (core func $block (canon lower (func $poll "[method]pollable.block")))
    (core func $drop (canon resource.drop $pollable))
    (core func $exit (canon lower (func $exit "exit")))
    (core instance $host
        (export "now" (func $now))
        (export "wait" (func $wait))
        (export "block" (func $block))
        (export "drop" (func $drop))
        (export "exit" (func $exit)))
    (core instance $running (instantiate $guest (with "host" (instance $host))))
    (func $run (result (result))
        (canon lift (core func $running "run") (post-return (core func $running "after"))))
    (instance $cli (export "run" (func $run)))
    (export "wasi:cli/run@0.2.0" (instance $cli)))"#;

const HOST: &str = r#"(module
    (import "host" "now" (func (result i64)))
    (import "host" "wait" (func (param i64) (result i32)))
    (import "host" "block" (func (param i32)))
    (import "host" "drop" (func (param i32)))
    (import "host" "exit" (func (param i32))))"#;

const CORE: &str = r#"(module (memory (export "memory") 1)
    (func (export "run") (result i32) i32.const 0) (func (export "after") (param i32)))"#;

/// A correct guest.
const GOOD: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (data (i32.const 0) "\10\00\00\00\05\00\00\00")
    (data (i32.const 16) "fine\n")
    (func (export "_start") (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 12)))))"#;

fn binary(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap_or_else(|error| panic!("{error}"))
}

/// Bytes that define a module: wasm-smith produces the same module for the same bytes.
fn choices() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..3000)
}

/// Returns a valid module with the exports of `exports`, and only imports that `imports` has. It can run forever.
fn module(choices: &[u8], imports: &str, exports: &str) -> Vec<u8> {
    let config = Config {
        available_imports: Some(binary(imports)),
        exports: Some(binary(exports)),
        max_instructions: 300,
        max_funcs: 20,
        max_memories: 2,
        max_tables: 3,
        // Some memories fit, some stop fitting when they grow, some never fit.
        max_memory32_bytes: 8 << 20,
        max_table_elements: 20_000,
        compact_imports_enabled: false,
        memory64_enabled: false,
        threads_enabled: false,
        wide_arithmetic_enabled: false,
        ..Config::default()
    };
    Module::new(config, &mut Unstructured::new(choices)).expect("any bytes make a module").to_bytes()
}

/// Returns the component around `module`.
fn component(module: &[u8]) -> Vec<u8> {
    const CORE_MODULE: u8 = 1;
    let template = binary(COMPONENT);
    let (mut component, mut rest) = (template[..8].to_vec(), &template[8..]);
    while let [id, tail @ ..] = rest {
        let (size, tail) = number(tail);
        let (content, tail) = tail.split_at(size);
        let content = if *id == CORE_MODULE { module } else { content };
        component.push(*id);
        component.extend(as_number(content.len()));
        component.extend_from_slice(content);
        rest = tail;
    }
    component
}

/// Reads a LEB128 number.
fn number(bytes: &[u8]) -> (usize, &[u8]) {
    let length = bytes.iter().position(|byte| byte & 0x80 == 0).expect("a number ends") + 1;
    let number = bytes[..length].iter().rev().fold(0, |number, byte| number << 7 | usize::from(byte & 0x7f));
    (number, &bytes[length..])
}

fn as_number(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

/// Time that a guest runs before it is cancelled, and before it is killed.
const PATIENCE: Duration = Duration::from_millis(15);
/// Time in which a killed guest must end, also when other tests keep the CPUs busy.
const AT_ONCE: Duration = Duration::from_secs(20);
const TURN: Duration = Duration::from_millis(1);

struct Host {
    runtime: Runtime,
    limits: Limits,
    good: Program,
    tokio: tokio::runtime::Runtime,
}

impl Host {
    fn new() -> Self {
        let limits = Limits {
            memory: Size::mib(4),
            tables: 10_000,
            output: Some(Size::mib(1)),
            line: Size::kib(4),
            resources: 64,
            ..Limits::default()
        };
        let runtime = Runtime::new(&limits, &Capacity::of(4), None).unwrap();
        let good = runtime.compile(GOOD.as_bytes(), &Linking::default(), &limits).unwrap();
        let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { runtime, limits, good, tokio }
    }

    /// Holds for any bytes: they are refused in one line, or they run within their limits and end. The next guest runs
    /// too.
    fn takes(&self, code: &[u8]) -> Option<End> {
        let program = match self.runtime.compile(code, &Linking::default(), &self.limits) {
            Ok(program) => program,
            Err(error) => {
                assert_line(&error.to_string());
                return None;
            }
        };
        let (end, control) = self.run(&program);
        assert!(control.memory_peak() <= self.limits.memory.get(), "{} bytes of memory", control.memory_peak());
        assert!(control.output.total() <= self.limits.output.unwrap().get());
        match &end {
            End::Failed(why) => panic!("the host failed: {why}"),
            End::Full => panic!("an earlier guest still holds its slot"),
            End::Trapped { trap, limit } => {
                let outcome = Outcome::Trapped { trap: trap.clone(), limit: limit.clone() };
                assert_line(&outcome.failure().unwrap());
            }
            End::Exited(_) | End::Interrupted | End::Dropped => {}
        }
        let (good, control) = self.run(&self.good);
        assert_eq!(good, End::Exited(0));
        assert_eq!(&control.output.take()[..], b"fine\n");
        Some(end)
    }

    /// Runs a process briefly, cancels it, waits, and kills it.
    fn run(&self, program: &Program) -> (End, Arc<Control>) {
        let control = Arc::new(Control::new(&self.limits));
        let invocation = Invocation {
            grants: Default::default(),
            call: "fuzz".parse().unwrap(),
            leading: Vec::new(),
            params: vec!["a".into(), String::new()],
            env: vec![("NAME".into(), "value".into())],
            stderr: StderrTo::Client,
        };
        let mut guest = program.start(invocation, &self.limits, control.clone(), ());
        let end = self.tokio.block_on(async {
            let noop = Context::from_waker(std::task::Waker::noop());
            control.input.push_line("hello", Instant::now(), &noop);
            for stage in 0..2 {
                let ended = poll_fn(|cx| {
                    // A client that reads until the process is cancelled.
                    if stage == 0 && control.output.permit() == 0 {
                        control.output.take();
                    }
                    guest.poll(TURN, ThreadClass::Files, cx)
                });
                if let Ok(end) = tokio::time::timeout(PATIENCE, ended).await {
                    return end;
                }
                control.cancel(CancelReason::Client);
            }
            control.kill();
            program.move_epoch();
            let killed = Instant::now();
            poll_fn(|cx| match guest.poll(TURN, ThreadClass::Files, cx) {
                Poll::Ready(end) => Poll::Ready(end),
                // The guest waits in a host call, and need not be asked.
                Poll::Pending if !control.used_its_turn() => Poll::Ready(End::Dropped),
                Poll::Pending if killed.elapsed() > AT_ONCE => panic!("it still computes after the kill"),
                Poll::Pending => {
                    cx.waker().wake_by_ref();
                    Poll::Pending
                }
            })
            .await
        });
        drop(guest);
        (end, control)
    }
}

#[test]
fn any_module_ends_within_its_limits() {
    let host = Host::new();
    hunt(target!("modules", 40), choices(), |choices| {
        host.takes(&module(&choices, PREVIEW1, COMMAND));
    });
}

#[test]
fn any_component_ends_within_its_limits() {
    let host = Host::new();
    assert_eq!(host.takes(COMPONENT.as_bytes()), Some(End::Exited(0)));
    hunt(target!("components", 40), choices(), |choices| {
        host.takes(&component(&module(&choices, HOST, CORE)));
    });
}

const SLIPS: &[&str] = &[
    "\0",
    "\u{1}",
    "\u{7f}",
    "asm",
    "\0asm\u{1}\0\0\0",
    "\0asm\r\0\u{1}\0",
    "(",
    ")",
    "(module",
    "(func",
    "\"",
    "(; ",
    ";;",
    "(component",
    "(memory 1)",
    "(memory 65536)",
    "(table 4294967295 funcref)",
    "(start 0)",
    "(loop br 0)",
    "unreachable",
    "memory.grow",
    " ",
    "\n",
    "(@custom \"x\")",
    "(export \"_start\" (func 0))",
    "(import \"a\" \"b\" (func))",
    "i32.const 2147483648",
];

/// Correct modules, in binary and in text.
fn broken() -> impl Strategy<Value = Vec<u8>> {
    let sources = select(&[GOOD, COMPONENT, COMMAND, CORE][..]);
    let binaries = prop_oneof![
        2 => choices().prop_map(|choices| module(&choices, PREVIEW1, COMMAND)),
        2 => choices().prop_map(|choices| component(&module(&choices, HOST, CORE))),
        1 => sources.clone().prop_map(binary),
    ];
    let nested =
        (select(&["(", "(module ", "(module (func ", "(component ", "(block ", "(; ", "(@x "][..]), 1..20_000usize)
            .prop_map(|(part, many)| part.repeat(many).into_bytes());
    prop_oneof![
        6 => (binaries, changes(3, SLIPS)).prop_map(|(bytes, changes)| changed(bytes, &changes)),
        4 => (sources, changes(3, SLIPS)).prop_map(|(text, changes)| changed(text.as_bytes().to_vec(), &changes)),
        1 => vec(any::<u8>(), 0..200),
        1 => vec(any::<u8>(), 0..200).prop_map(|bytes| [b"\0asm\x01\0\0\0", &bytes[..]].concat()),
        1 => vec(any::<u8>(), 0..200).prop_map(|bytes| [b"\0asm\x0d\0\x01\0", &bytes[..]].concat()),
        1 => nested,
    ]
}

#[test]
fn damaged_module_is_refused_or_ends_within_its_limits() {
    let host = Host::new();
    hunt(target!("broken_modules", 60), broken(), |code| {
        host.takes(&code);
    });
}
