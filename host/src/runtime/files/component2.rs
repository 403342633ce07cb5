//! The files of WASI 0.2 components: what makes them grow goes by the quota of the private directory.

use crate::runtime::{
    scratch::{Change, Scratch},
    state::State,
};
use bytes::Bytes;
use std::{fs::File, io, mem, sync::Arc};
use tokio::task::JoinHandle;
use wasmtime::{
    StoreContextMut,
    component::{Linker, Resource},
};
use wasmtime_wasi::{
    async_trait,
    filesystem::{Descriptor, WasiFilesystemView as _},
    p2::{
        DynOutputStream, FsError, FsResult, OutputStream, Pollable, StreamError, StreamResult,
        bindings::filesystem::{
            preopens::Host as _,
            types::{DescriptorFlags, ErrorCode, HostDescriptor as _, OpenFlags, PathFlags},
        },
    },
};

/// The version that the implementation links its functions under.
const PREOPENS: &str = "wasi:filesystem/preopens@0.2.12";
const TYPES: &str = "wasi:filesystem/types@0.2.12";
/// The most that a guest may write at once.
const PERMIT: usize = 64 << 10;

type Store<'a> = StoreContextMut<'a, State>;
type Dir = Resource<Descriptor>;

/// What a guest is answered: the error that is its own, or else the failure that ends it.
fn answer<T>(done: FsResult<T>) -> wasmtime::Result<(Result<T, ErrorCode>,)> {
    match done {
        Ok(value) => Ok((Ok(value),)),
        Err(error) => Ok((Err(error.downcast()?),)),
    }
}

pub fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    linker.instance(PREOPENS)?.func_wrap("get-directories", |mut store: Store<'_>, (): ()| {
        let directories = store.data_mut().filesystem().get_directories()?;
        store.data_mut().files.note_directories(&directories);
        Ok((directories,))
    })?;
    let mut types = linker.instance(TYPES)?;
    types.func_wrap_async(
        "[method]descriptor.open-at",
        |mut store: Store<'_>,
         (dir, follow, path, how, flags): (Dir, PathFlags, String, OpenFlags, DescriptorFlags)| {
            Box::new(async move { answer(open_at(store.data_mut(), dir, follow, path, how, flags).await) })
        },
    )?;
    types.func_wrap_async(
        "[method]descriptor.create-directory-at",
        |mut store: Store<'_>, (dir, path): (Dir, String)| {
            Box::new(async move {
                let state = store.data_mut();
                answer(match state.files.of(&dir) {
                    Some(scratch) => match scratch.take(0, 1).await {
                        Ok(_turn) => state.filesystem().create_directory_at(dir, path).await,
                        Err(full) => Err(full.into()),
                    },
                    None => state.filesystem().create_directory_at(dir, path).await,
                })
            })
        },
    )?;
    types.func_wrap_async(
        "[method]descriptor.symlink-at",
        |mut store: Store<'_>, (dir, target, path): (Dir, String, String)| {
            Box::new(async move {
                let state = store.data_mut();
                answer(match state.files.of(&dir) {
                    Some(scratch) => match scratch.take(target.len() as u64, 1).await {
                        Ok(_turn) => state.filesystem().symlink_at(dir, target, path).await,
                        Err(full) => Err(full.into()),
                    },
                    None => state.filesystem().symlink_at(dir, target, path).await,
                })
            })
        },
    )?;
    types.func_wrap_async(
        "[method]descriptor.link-at",
        |mut store: Store<'_>, (dir, follow, path, new_dir, new_path): (Dir, PathFlags, String, Dir, String)| {
            Box::new(async move {
                let state = store.data_mut();
                answer(match (state.files.of(&dir), state.files.of(&new_dir)) {
                    (Some(scratch), Some(_)) => match scratch.take(0, 1).await {
                        Ok(_turn) => state.filesystem().link_at(dir, follow, path, new_dir, new_path).await,
                        Err(full) => Err(full.into()),
                    },
                    (None, None) => state.filesystem().link_at(dir, follow, path, new_dir, new_path).await,
                    _ => Err(ErrorCode::CrossDevice.into()),
                })
            })
        },
    )?;
    types.func_wrap_async(
        "[method]descriptor.rename-at",
        |mut store: Store<'_>, (dir, path, new_dir, new_path): (Dir, String, Dir, String)| {
            Box::new(async move {
                let state = store.data_mut();
                answer(match (state.files.of(&dir), state.files.of(&new_dir)) {
                    // Not while it is counted what is there.
                    (Some(scratch), Some(_)) => match scratch.take(0, 0).await {
                        Ok(_turn) => state.filesystem().rename_at(dir, path, new_dir, new_path).await,
                        Err(full) => Err(full.into()),
                    },
                    (None, None) => state.filesystem().rename_at(dir, path, new_dir, new_path).await,
                    _ => Err(ErrorCode::CrossDevice.into()),
                })
            })
        },
    )?;
    types.func_wrap_async("[method]descriptor.set-size", |mut store: Store<'_>, (file, size): (Dir, u64)| {
        Box::new(async move {
            let state = store.data_mut();
            answer(match private(state, &file)? {
                Some((scratch, file)) => {
                    scratch.change(file, Change::SetSize(size)).await.map(drop).map_err(FsError::from)
                }
                None => state.filesystem().set_size(file, size).await,
            })
        })
    })?;
    types.func_wrap_async(
        "[method]descriptor.write",
        |mut store: Store<'_>, (file, bytes, at): (Dir, Vec<u8>, u64)| {
            Box::new(async move {
                let state = store.data_mut();
                answer(match private(state, &file)? {
                    Some((scratch, file)) => {
                        let written = scratch.change(file, Change::Write { bytes: bytes.into(), at: Some(at) }).await;
                        written.map(|count| count as u64).map_err(FsError::from)
                    }
                    None => state.filesystem().write(file, bytes, at).await,
                })
            })
        },
    )?;
    types.func_wrap("[method]descriptor.write-via-stream", |mut store: Store<'_>, (file, at): (Dir, u64)| {
        let state = store.data_mut();
        answer(match private(state, &file)? {
            Some((scratch, file)) => writer(state, scratch, file, Some(at)),
            None => state.filesystem().write_via_stream(file, at),
        })
    })?;
    types.func_wrap("[method]descriptor.append-via-stream", |mut store: Store<'_>, (file,): (Dir,)| {
        let state = store.data_mut();
        answer(match private(state, &file)? {
            Some((scratch, file)) => writer(state, scratch, file, None),
            None => state.filesystem().append_via_stream(file),
        })
    })?;
    linker.allow_shadowing(false);
    Ok(())
}

async fn open_at(
    state: &mut State,
    dir: Dir,
    follow: PathFlags,
    path: String,
    mut how: OpenFlags,
    flags: DescriptorFlags,
) -> FsResult<Dir> {
    let Some(scratch) = state.files.of(&dir) else {
        let opened = state.filesystem().open_at(dir, follow, path, how, flags).await?;
        state.files.note(&opened, false);
        return Ok(opened);
    };
    // What is cut off when a file is opened shall be given back.
    let cut = how.contains(OpenFlags::TRUNCATE) && flags.contains(DescriptorFlags::WRITE);
    if cut {
        how &= !OpenFlags::TRUNCATE;
    }
    let turn = scratch.take(0, u64::from(how.contains(OpenFlags::CREATE))).await?;
    let opened = state.filesystem().open_at(dir, follow, path, how, flags).await?;
    drop(turn);
    state.files.note(&opened, true);
    if let (true, Some((_, file))) = (cut, private(state, &opened).map_err(FsError::trap)?) {
        scratch.change(file, Change::SetSize(0)).await?;
    }
    Ok(opened)
}

/// The file behind a descriptor, where it lies in the private directory.
pub(super) fn private(state: &mut State, descriptor: &Dir) -> wasmtime::Result<Option<(Scratch, Arc<File>)>> {
    let Some(scratch) = state.files.of(descriptor) else { return Ok(None) };
    Ok(match state.filesystem().table.get(descriptor)? {
        Descriptor::File(file) => Some((scratch, file.file.clone())),
        Descriptor::Dir(_) => None,
    })
}

fn writer(
    state: &mut State,
    scratch: Scratch,
    file: Arc<File>,
    at: Option<u64>,
) -> FsResult<Resource<DynOutputStream>> {
    let writer: DynOutputStream = Box::new(Writer { scratch, file, at, state: Writing::Idle });
    Ok(state.filesystem().table.push(writer)?)
}

/// A stream into a file of the private directory.
struct Writer {
    scratch: Scratch,
    file: Arc<File>,
    /// Where to go on; nothing means at the end of the file.
    at: Option<u64>,
    state: Writing,
}

enum Writing {
    Idle,
    Busy(JoinHandle<io::Result<usize>>),
    Failed(io::Error),
    Closed,
}

impl Writer {
    fn take_failure(&mut self) -> StreamError {
        match mem::replace(&mut self.state, Writing::Closed) {
            Writing::Failed(error) => StreamError::LastOperationFailed(error.into()),
            _ => StreamError::Closed,
        }
    }
}

#[async_trait]
impl Pollable for Writer {
    async fn ready(&mut self) {
        if let Writing::Busy(task) = &mut self.state {
            self.state = match task.await.unwrap_or_else(|error| Err(io::Error::other(error))) {
                Ok(count) => {
                    self.at = self.at.map(|at| at + count as u64);
                    Writing::Idle
                }
                Err(error) => Writing::Failed(error),
            };
        }
    }
}

#[async_trait]
impl OutputStream for Writer {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        match self.state {
            Writing::Idle => {}
            Writing::Closed => return Err(StreamError::Closed),
            Writing::Busy(_) | Writing::Failed(_) => return Err(StreamError::trap("written before it was ready")),
        }
        let (scratch, file, at) = (self.scratch.clone(), self.file.clone(), self.at);
        self.state =
            Writing::Busy(tokio::spawn(async move { scratch.change(file, Change::Write { bytes, at }).await }));
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        match self.state {
            Writing::Idle | Writing::Busy(_) => Ok(()),
            Writing::Failed(_) | Writing::Closed => Err(self.take_failure()),
        }
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        match self.state {
            Writing::Idle => Ok(PERMIT),
            Writing::Busy(_) => Ok(0),
            Writing::Failed(_) | Writing::Closed => Err(self.take_failure()),
        }
    }

    async fn cancel(&mut self) {
        self.ready().await;
        self.state = Writing::Closed;
    }
}
