//! The files of preview 1 modules: what makes them grow goes by the quota of the private directory.
//!
//! Their descriptors are numbers of the implementation's own, and so is the place at which each file is read and written.
//! A call that may grow a file is therefore paid for in advance, at the most that it can take, and what it did not take
//! is given back.

use crate::runtime::{
    scratch::{Quota, Scratch},
    state::State,
};
use std::io;
use tokio::sync::OwnedMutexGuard;
use wasmtime::{AsContextMut as _, Caller, Extern, Linker};
use wasmtime_wasi::p1::{
    types::{Errno, Fd},
    wasi_snapshot_preview1::{self as preview1, WasiSnapshotPreview1 as _},
};
use wiggle::{GuestMemory, GuestPtr};

const MODULE: &str = "wasi_snapshot_preview1";
const CREATE: i32 = 1 << 0;
const TRUNCATE: i32 = 1 << 3;
const RIGHT_TO_WRITE: i64 = 1 << 6;
/// The most pieces of one write, as systems have it.
const PIECES: i32 = 1024;

type Guest<'a> = Caller<'a, State>;

const NO_SPACE: i32 = Errno::Nospc as i32;
const ACROSS: i32 = Errno::Xdev as i32;

/// The memory of a guest and what its store carries.
fn enter<'a>(
    caller: &'a mut Guest<'_>,
    export: &'a Option<Extern>,
) -> wasmtime::Result<(GuestMemory<'a>, &'a mut State)> {
    let fuel = caller.as_context_mut().hostcall_fuel();
    let (memory, state) = match export {
        Some(Extern::Memory(memory)) => {
            let (bytes, state) = memory.data_and_store_mut(caller);
            (GuestMemory::Unshared(bytes), state)
        }
        Some(Extern::SharedMemory(memory)) => (GuestMemory::Shared(memory.data()), caller.data_mut()),
        _ => wasmtime::bail!("it exports no memory"),
    };
    state.wasi.set_hostcall_fuel(fuel);
    Ok((memory, state))
}

pub fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    linker.func_wrap_async(
        MODULE,
        "path_open",
        |mut caller: Guest<'_>,
         (dir, follow, path, length, how, rights, inheriting, flags, out): (
            i32,
            i32,
            i32,
            i32,
            i32,
            i64,
            i64,
            i32,
            i32,
        )| {
            Box::new(async move {
                let export = caller.get_export("memory");
                let (mut memory, state) = enter(&mut caller, &export)?;
                let scratch = state.files.of_number(dir);
                let mut turn = match &scratch {
                    Some(scratch) => match scratch.take(0, u64::from(how & CREATE != 0)).await {
                        Ok(turn) => Some(turn),
                        Err(_) => return Ok(NO_SPACE),
                    },
                    None => None,
                };
                // What is cut off when a file is opened shall be given back.
                let cut = scratch.is_some() && how & TRUNCATE != 0 && rights & RIGHT_TO_WRITE != 0;
                let how = if cut { how & !TRUNCATE } else { how };
                let wasi = &mut state.wasi;
                let done = preview1::path_open(
                    wasi,
                    &mut memory,
                    dir,
                    follow,
                    path,
                    length,
                    how,
                    rights,
                    inheriting,
                    flags,
                    out,
                )
                .await?;
                if done == 0 {
                    let number: u32 = memory.read(GuestPtr::new(out as u32))?;
                    state.files.note_number(number, scratch.is_some());
                    if let (true, Some(turn)) = (cut, &mut turn) {
                        let before = size(state, &mut memory, number as i32).await.unwrap_or_default();
                        if state.wasi.fd_filestat_set_size(&mut memory, Fd::from(number), 0).await.is_ok() {
                            turn.give_back(before);
                        }
                    }
                }
                Ok(done)
            })
        },
    )?;
    linker.func_wrap_async(MODULE, "fd_renumber", |mut caller: Guest<'_>, (from, to): (i32, i32)| {
        Box::new(async move {
            let export = caller.get_export("memory");
            let (mut memory, state) = enter(&mut caller, &export)?;
            let in_scratch = state.files.of_number(from).is_some();
            let done = preview1::fd_renumber(&mut state.wasi, &mut memory, from, to).await?;
            if done == 0 {
                state.files.note_number(from as u32, false);
                state.files.note_number(to as u32, in_scratch);
            }
            Ok(done)
        })
    })?;
    linker.func_wrap_async(
        MODULE,
        "fd_write",
        |mut caller: Guest<'_>, (file, pieces, count, out): (i32, i32, i32, i32)| {
            Box::new(async move {
                let export = caller.get_export("memory");
                let (mut memory, state) = enter(&mut caller, &export)?;
                let Some(scratch) = state.files.of_number(file) else {
                    return preview1::fd_write(&mut state.wasi, &mut memory, file, pieces, count, out).await;
                };
                if !(0..=PIECES).contains(&count) {
                    return Ok(Errno::Inval as i32);
                }
                let at = state.wasi.fd_tell(&mut memory, Fd::from(file as u32)).unwrap_or_default();
                let Ok(paid) = pay(state, &mut memory, &scratch, file, at, pieces, count).await else {
                    return Ok(NO_SPACE);
                };
                let done = preview1::fd_write(&mut state.wasi, &mut memory, file, pieces, count, out).await?;
                paid.settle(size(state, &mut memory, file).await);
                Ok(done)
            })
        },
    )?;
    linker.func_wrap_async(
        MODULE,
        "fd_pwrite",
        |mut caller: Guest<'_>, (file, pieces, count, at, out): (i32, i32, i32, i64, i32)| {
            Box::new(async move {
                let export = caller.get_export("memory");
                let (mut memory, state) = enter(&mut caller, &export)?;
                let Some(scratch) = state.files.of_number(file) else {
                    return preview1::fd_pwrite(&mut state.wasi, &mut memory, file, pieces, count, at, out).await;
                };
                if !(0..=PIECES).contains(&count) {
                    return Ok(Errno::Inval as i32);
                }
                let Ok(paid) = pay(state, &mut memory, &scratch, file, at as u64, pieces, count).await else {
                    return Ok(NO_SPACE);
                };
                let done = preview1::fd_pwrite(&mut state.wasi, &mut memory, file, pieces, count, at, out).await?;
                paid.settle(size(state, &mut memory, file).await);
                Ok(done)
            })
        },
    )?;
    linker.func_wrap_async(MODULE, "fd_filestat_set_size", |mut caller: Guest<'_>, (file, new): (i32, i64)| {
        Box::new(async move {
            let export = caller.get_export("memory");
            let (mut memory, state) = enter(&mut caller, &export)?;
            let Some(scratch) = state.files.of_number(file) else {
                return preview1::fd_filestat_set_size(&mut state.wasi, &mut memory, file, new).await;
            };
            let before = size(state, &mut memory, file).await.unwrap_or_default();
            let growth = (new as u64).saturating_sub(before);
            let Ok(turn) = scratch.take(growth, 0).await else { return Ok(NO_SPACE) };
            let done = preview1::fd_filestat_set_size(&mut state.wasi, &mut memory, file, new).await?;
            Paid { turn, growth, before }.settle(size(state, &mut memory, file).await);
            Ok(done)
        })
    })?;
    linker.func_wrap_async(
        MODULE,
        "path_create_directory",
        |mut caller: Guest<'_>, (dir, path, length): (i32, i32, i32)| {
            Box::new(async move {
                let export = caller.get_export("memory");
                let (mut memory, state) = enter(&mut caller, &export)?;
                let Ok(_turn) = entry(state.files.of_number(dir), 0).await else { return Ok(NO_SPACE) };
                preview1::path_create_directory(&mut state.wasi, &mut memory, dir, path, length).await
            })
        },
    )?;
    linker.func_wrap_async(
        MODULE,
        "path_symlink",
        |mut caller: Guest<'_>, (target, target_length, dir, path, length): (i32, i32, i32, i32, i32)| {
            Box::new(async move {
                let export = caller.get_export("memory");
                let (mut memory, state) = enter(&mut caller, &export)?;
                let Ok(_turn) = entry(state.files.of_number(dir), target_length as u32).await else {
                    return Ok(NO_SPACE);
                };
                let wasi = &mut state.wasi;
                preview1::path_symlink(wasi, &mut memory, target, target_length, dir, path, length).await
            })
        },
    )?;
    linker.func_wrap_async(
        MODULE,
        "path_link",
        |mut caller: Guest<'_>,
         (dir, follow, path, length, new_dir, new_path, new_length): (i32, i32, i32, i32, i32, i32, i32)| {
            Box::new(async move {
                let export = caller.get_export("memory");
                let (mut memory, state) = enter(&mut caller, &export)?;
                let (from, to) = (state.files.of_number(dir), state.files.of_number(new_dir));
                if from.is_some() != to.is_some() {
                    return Ok(ACROSS);
                }
                let Ok(_turn) = entry(to, 0).await else { return Ok(NO_SPACE) };
                let wasi = &mut state.wasi;
                preview1::path_link(wasi, &mut memory, dir, follow, path, length, new_dir, new_path, new_length).await
            })
        },
    )?;
    linker.func_wrap_async(
        MODULE,
        "path_rename",
        |mut caller: Guest<'_>, (dir, path, length, new_dir, new_path, new_length): (i32, i32, i32, i32, i32, i32)| {
            Box::new(async move {
                let export = caller.get_export("memory");
                let (mut memory, state) = enter(&mut caller, &export)?;
                if state.files.of_number(dir).is_some() != state.files.of_number(new_dir).is_some() {
                    return Ok(ACROSS);
                }
                let wasi = &mut state.wasi;
                preview1::path_rename(wasi, &mut memory, dir, path, length, new_dir, new_path, new_length).await
            })
        },
    )?;
    linker.allow_shadowing(false);
    Ok(())
}

/// Room for one more entry, where there is a private directory to have it.
async fn entry(scratch: Option<Scratch>, bytes: u32) -> io::Result<Option<OwnedMutexGuard<Quota>>> {
    match scratch {
        Some(scratch) => scratch.take(bytes.into(), 1).await.map(Some),
        None => Ok(None),
    }
}

/// What was taken in advance.
struct Paid {
    turn: OwnedMutexGuard<Quota>,
    growth: u64,
    before: u64,
}

/// Takes as much as a write may need at the most: where it appends, all of it.
async fn pay(
    state: &mut State,
    memory: &mut GuestMemory<'_>,
    scratch: &Scratch,
    file: i32,
    at: u64,
    pieces: i32,
    count: i32,
) -> io::Result<Paid> {
    let before = size(state, memory, file).await.unwrap_or_default();
    let length = length(memory, pieces, count);
    let growth = at.saturating_add(length).saturating_sub(before).max(length);
    Ok(Paid { turn: scratch.take(growth, 0).await?, growth, before })
}

impl Paid {
    /// Gives back what was not needed, and what was cut off. If the file cannot be asked, nothing is given back.
    fn settle(mut self, after: Option<u64>) {
        let Some(after) = after else { return };
        let grown = after.saturating_sub(self.before);
        self.turn.give_back(self.growth.saturating_sub(grown) + self.before.saturating_sub(after));
    }
}

async fn size(state: &mut State, memory: &mut GuestMemory<'_>, file: i32) -> Option<u64> {
    state.wasi.fd_filestat_get(memory, Fd::from(file as u32)).await.ok().map(|stat| stat.size)
}

/// The bytes of all pieces together. Pieces outside of the memory are refused by the call itself.
fn length(memory: &GuestMemory<'_>, pieces: i32, count: i32) -> u64 {
    let lengths = (0..count as u32).map_while(|index| {
        let place = (pieces as u32).checked_add(index.checked_mul(8)?)?.checked_add(4)?;
        memory.read(GuestPtr::<u32>::new(place)).ok()
    });
    lengths.map(u64::from).fold(0, u64::saturating_add)
}
