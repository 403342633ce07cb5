//! The numbers of files. The implementation does not expose them, so they are also tracked here, from its known
//! behaviour. A new descriptor takes the free entry of the table. Preopened directories get the numbers after the three
//! streams, in order.

use super::{Guest, MODULE, enter, preview1};
use crate::{
    files::{New, stand_in},
    platform::FILE_ALWAYS_THERE,
    state::State,
};
use std::{mem, sync::Arc};
use wasmtime::{Linker, component::Resource};
use wasmtime_wasi::{
    WasiView as _,
    filesystem::Descriptor,
    p1::{
        types::{Errno, Fd, Fdflags, Lookupflags, Oflags, Rights},
        wasi_snapshot_preview1::WasiSnapshotPreview1 as _,
    },
};
use wiggle::{GuestMemory, GuestPtr};

/// The number of a module's first directory, after the three streams.
const FIRST_DIRECTORY: i32 = 3;

/// Records the preopened directories.
pub fn note_directories(state: &mut State) {
    if mem::replace(&mut state.files.numbers.begun, true) {
        return;
    }
    // The implementation assigns their numbers at its first call.
    _ = state.wasi.fd_tell(&mut GuestMemory::Unshared(&mut []), Fd::from(0));
    let mut number = FIRST_DIRECTORY;
    for place in 0.. {
        let Ok(entry) = state.wasi.ctx().table.get_any_mut(place) else { break };
        if !entry.is::<Descriptor>() {
            continue;
        }
        let at = state.files.places.get((number - FIRST_DIRECTORY) as usize).cloned().unwrap_or_default();
        state.files.note_directory(place, &at);
        state.files.numbers.places.insert(number, place);
        number += 1;
    }
}

/// Assigns a number to a file or directory opened below the directory `below`. The implementation assigns numbers only
/// to its own opens. So it opens an object that always exists, which is then replaced.
pub async fn give(state: &mut State, below: i32, new: New, flags: Fdflags) -> wasmtime::Result<Result<u32, Errno>> {
    let directory = Resource::<Descriptor>::new_borrow(
        state.files.numbers.place(below).ok_or_else(|| wasmtime::format_err!("not a directory"))?,
    );
    let table = state.wasi.ctx().table;
    let free = table.push(())?;
    let place = free.rep();
    table.delete(free)?;
    let (mut path, how) = match new.descriptor {
        Descriptor::File(_) => (FILE_ALWAYS_THERE, Oflags::empty()),
        Descriptor::Dir(_) => (*b"././", Oflags::DIRECTORY),
    };
    let Ok(stand_in) = stand_in().map(Descriptor::Dir) else { return Ok(Err(Errno::Nfile)) };
    let real = mem::replace(table.get_mut(&directory)?, stand_in);
    let length = path.len() as u32;
    state.wasi.set_hostcall_fuel(path.len());
    let number = state
        .wasi
        .path_open(
            &mut GuestMemory::Unshared(&mut path),
            Fd::from(below as u32),
            Lookupflags::empty(),
            GuestPtr::<str>::new((0, length)),
            how,
            Rights::FD_READ,
            Rights::empty(),
            flags,
        )
        .await;
    let table = state.wasi.ctx().table;
    *table.get_mut(&directory)? = real;
    let number = match number {
        Ok(number) => u32::from(number),
        Err(error) => return Ok(Err(error.downcast()?)),
    };
    *table.get_mut(&Resource::<Descriptor>::new_borrow(place))? = new.descriptor;
    state.files.numbers.places.insert(number as i32, place);
    state.files.opened.insert(place, Arc::new(new.opened));
    Ok(Ok(number))
}

pub fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker.func_wrap_async(MODULE, "fd_close", |mut caller: Guest<'_>, (number,): (i32,)| {
        Box::new(async move {
            let export = caller.get_export("memory");
            let (mut memory, state) = enter(&mut caller, &export)?;
            let place = state.numbered(number).map(|it| it.rep());
            let worker = state.worker();
            let close = preview1::fd_close(&mut state.wasi, &mut memory, number);
            let Some(place) = place else { return close.await };
            let done = worker.file_call(close).await?;
            if done == 0 {
                state.files.numbers.places.remove(&number);
                state.forget(place);
            }
            Ok(done)
        })
    })?;
    linker.func_wrap_async(MODULE, "fd_renumber", |mut caller: Guest<'_>, (from, to): (i32, i32)| {
        Box::new(async move {
            let export = caller.get_export("memory");
            let (mut memory, state) = enter(&mut caller, &export)?;
            let replaced = state.numbered(to).map(|it| it.rep());
            let worker = state.worker();
            let renumber = preview1::fd_renumber(&mut state.wasi, &mut memory, from, to);
            let done = if replaced.is_some() { worker.file_call(renumber).await? } else { renumber.await? };
            if done == 0 && from != to {
                let places = &mut state.files.numbers.places;
                match places.remove(&from) {
                    Some(place) => places.insert(to, place),
                    None => places.remove(&to),
                };
                replaced.into_iter().for_each(|place| state.forget(place));
            }
            Ok(done)
        })
    })?;
    Ok(())
}
