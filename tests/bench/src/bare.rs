//! wasmtime alone, with a pool but without bounds or interruption of the guest: the cost that is not the server's.
//!
//! [`Module`] is the tiny guest, whose three imports are closures. [`Component`] is a WASI 0.2 guest with the library's
//! own WASI, and its input and output in memory.

use std::path::Path;
use wasmtime::{
    Caller, Config, Engine, Extern, InstanceAllocationStrategy, InstancePre, Linker, PoolingAllocationConfig, Store,
    component,
};
use wasmtime_wasi::{
    ResourceTable, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView,
    p2::{
        bindings::CommandPre,
        pipe::{MemoryInputPipe, MemoryOutputPipe},
    },
};

/// Largest output of a guest.
const OUTPUT: usize = 64 << 10;

/// Bytes of a memory or a stack that keep their pages in the pool, so that touching them causes no fault. Not used for
/// counts: callgrind has no kernel that knows which pages were touched, so all of them are cleared.
pub const KEEP: usize = 64 << 10;

/// Core modules of a component. Each has a table of its own.
const PARTS: u32 = 8;

/// Pool for `processes` guests of `parts` modules each.
fn engine(processes: u32, parts: u32, keep: usize) -> wasmtime::Result<Engine> {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(processes)
        .total_core_instances(processes * parts)
        .total_memories(processes)
        .total_tables(processes * parts)
        .total_stacks(processes)
        .linear_memory_keep_resident(keep)
        .async_stack_keep_resident(keep)
        .max_memory_size(16 << 20);
    let mut config = Config::new();
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    Engine::new(&config)
}

pub struct Module {
    engine: Engine,
    module: InstancePre<Talk>,
}

/// Input and output of a guest.
#[derive(Default)]
struct Talk {
    input: Vec<u8>,
    output: Vec<u8>,
}

impl Module {
    /// Prepares a pool for `processes` guests of this module, which keeps `resident` bytes of each.
    pub fn load(module: &[u8], processes: u32, keep: usize) -> wasmtime::Result<Self> {
        let engine = engine(processes, 1, keep)?;
        let binary = wat::parse_bytes(module).map_err(wasmtime::Error::new)?;
        let module = wasmtime::Module::new(&engine, binary)?;
        let mut linker = Linker::<Talk>::new(&engine);
        let wasi = "wasi_snapshot_preview1";
        linker.func_wrap(
            wasi,
            "fd_read",
            |mut caller: Caller<'_, Talk>, _: i32, vector: i32, _: i32, count: i32| {
                transfer(&mut caller, vector, count, |talk, place| {
                    let moved = talk.input.len().min(place.len());
                    place[..moved].copy_from_slice(&talk.input[..moved]);
                    talk.input.drain(..moved);
                    moved
                })
            },
        )?;
        linker.func_wrap(
            wasi,
            "fd_write",
            |mut caller: Caller<'_, Talk>, _: i32, vector: i32, _: i32, count: i32| {
                transfer(&mut caller, vector, count, |talk, place| {
                    talk.output.extend_from_slice(place);
                    place.len()
                })
            },
        )?;
        linker.func_wrap(wasi, "proc_exit", |_: i32| -> wasmtime::Result<()> {
            Err(wasmtime::format_err!("the guest failed"))
        })?;
        let module = linker.instantiate_pre(&module)?;
        Ok(Self { engine, module })
    }

    /// Runs a process from start to end with this input, and returns its output.
    pub fn run(&self, input: Vec<u8>) -> wasmtime::Result<Vec<u8>> {
        let mut store = Store::new(&self.engine, Talk { input, output: Vec::new() });
        let instance = self.module.instantiate(&mut store)?;
        instance.get_typed_func::<(), ()>(&mut store, "_start")?.call(&mut store, ())?;
        Ok(store.into_data().output)
    }
}

pub struct Component {
    engine: Engine,
    component: CommandPre<Host>,
}

struct Host {
    wasi: WasiCtx,
    table: ResourceTable,
}

impl WasiView for Host {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl Component {
    /// Prepares a pool for `processes` guests of this component.
    pub fn load(file: &Path, processes: u32) -> wasmtime::Result<Self> {
        let engine = engine(processes, PARTS, KEEP)?;
        let component = component::Component::from_file(&engine, file)?;
        let mut linker = component::Linker::new(&engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
        Ok(Self { component: CommandPre::new(linker.instantiate_pre(&component)?)?, engine })
    }

    /// Does the same as [`Module::run`].
    pub async fn run(&self, input: Vec<u8>) -> wasmtime::Result<Vec<u8>> {
        let output = MemoryOutputPipe::new(OUTPUT);
        let wasi = WasiCtxBuilder::new().stdin(MemoryInputPipe::new(input)).stdout(output.clone()).build();
        let mut store = Store::new(&self.engine, Host { wasi, table: ResourceTable::new() });
        let command = self.component.instantiate_async(&mut store).await?;
        let ended = command.wasi_cli_run().call_run(&mut store).await?;
        ended.map_err(|()| wasmtime::format_err!("the guest failed"))?;
        Ok(output.contents().into())
    }
}

/// Moves bytes between the guest and its peer, through the one buffer that `vector` points to.
fn transfer(
    caller: &mut Caller<'_, Talk>,
    vector: i32,
    count: i32,
    how: impl FnOnce(&mut Talk, &mut [u8]) -> usize,
) -> wasmtime::Result<i32> {
    let Some(Extern::Memory(memory)) = caller.get_export("memory") else {
        return Err(wasmtime::format_err!("the guest exports no memory"));
    };
    let (memory, talk) = memory.data_and_store_mut(caller);
    let number = |memory: &[u8], at: usize| {
        memory.get(at..at + 4).and_then(|it| it.try_into().ok()).map(|it| u32::from_le_bytes(it) as usize)
    };
    let outside = || wasmtime::format_err!("outside of the guest's memory");
    let vector = vector as usize;
    let (from, length) = number(memory, vector).zip(number(memory, vector + 4)).ok_or_else(outside)?;
    let moved = how(talk, memory.get_mut(from..from + length).ok_or_else(outside)?);
    let count = memory.get_mut(count as usize..count as usize + 4).ok_or_else(outside)?;
    count.copy_from_slice(&(moved as u32).to_le_bytes());
    Ok(0)
}
