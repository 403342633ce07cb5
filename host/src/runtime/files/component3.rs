//! The files of WASI 0.3 components: what makes them grow goes by the quota of the private directory.

use super::component2::private;
use crate::runtime::{
    scratch::{Change, Scratch},
    state::State,
};
use bytes::Bytes;
use std::{
    fs::File,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};
use tokio::{sync::oneshot, task::JoinHandle};
use wasmtime::{
    StoreContextMut,
    component::{Access, Accessor, FutureReader, Linker, Resource, Source, StreamConsumer, StreamReader, StreamResult},
};
use wasmtime_wasi::{
    filesystem::{Descriptor, WasiFilesystem, WasiFilesystemView as _},
    p3::{
        bindings::filesystem::{
            preopens::Host as _,
            types::{DescriptorFlags, ErrorCode, HostDescriptorWithStore, OpenFlags, PathFlags},
        },
        filesystem::{FilesystemError, FilesystemResult},
    },
};

/// The version that the implementation links its functions under.
const PREOPENS: &str = "wasi:filesystem/preopens@0.3.0";
const TYPES: &str = "wasi:filesystem/types@0.3.0";
/// The most that is taken from a guest at once.
const PIECE: usize = 64 << 10;

type Store<'a> = StoreContextMut<'a, State>;
type Dir = Resource<Descriptor>;
type Ended = FutureReader<Result<(), ErrorCode>>;

fn answer<T>(done: FilesystemResult<T>) -> wasmtime::Result<(Result<T, ErrorCode>,)> {
    match done {
        Ok(value) => Ok((Ok(value),)),
        Err(error) => Ok((Err(error.downcast()?),)),
    }
}

fn files(guest: &Accessor<State>) -> Accessor<State, WasiFilesystem> {
    guest.with_getter::<WasiFilesystem>(State::filesystem)
}

/// The private directory that a descriptor lies in.
fn of(guest: &Accessor<State>, descriptor: &Dir) -> Option<Scratch> {
    guest.with(|mut store| store.get().files.of(descriptor))
}

pub fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    linker.instance(PREOPENS)?.func_wrap("get-directories", |mut store: Store<'_>, (): ()| {
        let directories = store.data_mut().filesystem().get_directories()?;
        store.data_mut().files.note_directories(&directories);
        Ok((directories,))
    })?;
    let mut types = linker.instance(TYPES)?;
    types.func_wrap_concurrent(
        "[method]descriptor.open-at",
        |guest: &Accessor<State>,
         (dir, follow, path, how, flags): (Dir, PathFlags, String, OpenFlags, DescriptorFlags)| {
            Box::pin(async move { answer(open_at(guest, dir, follow, path, how, flags).await) })
        },
    )?;
    types.func_wrap_concurrent(
        "[method]descriptor.create-directory-at",
        |guest: &Accessor<State>, (dir, path): (Dir, String)| {
            Box::pin(async move {
                let make = WasiFilesystem::create_directory_at;
                answer(match of(guest, &dir) {
                    Some(scratch) => match scratch.take(0, 1).await {
                        Ok(_turn) => make(&files(guest), dir, path).await,
                        Err(full) => Err(full.into()),
                    },
                    None => make(&files(guest), dir, path).await,
                })
            })
        },
    )?;
    types.func_wrap_concurrent(
        "[method]descriptor.symlink-at",
        |guest: &Accessor<State>, (dir, target, path): (Dir, String, String)| {
            Box::pin(async move {
                let make = WasiFilesystem::symlink_at;
                answer(match of(guest, &dir) {
                    Some(scratch) => match scratch.take(target.len() as u64, 1).await {
                        Ok(_turn) => make(&files(guest), dir, target, path).await,
                        Err(full) => Err(full.into()),
                    },
                    None => make(&files(guest), dir, target, path).await,
                })
            })
        },
    )?;
    types.func_wrap_concurrent(
        "[method]descriptor.link-at",
        |guest: &Accessor<State>, (dir, follow, path, new_dir, new_path): (Dir, PathFlags, String, Dir, String)| {
            Box::pin(async move {
                let make = WasiFilesystem::link_at;
                answer(match (of(guest, &dir), of(guest, &new_dir)) {
                    (Some(scratch), Some(_)) => match scratch.take(0, 1).await {
                        Ok(_turn) => make(&files(guest), dir, follow, path, new_dir, new_path).await,
                        Err(full) => Err(full.into()),
                    },
                    (None, None) => make(&files(guest), dir, follow, path, new_dir, new_path).await,
                    _ => Err(ErrorCode::CrossDevice.into()),
                })
            })
        },
    )?;
    types.func_wrap_concurrent(
        "[method]descriptor.rename-at",
        |guest: &Accessor<State>, (dir, path, new_dir, new_path): (Dir, String, Dir, String)| {
            Box::pin(async move {
                let rename = WasiFilesystem::rename_at;
                answer(match (of(guest, &dir), of(guest, &new_dir)) {
                    // Not while it is counted what is there.
                    (Some(scratch), Some(_)) => match scratch.take(0, 0).await {
                        Ok(_turn) => rename(&files(guest), dir, path, new_dir, new_path).await,
                        Err(full) => Err(full.into()),
                    },
                    (None, None) => rename(&files(guest), dir, path, new_dir, new_path).await,
                    _ => Err(ErrorCode::CrossDevice.into()),
                })
            })
        },
    )?;
    types.func_wrap_concurrent(
        "[method]descriptor.set-size",
        |guest: &Accessor<State>, (file, size): (Dir, u64)| {
            Box::pin(async move {
                answer(match guest.with(|mut store| private(store.get(), &file))? {
                    Some((scratch, file)) => {
                        let done = scratch.change(file, Change::SetSize(size)).await;
                        done.map(drop).map_err(FilesystemError::from)
                    }
                    None => WasiFilesystem::set_size(&files(guest), file, size).await,
                })
            })
        },
    )?;
    types.func_wrap(
        "[method]descriptor.write-via-stream",
        |mut store: Store<'_>, (file, data, at): (Dir, StreamReader<u8>, u64)| {
            Ok((match private(store.data_mut(), &file)? {
                Some((scratch, file)) => write(store, data, scratch, file, Some(at))?,
                None => WasiFilesystem::write_via_stream(
                    Access::<_, WasiFilesystem>::new(store, State::filesystem),
                    file,
                    data,
                    at,
                )?,
            },))
        },
    )?;
    types.func_wrap(
        "[method]descriptor.append-via-stream",
        |mut store: Store<'_>, (file, data): (Dir, StreamReader<u8>)| {
            Ok((match private(store.data_mut(), &file)? {
                Some((scratch, file)) => write(store, data, scratch, file, None)?,
                None => WasiFilesystem::append_via_stream(
                    Access::<_, WasiFilesystem>::new(store, State::filesystem),
                    file,
                    data,
                )?,
            },))
        },
    )?;
    linker.allow_shadowing(false);
    Ok(())
}

async fn open_at(
    guest: &Accessor<State>,
    dir: Dir,
    follow: PathFlags,
    path: String,
    mut how: OpenFlags,
    flags: DescriptorFlags,
) -> FilesystemResult<Dir> {
    let Some(scratch) = of(guest, &dir) else {
        let opened = WasiFilesystem::open_at(&files(guest), dir, follow, path, how, flags).await?;
        guest.with(|mut store| store.get().files.note(&opened, false));
        return Ok(opened);
    };
    // What is cut off when a file is opened shall be given back.
    let cut = how.contains(OpenFlags::TRUNCATE) && flags.contains(DescriptorFlags::WRITE);
    if cut {
        how &= !OpenFlags::TRUNCATE;
    }
    let turn = scratch.take(0, u64::from(how.contains(OpenFlags::CREATE))).await?;
    let opened = WasiFilesystem::open_at(&files(guest), dir, follow, path, how, flags).await?;
    drop(turn);
    let file = guest.with(|mut store| {
        store.get().files.note(&opened, true);
        private(store.get(), &opened)
    });
    if let (true, Some((_, file))) = (cut, file.map_err(FilesystemError::trap)?) {
        scratch.change(file, Change::SetSize(0)).await?;
    }
    Ok(opened)
}

fn write(
    mut store: Store<'_>,
    data: StreamReader<u8>,
    scratch: Scratch,
    file: Arc<File>,
    at: Option<u64>,
) -> wasmtime::Result<Ended> {
    let (ended, end) = oneshot::channel();
    data.pipe(&mut store, Writer { scratch, file, at, ended: Some(ended), task: None })?;
    FutureReader::new(&mut store, end)
}

/// Takes what a guest streams into a file of the private directory.
struct Writer {
    scratch: Scratch,
    file: Arc<File>,
    /// Where to go on; nothing means at the end of the file.
    at: Option<u64>,
    ended: Option<oneshot::Sender<Result<(), ErrorCode>>>,
    task: Option<JoinHandle<io::Result<usize>>>,
}

impl Writer {
    fn end(&mut self, how: Result<(), ErrorCode>) {
        if let Some(ended) = self.ended.take() {
            // The guest may not care.
            _ = ended.send(how);
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.end(Ok(()));
    }
}

impl StreamConsumer<State> for Writer {
    type Item = u8;

    fn poll_consume(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        store: Store<'_>,
        source: Source<'_, u8>,
        _finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        let mut source = source.as_direct(store);
        let this = &mut *self;
        let task = this.task.get_or_insert_with(|| {
            let waiting = source.remaining();
            let bytes = Bytes::copy_from_slice(&waiting[..waiting.len().min(PIECE)]);
            let (scratch, file, at) = (this.scratch.clone(), this.file.clone(), this.at);
            tokio::spawn(async move { scratch.change(file, Change::Write { bytes, at }).await })
        });
        // A write that has begun is waited for, also by a guest that no longer wants it.
        let done = ready!(Pin::new(task).poll(cx));
        self.task = None;
        Poll::Ready(Ok(match done.unwrap_or_else(|error| Err(io::Error::other(error))) {
            Ok(count) => {
                source.mark_read(count);
                self.at = self.at.map(|at| at + count as u64);
                StreamResult::Completed
            }
            Err(error) => {
                self.end(Err(error.into()));
                StreamResult::Dropped
            }
        }))
    }
}
