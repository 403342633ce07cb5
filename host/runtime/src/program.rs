//! A prepared module: compiled, linked, classified, its exports found. Starting it looks up no names.

mod shared;

use super::{
    code::{self, CompileError, Compiled, PAGE, missing_import},
    commands::Commands,
    engine::Linked,
    files::{self, Host},
    grants::Grants,
    guest::{End, Guest},
    imports,
    linking::{INITIALIZE, Linking, START, UnknownImports},
    outgoing::Outgoing,
    state::{self, State},
    stdio::{Stderr, StderrTo, Stdin, Stdout, Writer},
    text::{first_line, one_line},
    ticker::Ticker,
    trap,
};
use distillery_core::{
    call::{CallName, CancelReason, LimitHit},
    control::Control,
    limits::Limits,
    size::Size,
};
use rustix::io::Errno;
pub use shared::Shared;
use std::{fmt, sync::Arc};
use wasmtime::{
    Engine, InstancePre, ModuleExport, PoolConcurrencyLimitError, ResourcesRequired, Store, ThrownException, Trap,
    component,
};
use wasmtime_wasi::{I32Exit, WasiCtxBuilder, p2::bindings::CommandPre, p3::bindings::CommandIndices};

/// A module or component that can be started any number of times.
#[derive(Clone)]
pub struct Program(Arc<Inner>);

struct Inner {
    engine: Engine,
    common: Arc<Common>,
    code: Code,
    on_demand: bool,
}

/// What all programs of a runtime share.
pub struct Common {
    /// The operator's limits, which apply to every process and for which the engines were made.
    pub limits: Limits,
    pub ticker: Arc<Ticker>,
    /// The file descriptors and devices available to guests.
    pub host: Arc<Host>,
}

enum Code {
    Preview1 { module: InstancePre<State>, initialize: Option<ModuleExport>, start: ModuleExport },
    Component2 { component: CommandPre<State> },
    Component3 { component: component::InstancePre<State>, command: CommandIndices },
}

/// The kind of a program, determined when it is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Preview1,
    Component2,
    Component3,
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Program({})", self.kind())
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Preview1 => "WASI preview 1 module",
            Self::Component2 => "WASI 0.2 component",
            Self::Component3 => "WASI 0.3 component",
        })
    }
}

/// The inputs of a process.
#[derive(Clone, Debug)]
pub struct Invocation {
    pub call: CallName,
    /// The guest's arguments between the call's name and its parameters.
    pub leading: Vec<String>,
    pub params: Vec<String>,
    pub env: Vec<(String, String)>,
    pub stderr: StderrTo,
    pub grants: Arc<Grants>,
}

impl Invocation {
    /// Returns the inputs for a fresh instance that cleans up because of `reason`.
    pub fn cleaning_up(mut self, reason: &CancelReason) -> Self {
        self.env.push(("DISTILLERY_CLEANUP".to_owned(), reason.name().to_owned()));
        self
    }
}

impl Program {
    pub(super) fn compile(
        common: &Arc<Common>,
        linked: &Linked,
        code: &[u8],
        linking: &Linking,
        limits: &Limits,
    ) -> Result<Self, CompileError> {
        let engine = linked.engine.clone();
        let traps = linking.unknown == UnknownImports::Trap;
        let code = match code::compile(&engine, code).map_err(|error| error.of_size(&common.limits))? {
            Compiled::Module(module) => {
                code::fits(Some(module.resources_required()), limits, &common.limits)?;
                let entry = linking.invoke.as_deref().unwrap_or(START);
                let start = module.get_export_index(entry).ok_or(CompileError::NothingToRun)?;
                let initialize = module.get_export_index(INITIALIZE).filter(|_| entry != INITIALIZE);
                let module = if traps {
                    let mut linker = linked.preview1.clone();
                    linker.define_unknown_imports_as_traps(&module).map_err(missing_import)?;
                    linker.instantiate_pre(&module)
                } else {
                    linked.preview1.instantiate_pre(&module)
                };
                Code::Preview1 { module: module.map_err(missing_import)?, initialize, start }
            }
            Compiled::Component(component) => {
                code::fits(component.resources_required(), limits, &common.limits)?;
                let instance = if traps {
                    let mut linker = linked.component.clone();
                    linker.define_unknown_imports_as_traps(&component).map_err(missing_import)?;
                    linker.instantiate_pre(&component)
                } else {
                    linked.component.instantiate_pre(&component)
                };
                let instance = instance.map_err(missing_import)?;
                if let Ok(command) = CommandIndices::new(&instance) {
                    Code::Component3 { component: instance, command }
                } else {
                    let component = CommandPre::new(instance).map_err(|_| CompileError::NothingToRun)?;
                    Code::Component2 { component }
                }
            }
        };
        Ok(Self(Arc::new(Inner { engine, common: common.clone(), code, on_demand: linked.on_demand })))
    }

    pub fn kind(&self) -> Kind {
        match self.0.code {
            Code::Preview1 { .. } => Kind::Preview1,
            Code::Component2 { .. } => Kind::Component2,
            Code::Component3 { .. } => Kind::Component3,
        }
    }

    /// Returns whether its processes are allocated on demand, because it does not fit the pool.
    pub fn is_on_demand(&self) -> bool {
        self.0.on_demand
    }

    /// Returns whether both are one program, with one copy of its code.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Checks whether its processes can begin within `limits`.
    pub fn fits(&self, limits: &Limits) -> Result<(), CompileError> {
        code::fits(self.needs(), limits, &self.0.common.limits)
    }

    fn needs(&self) -> Option<ResourcesRequired> {
        match &self.0.code {
            Code::Preview1 { module, .. } => Some(module.module().resources_required()),
            Code::Component2 { component } => component.instance_pre().component().resources_required(),
            Code::Component3 { component, .. } => component.component().resources_required(),
        }
    }

    /// Returns the largest initial memory of a process; `None` if only running shows it.
    pub fn first_memory(&self) -> Option<Size> {
        Some(Size::bytes(self.needs()?.max_initial_memory_size?.saturating_mul(PAGE)))
    }

    /// Starts a process of this program; the guest runs only when it is polled. `held` is dropped after the guest's
    /// memory is freed.
    pub fn start<H: Send + 'static>(
        &self,
        invocation: Invocation,
        limits: &Limits,
        control: Arc<Control>,
        held: H,
    ) -> Guest {
        let inner = self.0.clone();
        let (limits, running) = (limits.clone(), control.clone());
        let future = async move {
            let _held = held;
            let number = running.residence.guest();
            let stderr = Stderr { control: running.clone(), call: invocation.call.clone(), to: invocation.stderr };
            let end = inner.run(invocation, &limits, running.clone(), stderr.clone()).await;
            // If this guest was abandoned, its successor already writes there.
            if running.residence.guest() == number {
                stderr.finish();
                running.output.finish();
            }
            end
        };
        Guest::new(Box::pin(future), control, self.0.common.ticker.clone())
    }

    /// Makes every guest of this program's engine check in at its next epoch check.
    pub fn move_epoch(&self) {
        self.0.engine.increment_epoch();
    }
}

impl Inner {
    async fn run(&self, invocation: Invocation, limits: &Limits, control: Arc<Control>, stderr: Stderr) -> End {
        let mut wasi = WasiCtxBuilder::new();
        wasi.max_random_size(state::RANDOM);
        wasi.arg(invocation.call.as_str());
        for argument in invocation.leading.iter().chain(&invocation.params) {
            wasi.arg(argument);
        }
        for (name, value) in &invocation.env {
            wasi.env(name, value);
        }
        wasi.stdin(Stdin(control.clone())).stdout(Writer(Stdout(control.clone()))).stderr(Writer(stderr));
        for (name, value) in &invocation.grants.env {
            wasi.env(name, value.reveal());
        }
        let (wasi, files) = match files::furnish(wasi, &invocation.grants, &self.common.host, &control).await {
            Ok(furnished) => furnished,
            Err(error) if error.downcast_ref() == Some(&Errno::MFILE) => return End::Full,
            Err(error) => return End::Failed(format!("its directories cannot be opened: {error:#}")),
        };
        let outgoing = Outgoing::to(invocation.grants.http.clone(), self.common.host.descriptors.clone());
        let commands = Commands::new(invocation.grants.commands.clone(), self.common.host.descriptors.clone());
        let mut store = state::store(&self.engine, wasi, files, outgoing, commands, control.clone(), limits);
        store.data_mut().systems = invocation.grants.systems.clone();
        let entered = self.enter(&mut store).await;
        // A killed guest is not waited for.
        let has_files = files::is_furnished(&invocation.grants) && !control.is_killed();
        if has_files {
            imports::flush_files(store.data_mut()).await;
        }
        let end = match entered {
            Ok(()) => End::Exited(0),
            Err(error) => end_of(&error, store.data_mut().meter.refused.take(), limits, &control),
        };
        let commands = store.data_mut().commands.left();
        if has_files {
            // Its files are closed here.
            files::Worker::new(&control).file_call(async move { drop(store) }).await;
        } else {
            drop(store);
        }
        // Its commands are killed with the store. The result comes when they are gone.
        if !control.is_killed() {
            commands.gone().await;
        }
        end
    }

    async fn enter(&self, store: &mut Store<State>) -> wasmtime::Result<()> {
        match &self.code {
            Code::Preview1 { module, initialize, start } => {
                let instance = module.instantiate_async(&mut *store).await?;
                for export in initialize.iter().chain([start]) {
                    let function = instance.get_module_export(&mut *store, export).and_then(|it| it.into_func());
                    let function =
                        function.ok_or_else(|| wasmtime::format_err!("its entry point is not a function"))?;
                    function.typed::<(), ()>(&*store)?.call_async(&mut *store, ()).await?;
                }
                Ok(())
            }
            Code::Component2 { component } => {
                let command = component.instantiate_async(&mut *store).await?;
                let ended = command.wasi_cli_run().call_run(&mut *store).await?;
                ended.map_err(|()| wasmtime::Error::from(I32Exit(1)))
            }
            Code::Component3 { component, command } => {
                let instance = component.instantiate_async(&mut *store).await?;
                let command = command.load(&mut *store, &instance)?;
                let ended =
                    store.run_concurrent(async move |store| command.wasi_cli_run().call_run(store).await).await??;
                ended.map_err(|()| wasmtime::Error::from(I32Exit(1)))
            }
        }
    }
}

fn end_of(error: &wasmtime::Error, refused: Option<LimitHit>, limits: &Limits, control: &Control) -> End {
    let refused = state::limit_hit(error, limits).or(refused);
    if let Some(I32Exit(status)) = error.downcast_ref() {
        return End::Exited(*status as u32);
    }
    if let Some(trap) = error.downcast_ref::<Trap>() {
        if *trap == Trap::Interrupt && control.is_killed() {
            return End::Interrupted;
        }
        // The client learns the kind of trap, the log its location.
        tracing::info!(process = %control.id, cause = one_line(error), "a guest trapped");
        let limit = match trap {
            Trap::StackOverflow => Some(LimitHit::Stack(limits.stack)),
            _ => refused,
        };
        return End::Trapped { trap: trap::words(*trap).into(), limit };
    }
    if error.is::<PoolConcurrencyLimitError>() {
        return End::Full;
    }
    tracing::info!(process = %control.id, cause = one_line(error), "guest ended by a host call");
    if error.is::<ThrownException>() {
        return End::Trapped { trap: "unhandled exception".into(), limit: refused };
    }
    if refused.is_some() {
        return End::Trapped { trap: "a limit was reached".into(), limit: refused };
    }
    // A refusal by a host function ends the guest like a trap; the innermost cause describes the guest's mistake.
    End::Trapped { trap: first_line(error.root_cause()).into(), limit: None }
}
