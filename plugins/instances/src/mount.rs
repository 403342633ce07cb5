//! The directory of all instances.
//!
//! ```text
//! coins                     an instance: a link to a directory in .versions
//! snapshots/                archives, and their checksums
//! .versions/                content of instances: SLUG.TIME.PROCESS, with the time and process that created it
//! .garbage/                 directories that are being deleted
//! .locks/                   see `lock`
//! ```
//!
//! An instance exists if its link exists. Creating, replacing or removing a link is one step of the file system:
//! whenever a process ends, an instance is complete or does not exist. A directory without a link is deleted by the
//! process that created it, by the cleanup after that process, or, if the server itself was killed, by a later call.

use crate::{
    Host,
    full::named,
    moment::Moment,
    slug::{Slug, shown},
    template::Templates,
};
use anyhow::{Context, Result, bail};
use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
};

pub const SNAPSHOTS: &str = "snapshots";
const VERSIONS: &str = ".versions";
const GARBAGE: &str = ".garbage";
pub(crate) const LOCKS: &str = ".locks";

/// Age in milliseconds from which an unlinked directory has no process any more: `limits.time` in plugin.yaml is
/// shorter, with the time for its cleanup.
pub const LONGEST_LIFE: u64 = 2 * 60 * 60 * 1000;

#[derive(Clone, Debug)]
pub struct Mount {
    root: PathBuf,
    templates: Templates,
}

/// A directory with the content of an instance, linked or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    name: String,
}

/// A unique name for a file or directory that a process creates where all can see it: `SLUG.TIME.PROCESS`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Made<'a> {
    pub what: &'a str,
    pub at: Moment,
    pub by: &'a str,
}

impl<'a> Made<'a> {
    pub fn name(what: &str, host: &impl Host) -> String {
        format!("{what}.{}.{}", host.now().0, host.process())
    }

    pub fn read(name: &'a str) -> Option<Self> {
        let (what, rest) = name.split_once('.')?;
        let (at, by) = rest.split_once('.')?;
        Some(Self { what, at: Moment(at.parse().ok()?), by })
    }
}

impl Mount {
    /// Opens the mount at `root`, and creates its directories.
    pub fn open(root: impl Into<PathBuf>, templates: Templates) -> Result<Self> {
        let mount = Self { root: root.into(), templates };
        for name in [SNAPSHOTS, VERSIONS, GARBAGE, LOCKS] {
            fs::create_dir_all(mount.root.join(name)).with_context(|| format!("cannot make {name}"))?;
        }
        Ok(mount)
    }

    /// Returns the mount at `root` for a call that only reads.
    pub fn read_only(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), templates: Templates::open("") }
    }

    pub fn templates(&self) -> &Templates {
        &self.templates
    }

    pub fn snapshots(&self) -> PathBuf {
        self.root.join(SNAPSHOTS)
    }

    pub(crate) fn locks(&self) -> PathBuf {
        self.root.join(LOCKS)
    }

    pub fn directory(&self, version: &Version) -> PathBuf {
        self.root.join(VERSIONS).join(&version.name)
    }

    /// Returns the slugs of all instances, including broken ones.
    pub fn instances(&self) -> Result<Vec<Slug>> {
        let mut slugs: Vec<Slug> = names(&self.root)?.iter().filter_map(|name| name.parse().ok()).collect();
        slugs.sort();
        Ok(slugs)
    }

    /// Returns the current version of the instance `slug`, if it exists.
    pub fn current(&self, slug: &Slug) -> Result<Option<Version>> {
        let link = self.root.join(slug.as_str());
        match fs::symlink_metadata(&link) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("cannot look for {slug}")),
            Ok(it) if !it.is_symlink() => bail!("{slug} is broken: it is not a link into {VERSIONS}"),
            Ok(_) => {}
        }
        let target = fs::read_link(&link).with_context(|| format!("cannot look for {slug}"))?;
        let name = target.strip_prefix(VERSIONS).ok().and_then(Path::to_str);
        match name.filter(|name| Made::read(name).is_some_and(|it| it.what == slug.as_str()) && !name.contains('/')) {
            Some(name) => Ok(Some(Version { name: name.to_owned() })),
            None => bail!("{slug} is broken: it is a link to {}", shown(&target.to_string_lossy())),
        }
    }

    /// Returns the current version of the instance `slug`, or an error if it does not exist.
    pub fn existing(&self, slug: &Slug) -> Result<Version> {
        self.current(slug)?.with_context(|| format!("there is no instance {slug}"))
    }

    /// Creates an empty directory without a link.
    pub fn begin(&self, slug: &Slug, host: &impl Host) -> Result<Version> {
        let version = Version { name: Made::name(slug.as_str(), host) };
        fs::create_dir(self.directory(&version)).with_context(|| format!("cannot make a directory for {slug}"))?;
        Ok(version)
    }

    /// Makes `version` a new instance. Needs its lock.
    pub fn publish(&self, slug: &Slug, version: &Version) -> Result<()> {
        link(&version.target(), &self.root.join(slug.as_str())).with_context(|| format!("cannot publish {slug}"))?;
        self.settle()
    }

    /// Makes `version` the content of the existing instance `slug`. Needs its lock.
    pub fn exchange(&self, slug: &Slug, version: &Version) -> Result<()> {
        // Lies among the versions, so that it is deleted with them if it remains.
        let aside = self.root.join(VERSIONS).join(format!("{}.link", version.name));
        link(&version.target(), &aside).with_context(|| format!("cannot publish {slug}"))?;
        fs::rename(&aside, self.root.join(slug.as_str())).with_context(|| format!("cannot publish {slug}"))?;
        self.settle()
    }

    /// Removes the link of the instance `slug`, but not its content. Needs its lock.
    pub fn withdraw(&self, slug: &Slug) -> Result<()> {
        fs::remove_file(self.root.join(slug.as_str())).with_context(|| format!("cannot remove {slug}"))?;
        self.settle()
    }

    /// Returns all versions, linked or not.
    pub(crate) fn versions(&self) -> Result<Vec<Version>> {
        let names = names(&self.root.join(VERSIONS))?;
        Ok(names.into_iter().filter(|name| !name.ends_with(".link")).map(|name| Version { name }).collect())
    }

    /// Deletes a version without a link.
    pub fn discard(&self, version: &Version) -> Result<()> {
        let garbage = self.root.join(GARBAGE).join(&version.name);
        match fs::rename(self.directory(version), &garbage) {
            // Another process is deleting it already.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error).context("cannot delete what is not needed any more"),
            Ok(()) => {}
        }
        delete(&garbage)
    }

    /// Returns the versions that `process` has created.
    pub fn made_by(&self, process: &str) -> Result<Vec<(Slug, Version)>> {
        let names = names(&self.root.join(VERSIONS))?;
        let own = names.into_iter().filter_map(|name| {
            let made = Made::read(&name).filter(|it| it.by == process)?;
            Some((made.what.parse().ok()?, Version { name }))
        });
        Ok(own.collect())
    }

    /// Deletes directories of processes that were killed together with the server, and of `process`, if given.
    pub fn sweep(&self, now: Moment, process: Option<&str>) -> Result<()> {
        let dead = |name: &str| {
            let made = Made::read(name.trim_start_matches('.'));
            made.is_some_and(|it| {
                it.at.0 + LONGEST_LIFE < now.0 || process.is_some_and(|process| it.by.starts_with(process))
            })
        };
        let versions = self.root.join(VERSIONS);
        for name in names(&versions)?.into_iter().filter(|name| dead(name)) {
            if name.ends_with(".link") {
                remove(&versions.join(&name))?;
                continue;
            }
            let slug: Option<Slug> = Made::read(&name).and_then(|it| it.what.parse().ok());
            let version = Version { name };
            // Only the process that created a version makes a link to it, so that this cannot change any more.
            if !slug.is_some_and(|slug| self.current(&slug).ok().flatten().is_some_and(|it| it == version)) {
                self.discard(&version)?;
            }
        }
        for name in names(&self.root.join(GARBAGE))? {
            delete(&self.root.join(GARBAGE).join(name))?;
        }
        // Locks expire earlier; here they are only deleted.
        for name in names(&self.locks())?.into_iter().filter(|name| dead(name)) {
            remove(&self.locks().join(name))?;
        }
        // Only unfinished snapshots begin with a dot.
        for name in names(&self.snapshots())?.into_iter().filter(|name| name.starts_with('.') && dead(name)) {
            remove(&self.snapshots().join(name))?;
        }
        Ok(())
    }

    /// Makes changes of the directory durable.
    fn settle(&self) -> Result<()> {
        settle(&self.root)
    }
}

impl Version {
    fn target(&self) -> PathBuf {
        Path::new(VERSIONS).join(&self.name)
    }
}

/// Writes a file so that readers find all of the old content or all of the new one, also after a crash.
pub fn write(file: &Path, content: &[u8]) -> Result<()> {
    let name = file.file_name().and_then(OsStr::to_str).context("a file needs a name")?.to_owned();
    let aside = file.with_file_name(format!("{}.new", name.trim_start_matches('.')));
    let written = (|| {
        let mut open = File::create(&aside)?;
        open.write_all(content).map_err(|error| named(error, file.parent().unwrap_or(Path::new("."))))?;
        open.sync_all()?;
        fs::rename(&aside, file)
    })();
    written.with_context(|| format!("cannot write {name}"))
}

/// Makes the names in a directory durable.
pub(crate) fn settle(directory: &Path) -> Result<()> {
    File::open(directory).and_then(|it| it.sync_all()).context("cannot keep a change of the directory")
}

#[expect(deprecated, reason = "the one that is not does not exist for the sandbox")]
pub(crate) fn link(target: &Path, at: &Path) -> std::io::Result<()> {
    fs::soft_link(target, at)
}

/// Returns the names in a directory. Skips those that are not UTF-8, which no call creates.
pub(crate) fn names(directory: &Path) -> Result<Vec<String>> {
    // In the sandbox, listing fails if an entry disappears meanwhile, as locks often do.
    const TRIES: usize = 100;
    let mut tries = 1;
    loop {
        match list(directory) {
            Err(error) if error.kind() == ErrorKind::NotFound && tries < TRIES => tries += 1,
            listed => return listed.context("cannot list the instances"),
        }
    }
}

fn list(directory: &Path) -> std::io::Result<Vec<String>> {
    let names = fs::read_dir(directory)?.map(|entry| Ok(entry?.file_name().into_string().ok()));
    names.filter_map(Result::transpose).collect()
}

/// Removes a file, which can be gone already.
pub(crate) fn remove(file: &Path) -> Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error).context("cannot remove a file"),
        _ => Ok(()),
    }
}

/// Deletes a directory, which another process can be deleting too.
fn delete(directory: &Path) -> Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != ErrorKind::NotFound && directory.exists() => {
            Err(error).context("cannot delete what is not needed any more")
        }
        _ => Ok(()),
    }
}
