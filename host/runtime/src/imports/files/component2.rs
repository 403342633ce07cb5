//! The files of WASI 0.2 components.

use super::stream2::{Reader, Writer};
use crate::{
    files::{
        Stream, check_path,
        listing::Listing,
        names::Change,
        open::Wanted,
        refuse_if_read_only,
        times::{self, Time},
    },
    state::State,
};
use rustix::{fs::FileType, io::Errno};
use std::{io, sync::Arc};
use wasmtime::{
    StoreContextMut,
    component::{Linker, LinkerInstance, Resource, ResourceType},
};
use wasmtime_wasi::{
    cli::WasiCliView as _,
    filesystem::{Descriptor, WasiFilesystemView as _},
    p2::{
        DynInputStream, DynOutputStream, FsError, FsResult,
        bindings::cli::{stderr::Host as _, stdin::Host as _, stdout::Host as _},
        bindings::filesystem::{
            preopens::Host as _,
            types::{
                Advice, DescriptorFlags, DescriptorType, DirectoryEntry, ErrorCode, HostDescriptor as _, NewTimestamp,
                OpenFlags, PathFlags,
            },
        },
    },
};

/// The version of the linked interface.
const PREOPENS: &str = "wasi:filesystem/preopens@0.2.12";
const TYPES: &str = "wasi:filesystem/types@0.2.12";

type Store<'a> = StoreContextMut<'a, State>;
type Dir = Resource<Descriptor>;

/// Separates errors for the guest from failures that end the guest.
fn answer<T>(done: FsResult<T>) -> wasmtime::Result<(Result<T, ErrorCode>,)> {
    match done {
        Ok(value) => Ok((Ok(value),)),
        Err(error) => Ok((Err(error.downcast()?),)),
    }
}

/// Converts the result of an operation of this module for the guest.
fn answer_io<T>(done: io::Result<T>) -> wasmtime::Result<(Result<T, ErrorCode>,)> {
    answer(done.map_err(refused))
}

fn refused(error: io::Error) -> FsError {
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::XDEV) => ErrorCode::CrossDevice.into(),
        // The interface has no code for too many descriptors.
        Some(Errno::MFILE) => ErrorCode::InsufficientMemory.into(),
        _ => error.into(),
    }
}

/// Wraps functions of the implementation so that they run on a file thread.
macro_rules! on_file_threads {
    ($types:ident: $($name:literal $method:ident($($argument:ident: $kind:ty),*);)*) => {$(
        $types.func_wrap_async(
            concat!("[method]descriptor.", $name),
            |mut store: Store<'_>, ($($argument,)*): ($($kind,)*)| {
                Box::new(async move {
                    let worker = store.data().worker();
                    let mut files = store.data_mut().filesystem();
                    answer(worker.file_call(files.$method($($argument),*)).await)
                })
            },
        )?;
    )*};
}

/// Wraps functions that change names, with the effect on the quota.
macro_rules! that_change_names {
    ($types:ident: $($name:literal $method:ident($($argument:ident: $kind:ty),*) $change:expr;)*) => {$(
        $types.func_wrap_async(
            concat!("[method]descriptor.", $name),
            |mut store: Store<'_>, ($($argument,)*): ($($kind,)*)| {
                Box::new(async move {
                    let worker = store.data().worker();
                    let state = store.data_mut();
                    answer(worker.file_call(async move {
                        let change: fn(&mut State, $(&$kind),*) -> io::Result<Change> = $change;
                        let change = change(state, $(&$argument),*).map_err(refused)?;
                        let done = state.filesystem().$method($($argument),*).await;
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
        "read" read(file: Dir, length: u64, offset: u64);
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
    link_listings(&mut types)?;
    link_streams(&mut types)?;
    linker.allow_shadowing(false);
    Ok(())
}

fn link_own(types: &mut LinkerInstance<'_, State>) -> wasmtime::Result<()> {
    types.func_wrap_async("[method]descriptor.is-same-object", |mut store: Store<'_>, (one, other): (Dir, Dir)| {
        Box::new(async move {
            let worker = store.data().worker();
            let mut files = store.data_mut().filesystem();
            Ok((worker.file_call(files.is_same_object(one, other)).await?,))
        })
    })?;
    types.func_wrap_async(
        "[method]descriptor.open-at",
        |mut store: Store<'_>,
         (dir, follow, path, how, flags): (Dir, PathFlags, String, OpenFlags, DescriptorFlags)| {
            Box::new(async move {
                let worker = store.data().worker();
                let state = store.data_mut();
                worker.file_call(async move { open_at(state, dir, follow, path, how, flags) }).await
            })
        },
    )?;
    types.func_wrap_async("[method]descriptor.set-size", |mut store: Store<'_>, (file, size): (Dir, u64)| {
        Box::new(async move {
            let (worker, opened) = (store.data().worker(), store.data().opened(&file));
            let file = store.data_mut().file(&file)?;
            answer_io(worker.file_call(async { opened.set_size(&file?, size) }).await)
        })
    })?;
    types.func_wrap_async(
        "[method]descriptor.write",
        |mut store: Store<'_>, (file, bytes, at): (Dir, Vec<u8>, u64)| {
            Box::new(async move {
                let (worker, opened) = (store.data().worker(), store.data().opened(&file));
                let file = store.data_mut().file(&file)?;
                let written = worker.file_call(async { opened.write(&file?, &bytes, Some(at)) }).await;
                answer_io(written.map(|count| count as u64))
            })
        },
    )?;
    types.func_wrap_async(
        "[method]descriptor.set-times-at",
        |mut store: Store<'_>,
         (dir, follow, path, accessed, modified): (Dir, PathFlags, String, NewTimestamp, NewTimestamp)| {
            Box::new(async move {
                let worker = store.data().worker();
                if !follow.contains(PathFlags::SYMLINK_FOLLOW) {
                    let mut files = store.data_mut().filesystem();
                    return answer(worker.file_call(files.set_times_at(dir, follow, path, accessed, modified)).await);
                }
                let dir = store.data_mut().dir(&dir)?;
                let set = async {
                    let dir = dir?;
                    check_path(path.len())?;
                    refuse_if_read_only(dir.perms)?;
                    times::set(&dir.dir, &path, time(accessed)?, time(modified)?)
                };
                answer_io(worker.file_call(set).await)
            })
        },
    )
}

fn time(new: NewTimestamp) -> io::Result<Time> {
    Ok(match new {
        NewTimestamp::NoChange => Time::Keep,
        NewTimestamp::Now => Time::Now,
        NewTimestamp::Timestamp(at) => {
            let seconds = i64::try_from(at.seconds).map_err(|_| Errno::OVERFLOW)?;
            Time::At { seconds, nanoseconds: at.nanoseconds }
        }
    })
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
    let descriptor = state.filesystem().table.push(new.descriptor)?;
    state.files.opened.insert(descriptor.rep(), Arc::new(new.opened));
    Ok((Ok(descriptor),))
}

/// Links listings, which are a resource of this module.
fn link_listings(types: &mut LinkerInstance<'_, State>) -> wasmtime::Result<()> {
    types.resource_async("directory-entry-stream", ResourceType::host::<Listing>(), |mut store, place| {
        Box::new(async move {
            let worker = store.data().worker();
            let closed = store.data_mut().filesystem().table.delete(Resource::<Listing>::new_own(place))?;
            worker.file_call(async { drop(closed) }).await;
            Ok(())
        })
    })?;
    types.func_wrap_async("[method]descriptor.read-directory", |mut store: Store<'_>, (dir,): (Dir,)| {
        Box::new(async move {
            let worker = store.data().worker();
            let dir = store.data_mut().dir(&dir)?;
            let counted = store.data().files.count();
            let listing = worker.file_call(async { Listing::open(&dir?.dir, counted?) }).await;
            Ok(match listing {
                Ok(listing) => (Ok(store.data_mut().filesystem().table.push(listing)?),),
                Err(error) => answer_io(Err(error))?,
            })
        })
    })?;
    types.func_wrap_async(
        "[method]directory-entry-stream.read-directory-entry",
        |mut store: Store<'_>, (listing,): (Resource<Listing>,)| {
            Box::new(async move {
                let worker = store.data().worker();
                let listing = store.data_mut().filesystem().table.get_mut(&listing)?;
                let next =
                    if listing.has_next() { listing.next() } else { worker.file_call(async { listing.next() }).await };
                answer_io(
                    next.map(|entry| entry.map(|entry| DirectoryEntry { type_: kind(entry.kind), name: entry.name })),
                )
            })
        },
    )
}

fn kind(kind: FileType) -> DescriptorType {
    match kind {
        FileType::RegularFile => DescriptorType::RegularFile,
        FileType::Directory => DescriptorType::Directory,
        FileType::Symlink => DescriptorType::SymbolicLink,
        FileType::BlockDevice => DescriptorType::BlockDevice,
        FileType::CharacterDevice => DescriptorType::CharacterDevice,
        _ => DescriptorType::Unknown,
    }
}

fn link_streams(types: &mut LinkerInstance<'_, State>) -> wasmtime::Result<()> {
    types.func_wrap("[method]descriptor.read-via-stream", |mut store: Store<'_>, (file, at): (Dir, u64)| {
        let state = store.data_mut();
        let opened = state.opened(&file);
        if opened.stream == Some(Stream::Stdin) {
            return Ok((Ok(state.cli().get_stdin()?),));
        }
        match state.descriptor(&file)? {
            Descriptor::File(file) => {
                let reader = Reader::new(state.worker(), state.files.pending(), opened, file.file, at);
                let reader: DynInputStream = Box::new(reader);
                Ok((Ok(state.filesystem().table.push(reader)?),))
            }
            Descriptor::Dir(_) => Ok((Err(ErrorCode::IsDirectory),)),
        }
    })?;
    types.func_wrap("[method]descriptor.write-via-stream", |mut store: Store<'_>, (file, at): (Dir, u64)| {
        writer(store.data_mut(), &file, Some(at))
    })?;
    types.func_wrap("[method]descriptor.append-via-stream", |mut store: Store<'_>, (file,): (Dir,)| {
        writer(store.data_mut(), &file, None)
    })
}

fn writer(
    state: &mut State,
    file: &Dir,
    at: Option<u64>,
) -> wasmtime::Result<(Result<Resource<DynOutputStream>, ErrorCode>,)> {
    let opened = state.opened(file);
    match opened.stream {
        Some(Stream::Stdout) => return Ok((Ok(state.cli().get_stdout()?),)),
        Some(Stream::Stderr) => return Ok((Ok(state.cli().get_stderr()?),)),
        Some(Stream::Stdin) | None => {}
    }
    match state.file(file)? {
        Ok(file) if file.perms.write_not_permitted() => Ok((Err(ErrorCode::NotPermitted),)),
        Ok(file) => {
            let writer: DynOutputStream =
                Box::new(Writer::new(state.worker(), state.files.pending(), opened, file, at));
            Ok((Ok(state.filesystem().table.push(writer)?),))
        }
        Err(error) => answer_io(Err(error)),
    }
}

/// Writes the rest of streams whose guest has ended without waiting for them.
pub async fn flush_all(state: &mut State) {
    for entry in state.filesystem().table.iter_mut() {
        if let Some(stream) = (entry as &mut dyn std::any::Any).downcast_mut::<DynOutputStream>() {
            stream.cancel().await;
        }
    }
}
