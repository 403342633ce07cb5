//! The files of preview 1 modules.
//!
//! Descriptors are numbers of the implementation ([`numbers`]). The implementation also keeps their state, such as the
//! file position.

mod bytes;
mod numbers;
mod paths;
mod polling;
mod unstable;

use crate::state::State;
use rustix::io::Errno as SystemErrno;
use std::io;
use wasmtime::{AsContextMut as _, Caller, Extern, Linker, component::Resource};
use wasmtime_wasi::{
    filesystem::Descriptor,
    p1::{
        types::{Errno, Error},
        wasi_snapshot_preview1::{self as preview1, WasiSnapshotPreview1 as _},
    },
    p2::FsError,
};
use wiggle::GuestMemory;

const MODULE: &str = "wasi_snapshot_preview1";

type Guest<'a> = Caller<'a, State>;

/// Returns the memory of a guest and the data of its store.
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

/// Returns the guest's number of an error.
fn errno(error: io::Error) -> wasmtime::Result<i32> {
    Ok(match error.raw_os_error().map(SystemErrno::from_raw_os_error) {
        Some(SystemErrno::MFILE) => Errno::Mfile,
        Some(SystemErrno::XDEV) => Errno::Xdev,
        Some(SystemErrno::AGAIN) => Errno::Again,
        _ => Error::from(FsError::from(error)).downcast()?,
    } as i32)
}

/// Wraps functions of the implementation so that they run on a file thread if their first argument is a file.
macro_rules! on_file_threads {
    ($linker:ident: $($method:ident($first:ident: i32 $(, $argument:ident: $kind:ty)*);)*) => {$(
        $linker.func_wrap_async(
            MODULE,
            stringify!($method),
            |mut caller: Guest<'_>, ($first, $($argument,)*): (i32, $($kind,)*)| Box::new(async move {
                let export = caller.get_export("memory");
                let (mut memory, state) = enter(&mut caller, &export)?;
                let $first = state.stream_or($first);
                let is_file = state.numbered($first).is_some();
                let worker = state.worker();
                let call = preview1::$method(&mut state.wasi, &mut memory, $first, $($argument),*);
                if is_file { worker.file_call(call).await } else { call.await }
            }),
        )?;
    )*};
}

pub fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    on_file_threads! { linker:
        fd_advise(file: i32, offset: i64, length: i64, advice: i32);
        fd_datasync(file: i32);
        fd_fdstat_get(file: i32, out: i32);
        fd_filestat_get(file: i32, out: i32);
        fd_filestat_set_times(file: i32, accessed: i64, modified: i64, flags: i32);
        fd_seek(file: i32, offset: i64, whence: i32, out: i32);
        fd_sync(file: i32);
    }
    numbers::link(linker)?;
    bytes::link(linker)?;
    paths::link(linker)?;
    polling::link(linker)?;
    linker.allow_shadowing(false);
    unstable::link(linker)
}

impl State {
    /// Returns the number of the stream that the file with this number stands in for, or else the number itself.
    fn stream_or(&mut self, number: i32) -> i32 {
        let stream = self.numbered(number).and_then(|file| self.opened(&file).stream);
        stream.map_or(number, |stream| stream.number())
    }

    /// Returns the file or directory with this number.
    fn numbered(&mut self, number: i32) -> Option<Resource<Descriptor>> {
        if !self.files.has_any() {
            return None;
        }
        numbers::note_directories(self);
        self.files.numbers.place(number).map(Resource::new_borrow)
    }
}
