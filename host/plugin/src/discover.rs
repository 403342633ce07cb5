//! Finds plugin directories and the files in them that matter. Explains why a plugin does not load.
//!
//! This module reads no file.

use super::{files::FilesError, granted::GrantError, manifest, signature, signature::Untrusted, source::MANIFEST_SIZE};
use distillery_core::{
    call::{CALL_NAME_FORM, CallName},
    limits::TooHigh,
    size::Size,
    yaml,
};
use distillery_runtime::CompileError;
use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs, io,
    path::{Path, PathBuf},
};

/// Wrong names of a manifest, compared without case.
const MISNAMED: [&str; 2] = [manifest::FILE, "plugin.yml"];

/// The reason why a plugin did not load, with a remedy.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("{}: {error}", .path.display())]
    Unreadable { path: PathBuf, error: io::Error },
    #[error("{}: no such directory: make it, or set plugins.directory in distillery.yaml", .0.display())]
    NoRoot(PathBuf),
    #[error("{}: not a name for a plugin: rename it to {CALL_NAME_FORM}", .0.display())]
    BadName(PathBuf),
    #[error(transparent)]
    Manifest(#[from] yaml::Error),
    #[error("{}:{}: {error}", .path.display(), .error.line())]
    NotText { path: PathBuf, error: yaml::encoding::NotText },
    #[error("{}: nothing reads a file of this name: rename it to {}, or remove it", .0.display(), manifest::FILE)]
    Misnamed(PathBuf),
    #[error("{}: a link to a file that does not exist: put that file back, or remove the link", .0.display())]
    DanglingManifest(PathBuf),
    #[error(
        "{}: the plugin had a manifest, and it is gone: put it back, or write one that needs no other rules: {{calls: {{NAME: {{}}}}}}",
        .0.join(manifest::FILE).display()
    )]
    ManifestGone(PathBuf),
    #[error("{}: {why}: the server cannot tell whether the plugin had a manifest or was rolled back: remove this file, and check the plugin", .path.display())]
    Record { path: PathBuf, why: String },
    #[error("it was rolled back to the version {}, of which no whole copy is left ({why}): change the directory, or put its files in place", short(.digest))]
    NoCopy { digest: String, why: String },
    #[error("{}: no module: put a .wasm or .wat file there, or name it with component: in {}", .0.display(), manifest::FILE)]
    NoModule(PathBuf),
    #[error("{}: several modules ({modules}): name one with component: in {}", .directory.display(), manifest::FILE)]
    SeveralModules { directory: PathBuf, modules: String },
    #[error("{}: no such module: {}", .path.display(), how_to_make(.build.as_deref()))]
    NotBuilt { path: PathBuf, build: Option<String> },
    #[error("{}: not a regular file: put the file itself there", .0.display())]
    NotAFile(PathBuf),
    #[error("{}: larger than {max}: make it smaller, or raise limits.module in distillery.yaml", .path.display())]
    ModuleTooLarge { path: PathBuf, max: Size },
    #[error("{}: {error}", .path.display())]
    Files { path: PathBuf, error: FilesError },
    #[error("{}: its files cannot be kept: {error}: set data in distillery.yaml to a directory that can be written", .path.display())]
    FilesNotKept { path: PathBuf, error: FilesError },
    #[error("{}: {why}", .path.display())]
    Places { path: PathBuf, why: String },
    #[error("{}: larger than {MANIFEST_SIZE}: this is no manifest", .0.display())]
    ManifestTooLarge(PathBuf),
    #[error("{}: {error}", .directory.display())]
    Limit { directory: PathBuf, error: TooHigh },
    #[error("{}: cancel.grace asks for {asked}, more than the {allowed} of cancel.grace_max: lower it, or raise that in distillery.yaml", .directory.display())]
    Grace { directory: PathBuf, asked: String, allowed: String },
    #[error("{}: {error}", .path.display())]
    Module { path: PathBuf, error: CompileError },
    #[error("{}: {error}", .directory.display())]
    Signature { directory: PathBuf, error: Untrusted },
    #[error("{}: {why} in {}", .directory.display(), manifest::FILE)]
    CommandCall { directory: PathBuf, why: String },
    #[error("{}: {error}", .directory.display())]
    Grant { directory: PathBuf, error: GrantError },
}

/// Shortens a digest for comparison by eye.
fn short(digest: &str) -> &str {
    &digest[..digest.len().min(12)]
}

fn how_to_make(build: Option<&str>) -> String {
    match build {
        Some(command) => format!("build it with: {command}"),
        None => "put it there, or name another with component:".to_owned(),
    }
}

/// A directory below the root that holds a plugin, or is meant to.
#[derive(Debug)]
pub struct Found {
    pub path: PathBuf,
    /// The problem with the directory, if any.
    pub problem: Option<LoadError>,
}

/// Returns the directories under `root` that hold a plugin, by name. A problem concerns only its own directory.
///
/// Skips hidden directories and those with neither a manifest nor a module.
pub fn plugin_directories(root: &Path) -> Result<BTreeMap<String, Found>, LoadError> {
    let entries = fs::read_dir(root).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => LoadError::NoRoot(root.to_owned()),
        _ => LoadError::Unreadable { path: root.to_owned(), error },
    })?;
    let mut found = BTreeMap::new();
    for entry in entries {
        let entry = entry.map_err(|error| LoadError::Unreadable { path: root.to_owned(), error })?;
        if let Some(directory) = plugin_directory(&entry.path()) {
            found.insert(entry.file_name().to_string_lossy().into_owned(), directory);
        }
    }
    Ok(found)
}

/// Returns the visible directories in `root` with `wanted` names, plugins or not.
pub(super) fn visible_directories(root: &Path, wanted: impl Fn(&str) -> bool) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(root).into_iter().flatten().flatten();
    let visible = entries.filter(move |entry| {
        let name = entry.file_name();
        !name.as_encoded_bytes().starts_with(b".") && wanted(&name.to_string_lossy())
    });
    visible.map(|entry| entry.path()).filter(|path| path.is_dir())
}

/// Returns the plugin in the directory `path`, if there is one.
pub fn plugin_directory(path: &Path) -> Option<Found> {
    let name = path.file_name()?;
    // Symbolic links are followed: deployments switch releases by changing a link.
    if name.as_encoded_bytes().starts_with(b".") || !path.is_dir() {
        return None;
    }
    let path = path.to_owned();
    let problem = match holds_plugin(&path) {
        Ok(false) => return None,
        Ok(true) => match name.to_str().map(str::parse::<CallName>) {
            Some(Ok(_)) => None,
            _ => Some(LoadError::BadName(path.clone())),
        },
        Err(error) => Some(error),
    };
    Some(Found { path, problem })
}

/// Returns whether a file of this name can affect the plugin: a manifest, even a misnamed one, a signature or a module.
pub(super) fn matters(name: &Path) -> bool {
    let hidden = name.as_os_str().as_encoded_bytes().starts_with(b".");
    !hidden && (looks_like_manifest(name.as_os_str()) || name == signature::FILE || manifest::is_module(name))
}

fn looks_like_manifest(name: &OsStr) -> bool {
    MISNAMED.iter().any(|it| name.eq_ignore_ascii_case(it))
}

fn holds_plugin(directory: &Path) -> Result<bool, LoadError> {
    let Listing { manifest, misnamed, modules } = Listing::of(directory)?;
    Ok(manifest || misnamed.is_some() || !modules.is_empty())
}

/// The files directly in a plugin's directory. Only names are examined: an unreadable manifest still counts as one.
#[derive(Debug, Default)]
pub(super) struct Listing {
    pub manifest: bool,
    /// A manifest with a wrong name, such as `Plugin.yaml`.
    pub misnamed: Option<PathBuf>,
    /// Sorted by name.
    pub modules: Vec<PathBuf>,
}

impl Listing {
    pub fn of(directory: &Path) -> Result<Self, LoadError> {
        let unreadable = |error| LoadError::Unreadable { path: directory.to_owned(), error };
        let mut listing = Self::default();
        for entry in fs::read_dir(directory).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let (name, path) = (entry.file_name(), entry.path());
            if name == manifest::FILE {
                listing.manifest = true;
            } else if looks_like_manifest(&name) {
                listing.misnamed = Some(path);
            } else if !name.as_encoded_bytes().starts_with(b".") && manifest::is_module(&path) && path.is_file() {
                listing.modules.push(path);
            }
        }
        listing.modules.sort();
        Ok(listing)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// Creates a directory of plugins with these files and their parent directories.
    pub fn root(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (file, text) in files {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn plugins_are_visible_and_have_a_manifest_or_a_module() {
        let root = root(&[
            ("echo/echo.wat", ""),
            ("said/plugin.yaml", ""),
            ("notes/README.md", ""),
            (".git/x.wasm", ""),
            ("hidden/.x.wasm", ""),
            ("file.wasm", ""),
            ("not a name/x.wasm", ""),
            ("store/x.wasm", ""),
        ]);
        symlink(root.path().join("echo"), root.path().join("linked")).unwrap();
        symlink(root.path().join("gone"), root.path().join("broken")).unwrap();
        let found = plugin_directories(root.path()).unwrap();
        assert_eq!(found.keys().collect::<Vec<_>>(), ["echo", "linked", "not a name", "said", "store"]);
        let bad: Vec<_> = found.iter().filter(|(_, found)| found.problem.is_some()).map(|(name, _)| name).collect();
        assert_eq!(bad, ["not a name"]);
    }

    #[test]
    fn missing_root_error_names_its_setting() {
        let error = plugin_directories(Path::new("/nowhere/plugins")).unwrap_err().to_string();
        assert_eq!(error, "/nowhere/plugins: no such directory: make it, or set plugins.directory in distillery.yaml");
    }
}
