//! `distillery:call`, which guests can import to learn of a cancellation and to set a result. `wit/call.wit` defines
//! its meaning.
//!
//! Modules of preview 1 have no such interfaces; they get two plain functions instead.

use crate::state::State;
use distillery_core::{
    call::CancelReason,
    control::{Control, VALUE},
};
use std::sync::Arc;
use wasmtime::{
    Caller, Extern,
    component::{Linker, Resource, Val, WasmStr},
};
use wasmtime_wasi::{
    WasiView, async_trait,
    p2::{DynPollable, Pollable, subscribe},
};

/// The import module for preview 1.
const PREVIEW1: &str = "distillery_call";

/// The names of the reasons in `wit/call.wit`, in its order.
const REASONS: [&str; 10] = [
    "client",
    "disconnected",
    "time-limit",
    "cpu-limit",
    "output-limit",
    "input-limit",
    "line-limit",
    "protocol-error",
    "shutdown",
    "operator",
];

/// Returns the index of a reason in [`REASONS`].
fn number(reason: &CancelReason) -> usize {
    match reason {
        CancelReason::Client => 0,
        CancelReason::Disconnected => 1,
        CancelReason::TimeLimit(_) => 2,
        CancelReason::CpuLimit(_) => 3,
        CancelReason::OutputLimit(_) => 4,
        CancelReason::InputLimit(_) => 5,
        CancelReason::LineLimit(_) => 6,
        CancelReason::ProtocolError(_) => 7,
        CancelReason::Shutdown => 8,
        CancelReason::Operator => 9,
    }
}

fn reason(reason: &CancelReason) -> Val {
    Val::Enum(REASONS[number(reason)].into())
}

/// A guest's subscription to its cancellation.
struct Told(Arc<Control>);

#[async_trait]
impl Pollable for Told {
    async fn ready(&mut self) {
        self.0.told().await;
    }
}

/// Adds the interfaces for components.
pub fn add_to_components(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    // Types need no linking, but a guest's import must resolve.
    linker.instance("distillery:call/types@0.1.0")?;

    let mut cancellation = linker.instance("distillery:call/cancellation@0.1.0")?;
    cancellation.func_new("poll", |store, _, _, results| {
        results[0] = Val::Option(store.data().control.reason().map(|it| Box::new(reason(it))));
        Ok(())
    })?;
    cancellation.func_wrap("subscribe", |mut store, (): ()| -> wasmtime::Result<(Resource<DynPollable>,)> {
        let told = Told(store.data().control.clone());
        let table = store.data_mut().ctx().table;
        let told = table.push(told)?;
        Ok((subscribe(table, told)?,))
    })?;

    let mut waiting = linker.instance("distillery:call/cancellation-async@0.1.0")?;
    waiting.func_new_concurrent("wait", |accessor, _, _, results| {
        let control = accessor.with(|mut access| access.get().control.clone());
        Box::pin(async move {
            results[0] = reason(control.told().await);
            Ok(())
        })
    })?;

    let mut outcome = linker.instance("distillery:call/outcome@0.1.0")?;
    outcome.func_wrap("set-value", |store, (json,): (WasmStr,)| {
        // The text stays in the guest's memory, up to the limit of one host call.
        let set = json.to_str(&store).map(|json| store.data().control.set_value(&json))?;
        Ok((set.map_err(|error| error.to_string()),))
    })
}

/// Adds the functions for modules of preview 1. `cancelled() -> i32` is 0 while the call can go on, then the reason's
/// index in `wit/call.wit`, counted from 1. `set_value(address: i32, length: i32) -> i32` is 0 if the value was
/// accepted, and 1 if it is not a JSON text of at most 16 KiB.
pub fn add_to_modules(linker: &mut wasmtime::Linker<State>) -> wasmtime::Result<()> {
    linker.func_wrap(PREVIEW1, "cancelled", |caller: Caller<'_, State>| -> i32 {
        caller.data().control.reason().map_or(0, |it| number(it) as i32 + 1)
    })?;
    linker.func_wrap(
        PREVIEW1,
        "set_value",
        |mut caller: Caller<'_, State>, address: u32, length: u32| -> wasmtime::Result<i32> {
            let Some(Extern::Memory(memory)) = caller.get_export("memory") else {
                return Err(wasmtime::format_err!("it exports no memory to take a value from"));
            };
            let (address, length) = (address as usize, length as usize);
            if length > VALUE.as_usize() {
                return Ok(1);
            }
            let taken = memory
                .data(&caller)
                .get(address..address.saturating_add(length))
                .ok_or_else(|| wasmtime::Error::from(wasmtime::Trap::MemoryOutOfBounds))?;
            let set = std::str::from_utf8(taken).is_ok_and(|json| caller.data().control.set_value(json).is_ok());
            Ok(i32::from(!set))
        },
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{End, testing::guest_of};
    use distillery_core::{control::ThreadClass, limits::Limits};
    use std::{
        task::{Context, Poll, Waker},
        time::Duration,
    };

    #[test]
    fn reasons_match_the_interface() {
        let wit = include_str!("../../../../wit/call.wit");
        let (_, after) = wit.split_once("enum reason {").unwrap();
        let (inside, _) = after.split_once('}').unwrap();
        let written: Vec<_> = inside
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with("///"))
            .map(|line| line.trim_end_matches(','))
            .collect();
        assert_eq!(written, REASONS);
    }

    #[test]
    fn oversized_value_is_refused_before_it_is_read() {
        let control = Arc::new(Control::new(&Limits::default()));
        let module = r#"(module
            (import "distillery_call" "set_value" (func $set (param i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
            (memory (export "memory") 1)
            (func (export "_start") (call $exit (call $set (i32.const 0) (i32.const -1)))))"#;
        let mut guest = guest_of(module, control.clone());
        let mut cx = Context::from_waker(Waker::noop());
        assert_eq!(guest.poll(Duration::from_secs(9), ThreadClass::Sockets, &mut cx), Poll::Ready(End::Exited(1)));
        assert_eq!(control.value(), None);
    }
}
