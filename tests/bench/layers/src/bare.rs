//! wasmtime alone: an engine with a pool, the tiny guest, and the three functions that it imports, as closures. What the
//! server needs beyond this is its own.

use std::hint::black_box;
use wasmtime::{
    Caller, Config, Engine, Extern, InstanceAllocationStrategy, InstancePre, Linker, Module, PoolingAllocationConfig,
    Store,
};

pub struct Bare {
    engine: Engine,
    module: InstancePre<Talk>,
}

/// What a guest reads and writes.
#[derive(Default)]
struct Talk {
    input: Vec<u8>,
    output: Vec<u8>,
}

impl Bare {
    pub fn make() -> wasmtime::Result<Self> {
        let mut pool = PoolingAllocationConfig::new();
        pool.total_core_instances(2).total_memories(2).total_tables(2).total_stacks(2).max_memory_size(16 << 20);
        let mut config = Config::new();
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
        let engine = Engine::new(&config)?;
        let binary = wat::parse_str(include_str!("../../guests/once-tiny.wat")).map_err(wasmtime::Error::new)?;
        let module = Module::new(&engine, binary)?;
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

    /// A process from its beginning to its end, with one line each way.
    pub fn run(&mut self, line: &str) {
        let input = [black_box(line).as_bytes(), b"\n"].concat();
        let mut store = Store::new(&self.engine, Talk { input, ..Talk::default() });
        let ran = self
            .module
            .instantiate(&mut store)
            .and_then(|instance| instance.get_typed_func::<(), ()>(&mut store, "_start")?.call(&mut store, ()));
        assert!(ran.is_ok() && store.data().output.len() == line.len() + 1, "{ran:?}");
    }
}

/// Moves bytes between the guest and what it talks to, by the one buffer that `vector` points to.
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
