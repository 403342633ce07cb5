//! Paths of preview 1 modules, and the listing of directories. The length of a path is checked before the path is read.

use super::{Guest, MODULE, enter, errno, numbers, preview1};
use crate::{
    files::{
        check_path,
        listing::Pages,
        names::{Change, Place},
        open::Wanted,
        refuse_if_read_only, times,
        times::Time,
    },
    state::State,
};
use rustix::{fs::FileType, io::Errno as SystemErrno};
use std::{
    fs::File,
    hash::{DefaultHasher, Hash, Hasher},
    io,
};
use wasmtime::Linker;
use wasmtime_wasi::p1::types::{Errno, Fdflags, Filetype, Fstflags, Lookupflags, Oflags, Rights};
use wiggle::{GuestMemory, GuestPtr};

/// The size of a directory entry, without its name.
const ENTRY: usize = 24;

/// Reads a path from the guest's memory.
pub fn read_path(memory: &GuestMemory<'_>, at: i32, length: i32) -> wasmtime::Result<Result<String, Errno>> {
    if check_path(length as u32 as usize).is_err() {
        return Ok(Err(Errno::Nametoolong));
    }
    match memory.as_cow_str(GuestPtr::<str>::new((at as u32, length as u32))) {
        Ok(path) => Ok(Ok(path.into_owned())),
        Err(wiggle::GuestError::InvalidUtf8(_)) => Ok(Err(Errno::Ilseq)),
        Err(error) => Err(error.into()),
    }
}

/// Returns the value, or answers the guest with the error.
macro_rules! or_answer {
    ($done:expr) => {
        match $done {
            Ok(value) => value,
            Err(errno) => return Ok(errno as i32),
        }
    };
}

/// Wraps functions of the implementation that take a path.
macro_rules! that_name_paths {
    ($linker:ident: $($method:ident($($argument:ident),*) below $dir:ident: $($length:ident),+;)*) => {$(
        $linker.func_wrap_async(
            MODULE,
            stringify!($method),
            |mut caller: Guest<'_>, ($($argument,)*): ($(that_name_paths!(@$argument),)*)| Box::new(async move {
                let export = caller.get_export("memory");
                let (mut memory, state) = enter(&mut caller, &export)?;
                if [$($length),+].into_iter().any(|it| check_path(it as u32 as usize).is_err()) {
                    return Ok(Errno::Nametoolong as i32);
                }
                let is_file = state.numbered($dir).is_some();
                let worker = state.worker();
                let call = preview1::$method(&mut state.wasi, &mut memory, $($argument),*);
                if is_file { worker.file_call(call).await } else { call.await }
            }),
        )?;
    )*};
    (@$argument:ident) => { i32 };
}

/// Wraps functions that change names, with the effect on the quota.
macro_rules! that_change_names {
    ($linker:ident: $($method:ident($($argument:ident),*) $(($path:ident $length:ident))+ => $change:expr;)*) => {$(
        $linker.func_wrap_async(
            MODULE,
            stringify!($method),
            |mut caller: Guest<'_>, ($($argument,)*): ($(that_name_paths!(@$argument),)*)| Box::new(async move {
                let export = caller.get_export("memory");
                let (mut memory, state) = enter(&mut caller, &export)?;
                let paths = [$(or_answer!(read_path(&memory, $path, $length)?)),+];
                let change: fn(&mut State, &[String], &[i32]) -> io::Result<Change> = $change;
                let mut call = async |state: &mut State| {
                    let change = match change(state, &paths, &[$($argument),*]) {
                        Ok(change) => change,
                        Err(error) => return errno(error),
                    };
                    let done = preview1::$method(&mut state.wasi, &mut memory, $($argument),*).await;
                    change.settle(matches!(done, Ok(0)));
                    done
                };
                state.worker().file_call(call(state)).await
            }),
        )?;
    )*};
}

pub fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    that_name_paths! { linker:
        path_filestat_get(dir, follow, path, length, out) below dir: length;
        path_readlink(dir, path, length, buffer, size, out) below dir: length;
    }
    that_change_names! { linker:
        path_create_directory(dir, path, length) (path length) =>
            |state, _, numbers| Change::make_directory(state.numbered_place(numbers[0]));
        path_symlink(target, target_length, dir, path, length) (target target_length) (path length) =>
            |state, paths, numbers| {
                Change::symlink(state.numbered_place(numbers[2]), paths[0].len() as u64, &paths[1])
            };
        path_link(dir, follow, path, length, to, new_path, new_length) (path length) (new_path new_length) =>
            |state, paths, numbers| {
                Change::link(state.numbered_place(numbers[0]), &paths[0], state.numbered_place(numbers[4]))
            };
        path_rename(dir, path, length, to, new_path, new_length) (path length) (new_path new_length) =>
            |state, paths, numbers| {
                let (from, to) = (state.numbered_place(numbers[0]), state.numbered_place(numbers[3]));
                Change::rename(from, &paths[0], to, &paths[1])
            };
        path_remove_directory(dir, path, length) (path length) =>
            |state, paths, numbers| Change::remove(state.numbered_place(numbers[0]), &paths[0]);
        path_unlink_file(dir, path, length) (path length) =>
            |state, paths, numbers| Change::remove(state.numbered_place(numbers[0]), &paths[0]);
    }
    link_open(linker)?;
    link_times(linker)?;
    link_readdir(linker)
}

fn link_open(linker: &mut Linker<State>) -> wasmtime::Result<()> {
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
                let Some(below) = state.numbered(dir) else {
                    return preview1::path_open(
                        &mut state.wasi,
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
                    .await;
                };
                let path = or_answer!(read_path(&memory, path, length)?);
                let (wanted, flags) = or_answer!(wanted(follow, how, rights, flags));
                let mut open = async |state: &mut State| {
                    let new = match state.open(&below, &path, wanted)? {
                        Ok(new) => new,
                        Err(error) => return errno(error),
                    };
                    let number = or_answer!(numbers::give(state, dir, new, flags).await?);
                    memory.write(GuestPtr::<u32>::new(out as u32), number)?;
                    Ok(0)
                };
                state.worker().file_call(open(state)).await
            })
        },
    )?;
    Ok(())
}

fn wanted(follow: i32, how: i32, rights: i64, flags: i32) -> Result<(Wanted, Fdflags), Errno> {
    fn bits<T, F: TryFrom<T>>(bits: T) -> Result<F, Errno> {
        F::try_from(bits).map_err(|_| Errno::Inval)
    }
    let follow: Lookupflags = bits(follow as u32)?;
    let how: Oflags = bits(u16::try_from(how).map_err(|_| Errno::Inval)?)?;
    let rights: Rights = bits(rights as u64)?;
    let flags: Fdflags = bits(u16::try_from(flags).map_err(|_| Errno::Inval)?)?;
    let wanted = Wanted {
        follow: follow.contains(Lookupflags::SYMLINK_FOLLOW),
        create: how.contains(Oflags::CREAT),
        exclusive: how.contains(Oflags::EXCL),
        truncate: how.contains(Oflags::TRUNC),
        cut_later: false,
        directory: how.contains(Oflags::DIRECTORY),
        read: rights.contains(Rights::FD_READ),
        write: rights.contains(Rights::FD_WRITE),
    };
    if flags.intersects(Fdflags::SYNC | Fdflags::DSYNC | Fdflags::RSYNC) {
        return Err(Errno::Notsup);
    }
    Ok((wanted, flags))
}

fn link_times(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker.func_wrap_async(
        MODULE,
        "path_filestat_set_times",
        |mut caller: Guest<'_>,
         (dir, follow, path, length, accessed, modified, flags): (i32, i32, i32, i32, i64, i64, i32)| {
            Box::new(async move {
                let export = caller.get_export("memory");
                let (mut memory, state) = enter(&mut caller, &export)?;
                let path_given = or_answer!(read_path(&memory, path, length)?);
                let (worker, below) = (state.worker(), state.numbered(dir));
                let (Some(below), Ok(Lookupflags::SYMLINK_FOLLOW)) = (below, Lookupflags::try_from(follow as u32))
                else {
                    let wasi = &mut state.wasi;
                    let set = preview1::path_filestat_set_times(
                        wasi,
                        &mut memory,
                        dir,
                        follow,
                        path,
                        length,
                        accessed,
                        modified,
                        flags,
                    );
                    return worker.file_call(set).await;
                };
                let dir = state.dir(&below)?;
                let set = async {
                    let flags = u16::try_from(flags).ok().and_then(|it| Fstflags::try_from(it).ok());
                    let flags = flags.ok_or(SystemErrno::INVAL)?;
                    let accessed = time(flags, Fstflags::ATIM, Fstflags::ATIM_NOW, accessed)?;
                    let modified = time(flags, Fstflags::MTIM, Fstflags::MTIM_NOW, modified)?;
                    let dir = dir?;
                    refuse_if_read_only(dir.perms)?;
                    times::set(&dir.dir, &path_given, accessed, modified)
                };
                worker.file_call(set).await.map_or_else(errno, |()| Ok(0))
            })
        },
    )?;
    Ok(())
}

fn time(flags: Fstflags, set: Fstflags, now: Fstflags, at: i64) -> io::Result<Time> {
    match (flags.contains(set), flags.contains(now)) {
        (true, true) => Err(SystemErrno::INVAL.into()),
        (true, false) => {
            let at = at as u64;
            Ok(Time::At { seconds: (at / 1_000_000_000) as i64, nanoseconds: (at % 1_000_000_000) as u32 })
        }
        (false, true) => Ok(Time::Now),
        (false, false) => Ok(Time::Keep),
    }
}

fn link_readdir(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker.func_wrap_async(
        MODULE,
        "fd_readdir",
        |mut caller: Guest<'_>, (dir, buffer, size, from, out): (i32, i32, i32, i64, i32)| {
            Box::new(async move {
                let export = caller.get_export("memory");
                let (mut memory, state) = enter(&mut caller, &export)?;
                let Some(listed) = state.numbered(dir) else {
                    return preview1::fd_readdir(&mut state.wasi, &mut memory, dir, buffer, size, from, out).await;
                };
                let worker = state.worker();
                let dir = match state.dir(&listed)? {
                    Ok(dir) => dir,
                    Err(_) => return Ok(Errno::Badf as i32),
                };
                let mut space = Space { at: buffer as u32, left: size as u32 };
                let listed = worker.file_call(async { list(&dir.dir, from as u64, &mut memory, &mut space) }).await?;
                if let Err(error) = listed {
                    return errno(error);
                }
                memory.write(GuestPtr::<u32>::new(out as u32), size as u32 - space.left)?;
                Ok(0)
            })
        },
    )?;
    Ok(())
}

/// The free rest of a guest's buffer.
struct Space {
    at: u32,
    left: u32,
}

impl Space {
    /// Writes as much as fits. Returns whether there is space left.
    fn put(&mut self, memory: &mut GuestMemory<'_>, bytes: &[u8]) -> wasmtime::Result<bool> {
        let bytes = &bytes[..bytes.len().min(self.left as usize)];
        let length = bytes.len() as u32;
        memory.copy_from_slice(bytes, GuestPtr::<u8>::new(self.at).as_array(length))?;
        self.left -= length;
        self.at = self.at.wrapping_add(length);
        Ok(self.left > 0)
    }
}

/// Writes entries from the position `from` into the space; the last one can be truncated. Blocks.
fn list(
    directory: &File,
    from: u64,
    memory: &mut GuestMemory<'_>,
    space: &mut Space,
) -> wasmtime::Result<io::Result<()>> {
    let mut trapped = None;
    let mut read = || -> io::Result<()> {
        let mut pages = Pages::open(directory)?;
        let device = pages.device()?;
        pages.seek(from)?;
        pages.read(|entry, _| {
            let mut head = [0; ENTRY];
            head[0..8].copy_from_slice(&entry.next.to_le_bytes());
            head[8..16].copy_from_slice(&number(device, entry.inode).to_le_bytes());
            head[16..20].copy_from_slice(&(entry.name.len() as u32).to_le_bytes());
            head[20] = kind(entry.kind) as u8;
            let put = space.put(memory, &head).and_then(|left| Ok(left && space.put(memory, entry.name.as_bytes())?));
            put.unwrap_or_else(|error| {
                trapped = Some(error);
                false
            })
        })
    };
    let done = read();
    match trapped {
        Some(error) => Err(error),
        None => Ok(done),
    }
}

/// Returns the inode number of a file, as `fd_filestat_get` of the implementation reports it.
fn number(device: u64, inode: u64) -> u64 {
    let mut hasher = DefaultHasher::new();
    (device, inode).hash(&mut hasher);
    hasher.finish()
}

fn kind(kind: FileType) -> Filetype {
    match kind {
        FileType::RegularFile => Filetype::RegularFile,
        FileType::Directory => Filetype::Directory,
        FileType::Symlink => Filetype::SymbolicLink,
        FileType::BlockDevice => Filetype::BlockDevice,
        FileType::CharacterDevice => Filetype::CharacterDevice,
        _ => Filetype::Unknown,
    }
}

impl State {
    /// Returns the directory within the private one that has this number.
    fn numbered_place(&mut self, number: i32) -> Place {
        let directory = self.numbered(number)?;
        self.place(&directory)
    }
}
