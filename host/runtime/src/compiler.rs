//! Compiles in a separate process, which can be killed.
//!
//! A compilation can be neither interrupted nor bounded in memory from within: a module of a few KiB can need minutes
//! and gigabytes. So this program starts itself again, with the module as input and with limits. The worker fills the
//! cache of compiled code and ends. The server then compiles the same module and finds the result in the cache. A note
//! next to the compiled code records a success, so that the module needs no second worker.

use super::{
    code::{self, CompileError},
    engine::Recipe,
    platform,
};
use distillery_core::{call::Span, limits::Limits, size::Size};
use rustix::{
    io::Errno,
    process::{Signal, nice},
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{
    hash::{DefaultHasher, Hash, Hasher},
    io::{self, Read, Write},
    os::unix::process::{CommandExt, ExitStatusExt},
    path::{Path, PathBuf},
    process::{Child, ExitCode, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};
use wasmtime::{Engine, InstanceAllocationStrategy};

/// The command of this program that compiles one module.
pub const COMMAND: &str = "compile-worker";
/// The process name of the worker.
const NAME: &str = "distillery";
/// The directory of notes within the cache, below a directory for each engine. There the cache's cleanup treats them as
/// old code, not as foreign files.
const NOTES: &str = "compiled";
/// The maximum size of the worker's message: the reason why a module is invalid.
const WORDS: u64 = 16 << 10;
/// The exit status of the worker if the module is invalid; its message is the reason.
const REFUSED: u8 = 1;
/// The exit status of the worker if it could not start.
const UNABLE: u8 = 2;
/// The worker's priority: guests and sockets come first.
const NICE: i32 = 10;

/// The limits of a compilation.
#[derive(Clone, Copy, Debug)]
pub struct CompileLimits {
    pub time: Duration,
    pub memory: Size,
}

/// The input of the worker in addition to the module: everything that the code depends on, and its destination.
#[derive(Debug, Serialize, Deserialize)]
struct Job {
    cache: PathBuf,
    memory: Size,
    stack: Size,
}

/// A compiler of modules in separate processes.
pub struct Compiler {
    limits: CompileLimits,
    notes: PathBuf,
    job: String,
}

/// The reason why a module was not compiled in a separate process.
pub enum NotCompiled {
    /// The module must not be compiled at all.
    Refused(CompileError),
    /// The worker could not run.
    Unable(String),
}

impl From<io::Error> for NotCompiled {
    fn from(error: io::Error) -> Self {
        Self::Unable(error.to_string())
    }
}

impl Compiler {
    pub fn new(limits: CompileLimits, stack: Size, cache: &Path) -> Self {
        let job = Job { cache: cache.to_owned(), memory: limits.memory, stack };
        let job = serde_json::to_string(&job).expect("a job is plain data");
        Self { limits, notes: cache.join(NOTES), job }
    }

    /// Ensures that the cache of `engine` has the compiled form of `code`.
    pub fn compile(&self, engine: &Engine, code: &[u8]) -> Result<(), NotCompiled> {
        let notes = self.notes.join(engine_key(engine));
        let note = notes.join(format!("{:x}", Sha256::digest(code)));
        if took_before(&note).is_some_and(|took| took <= self.limits.time) {
            return Ok(());
        }
        std::fs::create_dir_all(&notes)?;
        let begun = Instant::now();
        let mut child = platform::worker(code)?
            .arg0(NAME)
            .args([COMMAND, &self.job])
            .env_clear()
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let said = self.wait(&mut child);
        if !matches!(said, Ok(Some(_))) {
            child.kill()?;
            child.wait()?;
        }
        let Some(words) = said? else {
            return Err(NotCompiled::Refused(CompileError::TooSlow(Span(self.limits.time).to_string())));
        };
        judge(&mut child, &words, self.limits.memory)?;
        let took = begun.elapsed();
        tracing::debug!(ms = took.as_millis() as u64, bytes = code.len(), "compiled in a separate process");
        std::fs::write(note, took.as_millis().to_string())?;
        Ok(())
    }

    /// Returns the worker's message when it has ended, or `None` after the time limit.
    fn wait(&self, child: &mut Child) -> io::Result<Option<String>> {
        let stderr = child.stderr.take().expect("it is piped");
        let (tell, ended) = mpsc::sync_channel(1);
        // Ends together with the worker, which is killed if necessary.
        thread::Builder::new().name("compiling".into()).spawn(move || {
            let mut words = Vec::new();
            let mut stderr = stderr.take(WORDS);
            let read = stderr.read_to_end(&mut words).and_then(|_| io::copy(stderr.get_mut(), &mut io::sink()));
            _ = tell.send(read.map(|_| String::from_utf8_lossy(&words).into_owned()));
        })?;
        ended.recv_timeout(self.limits.time).ok().transpose()
    }
}

/// Interprets the end of the worker, which had `memory`.
fn judge(child: &mut Child, words: &str, memory: Size) -> Result<(), NotCompiled> {
    let status = child.wait()?;
    let words = words.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    let refused = |error| Err(NotCompiled::Refused(error));
    if status.success() {
        return Ok(());
    }
    // A Rust program aborts when an allocation fails; direct requests to the kernel return an error.
    let aborted = status.signal() == Some(Signal::ABORT.as_raw()) && words.starts_with("memory allocation");
    if aborted || words.contains(&io::Error::from(Errno::NOMEM).to_string()) {
        return refused(CompileError::TooLarge(memory));
    }
    match status.code().and_then(|code| u8::try_from(code).ok()) {
        Some(REFUSED) => refused(CompileError::Invalid(words.to_owned())),
        Some(UNABLE) => Err(NotCompiled::Unable(words.to_owned())),
        _ => refused(CompileError::Crashed(format!("{status}: {words}"))),
    }
}

/// Returns the compile time that this note records.
fn took_before(note: &Path) -> Option<Duration> {
    std::fs::read_to_string(note).ok()?.parse().ok().map(Duration::from_millis)
}

/// Returns the common part of all notes for this engine with its settings.
fn engine_key(engine: &Engine) -> String {
    let mut hasher = DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

/// Runs the worker: compiles the module on stdin into the cache, as `job` describes.
pub fn work(job: &str) -> ExitCode {
    match try_to_work(job) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(refused)) => {
            let _ = writeln!(io::stderr(), "{refused}");
            ExitCode::from(REFUSED)
        }
        Err(error) => {
            let _ = writeln!(io::stderr(), "{error:#}");
            ExitCode::from(UNABLE)
        }
    }
}

fn try_to_work(job: &str) -> anyhow::Result<Result<(), CompileError>> {
    // Without a server the result is not needed.
    platform::end_with_parent()?;
    nice(NICE)?;
    let job: Job = serde_json::from_str(job)?;
    let recipe = Recipe::new(&Limits { stack: job.stack, ..Limits::default() }, 1, Some(&job.cache))?;
    // The code does not depend on the allocation strategy.
    let engine = recipe.engine(InstanceAllocationStrategy::OnDemand).map_err(anyhow::Error::msg)?;
    let mut code = Vec::new();
    io::stdin().read_to_end(&mut code)?;
    platform::bound_memory(job.memory)?;
    Ok(code::compile(&engine, &code).map(drop))
}
