//! Surroundings of the measured paths: an engine, plugins and a dispatcher, as `distillery serve` makes them.

use anyhow::{Context, Result};
use distillery_core::{limits::Limits, size::Size};
use distillery_http::session::Timing;
use distillery_plugin::{
    Call, Catalog, Operator, Snapshot,
    files::FileLimits,
    load::{Loader, found},
    source,
};
use distillery_process::{
    admission::{Admission, Bounds},
    compute::ComputeThreads,
    dispatch::Dispatcher,
    history::{History, Retention},
};
use distillery_runtime::{Capacity, Runtime};
use distillery_store::database::Database;
use std::{
    fmt::Write,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tempfile::TempDir;

/// Calls of the plugin with many calls.
pub const MANY: usize = 1000;
/// Number of processes. Small, so that the pool fits the 60 GiB of addresses that valgrind leaves a program.
const PROCESSES: u32 = 2;

/// Guests that are compiled rather than written by hand.
#[derive(Clone, Debug, Default)]
pub struct Built {
    /// Answers one line.
    pub once: Option<PathBuf>,
    /// Echoes until its input ends.
    pub echo: Option<PathBuf>,
}

pub struct World {
    directory: TempDir,
    pub built: Built,
    pub limits: Limits,
    pub catalog: Arc<Catalog>,
    compute: Arc<ComputeThreads>,
    pub timing: Arc<Timing>,
}

impl World {
    pub fn make(built: &Built) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("distillery-layers-").tempdir()?;
        let plugins = directory.path().join("plugins");
        let tiny = include_bytes!("../../guests/once-tiny.wat");
        plugin(&plugins, "once-tiny", "wat", tiny, &["once-tiny".into()])?;
        plugin(&plugins, "echo-tiny", "wat", include_bytes!("../../guests/echo-tiny.wat"), &["echo-tiny".into()])?;
        plugin(&plugins, "many", "wat", tiny, &(0..MANY).map(|number| format!("call-{number}")).collect::<Vec<_>>())?;
        for (name, path) in [("once", &built.once), ("echo", &built.echo)] {
            if let Some(path) = path {
                let module = fs::read(path).with_context(|| format!("no guest {}", path.display()))?;
                plugin(&plugins, name, "wasm", &module, &[name.to_owned()])?;
            }
        }
        // The pool reserves addresses for the largest memory of a process.
        let limits = Limits { memory: Size::mib(16), ..Limits::default() };
        let capacity = Capacity::of(PROCESSES);
        let runtime = Arc::new(Runtime::new(&limits, &capacity, None)?);
        let operator = Operator { limits: limits.clone(), grace_max: Duration::from_secs(60), ..Operator::default() };
        let files = FileLimits { count: 0, size: Size::mib(0) };
        let bounds = source::Bounds { module: Size::mib(64), files };
        let loader = Loader { runtime, operator, bounds, interpreters: Arc::default(), archive: None };
        let loaded = loader.load_all(&plugins)?;
        let catalog = Arc::new(Catalog::new(Snapshot::default().next(&found(&loaded))));
        for (name, state) in catalog.snapshot().plugins() {
            if let Some(error) = &state.error {
                anyhow::bail!("the plugin {name} does not load: {error}");
            }
        }
        let timing = Timing {
            call_timeout: Duration::from_secs(60),
            write_timeout: Duration::from_secs(60),
            ping_interval: Duration::from_secs(3600),
            silence_timeout: Duration::from_secs(3600),
            max_frame: Size::mib(1),
        };
        let compute = Arc::new(ComputeThreads::start(1)?);
        Ok(Self { directory, built: built.clone(), limits, catalog, compute, timing: Arc::new(timing) })
    }

    pub fn call(&self, name: &str) -> Option<Arc<Call>> {
        self.catalog.snapshot().call(name).cloned()
    }

    pub fn admission() -> Admission {
        let queue_time = Duration::from_secs(5);
        Admission::new(Bounds { processes: PROCESSES, per_caller: None, queue: 8, queue_time })
    }

    /// A history that is written to disk.
    pub fn history(&self) -> Result<History> {
        let database = Database::open(&self.directory.path().join("data"))?;
        History::start(
            &database,
            Retention { age: Duration::from_secs(3600), count: 10_000, output: 1 << 30, output_each: 16 << 20 },
        )
    }

    pub fn dispatcher(&self) -> Arc<Dispatcher> {
        Arc::new(Dispatcher {
            catalog: self.catalog.clone(),
            admission: Self::admission(),
            compute: self.compute.clone(),
            grace: Duration::from_secs(2),
            cleanup_time: Duration::from_secs(10),
            history: None,
            registry: None,
            metrics: Arc::default(),
            tracer: None,
        })
    }
}

fn plugin(root: &Path, name: &str, extension: &str, module: &[u8], calls: &[String]) -> Result<()> {
    let directory = root.join(name);
    fs::create_dir_all(&directory)?;
    fs::write(directory.join(name).with_extension(extension), module)?;
    let mut manifest = String::from("calls:\n");
    for call in calls {
        writeln!(manifest, "  {call}: {{access: public}}")?;
    }
    fs::write(directory.join("plugin.yaml"), manifest)?;
    Ok(())
}
