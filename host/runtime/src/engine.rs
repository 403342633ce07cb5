//! How engines are made: their settings, and the functions that their modules can import.

use super::{imports, state::State};
use distillery_core::{
    limits::Limits,
    private::{self, Use},
};
use std::path::{Path, PathBuf};
use wasmtime::{
    Cache, CacheConfig, Config, Enabled, Engine, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig,
    component,
};

/// The bytes of a memory or stack that stay resident in its pool slot, so that reuse causes no page faults.
const KEEP_RESIDENT: usize = 64 << 10;
/// The stack space for host functions, in addition to the limit for wasm.
const HOST_STACK: usize = 256 << 10;
/// The heaps of garbage-collected guests in the pool; each reserves as much address space as a memory.
const GC_HEAPS: u32 = 500;

/// The memories and tables of one component in the pool, over all its core instances.
const MEMORIES: u32 = 8;
const TABLES: u32 = 32;

/// An engine with everything that its modules can import.
pub struct Linked {
    pub engine: Engine,
    pub preview1: wasmtime::Linker<State>,
    pub component: component::Linker<State>,
    /// Whether the engine allocates for each process instead of using a pool.
    pub on_demand: bool,
}

/// The inputs for making engines.
pub struct Recipe {
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

    /// Returns the directory of compiled code, if there is one.
    pub fn cache_directory(&self) -> Option<&Path> {
        self.cache.as_ref().map(Cache::directory).map(AsRef::as_ref)
    }

    pub fn engine(&self, strategy: InstanceAllocationStrategy) -> Result<Engine, String> {
        Engine::new(&self.config(strategy)).map_err(|error| format!("{error:#}"))
    }

    pub fn link(&self, strategy: InstanceAllocationStrategy) -> Result<Linked, String> {
        let on_demand = matches!(strategy, InstanceAllocationStrategy::OnDemand);
        let engine = self.engine(strategy)?;
        let linked = || -> wasmtime::Result<Linked> {
            let mut preview1 = wasmtime::Linker::new(&engine);
            imports::add_to_modules(&mut preview1)?;
            let mut component = component::Linker::new(&engine);
            imports::add_to_components(&mut component)?;
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

    pub fn pool(&self) -> InstanceAllocationStrategy {
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
