//! The files of a guest: granted directories, and a private one with a quota.
//!
//! A directory is opened once, when its plugin loads, so later changes of its path have no effect. Each process opens
//! it again by a path that leads to that handle ([`Directory`]), because WASI's implementation accepts only a path. On
//! Linux the handle keeps the directory valid even if it is renamed or replaced. WASI's implementation keeps guests inside: paths are
//! resolved below the handle, by the kernel if it can (`openat2`).
//!
//! WASI's implementation knows neither the quota of the private directory nor the limits of a process, and it works on
//! files on the calling thread. So each of its file functions is wrapped, for each kind of guest ([`preview1`],
//! [`component2`], [`component3`]). All wrappers first move to the threads for files ([`call`]), and count open files
//! and buffers ([`Opened`], [`pending`]).

mod call;
pub(super) mod component2;
pub(super) mod component3;
mod dev;
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
    grants::Grants,
    platform::{self, Directory},
    scratch::{self, Scratch},
    state::State,
};
pub(super) use call::Worker;
pub use dev::DEV_AT;
pub(super) use dev::Devices;
use dev::Stream;
use distillery_core::control::Control;
use names::Place;
use open::Wanted;
use pending::Pending;
pub(super) use pending::{PENDING, TooMuchPending};
use rustix::io::Errno;
use std::{cell::Cell, collections::HashMap, io, path::Path, sync::Arc};
use wasmtime::component::Resource;
use wasmtime_wasi::{
    WasiCtxBuilder,
    filesystem::{self, Descriptor, Dir, FsPerms, OpenMode, WasiFilesystemView as _},
    p1::WasiP1Ctx,
};

/// The guest's path of its private directory.
pub const SCRATCH_AT: &str = "/tmp";
/// The maximum length of a path, as on the host.
const PATH_MAX: usize = 4096;

/// An open directory of the host, and its path for guests.
#[derive(Clone, Debug)]
pub struct Mounted {
    directory: Arc<Directory>,
    /// Device and inode.
    identity: (u64, u64),
    at: String,
    write: bool,
}

impl Mounted {
    /// Opens a directory. Blocks.
    pub fn open(path: &Path, at: String, write: bool) -> io::Result<Self> {
        let directory = Directory::open(path)?;
        let identity = directory.identity()?;
        Ok(Self { directory: Arc::new(directory), identity, at, write })
    }
}

/// Compares directories and access rights.
impl PartialEq for Mounted {
    fn eq(&self, other: &Self) -> bool {
        (self.identity, &self.at, self.write) == (other.identity, &other.at, other.write)
    }
}

/// The files of one process.
#[derive(Default)]
pub(super) struct Files {
    scratch: Option<Scratch>,
    /// Whether the working directory is the private one.
    works_in_scratch: bool,
    /// The process's share of file descriptors; `None` without directories.
    share: Option<Arc<Share>>,
    pending: Option<Arc<Pending>>,
    /// Data about each descriptor, by its index in the table.
    opened: HashMap<u32, Arc<Opened>>,
    /// The table indices of a preview 1 module's descriptors, by their numbers.
    numbers: preview1::Numbers,
    /// The guest's paths of the preopened directories, in their order.
    places: Vec<String>,
    /// Those of the preopened directories.
    _directories: Vec<Counted>,
}

/// An open file or directory of a guest, shared by its descriptor and streams.
#[derive(Debug, Default)]
pub(super) struct Opened {
    /// The private directory that contains it, if any.
    scratch: Option<Scratch>,
    /// Its entry in the quota, if it is a file there.
    handle: Option<scratch::Handle>,
    /// Whether it is the directory of devices.
    is_dev: bool,
    /// The stream that it stands in for.
    stream: Option<Stream>,
    _counted: Option<Counted>,
}

/// Returns whether a guest has directories.
pub(super) fn is_furnished(grants: &Grants) -> bool {
    !grants.mounts.is_empty() || grants.scratch.is_some() || grants.files.is_some() || grants.dev
}

/// Adds the granted directories to the WASI context of a guest.
pub(super) async fn furnish(
    mut wasi: WasiCtxBuilder,
    grants: &Grants,
    host: &Host,
    control: &Arc<Control>,
) -> wasmtime::Result<(WasiP1Ctx, Files)> {
    if !is_furnished(grants) {
        return Ok((wasi.build_p1(), Files::default()));
    }
    // Every function that works on files moves to threads that can block.
    wasi.allow_blocking_current_thread(true);
    let files = Worker::new(control).file_call(async { open_all(&mut wasi, grants, host) }).await?;
    Ok((wasi.build_p1(), files))
}

/// The resources of the host that all guests share.
#[derive(Debug)]
pub(super) struct Host {
    pub descriptors: Arc<Descriptors>,
    pub devices: Devices,
}

/// The guest's name of its working directory. Relative paths are found below it.
const WORKING: &str = ".";

fn open_all(wasi: &mut WasiCtxBuilder, grants: &Grants, host: &Host) -> wasmtime::Result<Files> {
    let share = Share::of(&host.descriptors);
    let mut files = Files { share: Some(share.clone()), pending: Some(Arc::default()), ..Files::default() };
    let works_in = |at: &str| grants.directory.as_deref() == Some(at);
    let mut made = None;
    let mut open = |path: &Path, at: &str, perms: FsPerms| -> wasmtime::Result<()> {
        for at in [at].into_iter().chain(works_in(at).then_some(WORKING)) {
            files._directories.push(share.take().ok_or(Errno::MFILE)?);
            files.places.push(at.to_owned());
            wasi.preopened_dir(path, at, perms)?;
        }
        Ok(())
    };
    if let Some(space) = &grants.scratch {
        let scratch = space.make()?;
        open(scratch.path(), SCRATCH_AT, FsPerms::ReadWrite)?;
        made = Some(scratch);
    }
    let dev = if grants.dev { Some(host.devices.open()?) } else { None };
    for Mounted { directory, at, write, .. } in grants.mounts.iter().chain(&grants.files).chain(&dev) {
        open(&directory.path()?, at, if *write { FsPerms::ReadWrite } else { FsPerms::ReadOnly })?;
    }
    if let Some(directory) = &grants.directory {
        wasi.initial_cwd(directory);
    }
    files.works_in_scratch = made.is_some() && works_in(SCRATCH_AT);
    files.scratch = made;
    Ok(files)
}

impl Files {
    /// Returns whether the guest has any directory.
    fn has_any(&self) -> bool {
        self.share.is_some()
    }

    /// Counts one more descriptor of the process's share.
    fn count(&self) -> io::Result<Counted> {
        self.share.as_ref().and_then(Share::take).ok_or_else(|| Errno::MFILE.into())
    }

    /// Returns the buffers of its streams.
    fn pending(&self) -> Arc<Pending> {
        self.pending.clone().unwrap_or_default()
    }

    fn note_directories(&mut self, directories: &[(Resource<Descriptor>, String)]) {
        for (descriptor, at) in directories {
            self.note_directory(descriptor.rep(), at);
        }
    }

    fn note_directory(&mut self, place: u32, at: &str) {
        let is_private = at == SCRATCH_AT || (at == WORKING && self.works_in_scratch);
        let scratch = self.scratch.clone().filter(|_| is_private);
        self.opened.insert(place, Arc::new(Opened { scratch, is_dev: at == DEV_AT, ..Opened::default() }));
    }
}

impl Opened {
    /// Writes at a position, or at the end, as far as the quota allows. Blocks.
    pub fn write(&self, file: &filesystem::File, bytes: &[u8], at: Option<u64>) -> io::Result<usize> {
        refuse_if_read_only(file.perms)?;
        if self.stream.is_some() {
            // A stream has no positions; the guest's library writes it as a stream.
            return Err(Errno::SPIPE.into());
        }
        match &self.handle {
            Some(handle) => handle.write(&file.file, bytes, at),
            None => scratch::write(&file.file, bytes, at),
        }
    }

    /// Changes the size, as far as the quota allows. Blocks.
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

/// Refuses a path that is too long before any use.
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

    /// Drops the descriptor of a component, on the threads for files.
    async fn close_descriptor(&mut self, place: u32) -> wasmtime::Result<()> {
        let closed = self.filesystem().table.delete(Resource::<Descriptor>::new_own(place))?;
        let opened = self.opened_at(place);
        self.forget(place);
        self.worker().file_call(async { drop((closed, opened)) }).await;
        Ok(())
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

    /// Returns the place of a directory within the private one.
    fn place(&mut self, descriptor: &Resource<Descriptor>) -> Place {
        let scratch = self.opened(descriptor).scratch.clone()?;
        match self.descriptor(descriptor) {
            Ok(Descriptor::Dir(dir)) => Some((scratch, dir.dir)),
            _ => None,
        }
    }

    /// Opens a file or a directory below `dir`. Blocks.
    fn open(&mut self, dir: &Resource<Descriptor>, path: &str, wanted: Wanted) -> wasmtime::Result<io::Result<New>> {
        let (place, is_dev) = (self.place(dir), self.opened(dir).is_dev);
        let dir = self.dir(dir)?;
        if is_dev {
            let device = check_path(path.len()).and_then(|()| self.files.count());
            match device.map(|counted| dev::open_device(path, wanted, counted)) {
                Ok(None) => {}
                Ok(Some(opened)) => return Ok(opened),
                Err(error) => return Ok(Err(error)),
            }
        }
        Ok(dir.and_then(|dir| self.files.open(&dir, place, path, wanted)))
    }
}

/// A newly opened file or directory.
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
        // A truncated file returns its bytes to the quota.
        let asked = Wanted { cut_later: scratch.is_some(), ..wanted };
        let found = asked.open(&dir.dir, path, make).inspect_err(|_| {
            if let (true, Some(scratch)) = (made.get(), &scratch) {
                scratch.take_back_entry(0);
            }
        })?;
        let open_mode = wanted.mode();
        if found.is_directory {
            let descriptor = Descriptor::Dir(Dir::new(found.file, dir.perms, open_mode, true));
            return Ok(New { descriptor, opened: Opened { scratch, _counted: Some(counted), ..Opened::default() } });
        }
        let handle = scratch.as_ref().map(|scratch| scratch.opened(&found.file, made.get())).transpose()?;
        if let (true, Some(handle)) = (wanted.truncate, &handle) {
            handle.set_size(&found.file, 0)?;
        }
        let descriptor = Descriptor::File(filesystem::File::new(found.file, dir.perms, open_mode, true));
        Ok(New { descriptor, opened: Opened { scratch, handle, _counted: Some(counted), ..Opened::default() } })
    }
}

impl Wanted {
    /// Returns the mode that WASI's implementation records.
    fn mode(&self) -> OpenMode {
        let mut mode = OpenMode::empty();
        mode.set(OpenMode::WRITE, self.create || self.truncate || self.write);
        mode.set(OpenMode::READ, self.read || !self.write);
        mode
    }
}

/// Opens the directory that stands in for any other while a number is assigned; see [`preview1`].
fn stand_in() -> io::Result<Dir> {
    Ok(Dir::new(platform::always_there()?, FsPerms::ReadOnly, OpenMode::READ, true))
}
