//! The functions that guests can import, for each kind of guest: WASI, with the bounds of this server, and the
//! server's own interfaces.

mod call;
mod commands;
mod files;
mod systems;

use super::state::State;
pub use files::component2::flush_all as flush_files;
use wasmtime::component;
use wasmtime_wasi::I32Exit;

/// Adds the functions for modules of preview 1.
pub fn add_to_modules(linker: &mut wasmtime::Linker<State>) -> wasmtime::Result<()> {
    wasmtime_wasi::p1::add_to_linker_async(linker, |state: &mut State| &mut state.wasi)?;
    // The library treats a status above 125 as an error; here the guest can choose any status.
    linker.allow_shadowing(true);
    linker.func_wrap("wasi_snapshot_preview1", "proc_exit", |status: i32| -> wasmtime::Result<()> {
        Err(I32Exit(status).into())
    })?;
    linker.allow_shadowing(false);
    call::add_to_modules(linker)?;
    commands::preview1::link(linker)?;
    files::preview1::link(linker)
}

/// Adds the functions for components of WASI 0.2 and 0.3.
pub fn add_to_components(linker: &mut component::Linker<State>) -> wasmtime::Result<()> {
    wasmtime_wasi::p2::add_to_linker_async(linker)?;
    wasmtime_wasi::p3::add_to_linker(linker)?;
    files::component2::link(linker)?;
    files::component3::link(linker)?;
    // Linked even without grants: some languages always import it, and every request is then denied.
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(linker)?;
    wasmtime_wasi_http::p3::add_to_linker(linker)?;
    call::add_to_components(linker)?;
    systems::add_to_components(linker)?;
    commands::component2::link(linker)?;
    commands::component3::link(linker)
}
