//! The engines and their shared state. One engine serves every module that fits its pool. A second one, created on
//! demand, allocates each process individually for modules that do not fit.

use super::{
    capacity::Capacity,
    commands,
    compiler::{CompileLimits, Compiler, NotCompiled},
    descriptors::Descriptors,
    files::{self, Devices, Host},
    inspect, interface,
    linking::Linking,
    platform,
    program::{CompileError, Program, Shared},
    state::State,
    systems,
    ticker::Ticker,
};
use distillery_core::{
    limits::Limits,
    private::{self, Use},
    size::Size,
};
use std::{
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};
use wasmtime::{
    Cache, CacheConfig, Config, Enabled, Engine, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig,
    component,
};
use wasmtime_wasi::I32Exit;

/// The bytes of a memory or stack that stay resident in its pool slot, so that reuse causes no page faults.
const KEEP_RESIDENT: usize = 64 << 10;
/// The stack space for host functions, in addition to the limit for wasm.
const HOST_STACK: usize = 256 << 10;
/// The heaps of garbage-collected guests in the pool; each reserves as much address space as a memory.
const GC_HEAPS: u32 = 500;

/// The memories and tables of one component in the pool, over all its core instances.
const MEMORIES: u32 = 8;
const TABLES: u32 = 32;

pub struct Runtime {
    pool: Linked,
    on_demand: OnceLock<Result<Linked, String>>,
    recipe: Recipe,
    pub(super) ticker: Arc<Ticker>,
    /// The file descriptors and devices available to guests.
    pub(super) host: Arc<Host>,
    engines: Arc<Engines>,
    /// Compiles in separate processes; `None` means compilation in this process.
    compiler: Option<Compiler>,
    /// The programs in use.
    shared: Shared,
}

/// An engine with everything that its modules can import.
pub(super) struct Linked {
    pub engine: Engine,
    pub preview1: wasmtime::Linker<State>,
    pub component: component::Linker<State>,
    /// Whether the engine allocates for each process instead of using a pool.
    pub on_demand: bool,
}

/// Every engine whose epoch advances.
#[derive(Default)]
struct Engines {
    all: [OnceLock<Engine>; 2],
}

/// The inputs for making engines.
pub(super) struct Recipe {
    limits: Limits,
    capacity: u32,
    cache: Option<Cache>,
}

#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    #[error(
        "cannot use {directory} for compiled code: {why}; set `cache` in distillery.yaml to a directory that can be written"
    )]
    Cache { directory: PathBuf, why: String },
    #[error("cannot set up the WASM engine: {0}")]
    Engine(String),
    #[error("cannot start the thread that keeps the epoch: {0}")]
    Ticker(std::io::Error),
}

impl Runtime {
    /// Makes an engine for processes within `limits`, with as many at once as `capacity` allows. Compiled code is kept
    /// in `cache`, under the content of the module and the version and settings of the engine.
    pub fn new(limits: &Limits, capacity: &Capacity, cache: Option<&Path>) -> Result<Self, RuntimeError> {
        let recipe = Recipe::new(limits, capacity.processes, cache)?;
        let pool = recipe.link(recipe.pool()).map_err(RuntimeError::Engine)?;
        let engines = Arc::new(Engines::default());
        engines.all[0].set(pool.engine.clone()).ok();
        let ticker = Ticker::start({
            let engines = engines.clone();
            move || engines.tick()
        })
        .map_err(RuntimeError::Ticker)?;
        let descriptors = Arc::new(Descriptors::new(capacity.guest_files));
        let host = Arc::new(Host { descriptors, devices: Devices::default() });
        let (on_demand, ticker, shared) = (OnceLock::new(), Arc::new(ticker), Shared::default());
        Ok(Self { pool, on_demand, recipe, ticker, host, engines, compiler: None, shared })
    }

    /// Compiles in separate processes from now on, within these limits. Only for the program that implements
    /// [`super::COMPILE_COMMAND`]. Without a writable cache a separate process cannot return its result. Modules are
    /// then compiled in this process, without limits. The same applies to systems that cannot bound such a process.
    pub fn compile_apart(mut self, limits: CompileLimits) -> Self {
        if let Some(why) = platform::unbounded_worker() {
            tracing::warn!(%why, "modules are compiled in this process, without limits");
            return self;
        }
        let cache = self.recipe.cache.as_ref();
        self.compiler = cache.map(|cache| Compiler::new(limits, self.recipe.limits.stack, cache.directory()));
        self
    }

    /// Compiles and links a module or component, in binary or text form. Takes seconds for large ones and blocks: never
    /// call this on a thread that serves sockets or guests. Plugins with the same module share one program.
    pub fn compile(&self, code: &[u8], linking: &Linking, limits: &Limits) -> Result<Program, CompileError> {
        let key = Shared::key(code, linking);
        if let Some(program) = self.shared.get(&key) {
            program.fits(limits)?;
            return Ok(program);
        }
        // Before any compilation, which can take minutes.
        inspect::Inspection::of(code)?.check(linking)?;
        if let Some(compiler) = &self.compiler {
            match compiler.compile(&self.pool.engine, code) {
                Ok(()) => {}
                Err(NotCompiled::Refused(error)) => return Err(error),
                Err(NotCompiled::Unable(why)) => {
                    tracing::warn!(%why, "cannot compile in a process of its own: compiling without limits");
                }
            }
        }
        let program = match Program::compile(self, &self.pool, code, linking, limits) {
            Err(CompileError::NotForPool(why)) => {
                tracing::info!(%why, "module does not fit the pool; allocating on demand");
                let linked = self.on_demand().map_err(CompileError::Engine)?;
                Program::compile(self, linked, code, linking, limits)
            }
            done => done,
        }?;
        self.shared.put(key, &program);
        Ok(program)
    }

    /// Returns the operator's limits, which apply to every process.
    pub(super) fn limits(&self) -> &Limits {
        &self.recipe.limits
    }

    fn on_demand(&self) -> Result<&Linked, String> {
        let linked = self.on_demand.get_or_init(|| {
            let linked = self.recipe.link(InstanceAllocationStrategy::OnDemand)?;
            self.engines.all[1].set(linked.engine.clone()).ok();
            Ok(linked)
        });
        linked.as_ref().map_err(Clone::clone)
    }
}

impl Engines {
    fn tick(&self) {
        for engine in self.all.iter().filter_map(OnceLock::get) {
            engine.increment_epoch();
        }
    }
}

fn open_cache(directory: &Path) -> Result<Cache, RuntimeError> {
    let failed = |why: String| RuntimeError::Cache { directory: directory.to_owned(), why };
    // Code in the cache is run unchecked.
    private::directory(directory, Use::Serve).map_err(|error| failed(error.to_string()))?;
    let directory_path = std::path::absolute(directory).map_err(|error| failed(error.to_string()))?;
    let mut config = CacheConfig::new();
    config.with_directory(directory_path);
    Cache::new(config).map_err(|error| failed(format!("{error:#}")))
}

impl Recipe {
    pub fn new(limits: &Limits, capacity: u32, cache: Option<&Path>) -> Result<Self, RuntimeError> {
        Ok(Self { limits: limits.clone(), capacity, cache: cache.map(open_cache).transpose()? })
    }

    pub fn engine(&self, strategy: InstanceAllocationStrategy) -> Result<Engine, String> {
        Engine::new(&self.config(strategy)).map_err(|error| format!("{error:#}"))
    }

    fn link(&self, strategy: InstanceAllocationStrategy) -> Result<Linked, String> {
        let on_demand = matches!(strategy, InstanceAllocationStrategy::OnDemand);
        let engine = self.engine(strategy)?;
        let linked = || -> wasmtime::Result<Linked> {
            let mut preview1 = wasmtime::Linker::new(&engine);
            wasmtime_wasi::p1::add_to_linker_async(&mut preview1, |state: &mut State| &mut state.wasi)?;
            // The library treats a status above 125 as an error; here the guest can choose any status.
            preview1.allow_shadowing(true);
            preview1.func_wrap("wasi_snapshot_preview1", "proc_exit", |status: i32| -> wasmtime::Result<()> {
                Err(I32Exit(status).into())
            })?;
            preview1.allow_shadowing(false);
            interface::add_to_modules(&mut preview1)?;
            commands::preview1::link(&mut preview1)?;
            files::preview1::link(&mut preview1)?;
            let mut component = component::Linker::new(&engine);
            wasmtime_wasi::p2::add_to_linker_async(&mut component)?;
            wasmtime_wasi::p3::add_to_linker(&mut component)?;
            files::component2::link(&mut component)?;
            files::component3::link(&mut component)?;
            // Linked even without grants: some languages always import it, and every request is then denied.
            wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut component)?;
            wasmtime_wasi_http::p3::add_to_linker(&mut component)?;
            interface::add_to_components(&mut component)?;
            systems::add_to_components(&mut component)?;
            commands::component2::link(&mut component)?;
            commands::component3::link(&mut component)?;
            Ok(Linked { engine, preview1, component, on_demand })
        };
        linked().map_err(|error| format!("{error:#}"))
    }

    fn config(&self, strategy: InstanceAllocationStrategy) -> Config {
        let mut config = Config::new();
        config
            .allocation_strategy(strategy)
            .epoch_interruption(true)
            .cranelift_opt_level(OptLevel::Speed)
            .max_wasm_stack(self.limits.stack.as_usize())
            .async_stack_size(self.limits.stack.as_usize() + HOST_STACK)
            .native_unwind_info(false)
            .wasm_gc(true)
            .wasm_function_references(true)
            .wasm_exceptions(true)
            .wasm_wide_arithmetic(true)
            .wasm_component_model_async(true)
            .cache(self.cache.clone());
        config
    }

    fn pool(&self) -> InstanceAllocationStrategy {
        let processes = self.capacity;
        let mut pool = PoolingAllocationConfig::new();
        // A component can consist of several core modules, each with a memory or a table. However few the processes,
        // the largest one must fit.
        let spare = processes / 4 + MEMORIES;
        let instances = self.limits.instances as u32;
        pool.total_component_instances(processes)
            .total_core_instances(processes.saturating_mul(8).max(instances))
            .total_memories((processes + spare).max(MEMORIES))
            .total_tables((processes.saturating_mul(2) + spare).max(TABLES))
            .total_stacks(processes)
            .total_gc_heaps(processes.min(GC_HEAPS))
            .max_core_instances_per_component(instances)
            .max_memories_per_component(MEMORIES)
            .max_tables_per_component(TABLES)
            .max_memories_per_module(4)
            .max_tables_per_module(8)
            .max_core_instance_size(4 << 20)
            .max_component_instance_size(4 << 20)
            .max_memory_size(self.limits.memory.as_usize())
            .table_elements(self.limits.tables as usize)
            .linear_memory_keep_resident(KEEP_RESIDENT)
            .table_keep_resident(KEEP_RESIDENT)
            .async_stack_keep_resident(KEEP_RESIDENT)
            .max_unused_warm_slots(256)
            .pagemap_scan(Enabled::Auto);
        InstanceAllocationStrategy::Pooling(pool)
    }
}

/// Returns the setting to change for a module that exceeds a size of the pool.
pub(super) fn setting_for(why: &str, limits: &Limits) -> Option<String> {
    let never = |what: &str, setting: &str, now: String| {
        Some(format!("{what}; raise limits.{setting} in distillery.yaml, which is {now}"))
    };
    let lower = why.to_ascii_lowercase();
    if lower.contains("memory") && (lower.contains("minimum") || lower.contains("size")) {
        let memory: Size = limits.memory;
        never("it needs more memory than a process may have", "memory", memory.to_string())
    } else if lower.contains("table") {
        never("its tables have more elements than a process may have", "tables", limits.tables.to_string())
    } else if lower.contains("instances") {
        never("it is made of more core instances than a process may have", "instances", limits.instances.to_string())
    } else {
        None
    }
}
