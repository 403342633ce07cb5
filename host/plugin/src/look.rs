//! A cheap view of plugin directories, without reading modules: which exist, and whether a file in them was replaced,
//! resized or modified since the last look.
//!
//! This module compiles nothing, and decides nothing.

use super::{
    discover::{self, Found},
    error::LoadError,
    manifest::{self, Files, Manifest},
    source,
    stat::{Identity, InterpreterLook, InterpreterLooks, Stat, Tree, WATCHED},
};
use distillery_core::call::CallName;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
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
    /// The interpreter that the manifest names.
    interpreter: Option<InterpreterLook>,
    named: Named,
}

/// The places that the manifest names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Named {
    /// The module, if it lies in a subdirectory.
    component: Option<PathBuf>,
    files: Files,
    interpreter: Option<CallName>,
}

impl Look {
    /// Looks at `directory`. Reads the manifest only if it differs from the one in `before`.
    pub fn at(directory: &Path, before: Option<&Self>, interpreters: &mut InterpreterLooks<'_>) -> io::Result<Self> {
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
        let interpreter = named.interpreter.as_ref().map(|name| interpreters.at(name));
        Ok(Self { directory: directory.to_owned(), identity, files, tree, interpreter, named })
    }

    /// Returns whether its module lies in a subdirectory, which can come and go between two equal looks.
    pub fn lies_deeper(&self) -> bool {
        self.named.component.is_some()
    }

    /// Returns the real paths of the directories of files, in which every name matters.
    pub fn trees(&self) -> BTreeSet<PathBuf> {
        let directories = self.tree.iter().flat_map(|tree| &tree.directories).take(WATCHED);
        let own = directories.map(|path| self.directory.join(path));
        let interpreter = self.interpreter.iter().flat_map(InterpreterLook::directories);
        own.chain(interpreter).filter_map(|path| fs::canonicalize(path).ok()).collect()
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
    Some(Named { component, files: manifest.files, interpreter: manifest.interpreter })
}

/// The directory of all plugins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    pub identity: Identity,
    pub plugins: BTreeMap<String, Look>,
}

impl Root {
    /// Looks at all plugins below `root`.
    pub fn at(root: &Path, before: &BTreeMap<String, Look>, interpreters: &Path) -> Result<Self, LoadError> {
        let unreadable = |error| LoadError::Unreadable { path: root.to_owned(), error };
        let found = discover::plugin_directories(root)?;
        let identity = Identity::of(root).map_err(unreadable)?;
        let mut looks = InterpreterLooks::of(interpreters);
        let plugins = found.into_iter().filter_map(|(name, Found { path, .. })| {
            // A directory that is gone by now is skipped.
            let look = Look::at(&path, before.get(&name), &mut looks).ok()?;
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

    /// Looks at a plugin whose interpreters lie beside its directory.
    fn look(directory: &Path, before: Option<&Look>) -> io::Result<Look> {
        let interpreters = directory.join("../interpreters");
        Look::at(directory, before, &mut InterpreterLooks::of(&interpreters))
    }

    #[track_caller]
    fn differs(directory: &Path, change: impl FnOnce()) {
        let before = look(directory, None).unwrap();
        assert_eq!(look(directory, Some(&before)).unwrap(), before);
        change();
        let after = look(directory, Some(&before)).unwrap();
        assert_ne!(after, before);
        assert_eq!(look(directory, None).unwrap(), after);
    }

    #[test]
    fn only_changes_of_manifest_or_module_are_seen() {
        let root = tempfile::tempdir().unwrap();
        let at = root.path();
        write(at, "x.wat", "(module)");
        let before = look(at, None).unwrap();
        write(at, "README.md", "words");
        write(at, ".x.wat.swp", "half");
        write(at, "src/main.rs", "code");
        assert_eq!(look(at, Some(&before)).unwrap(), before);
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
        assert_eq!(look(&at, None).unwrap().places(), places);
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
        assert_eq!(look(at, None).unwrap().trees(), trees);
        let before = look(at, None).unwrap();
        write(at, "files/.a.py.swp", "half");
        assert_eq!(look(at, Some(&before)).unwrap(), before);
        differs(at, || write(at, "plugin.yaml", "files: false"));
        let before = look(at, None).unwrap();
        write(at, "files/a.py", "333");
        assert_eq!(look(at, Some(&before)).unwrap(), before);
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
        assert!(look(at, None).unwrap().places().contains(&out));
        differs(at, || write(at, "plugin.yaml", "component: y.wasm"));
        let before = look(at, None).unwrap();
        write(at, "out/x.wasm", "333");
        assert_eq!(look(at, None).unwrap(), before);
    }

    #[test]
    fn changed_interpreter_of_a_plugin_is_seen() {
        let root = tempfile::tempdir().unwrap();
        let at = root.path().join("plugin");
        let interpreter = root.path().join("interpreters/sh");
        write(&at, "plugin.yaml", "{interpreter: sh, script: a.sh}");
        fs::create_dir(root.path().join("interpreters")).unwrap();
        let real = |path: &str| fs::canonicalize(root.path().join(path)).unwrap();
        assert_eq!(look(&at, None).unwrap().trees(), BTreeSet::from([real("interpreters")]));
        differs(&at, || write(&interpreter, "sh.wasm", "1"));
        differs(&at, || write(&interpreter, "sh.wasm", "22"));
        differs(&at, || write(&interpreter, "files/lib.sh", "1"));
        let trees = [real("interpreters"), real("interpreters/sh"), real("interpreters/sh/files")];
        assert_eq!(look(&at, None).unwrap().trees(), BTreeSet::from(trees));
        differs(&at, || write(&at, "plugin.yaml", "{}"));
        let before = look(&at, None).unwrap();
        write(&interpreter, "sh.wasm", "333");
        assert_eq!(look(&at, Some(&before)).unwrap(), before);
    }

    #[test]
    fn root_shows_the_plugin_directories() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), "echo/echo.wat", "");
        write(root.path(), "notes/README.md", "");
        write(root.path(), "..2026/x.wat", "");
        write(root.path(), "not a name/x.wat", "");
        let seen = Root::at(root.path(), &BTreeMap::new(), Path::new("")).unwrap();
        assert_eq!(seen.plugins.keys().collect::<Vec<_>>(), ["echo", "not a name"]);
        assert!(Root::at(&root.path().join("gone"), &BTreeMap::new(), Path::new("")).is_err());
    }
}
