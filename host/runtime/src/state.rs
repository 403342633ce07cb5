//! The data of a store: WASI, the control of its process, and the usage of its limits.

use super::{
    commands::Commands,
    files::{
        Files,
        pending::{PENDING, TooMuchPending},
    },
    outgoing::Outgoing,
    systems::SystemsReach,
};
use distillery_core::{
    call::LimitHit,
    control::{Control, ThreadClass},
    limits::Limits,
    size::Size,
};
use std::sync::Arc;
use wasmtime::{ResourceLimiterAsync, Store, UpdateDeadline, component::ResourceTableError};
use wasmtime_wasi::{WasiCtxView, WasiView, async_trait, p1::WasiP1Ctx};
use wasmtime_wasi_http::{WasiHttpCtxView, WasiHttpView};

/// The maximum number of bytes that one host call accepts from a guest.
pub const HOST_CALL: Size = Size::mib(16);
/// The maximum number of random bytes that one host call returns.
pub const RANDOM: u64 = 1 << 20;
/// The memory size above which a guest is heavy. One instruction, such as `memory.fill`, can take long, and the engine
/// checks for the end of a turn only between instructions. At 4 MiB that is 3 ms, if the kernel has to find the pages.
const HEAVY_MEMORY: usize = 4 << 20;
/// The number of table elements above which a guest is heavy.
const HEAVY_TABLES: u64 = 32_768;
/// The maximum number of internal entries of the component model for each open resource. A stream has two ends and
/// shared state; a task has threads and waitables.
const CONCURRENT: usize = 4;
/// The maximum number of memories of a process outside the pool. Each reserves gigabytes of address space.
const MEMORIES: usize = 32;

pub struct State {
    pub wasi: WasiP1Ctx,
    pub meter: Meter,
    pub(super) files: Files,
    pub(super) outgoing: Outgoing,
    pub(super) systems: Option<SystemsReach>,
    pub(super) commands: Commands,
    pub control: Arc<Control>,
    /// The number of this guest within its process.
    pub guest: u32,
}

/// Limits growth, over all memories and tables of the process together.
pub struct Meter {
    control: Arc<Control>,
    memory: usize,
    memory_limit: Size,
    tables: u64,
    tables_limit: u64,
    instances_limit: u64,
    /// The last limit that refused something.
    pub refused: Option<LimitHit>,
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        self.wasi.ctx()
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        self.outgoing.view(self.wasi.ctx().table)
    }
}

impl Meter {
    fn new(control: Arc<Control>, limits: &Limits) -> Self {
        Self {
            control,
            memory: 0,
            memory_limit: limits.memory,
            tables: 0,
            tables_limit: limits.tables,
            instances_limit: limits.instances,
            refused: None,
        }
    }
}

impl Meter {
    /// Keeps the guest off the threads that serve sockets from now on.
    async fn leave_sockets(&self) {
        self.control.residence.note_heavy();
        self.control.residence.reach(ThreadClass::Compute).await;
    }
}

#[async_trait]
impl ResourceLimiterAsync for Meter {
    async fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            // The module's own maximum applies.
            return Ok(false);
        }
        let grown = self.memory.saturating_add(desired.saturating_sub(current));
        if grown > self.memory_limit.as_usize() {
            self.refused = Some(LimitHit::Memory(self.memory_limit));
            return Ok(false);
        }
        self.memory = grown;
        self.control.note_memory(grown as u64);
        if grown > HEAVY_MEMORY {
            self.leave_sockets().await;
        }
        Ok(true)
    }

    async fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        let grown = self.tables.saturating_add(desired.saturating_sub(current) as u64);
        if grown > self.tables_limit {
            self.refused = Some(LimitHit::Tables(self.tables_limit));
            return Ok(false);
        }
        self.tables = grown;
        if grown > HEAVY_TABLES {
            self.leave_sockets().await;
        }
        Ok(true)
    }

    fn instances(&self) -> usize {
        self.instances_limit as usize
    }

    fn tables(&self) -> usize {
        // Bounded by their elements and by the number of instances.
        self.instances_limit as usize * 4
    }

    fn memories(&self) -> usize {
        MEMORIES
    }
}

/// Returns the limit that ended a guest, if the engine or WASI refused something instead of [`Meter`].
pub fn limit_hit(error: &wasmtime::Error, limits: &Limits) -> Option<LimitHit> {
    let cause = error.root_cause();
    if matches!(cause.downcast_ref(), Some(ResourceTableError::Full)) {
        return Some(LimitHit::Resources(limits.resources));
    }
    if cause.is::<TooMuchPending>() {
        return Some(LimitHit::PendingFiles(PENDING));
    }
    // These errors have no type to match.
    let words = cause.to_string();
    if words.contains("store handle limit exceeded") {
        Some(LimitHit::Resources(limits.resources))
    } else if words.contains("instance count too high") {
        Some(LimitHit::Instances(limits.instances))
    } else if words.contains("fuel allocated for hostcalls has been exhausted") {
        Some(LimitHit::HostCall(HOST_CALL))
    } else {
        None
    }
}

/// Creates a store for one process, ready for instantiation.
pub(super) fn store(
    engine: &wasmtime::Engine,
    wasi: WasiP1Ctx,
    files: Files,
    outgoing: Outgoing,
    commands: Commands,
    control: Arc<Control>,
    limits: &Limits,
) -> Store<State> {
    let meter = Meter::new(control.clone(), limits);
    let guest = control.residence.guest();
    let mut store = Store::new(engine, State { wasi, meter, files, outgoing, systems: None, commands, control, guest });
    store.limiter_async(|state| &mut state.meter);
    let resources = limits.resources as usize;
    store.data_mut().wasi.ctx().table.set_max_capacity(resources);
    store.set_max_component_handles(resources);
    if let Some(table) = store.concurrent_resource_table() {
        table.set_max_capacity(resources.saturating_mul(CONCURRENT).saturating_add(CONCURRENT));
    }
    store.set_hostcall_fuel(HOST_CALL.as_usize());
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(|store| {
        // The epoch belongs to the engine: each tick and each kill advances it for all guests. Only the control of this
        // process tells whether it is affected.
        let State { control, guest, .. } = store.data();
        Ok(if control.is_over(*guest) {
            UpdateDeadline::Interrupt
        } else if control.ask_turn_over() {
            UpdateDeadline::Yield(1)
        } else {
            UpdateDeadline::Continue(1)
        })
    });
    store
}
