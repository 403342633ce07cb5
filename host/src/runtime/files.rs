//! The files of a guest: directories that it was given, and a private one that holds only so much.
//!
//! A directory is opened once, when its plugin is loaded: what happens to its path later leads nowhere else. Each process
//! opens it again through that handle (`/proc/self/fd/N`), which is the same directory for as long as the handle is
//! there, be it renamed or replaced; WASI's implementation takes nothing but a path. It also keeps guests inside: paths
//! are resolved below the handle, by the kernel where that can (`openat2`).
//!
//! WASI's implementation knows neither the quota of the private directory nor the bounds of a process, and works on files
//! wherever it is called. So every function that touches a file is put in front of its own, for each kind of guest
//! ([`preview1`], [`component2`], [`component3`]). All of them go to the threads for files first ([`call`]), and count what
//! is opened and held ([`Opened`], [`pending`]).

mod call;
pub(super) mod component2;
pub(super) mod component3;
mod listing;
mod names;
mod open;
mod pending;
pub(super) mod preview1;
mod stream2;
mod stream3;
mod times;

use super::{
    descriptors::{Descriptor as Counted, Descriptors, Share},
    reach::Reach,
    scratch::{self, Scratch},
    state::State,
};
use crate::control::Control;
pub(super) use call::Worker;
use names::Place;
use open::Wanted;
use pending::Pending;
pub(super) use pending::{PENDING, TooMuchPending};
use rustix::{
    fs::{Mode, OFlags, fstat, open},
    io::Errno,
};
use std::{
    cell::Cell,
    collections::HashMap,
    fs::File,
    io,
    os::fd::{AsRawFd, OwnedFd},
    path::Path,
    sync::Arc,
};
use wasmtime::component::Resource;
use wasmtime_wasi::{
    WasiCtxBuilder,
    filesystem::{self, Descriptor, Dir, FsPerms, OpenMode, WasiFilesystemView as _},
    p1::WasiP1Ctx,
};

/// Where a guest sees its private directory.
pub const SCRATCH_AT: &str = "/tmp";
/// The longest path that a guest may name, as systems have it.
const PATH_MAX: usize = 4096;

/// A directory of the host, opened, and where guests see it.
#[derive(Clone, Debug)]
pub struct Mounted {
    directory: Arc<OwnedFd>,
    /// Device and inode. The handle keeps their numbers from being used anew.
    identity: (u64, u64),
    at: String,
    write: bool,
}

impl Mounted {
    /// Blocks.
    pub fn open(path: &Path, at: String, write: bool) -> io::Result<Self> {
        let directory = open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let stat = fstat(&directory)?;
        Ok(Self { directory: Arc::new(directory), identity: (stat.st_dev, stat.st_ino), at, write })
    }
}

/// Whether both are the same directory, for the same use.
impl PartialEq for Mounted {
    fn eq(&self, other: &Self) -> bool {
        (self.identity, &self.at, self.write) == (other.identity, &other.at, other.write)
    }
}

/// The files of one process.
#[derive(Default)]
pub(super) struct Files {
    scratch: Option<Scratch>,
    /// The descriptors that it may hold; nothing without directories.
    share: Option<Arc<Share>>,
    pending: Option<Arc<Pending>>,
    /// What is known of each descriptor, by its place in the table.
    opened: HashMap<u32, Arc<Opened>>,
    /// The places of a preview 1 module's descriptors, by their numbers.
    numbers: preview1::Numbers,
    /// Those of the directories that it begins with.
    _directories: Vec<Counted>,
}

/// A file or directory that a guest has open. Streams share it with their descriptor.
#[derive(Debug, Default)]
pub(super) struct Opened {
    /// The private directory that it lies in.
    scratch: Option<Scratch>,
    /// How it counts there, if it is a file.
    handle: Option<scratch::Handle>,
    _counted: Option<Counted>,
}

/// Whether a guest has directories.
pub(super) fn is_furnished(reach: &Reach) -> bool {
    !reach.mounts.is_empty() || reach.scratch.is_some()
}

/// Completes the world of a guest with the directories that it may reach.
pub(super) async fn furnish(
    mut wasi: WasiCtxBuilder,
    reach: &Reach,
    descriptors: &Arc<Descriptors>,
    control: &Arc<Control>,
) -> wasmtime::Result<(WasiP1Ctx, Files)> {
    if !is_furnished(reach) {
        return Ok((wasi.build_p1(), Files::default()));
    }
    // Every function that works on files goes to threads that may block first.
    wasi.allow_blocking_current_thread(true);
    let files = Worker::new(control).file_call(async { open_all(&mut wasi, reach, descriptors) }).await?;
    Ok((wasi.build_p1(), files))
}

fn open_all(wasi: &mut WasiCtxBuilder, reach: &Reach, descriptors: &Arc<Descriptors>) -> wasmtime::Result<Files> {
    let share = Share::of(descriptors);
    let count = reach.mounts.len() + usize::from(reach.scratch.is_some());
    let counted = (0..count).map(|_| share.take().ok_or(Errno::MFILE));
    let directories = counted.collect::<Result<_, _>>()?;
    let pending = Some(Arc::default());
    let mut files = Files { _directories: directories, share: Some(share), pending, ..Files::default() };
    if let Some(space) = &reach.scratch {
        let scratch = space.make()?;
        wasi.preopened_dir(scratch.path(), SCRATCH_AT, FsPerms::ReadWrite)?;
        files.scratch = Some(scratch);
    }
    for Mounted { directory, at, write, .. } in &reach.mounts {
        let path = format!("/proc/self/fd/{}", directory.as_raw_fd());
        wasi.preopened_dir(path, at, if *write { FsPerms::ReadWrite } else { FsPerms::ReadOnly })?;
    }
    Ok(files)
}

impl Files {
    /// Whether the guest has any directory.
    fn has_any(&self) -> bool {
        self.share.is_some()
    }

    /// One more descriptor of the process's share.
    fn count(&self) -> io::Result<Counted> {
        self.share.as_ref().and_then(Share::take).ok_or_else(|| Errno::MFILE.into())
    }

    /// What its streams hold.
    fn pending(&self) -> Arc<Pending> {
        self.pending.clone().unwrap_or_default()
    }

    fn note_directories(&mut self, directories: &[(Resource<Descriptor>, String)]) {
        for (descriptor, at) in directories {
            self.note_directory(descriptor.rep(), at);
        }
    }

    fn note_directory(&mut self, place: u32, at: &str) {
        let scratch = self.scratch.clone().filter(|_| at == SCRATCH_AT);
        self.opened.insert(place, Arc::new(Opened { scratch, ..Opened::default() }));
    }
}

impl Opened {
    /// Writes there, or at the end, as far as the quota allows. Blocks.
    pub fn write(&self, file: &filesystem::File, bytes: &[u8], at: Option<u64>) -> io::Result<usize> {
        refuse_if_read_only(file.perms)?;
        match &self.handle {
            Some(handle) => handle.write(&file.file, bytes, at),
            None => scratch::write(&file.file, bytes, at),
        }
    }

    /// Blocks.
    pub fn set_size(&self, file: &filesystem::File, size: u64) -> io::Result<()> {
        refuse_if_read_only(file.perms)?;
        match &self.handle {
            Some(handle) => handle.set_size(&file.file, size),
            None => file.file.set_len(size),
        }
    }
}

fn refuse_if_read_only(perms: FsPerms) -> io::Result<()> {
    if perms.write_not_permitted() { Err(Errno::PERM.into()) } else { Ok(()) }
}

/// Refuses a path before anything is done with it.
fn check_path(length: usize) -> io::Result<()> {
    if length > PATH_MAX { Err(Errno::NAMETOOLONG.into()) } else { Ok(()) }
}

impl State {
    fn opened(&self, descriptor: &Resource<Descriptor>) -> Arc<Opened> {
        self.opened_at(descriptor.rep())
    }

    fn opened_at(&self, place: u32) -> Arc<Opened> {
        self.files.opened.get(&place).cloned().unwrap_or_default()
    }

    fn forget(&mut self, place: u32) {
        self.files.opened.remove(&place);
    }

    fn descriptor(&mut self, descriptor: &Resource<Descriptor>) -> wasmtime::Result<Descriptor> {
        Ok(self.filesystem().table.get(descriptor)?.clone())
    }

    fn file(&mut self, descriptor: &Resource<Descriptor>) -> wasmtime::Result<io::Result<filesystem::File>> {
        Ok(match self.descriptor(descriptor)? {
            Descriptor::File(file) => Ok(file),
            Descriptor::Dir(_) => Err(Errno::BADF.into()),
        })
    }

    fn dir(&mut self, descriptor: &Resource<Descriptor>) -> wasmtime::Result<io::Result<Dir>> {
        Ok(match self.descriptor(descriptor)? {
            Descriptor::Dir(dir) => Ok(dir),
            Descriptor::File(_) => Err(Errno::NOTDIR.into()),
        })
    }

    /// A directory within the private one.
    fn place(&mut self, descriptor: &Resource<Descriptor>) -> Place {
        let scratch = self.opened(descriptor).scratch.clone()?;
        match self.descriptor(descriptor) {
            Ok(Descriptor::Dir(dir)) => Some((scratch, dir.dir)),
            _ => None,
        }
    }

    /// Opens a file or a directory below `dir`. Blocks.
    fn open(&mut self, dir: &Resource<Descriptor>, path: &str, wanted: Wanted) -> wasmtime::Result<io::Result<New>> {
        let place = self.place(dir);
        let dir = self.dir(dir)?;
        Ok(dir.and_then(|dir| self.files.open(&dir, place, path, wanted)))
    }
}

/// What was just opened.
struct New {
    descriptor: Descriptor,
    opened: Opened,
}

impl Files {
    fn open(&self, dir: &Dir, place: Place, path: &str, wanted: Wanted) -> io::Result<New> {
        check_path(path.len())?;
        if wanted.changes() {
            refuse_if_read_only(dir.perms)?;
        }
        let counted = self.count()?;
        let scratch = place.map(|(scratch, _)| scratch);
        let made = Cell::new(false);
        let make = || match &scratch {
            Some(scratch) if !made.replace(true) => scratch.add_entry(0).inspect_err(|_| made.set(false)),
            _ => Ok(()),
        };
        // What is cut off when a file is opened shall be given back.
        let asked = Wanted { cut_later: scratch.is_some(), ..wanted };
        let found = asked.open(&dir.dir, path, make).inspect_err(|_| {
            if let (true, Some(scratch)) = (made.get(), &scratch) {
                scratch.take_back_entry(0);
            }
        })?;
        let open_mode = wanted.mode();
        if found.is_directory {
            let descriptor = Descriptor::Dir(Dir::new(found.file, dir.perms, open_mode, true));
            return Ok(New { descriptor, opened: Opened { scratch, handle: None, _counted: Some(counted) } });
        }
        let handle = scratch.as_ref().map(|scratch| scratch.opened(&found.file, made.get())).transpose()?;
        if let (true, Some(handle)) = (wanted.truncate, &handle) {
            handle.set_size(&found.file, 0)?;
        }
        let descriptor = Descriptor::File(filesystem::File::new(found.file, dir.perms, open_mode, true));
        Ok(New { descriptor, opened: Opened { scratch, handle, _counted: Some(counted) } })
    }
}

impl Wanted {
    /// As WASI's implementation notes it.
    fn mode(&self) -> OpenMode {
        let mut mode = OpenMode::empty();
        mode.set(OpenMode::WRITE, self.create || self.truncate || self.write);
        mode.set(OpenMode::READ, self.read || !self.write);
        mode
    }
}

/// The directory that stands for any other while a number is made; see [`preview1`].
fn own_process() -> io::Result<Dir> {
    let directory = open("/proc/self", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    Ok(Dir::new(File::from(directory), FsPerms::ReadOnly, OpenMode::READ, true))
}
