//! Runs a property on generated input: a moment long as a test, as long as it is told as a hunt.
//!
//! It knows nothing of what is generated. A failure is made small, printed, and its seed kept in `found/`, from where
//! every later run takes it first.

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

/// No input may take longer, however busy the machine is: then it is a hang.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often a long hunt says how far it is.
const REPORT: Duration = Duration::from_secs(10);
/// How long a failure is made smaller, in milliseconds.
const SHRINK_MILLIS: u32 = 60_000;
/// How long each target is hunted, in seconds; `make fuzz` sets it. Without it a target has its short run.
const SECONDS: &str = "FUZZ_SECONDS";

/// What is generated, and where its seeds are kept.
pub struct Target {
    pub name: &'static str,
    /// How many inputs the short run has.
    pub short: u32,
    pub seeds: &'static str,
}

/// A target of this name, with `short` inputs in the short run.
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

/// Calls `property`, which panics where it does not hold, with many values of `strategy`.
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
            watch.looks_at(value.clone());
            property(value);
            watch.rests();
            Ok(())
        });
        match outcome {
            Ok(()) => {}
            Err(TestError::Fail(why, value)) => {
                panic!("{}: {why}\nsmallest input: {value:?}\nits seed is kept in {}", target.name, target.seeds)
            }
            Err(TestError::Abort(why)) => panic!("{}: no input could be generated: {why}", target.name),
        }
        rounds += 1;
        let over = long.is_none_or(|long| began.elapsed() >= long);
        if long.is_some() && (over || reported.elapsed() >= REPORT) {
            reported = Instant::now();
            let inputs = u64::from(target.short) * rounds;
            eprintln!("{}: {inputs} inputs in {} s, all is well", target.name, began.elapsed().as_secs());
        }
        if over {
            return;
        }
    }
}

fn long() -> Option<Duration> {
    let text = std::env::var(SECONDS).ok()?;
    let seconds = text.parse().unwrap_or_else(|_| panic!("{SECONDS} is a whole number of seconds, not {text:?}"));
    Some(Duration::from_secs(seconds))
}

/// Notices an input that takes for ever. Nothing else could tell which one it was: a hang has no stack to unwind.
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

    fn looks_at(&self, value: V) {
        *self.now.lock().unwrap() = Some((Instant::now(), value));
    }

    fn rests(&self) {
        *self.now.lock().unwrap() = None;
    }
}
