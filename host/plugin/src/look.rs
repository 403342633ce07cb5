//! A cheap view of plugin directories, without reading modules: which exist, and whether a file in them was replaced,
//! resized or modified since the last look.
//!
//! This module compiles nothing, and decides nothing.

use super::{
    discover::{self, Found},
    error::LoadError,
    files::{DEPTH, is_temporary},
    manifest::{self, Files, Manifest, Wanted},
    source,
};
use distillery_core::call::CallName;
use sha2::{Digest, Sha256};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, Metadata},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// The state of one directory, as far as its plugin depends on it. Equal looks mean equal files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    pub directory: PathBuf,
    identity: Identity,
    /// The manifest and the modules, by their relative paths. Symbolic links are followed.
    files: BTreeMap<PathBuf, Stat>,
    /// The files that the plugin brings along.
    tree: Option<Tree>,
    named: Named,
}

/// The places that the manifest names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Named {
    /// The module, if it lies in a subdirectory.
    component: Option<PathBuf>,
    files: Files,
}

/// The state of files in any number. Equal trees mean equal files.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Tree {
    /// The hash of the states of all files and links.
    files: [u8; 32],
    /// The relative paths of all directories.
    directories: BTreeSet<PathBuf>,
}

/// The maximum number of watched directories of one plugin; any further ones are polled.
const WATCHED: usize = 1000;
/// The maximum number of files that are seen. No plugin with more loads.
const SEEN: usize = 1_000_000;

/// The identity of a file or directory, independent of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    device: u64,
    inode: u64,
}

/// Everything that changes when a file is replaced or written to. The inode change time reveals writers that reset the
/// modification time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    identity: Identity,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Identity {
    pub fn of(path: &Path) -> io::Result<Self> {
        fs::metadata(path).map(|metadata| Self::from(&metadata))
    }
}

impl From<&Metadata> for Identity {
    fn from(metadata: &Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino() }
    }
}

impl From<&Metadata> for Stat {
    fn from(metadata: &Metadata) -> Self {
        Self {
            identity: metadata.into(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

impl Look {
    /// Looks at `directory`. Reads the manifest only if it differs from the one in `before`.
    pub fn at(directory: &Path, before: Option<&Self>) -> io::Result<Self> {
        let identity = Identity::of(directory)?;
        let mut files = BTreeMap::new();
        for entry in fs::read_dir(directory)? {
            let name = PathBuf::from(entry?.file_name());
            if discover::matters(&name) {
                see(directory, name, &mut files);
            }
        }
        let manifest = files.get(Path::new(manifest::FILE));
        let named = match before.filter(|before| before.files.get(Path::new(manifest::FILE)) == manifest) {
            Some(before) => before.named.clone(),
            None => manifest.and_then(|_| named(directory)).unwrap_or_default(),
        };
        if let Some(component) = &named.component {
            see(directory, component.clone(), &mut files);
        }
        let tree = Tree::at(directory, &named.files);
        Ok(Self { directory: directory.to_owned(), identity, files, tree, named })
    }

    /// Returns whether its module lies in a subdirectory, which can come and go between two equal looks.
    pub fn lies_deeper(&self) -> bool {
        self.named.component.is_some()
    }

    /// Returns the real paths of the directories of files, in which every name matters.
    pub fn trees(&self) -> BTreeSet<PathBuf> {
        let directories = self.tree.iter().flat_map(|tree| &tree.directories).take(WATCHED);
        directories.filter_map(|path| fs::canonicalize(self.directory.join(path)).ok()).collect()
    }

    /// Returns the real paths where changes of this plugin happen: its directory, the subdirectory of its module, and
    /// the files, which links can place anywhere.
    pub fn places(&self) -> BTreeSet<PathBuf> {
        let real = |path: &Path| fs::canonicalize(self.directory.join(path)).ok();
        // The module can be missing so far; its directory is where it will appear.
        let deeper = self.named.component.as_ref().and_then(|path| real(path.parent()?));
        let files = self.files.keys().filter_map(|file| real(file));
        real(Path::new("")).into_iter().chain(deeper).chain(files).collect()
    }
}

/// Records the state of the file `name` if it exists.
fn see(directory: &Path, name: PathBuf, files: &mut BTreeMap<PathBuf, Stat>) {
    if let Ok(metadata) = fs::metadata(directory.join(&name)) {
        files.insert(name, Stat::from(&metadata));
    }
}

/// Returns the places that the manifest in `directory` names.
fn named(directory: &Path) -> Option<Named> {
    let text = source::manifest_text(directory).ok()??;
    // The name matters for the calls only, which are unused here.
    let name: CallName = "plugin".parse().ok()?;
    let manifest = Manifest::read(&text, &directory.join(manifest::FILE), &name).ok()?;
    let component = manifest.component.filter(|path| path.components().count() > 1);
    Some(Named { component, files: manifest.files })
}

impl Tree {
    /// Looks at the files of the plugin in `directory`; `None` if it has none.
    fn at(directory: &Path, files: &Files) -> Option<Self> {
        let top = directory.join(&files.directory);
        // A link to a directory is refused when it is read.
        if files.wanted == Wanted::No || !fs::symlink_metadata(&top).is_ok_and(|it| it.is_dir()) {
            return None;
        }
        let (mut hasher, mut directories, mut left) = (Sha256::new(), BTreeSet::new(), SEEN);
        let mut waiting = vec![(files.directory.clone(), 0)];
        while let Some((path, depth)) = waiting.pop() {
            let entries = fs::read_dir(directory.join(&path)).into_iter().flatten().flatten();
            let mut names: Vec<_> = entries.take(left).map(|entry| entry.file_name()).collect();
            names.retain(|name| !is_temporary(name.as_encoded_bytes()));
            names.sort_unstable();
            left -= names.len();
            for name in names {
                let inner = path.join(name);
                // A file that is gone by now is another state.
                let Ok(metadata) = fs::symlink_metadata(directory.join(&inner)) else { continue };
                if metadata.is_dir() && depth <= DEPTH {
                    waiting.push((inner, depth + 1));
                } else {
                    let bytes = inner.as_os_str().as_encoded_bytes();
                    hasher.update((bytes.len() as u64).to_le_bytes());
                    hasher.update(bytes);
                    hasher.update(format!("{:?}", Stat::from(&metadata)));
                }
            }
            directories.insert(path);
        }
        Some(Self { files: hasher.finalize().into(), directories })
    }
}

/// The directory of all plugins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    pub identity: Identity,
    pub plugins: BTreeMap<String, Look>,
}

impl Root {
    /// Looks at all plugins below `root`.
    pub fn at(root: &Path, before: &BTreeMap<String, Look>) -> Result<Self, LoadError> {
        let unreadable = |error| LoadError::Unreadable { path: root.to_owned(), error };
        let found = discover::plugin_directories(root)?;
        let identity = Identity::of(root).map_err(unreadable)?;
        let plugins = found.into_iter().filter_map(|(name, Found { path, .. })| {
            // A directory that is gone by now is skipped.
            let look = Look::at(&path, before.get(&name)).ok()?;
            Some((name, look))
        });
        Ok(Self { identity, plugins: plugins.collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn write(directory: &Path, file: &str, text: &str) {
        let path = directory.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[track_caller]
    fn differs(directory: &Path, change: impl FnOnce()) {
        let before = Look::at(directory, None).unwrap();
        assert_eq!(Look::at(directory, Some(&before)).unwrap(), before);
        change();
        let after = Look::at(directory, Some(&before)).unwrap();
        assert_ne!(after, before);
        assert_eq!(Look::at(directory, None).unwrap(), after);
    }

    #[test]
    fn only_changes_of_manifest_or_module_are_seen() {
        let root = tempfile::tempdir().unwrap();
        let at = root.path();
        write(at, "x.wat", "(module)");
        let before = Look::at(at, None).unwrap();
        write(at, "README.md", "words");
        write(at, ".x.wat.swp", "half");
        write(at, "src/main.rs", "code");
        assert_eq!(Look::at(at, Some(&before)).unwrap(), before);
        differs(at, || write(at, "plugin.yaml", ""));
        differs(at, || write(at, "x.wat", "(module )"));
        differs(at, || write(at, "y.wasm", ""));
        differs(at, || fs::remove_file(at.join("y.wasm")).unwrap());
    }

    #[test]
    fn replaced_file_is_a_change() {
        let root = tempfile::tempdir().unwrap();
        let at = root.path();
        write(at, "x.wat", "(module)");
        differs(at, || {
            write(at, "x.new", "(module)");
            let time = fs::metadata(at.join("x.wat")).unwrap().modified().unwrap();
            fs::File::options().write(true).open(at.join("x.new")).unwrap().set_modified(time).unwrap();
            fs::rename(at.join("x.new"), at.join("x.wat")).unwrap();
        });
    }

    #[test]
    fn look_follows_links() {
        let root = tempfile::tempdir().unwrap();
        let at = root.path().join("plugin");
        write(root.path(), "one/x.wat", "1");
        write(root.path(), "two/x.wat", "2");
        fs::create_dir(&at).unwrap();
        symlink("../one", at.join("..data")).unwrap();
        symlink("..data/x.wat", at.join("x.wat")).unwrap();
        let real = |path: &str| fs::canonicalize(root.path().join(path)).unwrap();
        let places = BTreeSet::from([real("plugin"), real("one/x.wat")]);
        assert_eq!(Look::at(&at, None).unwrap().places(), places);
        differs(&at, || {
            symlink("../two", at.join("..data_tmp")).unwrap();
            fs::rename(at.join("..data_tmp"), at.join("..data")).unwrap();
        });
    }

    #[test]
    fn changed_file_of_a_plugin_is_seen() {
        let root = tempfile::tempdir().unwrap();
        let at = root.path();
        write(at, "x.wat", "(module)");
        differs(at, || write(at, "files/a.py", "1"));
        differs(at, || write(at, "files/deep/b.py", "1"));
        differs(at, || write(at, "files/deep/b.py", "22"));
        differs(at, || symlink("a.py", at.join("files/link")).unwrap());
        differs(at, || fs::rename(at.join("files/deep"), at.join("files/deeper")).unwrap());
        let real = |path: &str| fs::canonicalize(at.join(path)).unwrap();
        let trees = BTreeSet::from([real("files"), real("files/deeper")]);
        assert_eq!(Look::at(at, None).unwrap().trees(), trees);
        let before = Look::at(at, None).unwrap();
        write(at, "files/.a.py.swp", "half");
        assert_eq!(Look::at(at, Some(&before)).unwrap(), before);
        differs(at, || write(at, "plugin.yaml", "files: false"));
        let before = Look::at(at, None).unwrap();
        write(at, "files/a.py", "333");
        assert_eq!(Look::at(at, Some(&before)).unwrap(), before);
        assert!(before.trees().is_empty());
    }

    #[test]
    fn module_in_a_subdirectory_is_seen() {
        let root = tempfile::tempdir().unwrap();
        let at = root.path();
        write(at, "plugin.yaml", "component: out/x.wasm");
        differs(at, || write(at, "out/x.wasm", "1"));
        differs(at, || write(at, "out/x.wasm", "22"));
        let out = fs::canonicalize(at.join("out")).unwrap();
        assert!(Look::at(at, None).unwrap().places().contains(&out));
        differs(at, || write(at, "plugin.yaml", "component: y.wasm"));
        let before = Look::at(at, None).unwrap();
        write(at, "out/x.wasm", "333");
        assert_eq!(Look::at(at, None).unwrap(), before);
    }

    #[test]
    fn root_shows_the_plugin_directories() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), "echo/echo.wat", "");
        write(root.path(), "notes/README.md", "");
        write(root.path(), "..2026/x.wat", "");
        write(root.path(), "not a name/x.wat", "");
        let seen = Root::at(root.path(), &BTreeMap::new()).unwrap();
        assert_eq!(seen.plugins.keys().collect::<Vec<_>>(), ["echo", "not a name"]);
        assert!(Root::at(&root.path().join("gone"), &BTreeMap::new()).is_err());
    }
}
