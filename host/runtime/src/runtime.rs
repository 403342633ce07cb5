//! The engines and their shared state. One engine serves every module that fits its pool. A second one, created on
//! demand, allocates each process individually for modules that do not fit.

use super::{
    capacity::Capacity,
    code::CompileError,
    compiler::{CompileLimits, Compiler, NotCompiled},
    descriptors::Descriptors,
    engine::{Linked, Recipe, RuntimeError},
    files::{Devices, Host},
    inspect::Inspection,
    linking::Linking,
    platform,
    program::{Common, Program, Shared},
    ticker::Ticker,
};
use distillery_core::limits::Limits;
use sha2::{Digest, Sha256};
use std::{
    path::Path,
    sync::{Arc, OnceLock},
};
use wasmtime::{Engine, InstanceAllocationStrategy};

/// Compiles and runs guests.
pub struct Runtime {
    pool: Linked,
    on_demand: OnceLock<Result<Linked, String>>,
    recipe: Recipe,
    /// What all programs share.
    pub(super) common: Arc<Common>,
    engines: Arc<Engines>,
    /// Compiles in separate processes; `None` means compilation in this process.
    compiler: Option<Compiler>,
    /// The programs in use.
    shared: Shared,
}

/// Every engine whose epoch advances.
#[derive(Default)]
struct Engines {
    all: [OnceLock<Engine>; 2],
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
        let common = Arc::new(Common { limits: limits.clone(), ticker: Arc::new(ticker), host });
        let (on_demand, shared) = (OnceLock::new(), Shared::default());
        Ok(Self { pool, on_demand, recipe, common, engines, compiler: None, shared })
    }

    /// Compiles in separate processes from now on, within these limits. Only for the program that implements
    /// [`super::COMPILE_COMMAND`]. Without a writable cache a separate process cannot return its result. Modules are
    /// then compiled in this process, without limits. The same applies to systems that cannot bound such a process.
    pub fn compile_apart(mut self, limits: CompileLimits) -> Self {
        if let Some(why) = platform::unbounded_worker() {
            tracing::warn!(%why, "modules are compiled in this process, without limits");
            return self;
        }
        let cache = self.recipe.cache_directory();
        self.compiler = cache.map(|cache| Compiler::new(limits, self.common.limits.stack, cache));
        self
    }

    /// Compiles and links a module or component, in binary or text form. Takes seconds for large ones and blocks: never
    /// call this on a thread that serves sockets or guests. Plugins with the same module share one program.
    pub fn compile(&self, code: &[u8], linking: &Linking, limits: &Limits) -> Result<Program, CompileError> {
        let key = Shared::key(&Sha256::digest(code).into(), linking);
        if let Some(program) = self.shared.get(&key) {
            program.fits(limits)?;
            return Ok(program);
        }
        // Before any compilation, which can take minutes.
        Inspection::of(code)?.check(linking)?;
        if let Some(compiler) = &self.compiler {
            match compiler.compile(&self.pool.engine, code) {
                Ok(()) => {}
                Err(NotCompiled::Refused(error)) => return Err(error),
                Err(NotCompiled::Unable(why)) => {
                    tracing::warn!(%why, "cannot compile in a process of its own: compiling without limits");
                }
            }
        }
        let program = match Program::compile(&self.common, &self.pool, code, linking, limits) {
            Err(CompileError::NotForPool(why)) => {
                tracing::info!(%why, "module does not fit the pool; allocating on demand");
                let linked = self.on_demand().map_err(CompileError::Engine)?;
                Program::compile(&self.common, linked, code, linking, limits)
            }
            done => done,
        }?;
        self.shared.put(key, &program);
        Ok(program)
    }

    /// Returns the program of the module with the SHA-256 `code` if any plugin uses it. Compiles nothing.
    pub fn in_use(&self, code: &[u8; 32], linking: &Linking) -> Option<Program> {
        self.shared.get(&Shared::key(code, linking))
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
