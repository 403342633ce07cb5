//! `wasi_unstable`, the predecessor of preview 1: the same functions under another name. Four of them have another form
//! and are converted: the origin of a seek, the state of a file, and the list of what a module polls for.

use super::{Guest, MODULE, enter, paths, polling, preview1};
use crate::state::{HOST_CALL, State};
use wasmtime::Linker;
use wasmtime_wasi::p1::types::Errno;
use wiggle::{GuestMemory, GuestPtr};

/// The name of the module.
const UNSTABLE: &str = "wasi_unstable";
/// The origins of a seek, by their numbers here: the current position, the end, the beginning. Preview 1 begins with
/// the beginning.
const ORIGINS: [i32; 3] = [1, 2, 0];
/// The size of the state of a file, here and in preview 1, where the number of names takes 8 bytes.
const STATE: usize = 56;
const STATE_1: usize = 64;
/// The size of a subscription, here and in preview 1. Here a clock has an additional number of the caller.
const SUBSCRIPTION: usize = 56;
const SUBSCRIPTION_1: usize = 48;
const EVENT: usize = 32;

/// Links all functions. Those of preview 1 must be linked.
pub fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker.alias_module(MODULE, UNSTABLE)?;
    linker.allow_shadowing(true);
    link_files(linker)?;
    link_polling(linker)?;
    linker.allow_shadowing(false);
    Ok(())
}

fn link_files(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker.func_wrap_async(
        UNSTABLE,
        "fd_seek",
        |mut caller: Guest<'_>, (number, offset, origin, out): (i32, i64, i32, i32)| {
            Box::new(async move {
                let Some(origin) = usize::try_from(origin).ok().and_then(|origin| ORIGINS.get(origin)) else {
                    return Ok(Errno::Inval as i32);
                };
                let export = caller.get_export("memory");
                let (mut memory, state) = enter(&mut caller, &export)?;
                let number = state.stream_or(number);
                let is_file = state.numbered(number).is_some();
                let worker = state.worker();
                let call = preview1::fd_seek(&mut state.wasi, &mut memory, number, offset, *origin, out);
                if is_file { worker.file_call(call).await } else { call.await }
            })
        },
    )?;
    linker.func_wrap_async(UNSTABLE, "fd_filestat_get", |mut caller: Guest<'_>, (number, out): (i32, i32)| {
        Box::new(async move {
            let export = caller.get_export("memory");
            let (mut memory, state) = enter(&mut caller, &export)?;
            let number = state.stream_or(number);
            let is_file = state.numbered(number).is_some();
            let worker = state.worker();
            let mut found = [0; STATE_1];
            let mut into = GuestMemory::Unshared(&mut found);
            let call = preview1::fd_filestat_get(&mut state.wasi, &mut into, number, 0);
            let done = if is_file { worker.file_call(call).await? } else { call.await? };
            write_state(&mut memory, done, &found, out)
        })
    })?;
    linker.func_wrap_async(
        UNSTABLE,
        "path_filestat_get",
        |mut caller: Guest<'_>, (dir, follow, path, length, out): (i32, i32, i32, i32, i32)| {
            Box::new(async move {
                let export = caller.get_export("memory");
                let (mut memory, state) = enter(&mut caller, &export)?;
                let path = match paths::read_path(&memory, path, length)? {
                    Ok(path) => path,
                    Err(errno) => return Ok(errno as i32),
                };
                let is_file = state.numbered(dir).is_some();
                let worker = state.worker();
                let mut found = [&[0; STATE_1], path.as_bytes()].concat();
                let mut into = GuestMemory::Unshared(&mut found);
                let (at, length) = (STATE_1 as i32, path.len() as i32);
                let call = preview1::path_filestat_get(&mut state.wasi, &mut into, dir, follow, at, length, 0);
                let done = if is_file { worker.file_call(call).await? } else { call.await? };
                write_state(&mut memory, done, &found, out)
            })
        },
    )?;
    Ok(())
}

/// Writes the state of a file for the guest, if the call has succeeded.
fn write_state(memory: &mut GuestMemory<'_>, done: i32, found: &[u8], out: i32) -> wasmtime::Result<i32> {
    if done == Errno::Success as i32 {
        let mut state = [0; STATE];
        // Device, number and kind; then the number of names, size and times.
        state[..17].copy_from_slice(&found[..17]);
        state[20..24].copy_from_slice(&found[24..28]);
        state[24..].copy_from_slice(&found[32..STATE_1]);
        memory.copy_from_slice(&state, GuestPtr::<u8>::new(out as u32).as_array(STATE as u32))?;
    }
    Ok(done)
}

fn link_polling(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker.func_wrap_async(
        UNSTABLE,
        "poll_oneoff",
        |mut caller: Guest<'_>, (subscriptions, events, count, out): (i32, i32, i32, i32)| {
            Box::new(async move {
                let export = caller.get_export("memory");
                let (mut memory, state) = enter(&mut caller, &export)?;
                let number = count as u32 as usize;
                if number as u64 * SUBSCRIPTION as u64 > HOST_CALL.get() {
                    return Ok(Errno::Nomem as i32);
                }
                let wanted = GuestPtr::<u8>::new(subscriptions as u32).as_array((number * SUBSCRIPTION) as u32);
                let wanted = memory.to_vec(wanted)?;
                let mut own: Vec<u8> = wanted.chunks_exact(SUBSCRIPTION).flat_map(subscription).collect();
                let (into, total) = (own.len(), own.len() + number * EVENT);
                own.resize(total + size_of::<u32>(), 0);
                let mut place = GuestMemory::Unshared(&mut own);
                let done = polling::poll(state, &mut place, (0, into as i32, count, total as i32)).await?;
                if done == Errno::Success as i32 {
                    let ready = u32::from_le_bytes([own[total], own[total + 1], own[total + 2], own[total + 3]]);
                    let told = &own[into..into + ready as usize * EVENT];
                    memory.copy_from_slice(told, GuestPtr::<u8>::new(events as u32).as_array(told.len() as u32))?;
                    memory.write(GuestPtr::<u32>::new(out as u32), ready)?;
                }
                Ok(done)
            })
        },
    )?;
    Ok(())
}

/// Converts a subscription. Without the clock's own number, the parts of a clock are 8 bytes nearer.
fn subscription(wanted: &[u8]) -> [u8; SUBSCRIPTION_1] {
    const CLOCK: u8 = 0;
    let mut own = [0; SUBSCRIPTION_1];
    let from = if wanted[8] == CLOCK { 24 } else { 16 };
    own[..16].copy_from_slice(&wanted[..16]);
    let rest = &wanted[from..from + 32];
    own[16..].copy_from_slice(rest);
    own
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subscriptions_are_converted() {
        let mut clock = [0; SUBSCRIPTION];
        clock[0..8].copy_from_slice(&7u64.to_le_bytes());
        clock[16..24].copy_from_slice(&8u64.to_le_bytes());
        clock[24..28].copy_from_slice(&1u32.to_le_bytes());
        clock[32..40].copy_from_slice(&9u64.to_le_bytes());
        clock[48..50].copy_from_slice(&1u16.to_le_bytes());
        let own = subscription(&clock);
        assert_eq!((own[0], own[8], own[16], own[24], own[40]), (7, 0, 1, 9, 1));
        let mut file = [0; SUBSCRIPTION];
        (file[0], file[8], file[16]) = (7, 1, 3);
        let own = subscription(&file);
        assert_eq!((own[0], own[8], own[16]), (7, 1, 3));
    }
}
