//! Runs a property on generated input: briefly as a test, or for a given time as a hunt.
//!
//! It does not know what is generated. A failing input is shrunk and printed, and its seed is kept in `found/`; every
//! later run tries it first.

use proptest::{
    strategy::Strategy,
    test_runner::{Config, FileFailurePersistence, TestError, TestRunner},
};
use std::{
    fmt::Debug,
    sync::{
        Arc, Mutex,
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

/// Longest time for one input. It is far above that of a busy machine: more is a hang.
const PATIENCE: Duration = Duration::from_secs(120);
/// Interval of the progress report of a long hunt.
const REPORT: Duration = Duration::from_secs(10);
/// Milliseconds for shrinking a failing input.
const SHRINK_MILLIS: u32 = 60_000;
/// Variable with the seconds of a hunt for each target; `make fuzz` sets it. Without it a target has its short run.
const SECONDS: &str = "FUZZ_SECONDS";

/// A name for generated input, and the file with its seeds.
pub struct Target {
    pub name: &'static str,
    /// Number of inputs in the short run.
    pub short: u32,
    pub seeds: &'static str,
}

/// Makes a target of this name, with `short` inputs in the short run.
#[macro_export]
macro_rules! target {
    ($name:literal, $short:expr) => {
        $crate::hunt::Target {
            name: $name,
            short: $short,
            seeds: concat!(env!("CARGO_MANIFEST_DIR"), "/found/", $name, ".txt"),
        }
    };
}

/// Calls `property`, which panics if it does not hold, with many values of `strategy`.
pub fn hunt<S>(target: Target, strategy: S, property: impl Fn(S::Value))
where
    S: Strategy,
    S::Value: Clone + Debug + Send + 'static,
{
    let watch = Watch::begin(target.name);
    let began = Instant::now();
    let (mut rounds, mut reported) = (0, began);
    let long = long();
    loop {
        let mut runner = TestRunner::new(Config {
            cases: target.short,
            failure_persistence: Some(Box::new(FileFailurePersistence::Direct(target.seeds))),
            source_file: Some(file!()),
            max_shrink_time: SHRINK_MILLIS,
            ..Config::default()
        });
        let outcome = runner.run(&strategy, |value| {
            watch.start(value.clone());
            property(value);
            watch.stop();
            Ok(())
        });
        match outcome {
            Ok(()) => {}
            Err(TestError::Fail(reason, value)) => {
                panic!("{}: {reason}\nsmallest input: {value:?}\nseed kept in {}", target.name, target.seeds)
            }
            Err(TestError::Abort(reason)) => panic!("{}: no input could be generated: {reason}", target.name),
        }
        rounds += 1;
        let over = long.is_none_or(|long| began.elapsed() >= long);
        if long.is_some() && (over || reported.elapsed() >= REPORT) {
            reported = Instant::now();
            let inputs = u64::from(target.short) * rounds;
            eprintln!("{}: {inputs} inputs in {} s, no failure", target.name, began.elapsed().as_secs());
        }
        if over {
            return;
        }
    }
}

fn long() -> Option<Duration> {
    let text = std::env::var(SECONDS).ok()?;
    let seconds = text.parse().unwrap_or_else(|_| panic!("{SECONDS} must be a whole number of seconds, not {text:?}"));
    Some(Duration::from_secs(seconds))
}

/// Reports an input that takes forever. A hang has no stack to unwind, so nothing else shows the input.
struct Watch<V> {
    now: Arc<Mutex<Option<(Instant, V)>>>,
    _alive: mpsc::Sender<()>,
}

impl<V: Debug + Send + 'static> Watch<V> {
    fn begin(name: &'static str) -> Self {
        let now: Arc<Mutex<Option<(Instant, V)>>> = Arc::default();
        let (alive, ended) = mpsc::channel();
        let watched = now.clone();
        thread::spawn(move || {
            while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(Duration::from_secs(1)) {
                let now = watched.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                if let Some((since, value)) = &*now
                    && since.elapsed() > PATIENCE
                {
                    eprintln!("{name}: an input takes longer than {PATIENCE:?}: {value:?}");
                    std::process::exit(101);
                }
            }
        });
        Self { now, _alive: alive }
    }

    fn start(&self, value: V) {
        *self.now.lock().unwrap() = Some((Instant::now(), value));
    }

    fn stop(&self) {
        *self.now.lock().unwrap() = None;
    }
}
