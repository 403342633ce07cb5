//! A small `/dev` for guests that ask for it: `null`, `zero`, `urandom`, and the three streams.
//!
//! Its directory on the host has empty files of these names, for listings. Opening one is answered here, so that no
//! other device can be reached through it.

use super::{Counted, New, Opened, open::Wanted, refuse_if_read_only};
use crate::mounted::Mounted;
use parking_lot::Mutex;
use rustix::{
    fs::{Mode, OFlags, open},
    io::Errno,
};
use std::{fs::File, io};
use tempfile::TempDir;
use wasmtime_wasi::filesystem::{self, Descriptor, FsPerms};

/// The guest's path of the directory.
pub const DEV_AT: &str = "/dev";
/// The names in the directory.
const NAMES: [&str; 7] = ["null", "zero", "random", "urandom", "stdin", "stdout", "stderr"];

/// One of the three streams of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    Stdin,
    Stdout,
    Stderr,
}

impl Stream {
    /// Returns the number of the stream in preview 1.
    pub fn number(self) -> i32 {
        self as i32
    }
}

/// The directory on the host, created when the first guest asks for it.
#[derive(Debug, Default)]
pub struct Devices(Mutex<Option<(Mounted, TempDir)>>);

impl Devices {
    /// Opens the directory. Blocks.
    pub fn open(&self) -> io::Result<Mounted> {
        let mut opened = self.0.lock();
        if let Some((mounted, _)) = &*opened {
            return Ok(mounted.clone());
        }
        let directory = TempDir::with_prefix("distillery-dev-")?;
        for name in NAMES {
            File::create(directory.path().join(name))?;
        }
        let mounted = Mounted::open(directory.path(), DEV_AT.to_owned(), false)?;
        *opened = Some((mounted.clone(), directory));
        Ok(mounted)
    }
}

/// Opens a device by its name; `None` if there is none of this name. Blocks.
pub fn open_device(path: &str, wanted: Wanted, counted: Counted) -> Option<io::Result<New>> {
    let stream = match path.trim_start_matches("./") {
        "null" => return Some(device("/dev/null", true, wanted, counted)),
        "zero" => return Some(device("/dev/zero", false, wanted, counted)),
        "random" | "urandom" => return Some(device("/dev/urandom", false, wanted, counted)),
        "stdin" => Stream::Stdin,
        "stdout" => Stream::Stdout,
        "stderr" => Stream::Stderr,
        _ => return None,
    };
    if wanted.write && stream == Stream::Stdin {
        return Some(Err(Errno::PERM.into()));
    }
    // The file stands in for the stream, which belongs to no file of the host.
    Some(device("/dev/null", stream != Stream::Stdin, wanted, counted).map(|mut new| {
        new.opened.stream = Some(stream);
        new
    }))
}

fn device(path: &str, writable: bool, wanted: Wanted, counted: Counted) -> io::Result<New> {
    if wanted.directory {
        return Err(Errno::NOTDIR.into());
    }
    if wanted.create && wanted.exclusive {
        return Err(Errno::EXIST.into());
    }
    let perms = if writable { FsPerms::ReadWrite } else { FsPerms::ReadOnly };
    if wanted.write {
        refuse_if_read_only(perms)?;
    }
    let flags = if writable { OFlags::RDWR } else { OFlags::RDONLY } | OFlags::CLOEXEC | OFlags::NOCTTY;
    let file = File::from(open(path, flags, Mode::empty())?);
    let descriptor = Descriptor::File(filesystem::File::new(file, perms, wanted.mode(), true));
    Ok(New { descriptor, opened: Opened { _counted: Some(counted), ..Opened::default() } })
}
