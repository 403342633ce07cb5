//! Compiling in a process of its own, which can be given up.
//!
//! A compilation can be neither interrupted nor bounded in memory from within: a module of a few KiB may be made so
//! that it takes minutes and gigabytes. So this program starts itself once more, with the module as its input and under
//! limits of its own. It fills the cache of compiled code and ends; the server then compiles the same module, and finds
//! that it has already been done. A module that was compiled in time once is not tried again: a note beside the
//! compiled code says so.

use super::{engine::Recipe, program::CompileError};
use crate::{call::Span, limits::Limits, size::Size};
use rustix::{
    fs::{MemfdFlags, memfd_create},
    io::Errno,
    process::{Resource, Rlimit, Signal, getrlimit, nice, set_parent_process_death_signal, setrlimit},
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{
    fs::File,
    hash::{DefaultHasher, Hash, Hasher},
    io::{self, Read, Seek, Write},
    os::unix::process::{CommandExt, ExitStatusExt},
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};
use wasmtime::{Engine, InstanceAllocationStrategy};

/// The command of this program that compiles one module.
pub const COMMAND: &str = "compile-worker";
/// This program, also when its file has been replaced in the meantime.
const PROGRAM: &str = "/proc/self/exe";
/// What lists of processes show for it.
const NAME: &str = "distillery";
/// Where the notes lie within the directory of compiled code: below a directory for each engine, where the cache takes
/// them for old code that nobody uses when it cleans up, and not for something strange.
const NOTES: &str = "compiled";
/// What the worker says at most: the reason why a module is none.
const WORDS: u64 = 16 << 10;
/// How the worker ends when the module is to blame; what it says is the reason.
const REFUSED: u8 = 1;
/// How it ends when it could not even try.
const UNABLE: u8 = 2;
/// Guests and sockets come first.
const NICE: i32 = 10;

/// What a compilation may take.
#[derive(Clone, Copy, Debug)]
pub struct CompileLimits {
    pub time: Duration,
    pub memory: Size,
}

/// What the worker must know beside the module: what its code depends on, and where it goes.
#[derive(Debug, Serialize, Deserialize)]
struct Job {
    cache: PathBuf,
    memory: Size,
    stack: Size,
}

/// Compiles modules in other processes.
pub struct Compiler {
    limits: CompileLimits,
    notes: PathBuf,
    job: String,
}

/// Why a module was not compiled apart.
pub enum NotCompiled {
    /// It must not be compiled at all.
    Refused(CompileError),
    /// It was not even tried.
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

    /// Sees to it that the cache of `engine` has the compiled form of `code`.
    pub fn compile(&self, engine: &Engine, code: &[u8]) -> Result<(), NotCompiled> {
        let notes = self.notes.join(engine_key(engine));
        let note = notes.join(format!("{:x}", Sha256::digest(code)));
        if took_before(&note).is_some_and(|took| took <= self.limits.time) {
            return Ok(());
        }
        std::fs::create_dir_all(&notes)?;
        let begun = Instant::now();
        let mut child = Command::new(PROGRAM)
            .arg0(NAME)
            .args([COMMAND, &self.job])
            .env_clear()
            .stdin(in_memory(code)?)
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
        tracing::debug!(ms = took.as_millis() as u64, bytes = code.len(), "compiled in a process of its own");
        std::fs::write(note, took.as_millis().to_string())?;
        Ok(())
    }

    /// What the worker said when it has ended, or nothing when its time is over.
    fn wait(&self, child: &mut Child) -> io::Result<Option<String>> {
        let stderr = child.stderr.take().expect("it is piped");
        let (tell, ended) = mpsc::sync_channel(1);
        // Ends with the worker, which is killed if it does not end by itself.
        thread::Builder::new().name("compiling".into()).spawn(move || {
            let mut words = Vec::new();
            let mut stderr = stderr.take(WORDS);
            let read = stderr.read_to_end(&mut words).and_then(|_| io::copy(stderr.get_mut(), &mut io::sink()));
            _ = tell.send(read.map(|_| String::from_utf8_lossy(&words).into_owned()));
        })?;
        ended.recv_timeout(self.limits.time).ok().transpose()
    }
}

/// What the end of the worker means, which had `memory`.
fn judge(child: &mut Child, words: &str, memory: Size) -> Result<(), NotCompiled> {
    let status = child.wait()?;
    let words = words.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    let refused = |error| Err(NotCompiled::Refused(error));
    if status.success() {
        return Ok(());
    }
    // A Rust program that gets no more memory aborts; what asks the kernel for it has an error of its own.
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

/// How long the module of this note took to compile.
fn took_before(note: &Path) -> Option<Duration> {
    std::fs::read_to_string(note).ok()?.parse().ok().map(Duration::from_millis)
}

/// What the notes of all modules for this engine, with its settings, have in common.
fn engine_key(engine: &Engine) -> String {
    let mut hasher = DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

/// A file that is nowhere: unlike a pipe it can be filled before anyone reads it.
fn in_memory(content: &[u8]) -> io::Result<File> {
    let mut file = File::from(memfd_create("module", MemfdFlags::CLOEXEC)?);
    file.write_all(content)?;
    file.rewind()?;
    Ok(file)
}

/// The worker: compiles the module on stdin into the cache, as `job` says.
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
    // If the server is gone, nobody waits for this any more.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    nice(NICE)?;
    let job: Job = serde_json::from_str(job)?;
    let recipe = Recipe::new(&Limits { stack: job.stack, ..Limits::default() }, 1, Some(&job.cache))?;
    // What the code depends on does not include where its memories come from.
    let engine = recipe.engine(InstanceAllocationStrategy::OnDemand).map_err(anyhow::Error::msg)?;
    let mut code = Vec::new();
    io::stdin().read_to_end(&mut code)?;
    bound_memory(job.memory)?;
    Ok(super::program::compile(&engine, &code).map(drop))
}

/// From now on this process gets `size` more of memory, and leaves none behind when it dies of that.
fn bound_memory(size: Size) -> anyhow::Result<()> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let data = status.lines().find_map(|line| line.strip_prefix("VmData:"));
    let data = data.and_then(|data| data.trim().trim_end_matches(" kB").parse::<u64>().ok());
    let data = data.ok_or_else(|| anyhow::anyhow!("the kernel does not tell how much memory this process has"))?;
    for (resource, most) in [(Resource::Data, (data << 10).saturating_add(size.get())), (Resource::Core, 0)] {
        let maximum = getrlimit(resource).maximum.map_or(most, |maximum| maximum.min(most));
        setrlimit(resource, Rlimit { current: Some(maximum), maximum: Some(maximum) })?;
    }
    Ok(())
}
