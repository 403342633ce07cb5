//! Rebuilds plugins whenever their sources change, for plugin development: `distillery serve --dev`.
//!
//! This module runs the `build` command of the manifests and loads nothing: the watcher notices a built module like any
//! other.

use super::{
    discover::{self, Found},
    manifest::{self, Manifest},
    source,
};
use rustix::process::{Pid, Signal, kill_process_group};
use sha2::{Digest, Sha256};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    io::{Read, Seek, Write as _},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread::{self, JoinHandle},
    time::{Duration, Instant, SystemTime},
};

/// The interval between two checks of the sources.
const LOOK: Duration = Duration::from_millis(200);
/// The interval between two checks of a running build.
const ASK: Duration = Duration::from_millis(20);
/// The grace period of a build that is told to end.
const END_GRACE: Duration = Duration::from_secs(2);
/// Directories that tools fill, in addition to hidden ones.
const NOT_SOURCES: [&str; 5] = ["target", "node_modules", "__pycache__", "zig-out", "zig-cache"];
/// A larger file is not compared by content, only by size and time.
const SOURCE: u64 = 4 << 20;

/// A thread that builds until it is told to end.
pub struct Rebuilding {
    end: mpsc::Sender<()>,
    thread: JoinHandle<()>,
}

impl Rebuilding {
    /// Starts to build the plugins below `root`, on a thread of its own.
    pub fn start(root: PathBuf) -> io::Result<Self> {
        let (end, ended) = mpsc::channel();
        let thread = thread::Builder::new().name("builds".into()).spawn(move || {
            let mut desks = BTreeMap::new();
            while round(&root, &mut desks, &ended) {}
        })?;
        Ok(Self { end, thread })
    }

    /// Ends a running build and waits for its end: not much longer than the grace period.
    pub fn end(self) {
        drop(self.end);
        // A panic is already reported.
        let _ = self.thread.join();
    }
}

/// The state of one plugin.
#[derive(Default)]
struct Desk {
    times: Option<BTreeMap<PathBuf, (SystemTime, u64)>>,
    book: Book,
}

/// Checks every plugin once and builds those with changed sources. Returns whether another round is due.
fn round(root: &Path, desks: &mut BTreeMap<String, Desk>, ended: &mpsc::Receiver<()>) -> bool {
    // The loader reports a root that cannot be read.
    let found = discover::plugin_directories(root).unwrap_or_default();
    desks.retain(|name, _| found.contains_key(name));
    for (name, Found { path, .. }) in found {
        let Ok((_, Manifest { build: Some(build), component, .. })) = source::manifest(&path) else { continue };
        let module = component.map_or_else(|| made(&path), |component| path.join(component));
        let times = times(&path, &module);
        let desk = desks.entry(name.clone()).or_default();
        if desk.times.as_ref() == Some(&times) {
            continue;
        }
        let before = Sources::read(&path, &times);
        let first = desk.times.replace(times.clone()).is_none();
        let wanted = match first {
            true => {
                desk.book.seen = before.clone();
                is_stale(&module, &times)
            }
            false => desk.book.look(&before),
        };
        if !wanted {
            continue;
        }
        let Some(()) = build_until_still(&name, &path, &build, &module, desk, before, ended) else {
            return false;
        };
    }
    matches!(ended.recv_timeout(LOOK), Err(RecvTimeoutError::Timeout))
}

/// Builds, and repeats if sources changed meanwhile. Returns `None` if it was told to end.
fn build_until_still(
    name: &str,
    directory: &Path,
    build: &str,
    module: &Path,
    desk: &mut Desk,
    mut before: Sources,
    ended: &mpsc::Receiver<()>,
) -> Option<()> {
    loop {
        tracing::info!(plugin = name, build, "building");
        let begun = Instant::now();
        match run(directory, build, ended) {
            Ok(Some((status, output))) => {
                let ms = begun.elapsed().as_millis() as u64;
                if status.success() {
                    tracing::info!(plugin = name, ms, "built");
                } else {
                    tracing::error!(plugin = name, ms, %status, "the build failed; still serving the previous version");
                    // The tools' output as written, including colours. Without stderr the output is lost.
                    let _ = io::stderr().write_all(&output);
                }
            }
            Ok(None) => return None,
            Err(error) => tracing::error!(plugin = name, %error, "cannot run the build"),
        }
        let times = times(directory, module);
        let after = Sources::read(directory, &times);
        desk.times = Some(times);
        if !desk.book.built(&before, &after) {
            return Some(());
        }
        before = after;
    }
}

/// Runs `build` in `directory` and returns its output, or `None` if it was told to end.
fn run(directory: &Path, build: &str, ended: &mpsc::Receiver<()>) -> io::Result<Option<(ExitStatus, Vec<u8>)>> {
    // A file takes any amount of output without a concurrent reader.
    let mut said = tempfile::tempfile()?;
    let mut child = Command::new("sh")
        .args(["-c", build])
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(said.try_clone()?)
        .stderr(said.try_clone()?)
        .process_group(0)
        .spawn()?;
    loop {
        if let Some(status) = child.try_wait()? {
            let mut output = Vec::new();
            said.rewind()?;
            said.read_to_end(&mut output)?;
            return Ok(Some((status, output)));
        }
        if !matches!(ended.recv_timeout(ASK), Err(RecvTimeoutError::Timeout)) {
            end(&mut child)?;
            return Ok(None);
        }
    }
}

/// Ends a build and all its child processes: asks them to stop, and kills them after the grace period.
fn end(child: &mut Child) -> io::Result<()> {
    let signal = |signal| {
        if let Some(group) = Pid::from_raw(child.id() as i32) {
            // Fails if no process of the group is left.
            let _ = kill_process_group(group, signal);
        }
    };
    signal(Signal::TERM);
    let until = Instant::now() + END_GRACE;
    while Instant::now() < until && group_lives(child) {
        thread::sleep(ASK);
    }
    // Reaped last: until then the shell's process ID, and thus the group's, cannot be reused.
    signal(Signal::KILL);
    child.wait().map(drop)
}

/// Returns whether any process of the group that `child` leads still runs: the shell or its children.
fn group_lives(child: &Child) -> bool {
    let group = child.id().to_string();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes.filter_map(|it| fs::read_to_string(it.path().join("stat")).ok()).any(|stat| {
        // The name can contain any character. After the name come state, parent and group.
        let mut fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields).split_whitespace();
        let state = fields.next();
        fields.nth(1) == Some(group.as_str()) && !matches!(state, Some("Z" | "X"))
    })
}

/// Returns the time and size of each source in `directory`, without the module.
fn times(directory: &Path, module: &Path) -> BTreeMap<PathBuf, (SystemTime, u64)> {
    let mut times = BTreeMap::new();
    let mut waiting = vec![directory.to_owned()];
    while let Some(directory) = waiting.pop() {
        // A file that vanishes meanwhile is no longer a source.
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let (name, path) = (entry.file_name(), entry.path());
            let hidden = name.as_encoded_bytes().starts_with(b".");
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.is_dir() {
                if !hidden && !NOT_SOURCES.iter().any(|it| name == *it) {
                    waiting.push(path);
                }
            } else if !hidden && metadata.is_file() && path != module && !is_made(&path) {
                let modified = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                times.insert(path, (modified, metadata.len()));
            }
        }
    }
    times
}

/// Returns the path of the module in `directory` if the manifest names none: the existing one, or a default.
fn made(directory: &Path) -> PathBuf {
    let files = fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    let module = files.filter(|path| manifest::is_module(path)).min();
    module.unwrap_or_else(|| directory.join("module.wasm"))
}

/// Returns whether a file is the module of a plugin, or an intermediate file of its build.
fn is_made(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    name.ends_with(b".wasm") || name.ends_with(b".wasm.new")
}

/// Returns whether the module is missing or older than a source.
fn is_stale(module: &Path, times: &BTreeMap<PathBuf, (SystemTime, u64)>) -> bool {
    let built = fs::metadata(module).and_then(|it| it.modified());
    match built {
        Ok(built) => times
            .iter()
            .any(|(path, (modified, _))| *modified > built && path.file_name().is_some_and(|it| it != manifest::FILE)),
        Err(_) => true,
    }
}

/// The contents of the sources.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Sources(BTreeMap<PathBuf, Vec<u8>>);

impl Sources {
    fn read(directory: &Path, times: &BTreeMap<PathBuf, (SystemTime, u64)>) -> Self {
        let content = |path: &Path, (modified, size): &(SystemTime, u64)| {
            let small = Some(path).filter(|_| *size <= SOURCE).and_then(|path| fs::read(path).ok());
            small.map_or_else(|| format!("{modified:?} {size}").into_bytes(), |bytes| Sha256::digest(&bytes).to_vec())
        };
        let relative = |path: &Path| path.strip_prefix(directory).unwrap_or(path).to_owned();
        Self(times.iter().map(|(path, time)| (relative(path), content(path, time))).collect())
    }

    /// Returns the files that differ or exist on one side only.
    fn differing(&self, other: &Self) -> BTreeSet<PathBuf> {
        let all = self.0.keys().chain(other.0.keys());
        all.filter(|path| self.0.get(*path) != other.0.get(*path)).cloned().collect()
    }
}

/// Decides which changes require a build. A build can write next to the sources, and must not trigger itself.
#[derive(Default)]
struct Book {
    /// The sources at the last check, or after the last build.
    seen: Sources,
    /// For each file, the number of builds that changed it since its last change by another process.
    by_builds: BTreeMap<PathBuf, u32>,
}

impl Book {
    /// Returns whether sources changed since the last check, other than by a build.
    fn look(&mut self, now: &Sources) -> bool {
        let changed = self.seen.differing(now);
        for path in &changed {
            self.by_builds.remove(path);
        }
        self.seen = now.clone();
        !changed.is_empty()
    }

    /// Records the end of a build. Returns whether another is needed because sources changed during this one. A file
    /// that two builds changed counts as build output.
    fn built(&mut self, before: &Sources, after: &Sources) -> bool {
        self.seen = after.clone();
        let mut again = false;
        for path in before.differing(after) {
            let times = self.by_builds.entry(path).or_default();
            *times += 1;
            again |= *times < 2;
        }
        again
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources<const N: usize>(files: [(&str, &str); N]) -> Sources {
        Sources(files.map(|(path, text)| (path.into(), text.into())).into())
    }

    #[test]
    fn changed_source_triggers_a_build() {
        let mut book = Book { seen: sources([("a", "1")]), ..Book::default() };
        assert!(!book.look(&sources([("a", "1")])));
        assert!(book.look(&sources([("a", "2")])));
        assert!(!book.look(&sources([("a", "2")])));
        assert!(book.look(&sources([("a", "2"), ("b", "1")])));
        assert!(book.look(&sources([("b", "1")])));
    }

    #[test]
    fn build_output_triggers_no_build() {
        let mut book = Book::default();
        let made = |text| sources([("a", "1"), ("out.js", text)]);
        // The change can be a developer's, so there is a second build.
        assert!(book.built(&sources([("a", "1")]), &made("x 1")));
        assert!(!book.built(&made("x 1"), &made("x 2")), "two builds have made it");
        assert!(!book.built(&made("x 2"), &made("x 3")));
        // A developer changes the file: it counts as a source again.
        assert!(book.look(&made("by hand")));
        assert!(book.built(&made("by hand"), &made("x 4")));
    }

    #[test]
    fn sources_exclude_build_output() {
        let root = tempfile::tempdir().unwrap();
        for file in ["src/main.rs", "plugin.yaml", "x.wasm", "x.wasm.new", "target/y", ".git/z", "node_modules/q/i.js"]
        {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, file).unwrap();
        }
        let seen = times(root.path(), &made(root.path()));
        let names: Vec<_> = seen.keys().map(|it| it.strip_prefix(root.path()).unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["plugin.yaml", "src/main.rs"]);
        assert!(is_stale(&root.path().join("none.wasm"), &seen));
        assert!(!is_stale(&made(root.path()), &seen));
    }

    #[test]
    fn build_that_ignores_its_end_is_killed() {
        let here = tempfile::tempdir().unwrap();
        let (end, ended) = mpsc::channel();
        let build = "trap '' TERM; sh -c 'echo $$ > inner; sleep 1000' & echo $$ > outer; sleep 1000";
        let directory = here.path().to_owned();
        let building = thread::spawn(move || run(&directory, build, &ended));
        let number = |file: &str| loop {
            match fs::read_to_string(here.path().join(file)).ok().and_then(|it| it.trim().parse::<i32>().ok()) {
                Some(number) => break Pid::from_raw(number).unwrap(),
                None => thread::sleep(ASK),
            }
        };
        let processes = [number("outer"), number("inner")];
        drop(end);
        assert!(building.join().unwrap().unwrap().is_none());
        for process in processes {
            // The kernel needs time for a kill. If no process reaps orphans, the inner process stays as a zombie.
            let runs = || {
                let stat = fs::read_to_string(format!("/proc/{}/stat", process.as_raw_nonzero())).unwrap_or_default();
                stat.rsplit_once(')').is_some_and(|(_, fields)| !fields.trim_start().starts_with(['Z', 'X']))
            };
            let until = Instant::now() + Duration::from_secs(30);
            while runs() {
                assert!(Instant::now() < until, "{process:?} goes on");
                thread::sleep(ASK);
            }
        }
    }

    #[test]
    fn ended_build_leaves_no_processes() {
        let here = tempfile::tempdir().unwrap();
        let (end, ended) = mpsc::channel();
        let (status, output) = run(here.path(), "echo out; echo err >&2; exit 3", &ended).unwrap().unwrap();
        assert_eq!((status.code(), output.as_slice()), (Some(3), b"out\nerr\n".as_slice()));
        drop(end);
        assert!(run(here.path(), "sleep 1000 | sleep 1000", &ended).unwrap().is_none());
    }
}
