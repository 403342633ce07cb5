//! Reads and writes of preview 1 modules. File data is not copied by the host, and stream data is copied in pieces, so
//! buffers can have any size.
//!
//! As in the implementation, one call transfers the first non-empty piece.

use super::{Guest, MODULE, enter, errno, preview1};
use crate::{
    files::Opened,
    state::{HOST_CALL, State},
};
use std::{io, sync::Arc};
use wasmtime::Linker;
use wasmtime_wasi::{
    filesystem::File,
    p1::{
        types::{Errno, Fd, Fdflags},
        wasi_snapshot_preview1::WasiSnapshotPreview1 as _,
    },
};
use wiggle::{GuestMemory, GuestPtr};

/// The size of an address and a length.
const PIECE: u32 = 8;

/// The part of `pieces` that a call transfers: the first non-empty one.
struct Piece {
    address: i32,
    count: i32,
    length: u32,
}

/// Finds the piece. The implementation handles an invalid address, and ends the guest.
fn piece(memory: &GuestMemory<'_>, pieces: i32, count: i32) -> Result<Piece, Errno> {
    if u64::from(count as u32) * u64::from(PIECE) > HOST_CALL.get() {
        return Err(Errno::Nomem);
    }
    for index in 0..count as u32 {
        let address = (pieces as u32).checked_add(index * PIECE);
        let length = address.and_then(|it| it.checked_add(4)).map(|it| memory.read(GuestPtr::<u32>::new(it)));
        let (Some(address), Some(Ok(length))) = (address, length) else {
            return Ok(Piece { address: pieces, count, length: 0 });
        };
        if length > 0 {
            return Ok(Piece { address: address as i32, count: 1, length });
        }
    }
    Ok(Piece { address: pieces, count: 0, length: 0 })
}

pub fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker.func_wrap_async(
        MODULE,
        "fd_read",
        |mut caller: Guest<'_>, (number, pieces, count, out): (i32, i32, i32, i32)| {
            Box::new(async move {
                let export = caller.get_export("memory");
                let (mut memory, state) = enter(&mut caller, &export)?;
                let number = state.stream_or(number);
                let Piece { address, count, .. } = match begin(state, &memory, pieces, count) {
                    Ok(piece) => piece,
                    Err(errno) => return Ok(errno as i32),
                };
                let is_file = state.numbered(number).is_some();
                let worker = state.worker();
                let read = preview1::fd_read(&mut state.wasi, &mut memory, number, address, count, out);
                if is_file { worker.file_call(read).await } else { read.await }
            })
        },
    )?;
    linker.func_wrap_async(
        MODULE,
        "fd_pread",
        |mut caller: Guest<'_>, (number, pieces, count, at, out): (i32, i32, i32, i64, i32)| {
            Box::new(async move {
                let export = caller.get_export("memory");
                let (mut memory, state) = enter(&mut caller, &export)?;
                let Piece { address, count, .. } = match begin(state, &memory, pieces, count) {
                    Ok(piece) => piece,
                    Err(errno) => return Ok(errno as i32),
                };
                let is_file = state.numbered(number).is_some();
                let worker = state.worker();
                let read = preview1::fd_pread(&mut state.wasi, &mut memory, number, address, count, at, out);
                if is_file { worker.file_call(read).await } else { read.await }
            })
        },
    )?;
    link_writing(linker)
}

fn link_writing(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker.func_wrap_async(
        MODULE,
        "fd_write",
        |mut caller: Guest<'_>, (number, pieces, count, out): (i32, i32, i32, i32)| {
            Box::new(async move {
                let export = caller.get_export("memory");
                let (mut memory, state) = enter(&mut caller, &export)?;
                let number = state.stream_or(number);
                let Piece { address, count, length } = match begin(state, &memory, pieces, count) {
                    Ok(piece) => piece,
                    Err(errno) => return Ok(errno as i32),
                };
                if state.numbered(number).is_none() {
                    return preview1::fd_write(&mut state.wasi, &mut memory, number, address, count, out).await;
                }
                let mut write = async |state: &mut State| {
                    let growth = match Growth::of(state, &mut memory, number, None, length).await? {
                        Ok(growth) => growth,
                        Err(full) => return errno(full),
                    };
                    let done = preview1::fd_write(&mut state.wasi, &mut memory, number, address, count, out).await;
                    growth.settle();
                    done
                };
                state.worker().file_call(write(state)).await
            })
        },
    )?;
    linker.func_wrap_async(
        MODULE,
        "fd_pwrite",
        |mut caller: Guest<'_>, (number, pieces, count, at, out): (i32, i32, i32, i64, i32)| {
            Box::new(async move {
                let export = caller.get_export("memory");
                let (mut memory, state) = enter(&mut caller, &export)?;
                let Piece { address, count, length } = match begin(state, &memory, pieces, count) {
                    Ok(piece) => piece,
                    Err(errno) => return Ok(errno as i32),
                };
                if state.numbered(number).is_none() {
                    return preview1::fd_pwrite(&mut state.wasi, &mut memory, number, address, count, at, out).await;
                }
                let mut write = async |state: &mut State| {
                    let growth = match Growth::of(state, &mut memory, number, Some(at as u64), length).await? {
                        Ok(growth) => growth,
                        Err(full) => return errno(full),
                    };
                    let done = preview1::fd_pwrite(&mut state.wasi, &mut memory, number, address, count, at, out).await;
                    growth.settle();
                    done
                };
                state.worker().file_call(write(state)).await
            })
        },
    )?;
    linker.func_wrap_async(MODULE, "fd_filestat_set_size", |mut caller: Guest<'_>, (number, size): (i32, i64)| {
        Box::new(async move {
            let export = caller.get_export("memory");
            let (mut memory, state) = enter(&mut caller, &export)?;
            let Some(file) = state.numbered(number) else {
                return preview1::fd_filestat_set_size(&mut state.wasi, &mut memory, number, size).await;
            };
            let (worker, opened, file) = (state.worker(), state.opened(&file), state.file(&file)?);
            let set = worker.file_call(async { opened.set_size(&file?, size as u64) }).await;
            set.map_or_else(errno, |()| Ok(0))
        })
    })?;
    Ok(())
}

/// Finds the piece of a call. Its length costs the host no memory: file data moves directly to or from the guest's
/// memory, and stream data moves in small parts.
fn begin(state: &mut State, memory: &GuestMemory<'_>, pieces: i32, count: i32) -> Result<Piece, Errno> {
    let piece = piece(memory, pieces, count)?;
    state.wasi.set_hostcall_fuel(usize::MAX);
    Ok(piece)
}

/// The growth of a private file by a write.
struct Growth(Option<(Arc<Opened>, File)>);

impl Growth {
    /// Reserves the growth of a write, at a given position or at the current one.
    async fn of(
        state: &mut State,
        memory: &mut GuestMemory<'_>,
        number: i32,
        at: Option<u64>,
        length: u32,
    ) -> wasmtime::Result<io::Result<Self>> {
        let Some(resource) = state.numbered(number) else { return Ok(Ok(Self(None))) };
        let opened = state.opened(&resource);
        let (Some(handle), Ok(file)) = (&opened.handle, state.file(&resource)?) else { return Ok(Ok(Self(None))) };
        let fd = Fd::from(number as u32);
        let appends = match state.wasi.fd_fdstat_get(memory, fd).await {
            Ok(status) => status.fs_flags.contains(Fdflags::APPEND),
            Err(_) => false,
        };
        let at = match at {
            _ if appends => file.file.metadata().map(|it| it.len()),
            Some(at) => Ok(at),
            None => Ok(state.wasi.fd_tell(memory, fd).unwrap_or_default()),
        };
        let grown = at.and_then(|at| handle.grow(at.saturating_add(length.into())));
        Ok(grown.map(|()| Self(Some((opened, file)))))
    }

    fn settle(self) {
        if let Some((opened, file)) = self.0
            && let Some(handle) = &opened.handle
        {
            handle.settle(&file.file);
        }
    }
}
