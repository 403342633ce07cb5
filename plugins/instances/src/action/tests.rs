//! The calls, with a cancel, a failure or a crash at every point, and with an engine that only exists in memory.

mod engine;
mod provision;
mod purge;
mod restore;
mod running;
mod snapshot;
mod template;

use super::{cleanup::cleanup, provision::provision, snapshot::snapshot, start::start, stop::stop};
use crate::{
    Host, Mount,
    compose::Compose,
    host::{Event, Input, System},
    moment::Moment,
    mount::LONGEST_LIFE,
    slug::Slug,
    template::Templates,
};
use anyhow::{Result, bail};
use engine::Engine;
use serde_json::Value;
use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    rc::Rc,
    time::Duration,
};

/// All systems, which outlive processes.
type Systems = Rc<RefCell<BTreeMap<String, System>>>;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Lives,
    /// Cancelled at this query.
    CancelledAt(usize),
    /// At this query for a cancel, another process comes.
    MeanwhileAt(usize),
    /// Killed at this query, as by a forced end.
    DiesAt(usize),
}

struct Fake {
    process: String,
    systems: Systems,
    engine: Rc<RefCell<Engine>>,
    systems_fail: bool,
    fate: Fate,
    asked: Cell<usize>,
    clock: Rc<Cell<u64>>,
    domain: Option<&'static str>,
    dice: u64,
    answer: String,
    lines: Vec<String>,
    passed: Vec<u8>,
    value: Option<Value>,
    looked: Cell<usize>,
    meanwhile: Option<Box<dyn Fn()>>,
}

struct Bench {
    directory: tempfile::TempDir,
    mount: Mount,
    systems: Systems,
    engine: Rc<RefCell<Engine>>,
    clock: Rc<Cell<u64>>,
    processes: Cell<usize>,
}

const TEMPLATES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/instances/templates");

fn bench() -> Bench {
    bench_with(Path::new(TEMPLATES))
}

fn bench_with(templates: &Path) -> Bench {
    let directory = tempfile::tempdir().unwrap();
    let mount = Mount::open(directory.path(), Templates::open(templates)).unwrap();
    let engine = Rc::new(RefCell::new(Engine::of(directory.path())));
    let (systems, clock) = (Systems::default(), Rc::new(Cell::new(1_769_860_800_000)));
    Bench { directory, mount, systems, engine, clock, processes: Cell::default() }
}

impl Bench {
    fn host(&self) -> Fake {
        self.processes.set(self.processes.get() + 1);
        Fake {
            process: format!("p{:06}", self.processes.get()),
            systems: self.systems.clone(),
            engine: self.engine.clone(),
            systems_fail: false,
            fate: Fate::Lives,
            asked: Cell::new(0),
            clock: self.clock.clone(),
            domain: Some("example.org"),
            dice: self.processes.get() as u64,
            answer: String::new(),
            lines: Vec::new(),
            passed: Vec::new(),
            value: None,
            looked: Cell::new(0),
            meanwhile: None,
        }
    }

    fn fated(&self, fate: Fate) -> Fake {
        Fake { fate, ..self.host() }
    }

    /// Returns the host of the cleanup after `host`.
    fn cleaner(&self, host: &Fake) -> Fake {
        Fake { process: host.process.clone(), ..self.host() }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.directory.path().join(path)
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.at(path)).unwrap()
    }

    fn provision(&self, slug: &str) {
        provision(&self.mount, &mut self.host(), &form(slug)).unwrap();
    }

    fn start(&self, slug: &str) {
        start(&self.mount, &mut self.host(), &slug.parse().unwrap()).unwrap();
    }

    fn stop(&self, slug: &str) {
        stop(&self.mount, &mut self.host(), &slug.parse().unwrap()).unwrap();
    }

    /// Takes a snapshot, and returns its name.
    fn snapshot(&self, slug: &str) -> String {
        let mut host = self.host();
        snapshot(&self.mount, &mut host, &slug.parse().unwrap()).unwrap();
        host.value.unwrap()["snapshot"].as_str().unwrap().to_owned()
    }

    /// Returns all files, hidden or not, except finished snapshots.
    fn everything(&self) -> Vec<String> {
        let mut all = Vec::new();
        list(self.directory.path(), "", &mut all);
        all.retain(|path| !path.starts_with("snapshots/coins"));
        all
    }

    fn tagline(&self, slug: &str) -> Option<String> {
        self.systems.borrow().get(slug).map(|system| system.tagline.clone())
    }

    /// Returns all containers, networks and volumes.
    fn left(&self) -> Vec<String> {
        self.engine.borrow().left()
    }
}

fn list(directory: &Path, before: &str, all: &mut Vec<String>) {
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let path = format!("{before}{}", entry.file_name().to_str().unwrap());
        if entry.file_type().unwrap().is_dir() {
            list(&entry.path(), &format!("{path}/"), all);
        }
        all.push(path);
    }
    all.sort();
}

fn form(slug: &str) -> String {
    format!(r#"{{"Slug": "{slug}", "Flavor": "Drupal 10", "System": {{"ContentSecurityPolicy": "img-src 'self'"}}}}"#)
}

fn coins() -> Slug {
    "coins".parse().unwrap()
}

const NOTHING: [&str; 4] = [".garbage", ".locks", ".versions", "snapshots"];
/// What the engine has for one running instance of these tests.
const STACK: [&str; 4] = ["container coins_database", "container coins_web", "network coins", "volume coins"];

impl Fake {
    fn step(&self) {
        self.asked.set(self.asked.get() + 1);
        if self.fate == Fate::DiesAt(self.asked.get()) {
            panic!("forced to end");
        }
    }
}

impl Host for Fake {
    fn process(&self) -> String {
        self.process.clone()
    }

    fn now(&self) -> Moment {
        self.step();
        self.clock.set(self.clock.get() + 1);
        Moment(self.clock.get())
    }

    fn random(&mut self, bytes: &mut [u8]) {
        self.step();
        for byte in bytes {
            self.dice = self.dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *byte = (self.dice >> 56) as u8;
        }
    }

    fn domain(&self) -> Option<String> {
        self.domain.map(str::to_owned)
    }

    fn is_cancelled(&self) -> bool {
        self.step();
        self.looked.set(self.looked.get() + 1);
        if let (true, Some(meanwhile)) = (self.fate == Fate::MeanwhileAt(self.looked.get()), &self.meanwhile) {
            meanwhile();
        }
        matches!(self.fate, Fate::CancelledAt(at) if at <= self.asked.get())
    }

    fn pause(&mut self, time: Duration) {
        self.clock.set(self.clock.get() + time.as_millis() as u64);
    }

    fn say(&mut self, line: &str) {
        self.step();
        self.lines.push(line.to_owned());
    }

    fn pass(&mut self, bytes: &[u8]) {
        self.passed.extend_from_slice(bytes);
    }

    fn ask(&mut self, question: &str) -> Result<String> {
        self.say(question);
        Ok(self.answer.clone())
    }

    fn set_value(&mut self, value: &Value) {
        self.step();
        self.value = Some(value.clone());
    }

    fn systems(&self) -> Result<Vec<System>> {
        self.step();
        Ok(self.systems.borrow().values().cloned().collect())
    }

    fn put_system(&mut self, system: &System) -> Result<()> {
        self.step();
        if self.systems_fail {
            bail!("the systems: full");
        }
        self.systems.borrow_mut().insert(system.slug.clone(), system.clone());
        self.step();
        Ok(())
    }

    fn remove_system(&mut self, slug: &str) -> Result<()> {
        self.step();
        self.systems.borrow_mut().remove(slug);
        self.step();
        Ok(())
    }

    fn compose(
        &mut self,
        command: &Compose<'_>,
        mut input: Input<'_>,
        news: &mut dyn FnMut(&mut Self, Event<'_>) -> Result<()>,
    ) -> Result<i32> {
        self.step();
        let mut content = Vec::new();
        if let Input::Content(reader) = &mut input {
            reader.read_to_end(&mut content).unwrap();
        }
        let done = self.engine.borrow_mut().run(command, content);
        // Between the work of the command and its end.
        self.step();
        news(self, Event::Tick)?;
        news(self, Event::Output(done.output.as_bytes()))?;
        news(self, Event::Error(done.error.as_bytes()))?;
        if !command.undoes {
            self.go_on()?;
        }
        Ok(done.status)
    }
}

/// Runs `action` with one fate after the other, until one comes too late. Returns the number of fates.
fn with_every_fate(fate: impl Fn(usize) -> Fate, mut action: impl FnMut(Fate) -> bool) -> usize {
    // An action that never succeeds would never come before its fate.
    let count = (1..5000).take_while(|at| action(fate(*at))).count();
    assert!(count < 4999, "it always fails");
    count
}

/// Tells whether the process of `action` ends before its fate.
fn dies(action: impl FnOnce() -> Result<()>) -> bool {
    catch_unwind(AssertUnwindSafe(action)).is_err()
}

#[test]
fn longest_life_exceeds_the_time_limit() {
    // An hour, its grace period and its cleanup: see plugin.yaml.
    assert!(include_str!("../../plugin.yaml").contains("limits: {time: 1h}"));
    assert!(Duration::from_millis(LONGEST_LIFE) > Duration::from_secs(3600 + 600));
}
