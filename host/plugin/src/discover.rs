//! Finds plugin directories and the files in them that matter.
//!
//! This module reads no file.

use super::{error::LoadError, manifest, signature};
use distillery_core::call::CallName;
use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs, io,
    path::{Path, PathBuf},
};

/// Wrong names of a manifest, compared without case.
const MISNAMED: [&str; 2] = [manifest::FILE, "plugin.yml"];

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
pub(crate) fn plugin_directory(path: &Path) -> Option<Found> {
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
