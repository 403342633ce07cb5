//! The files of a guest: granted directories, and a private one with a quota.
//!
//! A directory is opened once, when its plugin loads, so later changes of its path have no effect. Each process opens
//! it again by a path that leads to that handle ([`Mounted`]), because WASI's implementation accepts only a path. On
//! Linux the handle keeps the directory valid even if it is renamed or replaced. WASI's implementation keeps guests inside: paths are
//! resolved below the handle, by the kernel if it can (`openat2`).
//!
//! WASI's implementation knows neither the quota of the private directory nor the limits of a process, and it works on
//! files on the calling thread. So `imports` wraps each of its file functions, for each kind of guest. All wrappers
//! first move to the threads for files ([`call`]), and count open files and buffers ([`Opened`], [`pending`]).

mod call;
mod dev;
pub mod listing;
pub mod names;
mod numbers;
pub mod open;
pub mod pending;
pub mod times;

use super::{
    descriptors::{Descriptor as Counted, Descriptors, Share},
    grants::Grants,
    mounted::Mounted,
    platform,
    scratch::{self, Scratch},
};
pub use call::Worker;
pub use dev::{DEV_AT, Devices, Stream, open_device};
use distillery_core::control::Control;
use names::Place;
pub use numbers::Numbers;
use open::Wanted;
use pending::Pending;
use rustix::io::Errno;
use std::{cell::Cell, collections::HashMap, io, path::Path, sync::Arc};
use wasmtime::component::Resource;
use wasmtime_wasi::{
    WasiCtxBuilder,
    filesystem::{self, Descriptor, Dir, FsPerms, OpenMode},
    p1::WasiP1Ctx,
};

/// The guest's path of its private directory.
pub const SCRATCH_AT: &str = "/tmp";
/// The maximum length of a path, as on the host.
const PATH_MAX: usize = 4096;

/// The files of one process.
#[derive(Default)]
pub struct Files {
    pub scratch: Option<Scratch>,
    /// Whether the working directory is the private one.
    pub works_in_scratch: bool,
    /// The process's share of file descriptors; `None` without directories.
    pub share: Option<Arc<Share>>,
    pub pending: Option<Arc<Pending>>,
    /// Data about each descriptor, by its index in the table.
    pub opened: HashMap<u32, Arc<Opened>>,
    /// The table indices of a preview 1 module's descriptors, by their numbers.
    pub numbers: Numbers,
    /// The guest's paths of the preopened directories, in their order.
    pub places: Vec<String>,
    /// Those of the preopened directories.
    _directories: Vec<Counted>,
}

/// An open file or directory of a guest, shared by its descriptor and streams.
#[derive(Debug, Default)]
pub struct Opened {
    /// The private directory that contains it, if any.
    pub scratch: Option<Scratch>,
    /// Its entry in the quota, if it is a file there.
    pub handle: Option<scratch::Handle>,
    /// Whether it is the directory of devices.
    pub is_dev: bool,
    /// The stream that it stands in for.
    pub stream: Option<Stream>,
    _counted: Option<Counted>,
}

/// Returns whether a guest has directories.
pub fn is_furnished(grants: &Grants) -> bool {
    !grants.mounts.is_empty() || grants.scratch.is_some() || !grants.files.is_empty() || grants.dev
}

/// Adds the granted directories to the WASI context of a guest.
pub async fn furnish(
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
pub struct Host {
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
    pub fn has_any(&self) -> bool {
        self.share.is_some()
    }

    /// Counts one more descriptor of the process's share.
    pub fn count(&self) -> io::Result<Counted> {
        self.share.as_ref().and_then(Share::take).ok_or_else(|| Errno::MFILE.into())
    }

    /// Returns the buffers of its streams.
    pub fn pending(&self) -> Arc<Pending> {
        self.pending.clone().unwrap_or_default()
    }

    pub fn note_directories(&mut self, directories: &[(Resource<Descriptor>, String)]) {
        for (descriptor, at) in directories {
            self.note_directory(descriptor.rep(), at);
        }
    }

    pub fn note_directory(&mut self, place: u32, at: &str) {
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

pub fn refuse_if_read_only(perms: FsPerms) -> io::Result<()> {
    if perms.write_not_permitted() { Err(Errno::PERM.into()) } else { Ok(()) }
}

/// Refuses a path that is too long before any use.
pub fn check_path(length: usize) -> io::Result<()> {
    if length > PATH_MAX { Err(Errno::NAMETOOLONG.into()) } else { Ok(()) }
}

/// A newly opened file or directory.
pub struct New {
    pub descriptor: Descriptor,
    pub opened: Opened,
}

impl Files {
    /// Opens a file or a directory below `dir`. Blocks.
    pub fn open(&self, dir: &Dir, place: Place, path: &str, wanted: Wanted) -> io::Result<New> {
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

/// Opens the directory that stands in for any other while a number is assigned to another.
pub fn stand_in() -> io::Result<Dir> {
    Ok(Dir::new(platform::always_there()?, FsPerms::ReadOnly, OpenMode::READ, true))
}
