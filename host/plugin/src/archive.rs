//! The archive of plugins in the directory `data/plugins`: the state of each plugin that must survive a restart, and a
//! copy of each version that a rollback can need.
//!
//! Each plugin has a directory with a record, and with one directory for each version. The archive decides nothing.

use super::{
    error::LoadError,
    files::store,
    interpreters::Interpreter,
    manifest::{self, Manifest},
    reading, signature,
    source::{self, Bounds, Source},
};
use distillery_core::{call::CallName, size::Size};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder, File},
    io::{self, Write as _},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
};
use uuid::Uuid;

/// The name of the archive in the `data` directory.
pub const DIRECTORY: &str = "plugins";
/// The file name of a plugin's record.
const RECORD: &str = "record.json";
/// A record is a single line.
const RECORD_SIZE: Size = Size::kib(4);
/// The module in the copy of a version.
const MODULE: &str = "module";

/// The prefix of directories to remove; no plugin name begins with it.
const ASIDE: &str = ".gone-";

/// The persistent state of a plugin.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Record {
    /// Whether its directory had a manifest. Without one its calls would accept any parameters.
    pub manifest: bool,
    /// The rollback in effect.
    pub rollback: Option<Rollback>,
}

/// A rollback, in effect as long as the directory is unchanged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rollback {
    /// The fingerprint of the version in the directory; `None` if the directory cannot be read.
    pub from: Option<String>,
    /// The digest of the version that is served instead.
    pub to: String,
}

/// The archive of one server, or a read-only view of it.
#[derive(Debug)]
pub struct Archive {
    root: PathBuf,
    /// False for a read-only view.
    writes: bool,
    records: Mutex<BTreeMap<String, Record>>,
}

impl Archive {
    /// Opens the archive in the directory `data` for the server that uses it.
    pub fn of(data: &Path) -> Self {
        Self { writes: true, ..Self::view(data) }
    }

    /// Opens the archive read-only.
    pub fn view(data: &Path) -> Self {
        Self { root: data.join(DIRECTORY), writes: false, records: Mutex::default() }
    }

    /// Returns the record of the plugin `name`. An unreadable record is an error: it can contain a restriction.
    pub fn record(&self, name: &str) -> Result<Record, LoadError> {
        let mut records = self.records.lock();
        if let Some(record) = records.get(name) {
            return Ok(record.clone());
        }
        let path = self.root.join(name).join(RECORD);
        let record = match reading::read_whole(&path, RECORD_SIZE) {
            Ok(text) => serde_json::from_slice(&text.unwrap_or_default())
                .map_err(|error| LoadError::Record { path, why: error.to_string() })?,
            Err(LoadError::Unreadable { error, .. }) if error.kind() == io::ErrorKind::NotFound => Record::default(),
            Err(LoadError::Unreadable { error, .. }) => return Err(LoadError::Record { path, why: error.to_string() }),
            Err(error) => return Err(error),
        };
        records.insert(name.to_owned(), record.clone());
        Ok(record)
    }

    /// Records that the directory of the plugin `name` has a manifest.
    pub(crate) fn has_manifest(&self, name: &str) -> Result<(), LoadError> {
        let record = self.record(name)?;
        if !record.manifest
            && let Err(error) = self.write(name, Record { manifest: true, ..record })
        {
            tracing::warn!(plugin = name, %error, "cannot record that the plugin has a manifest");
        }
        Ok(())
    }

    /// Records the rollback of the plugin `name`, or its end.
    pub(crate) fn set_rollback(&self, name: &str, rollback: Option<Rollback>) -> io::Result<()> {
        let record = self.record(name).map_err(io::Error::other)?;
        if let Some(Rollback { to, .. }) = &rollback
            && !self.root.join(name).join(to).is_dir()
        {
            return Err(io::Error::other("no copy of that version is kept"));
        }
        if record.rollback == rollback {
            return Ok(());
        }
        self.write(name, Record { rollback, ..record })
    }

    /// Changes the record, in memory even if the file cannot be written.
    fn write(&self, name: &str, record: Record) -> io::Result<()> {
        let text = serde_json::to_vec(&record)?;
        self.records.lock().insert(name.to_owned(), record);
        if !self.writes {
            return Ok(());
        }
        let directory = self.make(name)?;
        let aside = directory.join(format!(".{RECORD}-{}", std::process::id()));
        let mut file = File::create(&aside)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&aside, directory.join(RECORD))
    }

    /// Creates the directory of a plugin, accessible to the server's user only.
    fn make(&self, name: &str) -> io::Result<PathBuf> {
        let directory = self.root.join(name);
        DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
        Ok(directory)
    }

    /// Keeps a copy of `source`, the served version.
    pub fn keep(&self, source: &Source) -> io::Result<()> {
        if !self.writes {
            return Ok(());
        }
        let directory = self.make(source.name.as_str())?;
        let version = directory.join(&source.digest);
        let aside = directory.join(format!(".{}-{}", &source.digest, std::process::id()));
        if version.is_dir() {
            return keep_signature(source, &version);
        }
        // Left behind by a killed server with the same process ID.
        let _ = fs::remove_dir_all(&aside);
        fs::create_dir(&aside)?;
        if source.has_manifest {
            fs::write(aside.join(manifest::FILE), &source.manifest_text)?;
        }
        fs::write(aside.join(MODULE), &source.module_bytes)?;
        if let Some(files) = &source.files {
            // The files themselves are in the store, which keeps what a version names.
            fs::write(aside.join(store::REFERENCE), &files.digest)?;
        }
        if let Some(interpreter) = &source.interpreter {
            fs::write(aside.join(store::INTERPRETER), &interpreter.tree.digest)?;
        }
        keep_signature(source, &aside)?;
        fs::rename(&aside, &version).inspect_err(|_| drop(fs::remove_dir_all(&aside)))
    }

    /// Reads the version `digest` of the plugin in `directory` from its copy.
    pub fn source(&self, directory: &Path, digest: &str, bounds: &Bounds) -> Result<Source, LoadError> {
        let no_copy = |why: String| LoadError::NoCopy { digest: digest.to_owned(), why };
        let name: CallName = directory
            .file_name()
            .and_then(|name| name.to_str()?.parse().ok())
            .ok_or_else(|| LoadError::BadName(directory.to_owned()))?;
        let version = self.root.join(name.as_str()).join(digest);
        let read = |file: &str, max: Size| match reading::read_whole(&version.join(file), max) {
            Ok(read) => Ok(read),
            Err(LoadError::Unreadable { error, .. }) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(no_copy(error.to_string())),
        };
        let module = read(MODULE, bounds.module)?.ok_or_else(|| no_copy("its module is not there".to_owned()))?;
        let text = read(manifest::FILE, manifest::MAX_SIZE)?;
        let text = text.map(String::from_utf8).transpose().map_err(|error| no_copy(error.to_string()))?;
        let mut manifest = match &text {
            Some(text) => Manifest::read(text, &version.join(manifest::FILE), &name)?,
            None => Manifest::of(&name),
        };
        let signature = read(signature::FILE, RECORD_SIZE)?;
        let tree = |reference: &str| {
            let Some(digest) = read(reference, RECORD_SIZE)? else { return Ok(None) };
            let digest = String::from_utf8(digest).map_err(|error| no_copy(error.to_string()))?;
            let tree = store::read(&self.root, &digest).map_err(|error| no_copy(format!("its files: {error}")))?;
            Ok::<_, LoadError>(Some(tree))
        };
        let files = tree(store::REFERENCE)?;
        let interpreter = match manifest.interpreter.clone().zip(tree(store::INTERPRETER)?) {
            Some((name, tree)) => Some(Arc::new(Interpreter::of(name, tree, bounds.module)?)),
            None => None,
        };
        let text = text.map(|text| (true, text));
        let (has_manifest, text) = text.unwrap_or_default();
        let found = source::digest(text.as_bytes(), &module, files.as_ref(), interpreter.as_deref());
        if found != digest {
            return Err(no_copy("it is damaged".to_owned()));
        }
        source::complete(&mut manifest, interpreter.as_deref(), files.as_ref(), directory)?;
        Ok(Source {
            name,
            directory: directory.to_owned(),
            manifest,
            has_manifest,
            digest: found,
            manifest_text: text,
            module_path: interpreter.as_ref().map_or_else(|| version.join(MODULE), |it| it.module.clone()),
            module_bytes: module,
            files,
            interpreter,
            signature,
        })
    }

    /// Removes the copies of the plugin `name` except those in `digests`.
    pub fn prune(&self, name: &str, digests: &[&str]) {
        let entries = fs::read_dir(self.root.join(name)).into_iter().flatten().flatten();
        let copies = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        for copy in copies.filter(|_| self.writes) {
            if !copy.file_name().to_str().is_some_and(|name| digests.contains(&name)) {
                // A leftover copy is harmless.
                let _ = fs::remove_dir_all(copy.path());
            }
        }
    }

    /// Forgets the plugin `name`: its directory is gone, and a later plugin of that name is new. Moves the copies aside
    /// for [`Archive::clear`], because removing files takes time.
    pub fn forget(&self, name: &str) {
        self.records.lock().remove(name);
        let aside = self.root.join(format!("{ASIDE}{}", Uuid::now_v7()));
        if self.writes
            && let Err(error) = fs::rename(self.root.join(name), aside)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(plugin = name, %error, "cannot remove the record of a removed plugin");
        }
    }

    /// Removes copies that were moved aside, on a thread of its own.
    pub fn clear(&self) {
        let root = self.root.clone();
        let cleared = thread::Builder::new().name("archive".into()).spawn(move || {
            for entry in fs::read_dir(root).into_iter().flatten().flatten() {
                if entry.file_name().as_encoded_bytes().starts_with(ASIDE.as_bytes()) {
                    // A leftover copy is harmless.
                    let _ = fs::remove_dir_all(entry.path());
                }
            }
        });
        if let Err(error) = cleared {
            tracing::warn!(%error, "cannot remove the records of removed plugins");
        }
    }

    /// Forgets every plugin that has no directory below `plugins`.
    pub fn sweep(&self, plugins: &Path) {
        let entries = fs::read_dir(&self.root).into_iter().flatten().flatten().map(|entry| entry.file_name());
        let gone = entries.filter(|name| fs::symlink_metadata(plugins.join(name)).is_err());
        let gone: Vec<_> = gone.filter_map(|name| name.into_string().ok()).collect();
        // No plugin's name begins with a dot.
        gone.iter().filter(|name| !name.starts_with('.')).for_each(|name| self.forget(name));
        if self.writes && gone.iter().any(|name| name != store::DIRECTORY) {
            self.clear();
        }
    }
}

/// Keeps the signature of `source`; it can be created later than the copy.
fn keep_signature(source: &Source, version: &Path) -> io::Result<()> {
    let file = version.join(signature::FILE);
    match &source.signature {
        Some(signature) if fs::read(&file).is_ok_and(|kept| kept == *signature) => Ok(()),
        Some(signature) => fs::write(file, signature),
        None => match fs::remove_file(file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        },
    }
}

impl Rollback {
    /// Returns whether the rollback applies to a directory with this content.
    pub(crate) fn holds_for(&self, read: Result<&Source, &LoadError>) -> bool {
        read.ok().map(Source::fingerprint) == self.from
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{files::FileLimits, interpreters::Interpreters};

    const MAX: Bounds = Bounds { module: Size::mib(1), files: FileLimits { count: 100, size: Size::kib(64) } };

    /// Creates a data directory, and a plugin directory with these files.
    fn world(files: &[(&str, &str)]) -> (tempfile::TempDir, PathBuf) {
        let root = tempfile::tempdir().unwrap();
        let plugin = root.path().join("echo");
        fs::create_dir(&plugin).unwrap();
        for (file, text) in files {
            fs::write(plugin.join(file), text).unwrap();
        }
        (root, plugin)
    }

    #[test]
    fn copy_is_the_version_that_was_kept() {
        for files in [&[("echo.wat", "(module)")][..], &[("echo.wat", "(module)"), ("plugin.yaml", "description: x")]] {
            let (root, plugin) = world(files);
            let archive = Archive::of(root.path());
            let source = Source::read(&plugin, &MAX, &Interpreters::default()).unwrap();
            archive.keep(&source).unwrap();
            archive.keep(&source).unwrap();
            fs::remove_dir_all(&plugin).unwrap();
            let copy = Archive::view(root.path()).source(&plugin, &source.digest, &MAX).unwrap();
            assert_eq!(copy.fingerprint(), source.fingerprint());
            assert_eq!((copy.name.as_str(), copy.has_manifest), ("echo", files.len() == 2));
        }
    }

    #[test]
    fn damaged_or_missing_copy_is_an_error() {
        let (root, plugin) = world(&[("echo.wat", "(module)")]);
        let archive = Archive::of(root.path());
        let source = Source::read(&plugin, &MAX, &Interpreters::default()).unwrap();
        archive.keep(&source).unwrap();
        fs::write(root.path().join("plugins/echo").join(&source.digest).join(MODULE), "(module )").unwrap();
        let error = archive.source(&plugin, &source.digest, &MAX).unwrap_err().to_string();
        assert!(error.contains("no whole copy is left (it is damaged)"), "{error}");
        archive.prune("echo", &[]);
        let error = archive.source(&plugin, &source.digest, &MAX).unwrap_err().to_string();
        assert!(error.contains("no whole copy is left (its module is not there)"), "{error}");
    }

    #[test]
    fn record_outlives_the_server() {
        let (root, plugin) = world(&[("echo.wat", "(module)")]);
        let archive = Archive::of(root.path());
        let rollback = |digest: &str| Some(Rollback { from: None, to: digest.to_owned() });
        assert!(archive.set_rollback("echo", rollback("other")).is_err());
        let source = Source::read(&plugin, &MAX, &Interpreters::default()).unwrap();
        archive.keep(&source).unwrap();
        let rollback = rollback(&source.digest);
        archive.has_manifest("echo").unwrap();
        archive.set_rollback("echo", rollback.clone()).unwrap();
        assert_eq!(Archive::view(root.path()).record("echo").unwrap(), Record { manifest: true, rollback });
        Archive::view(root.path()).forget("echo");
        assert!(Archive::view(root.path()).record("echo").unwrap().manifest, "a view writes nothing");
        archive.sweep(&root.path().join("elsewhere"));
        assert_eq!(Archive::view(root.path()).record("echo").unwrap(), Record::default());
    }

    #[test]
    fn unreadable_record_is_an_error() {
        let (root, _) = world(&[]);
        fs::create_dir_all(root.path().join("plugins/echo")).unwrap();
        fs::write(root.path().join("plugins/echo").join(RECORD), "{\"manif").unwrap();
        let error = Archive::of(root.path()).record("echo").unwrap_err().to_string();
        assert!(error.contains("remove this file, and check the plugin"), "{error}");
    }
}
