//! The files of WASI 0.3 components.

use super::stream3::{Ending, Entries, Reader, ToList, Writer, refused};
use crate::{
    files::{
        check_path,
        names::Change,
        open::Wanted,
        refuse_if_read_only,
        times::{self, Time},
    },
    state::State,
};
use std::{io, sync::Arc};
use wasmtime::{
    StoreContextMut,
    component::{
        Accessor, ComponentType, FutureReader, Lift, Linker, LinkerInstance, Lower, Resource, ResourceType,
        StreamReader,
    },
};
use wasmtime_wasi::{
    filesystem::{Descriptor, WasiFilesystem, WasiFilesystemView as _},
    p3::{
        bindings::filesystem::{
            preopens::Host as _,
            types::{
                Advice, DescriptorFlags, DirectoryEntry, ErrorCode, HostDescriptorWithStore, NewTimestamp, OpenFlags,
                PathFlags,
            },
        },
        filesystem::FilesystemResult,
    },
};

/// The version of the linked interface.
const PREOPENS: &str = "wasi:filesystem/preopens@0.3.0";
const TYPES: &str = "wasi:filesystem/types@0.3.0";

type Store<'a> = StoreContextMut<'a, State>;
type Dir = Resource<Descriptor>;
type Ended = FutureReader<Result<(), ErrorCode>>;

fn answer<T>(done: FilesystemResult<T>) -> wasmtime::Result<(Result<T, ErrorCode>,)> {
    match done {
        Ok(value) => Ok((Ok(value),)),
        Err(error) => Ok((Err(error.downcast()?),)),
    }
}

/// Converts the result of an operation of this module for the guest.
fn answer_io<T>(done: io::Result<T>) -> wasmtime::Result<(Result<T, ErrorCode>,)> {
    answer(done.map_err(|error| refused(error).into()))
}

fn files(guest: &Accessor<State>) -> Accessor<State, WasiFilesystem> {
    guest.with_getter::<WasiFilesystem>(State::filesystem)
}

fn with<T>(guest: &Accessor<State>, what: impl FnOnce(&mut State) -> T) -> T {
    guest.with(|mut store| what(store.get()))
}

/// Wraps functions of the implementation so that they run on a file thread.
macro_rules! on_file_threads {
    ($types:ident: $($name:literal $method:ident($($argument:ident: $kind:ty),*);)*) => {$(
        $types.func_wrap_concurrent(
            concat!("[method]descriptor.", $name),
            |guest: &Accessor<State>, ($($argument,)*): ($($kind,)*)| {
                Box::pin(async move {
                    let worker = with(guest, |state| state.worker());
                    let guest = files(guest);
                    answer(worker.file_call(WasiFilesystem::$method(&guest, $($argument),*)).await)
                })
            },
        )?;
    )*};
}

/// Wraps functions that change names, with the effect on the quota.
macro_rules! that_change_names {
    ($types:ident: $($name:literal $method:ident($($argument:ident: $kind:ty),*) $change:expr;)*) => {$(
        $types.func_wrap_concurrent(
            concat!("[method]descriptor.", $name),
            |guest: &Accessor<State>, ($($argument,)*): ($($kind,)*)| {
                Box::pin(async move {
                    let worker = with(guest, |state| state.worker());
                    answer(worker.file_call(async move {
                        let change: fn(&mut State, $(&$kind),*) -> io::Result<Change> = $change;
                        let change = with(guest, |state| change(state, $(&$argument),*)).map_err(refused)?;
                        let done = WasiFilesystem::$method(&files(guest), $($argument),*).await;
                        change.settle(done.is_ok());
                        done
                    }).await)
                })
            },
        )?;
    )*};
}

pub fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    linker.instance(PREOPENS)?.func_wrap("get-directories", |mut store: Store<'_>, (): ()| {
        let directories = store.data_mut().filesystem().get_directories()?;
        store.data_mut().files.note_directories(&directories);
        Ok((directories,))
    })?;
    let mut types = linker.instance(TYPES)?;
    types.resource_async("descriptor", ResourceType::host::<Descriptor>(), |mut store, place| {
        Box::new(async move { store.data_mut().close_descriptor(place).await })
    })?;
    on_file_threads! { types:
        "advise" advise(file: Dir, offset: u64, length: u64, advice: Advice);
        "sync-data" sync_data(file: Dir);
        "get-flags" get_flags(file: Dir);
        "get-type" get_type(file: Dir);
        "set-times" set_times(file: Dir, accessed: NewTimestamp, modified: NewTimestamp);
        "sync" sync(file: Dir);
        "stat" stat(file: Dir);
        "stat-at" stat_at(dir: Dir, follow: PathFlags, path: String);
        "readlink-at" readlink_at(dir: Dir, path: String);
        "metadata-hash" metadata_hash(file: Dir);
        "metadata-hash-at" metadata_hash_at(dir: Dir, follow: PathFlags, path: String);
    }
    that_change_names! { types:
        "create-directory-at" create_directory_at(dir: Dir, path: String)
            |state, dir, _| Change::make_directory(state.place(dir));
        "symlink-at" symlink_at(dir: Dir, target: String, path: String)
            |state, dir, target, path| Change::symlink(state.place(dir), target.len() as u64, path);
        "link-at" link_at(dir: Dir, follow: PathFlags, path: String, to: Dir, new_path: String)
            |state, dir, _, path, to, _| Change::link(state.place(dir), path, state.place(to));
        "rename-at" rename_at(dir: Dir, path: String, to: Dir, new_path: String)
            |state, dir, path, to, new_path| Change::rename(state.place(dir), path, state.place(to), new_path);
        "remove-directory-at" remove_directory_at(dir: Dir, path: String)
            |state, dir, path| Change::remove(state.place(dir), path);
        "unlink-file-at" unlink_file_at(dir: Dir, path: String)
            |state, dir, path| Change::remove(state.place(dir), path);
    }
    link_own(&mut types)?;
    link_streams(&mut types)?;
    linker.allow_shadowing(false);
    Ok(())
}

fn link_own(types: &mut LinkerInstance<'_, State>) -> wasmtime::Result<()> {
    types.func_wrap_concurrent(
        "[method]descriptor.is-same-object",
        |guest: &Accessor<State>, (one, other): (Dir, Dir)| {
            Box::pin(async move {
                let worker = with(guest, |state| state.worker());
                let guest = files(guest);
                Ok((worker.file_call(WasiFilesystem::is_same_object(&guest, one, other)).await?,))
            })
        },
    )?;
    types.func_wrap_concurrent(
        "[method]descriptor.open-at",
        |guest: &Accessor<State>,
         (dir, follow, path, how, flags): (Dir, PathFlags, String, OpenFlags, DescriptorFlags)| {
            Box::pin(async move {
                let worker = with(guest, |state| state.worker());
                let open = async { with(guest, |state| open_at(state, dir, follow, path, how, flags)) };
                worker.file_call(open).await
            })
        },
    )?;
    types.func_wrap_concurrent(
        "[method]descriptor.set-size",
        |guest: &Accessor<State>, (file, size): (Dir, u64)| {
            Box::pin(async move {
                let (worker, opened, file) =
                    with(guest, |state| (state.worker(), state.opened(&file), state.file(&file)));
                let file = file?;
                answer_io(worker.file_call(async { opened.set_size(&file?, size) }).await)
            })
        },
    )?;
    types.func_wrap_concurrent(
        "[method]descriptor.set-times-at",
        |guest: &Accessor<State>,
         (dir, follow, path, accessed, modified): (Dir, PathFlags, String, NewTimestamp, NewTimestamp)| {
            Box::pin(async move {
                let (worker, opened) = with(guest, |state| (state.worker(), state.dir(&dir)));
                if !follow.contains(PathFlags::SYMLINK_FOLLOW) {
                    let guest = files(guest);
                    let set = WasiFilesystem::set_times_at(&guest, dir, follow, path, accessed, modified);
                    return answer(worker.file_call(set).await);
                }
                let opened = opened?;
                let set = async {
                    let dir = opened?;
                    check_path(path.len())?;
                    refuse_if_read_only(dir.perms)?;
                    times::set(&dir.dir, &path, time(accessed), time(modified))
                };
                answer_io(worker.file_call(set).await)
            })
        },
    )
}

fn time(new: NewTimestamp) -> Time {
    match new {
        NewTimestamp::NoChange => Time::Keep,
        NewTimestamp::Now => Time::Now,
        NewTimestamp::Timestamp(at) => Time::At { seconds: at.seconds, nanoseconds: at.nanoseconds },
    }
}

fn open_at(
    state: &mut State,
    dir: Dir,
    follow: PathFlags,
    path: String,
    how: OpenFlags,
    flags: DescriptorFlags,
) -> wasmtime::Result<(Result<Dir, ErrorCode>,)> {
    let synchronized = DescriptorFlags::FILE_INTEGRITY_SYNC
        | DescriptorFlags::DATA_INTEGRITY_SYNC
        | DescriptorFlags::REQUESTED_WRITE_SYNC;
    if flags.intersects(synchronized) {
        return Ok((Err(ErrorCode::Unsupported),));
    }
    let wanted = Wanted {
        follow: follow.contains(PathFlags::SYMLINK_FOLLOW),
        create: how.contains(OpenFlags::CREATE),
        exclusive: how.contains(OpenFlags::EXCLUSIVE),
        truncate: how.contains(OpenFlags::TRUNCATE),
        cut_later: false,
        directory: how.contains(OpenFlags::DIRECTORY),
        read: flags.contains(DescriptorFlags::READ),
        write: flags.contains(DescriptorFlags::WRITE),
    };
    let new = match state.open(&dir, &path, wanted)? {
        Ok(new) => new,
        Err(error) => return answer_io(Err(error)),
    };
    if new.opened.stream.is_some() {
        // Its streams are typed functions of `wasi:cli`, which a descriptor cannot stand in for.
        return Ok((Err(ErrorCode::Unsupported),));
    }
    let descriptor = state.filesystem().table.push(new.descriptor)?;
    state.files.opened.insert(descriptor.rep(), Arc::new(new.opened));
    Ok((Ok(descriptor),))
}

fn link_streams(types: &mut LinkerInstance<'_, State>) -> wasmtime::Result<()> {
    types.func_wrap("[method]descriptor.read-via-stream", |mut store: Store<'_>, (file, at): (Dir, u64)| {
        let state = store.data_mut();
        let (worker, opened) = (state.worker(), state.opened(&file));
        let file = match state.descriptor(&file)? {
            Descriptor::File(file) => file.file,
            Descriptor::Dir(_) => return Ok((nothing::<u8>(&mut store, ErrorCode::IsDirectory)?,)),
        };
        let (ending, end) = Ending::new();
        let stream = StreamReader::new(&mut store, Reader { worker, _opened: opened, file, at, ending })?;
        Ok(((stream, FutureReader::new(&mut store, end)?),))
    })?;
    types.func_wrap(
        "[method]descriptor.write-via-stream",
        |store: Store<'_>, (file, data, at): (Dir, StreamReader<u8>, u64)| Ok((write(store, &file, data, Some(at))?,)),
    )?;
    types.func_wrap(
        "[method]descriptor.append-via-stream",
        |store: Store<'_>, (file, data): (Dir, StreamReader<u8>)| Ok((write(store, &file, data, None)?,)),
    )?;
    types.func_wrap("[method]descriptor.read-directory", |mut store: Store<'_>, (dir,): (Dir,)| {
        let state = store.data_mut();
        let (worker, dir, counted) = (state.worker(), state.dir(&dir)?, state.files.count());
        Ok((match dir.and_then(|dir| Ok((dir, counted?))) {
            Ok((dir, counted)) => {
                let (ending, end) = Ending::new();
                let entries = Entries { worker, listing: ToList::Directory(dir.dir, Some(counted)), ending };
                (StreamReader::new(&mut store, entries)?, FutureReader::new(&mut store, end)?)
            }
            Err(error) => nothing::<DirectoryEntry>(&mut store, refused(error))?,
        },))
    })
}

/// Returns a stream that has already ended because of `error`.
fn nothing<T>(
    mut store: impl wasmtime::AsContextMut<Data = State>,
    error: ErrorCode,
) -> wasmtime::Result<(StreamReader<T>, Ended)>
where
    T: ComponentType + Lower + Lift + Send + Sync + Unpin + 'static,
{
    let stream = StreamReader::new(&mut store, Vec::<T>::new())?;
    let ended = FutureReader::new(&mut store, async move { wasmtime::error::Ok(Err(error)) })?;
    Ok((stream, ended))
}

fn write(mut store: Store<'_>, file: &Dir, data: StreamReader<u8>, at: Option<u64>) -> wasmtime::Result<Ended> {
    let state = store.data_mut();
    let (worker, opened, file) = (state.worker(), state.opened(file), state.file(file)?);
    let error = match file {
        Ok(file) if file.perms.write_not_permitted() => ErrorCode::NotPermitted,
        Ok(file) => {
            let (ending, end) = Ending::new();
            data.pipe(&mut store, Writer { worker, opened, file, at, ending })?;
            return FutureReader::new(&mut store, end);
        }
        Err(error) => refused(error),
    };
    let mut data = data;
    data.close(&mut store)?;
    FutureReader::new(&mut store, async move { wasmtime::error::Ok(Err(error)) })
}
