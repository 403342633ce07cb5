//! The files of a guest: directories that it was given, and a private one that holds only so much.
//!
//! A directory is opened once, when its plugin is loaded: what happens to its path later leads nowhere else. Each process
//! opens it again through that handle (`/proc/self/fd/N`), which is the same directory for as long as the handle is
//! there, be it renamed or replaced; WASI's implementation takes nothing but a path. It also keeps guests inside: paths
//! are resolved below the handle, by the kernel where that can (`openat2`).
//!
//! The private directory has a quota, of which that implementation knows nothing. So the functions that make files grow
//! or new ones are put in front of its own, for each kind of guest ([`preview1`], [`component2`], [`component3`]): they
//! know which descriptors lie in there, and go by [`Scratch`]. Towards other directories it is another file system:
//! nothing is renamed or linked across.

pub(super) mod component2;
pub(super) mod component3;
pub(super) mod preview1;

use super::{reach::Reach, scratch::Scratch};
use rustix::fs::{Mode, OFlags, fstat, open};
use std::{
    collections::HashSet,
    io,
    os::fd::{AsRawFd, OwnedFd},
    path::Path,
    sync::Arc,
};
use tokio::task::spawn_blocking;
use wasmtime::component::Resource;
use wasmtime_wasi::{
    WasiCtxBuilder,
    filesystem::{Descriptor, FsPerms},
    p1::WasiP1Ctx,
};

/// Where a guest sees its private directory.
pub const SCRATCH_AT: &str = "/tmp";
/// The number of a preview 1 module's first directory, behind the three streams: its private one, where it has one.
const FIRST_DIRECTORY: u32 = 3;

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

/// Which descriptors of a process lie in its private directory.
#[derive(Default)]
pub(super) struct Files {
    scratch: Option<Scratch>,
    /// Those of a component, by their place in the table.
    descriptors: HashSet<u32>,
    /// Those of a preview 1 module.
    numbers: HashSet<u32>,
}

/// Completes the world of a guest with the directories that it may reach.
pub(super) async fn furnish(mut wasi: WasiCtxBuilder, reach: &Arc<Reach>) -> wasmtime::Result<(WasiP1Ctx, Files)> {
    if reach.mounts.is_empty() && reach.scratch.is_none() {
        return Ok((wasi.build_p1(), Files::default()));
    }
    let reach = reach.clone();
    spawn_blocking(move || {
        let files = open_all(&mut wasi, &reach)?;
        Ok((wasi.build_p1(), files))
    })
    .await?
}

fn open_all(wasi: &mut WasiCtxBuilder, reach: &Reach) -> wasmtime::Result<Files> {
    let mut files = Files::default();
    if let Some(space) = &reach.scratch {
        let scratch = space.make()?;
        wasi.preopened_dir(scratch.path(), SCRATCH_AT, FsPerms::ReadWrite)?;
        files = Files { scratch: Some(scratch), numbers: [FIRST_DIRECTORY].into(), ..files };
    }
    for Mounted { directory, at, write, .. } in &reach.mounts {
        let path = format!("/proc/self/fd/{}", directory.as_raw_fd());
        wasi.preopened_dir(path, at, if *write { FsPerms::ReadWrite } else { FsPerms::ReadOnly })?;
    }
    Ok(files)
}

impl Files {
    /// The private directory that `descriptor` lies in.
    fn of(&self, descriptor: &Resource<Descriptor>) -> Option<Scratch> {
        self.scratch.clone().filter(|_| self.descriptors.contains(&descriptor.rep()))
    }

    /// Keeps in mind where a new descriptor lies. Its place may have been another's before.
    fn note(&mut self, descriptor: &Resource<Descriptor>, in_scratch: bool) {
        if in_scratch {
            self.descriptors.insert(descriptor.rep());
        } else {
            self.descriptors.remove(&descriptor.rep());
        }
    }

    fn note_directories(&mut self, directories: &[(Resource<Descriptor>, String)]) {
        for (descriptor, at) in directories {
            self.note(descriptor, self.scratch.is_some() && at == SCRATCH_AT);
        }
    }

    fn of_number(&self, number: i32) -> Option<Scratch> {
        self.scratch.clone().filter(|_| self.numbers.contains(&(number as u32)))
    }

    fn note_number(&mut self, number: u32, in_scratch: bool) {
        if in_scratch {
            self.numbers.insert(number);
        } else {
            self.numbers.remove(&number);
        }
    }
}
