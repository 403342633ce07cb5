//! Finds the directories of plugins and reads one whole: manifest and module together, with a digest of both.
//!
//! It compiles nothing, and runs nothing that it finds.

use super::{
    granted::GrantError,
    manifest::{self, Manifest},
    signature::{self, Untrusted},
};
use crate::{
    call::{CALL_NAME_FORM, CallName},
    limits::TooHigh,
    runtime::CompileError,
    size::Size,
    yaml,
};
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

/// A manifest is a page; more than this is something else under its name. It also bounds the time to read one: the
/// parser needs the square of the depth, two seconds for one of this size that opens a bracket with every word.
const MANIFEST_SIZE: Size = Size::kib(64);
/// A signature is a line of hexadecimal digits.
const SIGNATURE_SIZE: Size = Size::kib(1);
/// A manifest that nothing would read.
const MISNAMED: &str = "plugin.yml";

/// Why a plugin did not load, and what to do about it.
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
    #[error("{}: nothing reads this file: rename it to {}", .0.display(), manifest::FILE)]
    Misnamed(PathBuf),
    #[error("{}: no module: put a .wasm or .wat file there, or name it with component: in {}", .0.display(), manifest::FILE)]
    NoModule(PathBuf),
    #[error("{}: several modules ({modules}): name one with component: in {}", .directory.display(), manifest::FILE)]
    SeveralModules { directory: PathBuf, modules: String },
    #[error("{}: no such module: {}", .path.display(), how_to_make(.build.as_deref()))]
    NotBuilt { path: PathBuf, build: Option<String> },
    #[error("{}: not a regular file: put the module itself there", .0.display())]
    NotAFile(PathBuf),
    #[error("{}: larger than {max}: make it smaller, or raise limits.module in distillery.yaml", .path.display())]
    ModuleTooLarge { path: PathBuf, max: Size },
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
    #[error("{}: {error}", .directory.display())]
    Grant { directory: PathBuf, error: GrantError },
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
    /// What is wrong with it, if anything is.
    pub problem: Option<LoadError>,
}

/// The directories under `root` that hold a plugin, by name. What is wrong with one concerns only that one.
///
/// Hidden directories are none, and neither are those with no manifest and no module.
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

/// The directories in `root` that are not hidden, plugins or not.
pub(super) fn visible_directories(root: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(root).into_iter().flatten().flatten();
    let visible = entries.filter(|entry| !entry.file_name().as_encoded_bytes().starts_with(b"."));
    visible.map(|entry| entry.path()).filter(|path| path.is_dir())
}

/// The plugin in the directory `path`, if there is one.
pub fn plugin_directory(path: &Path) -> Option<Found> {
    let name = path.file_name()?;
    // Symbolic links are followed: releases are swapped in by changing one.
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

/// Whether the plugin of a directory may be another when the file of this name in it is: a manifest, its signature, or a
/// module.
pub(super) fn matters(name: &Path) -> bool {
    let hidden = name.as_os_str().as_encoded_bytes().starts_with(b".");
    let about = [manifest::FILE, MISNAMED, signature::FILE].map(Path::new).contains(&name);
    !hidden && (about || manifest::is_module(name))
}

fn holds_plugin(directory: &Path) -> Result<bool, LoadError> {
    Ok(directory.join(manifest::FILE).exists() || !modules(directory)?.is_empty())
}

/// The visible modules that lie in `directory` itself, sorted.
fn modules(directory: &Path) -> Result<Vec<PathBuf>, LoadError> {
    let unreadable = |error| LoadError::Unreadable { path: directory.to_owned(), error };
    let mut modules = Vec::new();
    for entry in fs::read_dir(directory).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        if !hidden && manifest::is_module(&entry.path()) && entry.path().is_file() {
            modules.push(entry.path());
        }
    }
    modules.sort();
    Ok(modules)
}

/// A plugin as it lay in its directory at one moment.
#[derive(Debug)]
pub struct Source {
    pub name: CallName,
    pub directory: PathBuf,
    pub manifest: Manifest,
    pub manifest_text: String,
    /// Whether there is a file of the manifest at all.
    pub has_manifest: bool,
    pub module_path: PathBuf,
    pub module_bytes: Vec<u8>,
    /// SHA-256 of manifest and module, in hexadecimal: the same digest is the same plugin.
    pub digest: String,
    /// What stands in the file of its signature.
    pub signature: Option<Vec<u8>>,
}

impl Source {
    /// Reads what `path` names: the directory of a plugin, or a module alone, which is then the whole plugin.
    pub fn at(path: &Path, max_module: Size) -> Result<Self, LoadError> {
        // `.` has no name of its own.
        let path = fs::canonicalize(path).map_err(|error| LoadError::Unreadable { path: path.to_owned(), error })?;
        if path.is_dir() { Self::read(&path, max_module) } else { Self::alone(path, max_module) }
    }

    /// Reads a module that is named after its file, without a manifest.
    fn alone(module_path: PathBuf, max_module: Size) -> Result<Self, LoadError> {
        let name: CallName = module_path
            .file_stem()
            .and_then(|name| name.to_str()?.parse().ok())
            .ok_or_else(|| LoadError::BadName(module_path.clone()))?;
        let Some(module_bytes) = read_whole(&module_path, max_module)? else {
            return Err(LoadError::ModuleTooLarge { path: module_path, max: max_module });
        };
        let directory = module_path.parent().unwrap_or(Path::new("/")).to_owned();
        let digest = digest(b"", &module_bytes);
        Ok(Self {
            manifest: Manifest::of(&name),
            manifest_text: String::new(),
            has_manifest: false,
            name,
            directory,
            module_path,
            module_bytes,
            digest,
            signature: None,
        })
    }

    /// Reads the plugin in `directory`, whose module has at most `max_module`.
    pub fn read(directory: &Path, max_module: Size) -> Result<Self, LoadError> {
        let name = plugin_name(directory)?;
        let manifest_text = manifest_text(directory)?;
        let manifest = read_manifest(manifest_text.as_deref(), directory, &name)?;
        let module_path = module_path(directory, &manifest)?;
        let module_bytes = match read_whole(&module_path, max_module) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Err(LoadError::ModuleTooLarge { path: module_path, max: max_module }),
            Err(LoadError::Unreadable { path, error }) if error.kind() == io::ErrorKind::NotFound => {
                return Err(LoadError::NotBuilt { path, build: manifest.build });
            }
            Err(error) => return Err(error),
        };
        let has_manifest = manifest_text.is_some();
        let manifest_text = manifest_text.unwrap_or_default();
        let digest = digest(manifest_text.as_bytes(), &module_bytes);
        let signature = signature_text(directory)?;
        Ok(Self {
            name,
            directory: directory.to_owned(),
            manifest,
            manifest_text,
            has_manifest,
            module_path,
            module_bytes,
            digest,
            signature,
        })
    }

    /// The digest that this plugin would have with another module.
    pub fn digest_with(&self, module: &[u8]) -> String {
        digest(self.manifest_text.as_bytes(), module)
    }
}

/// The name and the manifest of the plugin in `directory`, whether it is built or not.
pub fn manifest(directory: &Path) -> Result<(CallName, Manifest), LoadError> {
    let name = plugin_name(directory)?;
    let manifest = read_manifest(manifest_text(directory)?.as_deref(), directory, &name)?;
    Ok((name, manifest))
}

fn plugin_name(directory: &Path) -> Result<CallName, LoadError> {
    let name = directory.file_name().and_then(|name| name.to_str()?.parse().ok());
    name.ok_or_else(|| LoadError::BadName(directory.to_owned()))
}

fn read_manifest(text: Option<&str>, directory: &Path, name: &CallName) -> Result<Manifest, LoadError> {
    match text {
        Some(text) => Ok(Manifest::read(text, &directory.join(manifest::FILE), name)?),
        None => Ok(Manifest::of(name)),
    }
}

/// The text of the manifest in `directory`, if there is one.
pub(super) fn manifest_text(directory: &Path) -> Result<Option<String>, LoadError> {
    let path = directory.join(manifest::FILE);
    match read_whole(&path, MANIFEST_SIZE) {
        Ok(None) => Err(LoadError::ManifestTooLarge(path)),
        Ok(Some(bytes)) => yaml::encoding::decode(bytes).map(Some).map_err(|error| LoadError::NotText { path, error }),
        Err(LoadError::Unreadable { error, .. }) if error.kind() == io::ErrorKind::NotFound => {
            // Its limits and parameter rules would silently not hold.
            let misnamed = directory.join(MISNAMED);
            if misnamed.exists() { Err(LoadError::Misnamed(misnamed)) } else { Ok(None) }
        }
        Err(error) => Err(error),
    }
}

/// The signature beside the manifest, where there is one. Anything longer than a signature is none.
fn signature_text(directory: &Path) -> Result<Option<Vec<u8>>, LoadError> {
    match read_whole(&directory.join(signature::FILE), SIGNATURE_SIZE) {
        Ok(read) => Ok(Some(read.unwrap_or_default())),
        Err(LoadError::Unreadable { error, .. }) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn module_path(directory: &Path, manifest: &Manifest) -> Result<PathBuf, LoadError> {
    if let Some(component) = &manifest.component {
        return Ok(directory.join(component));
    }
    match modules(directory)?.as_slice() {
        [module] => Ok(module.clone()),
        [] => match &manifest.build {
            Some(build) => Err(LoadError::NotBuilt { path: directory.to_owned(), build: Some(build.clone()) }),
            None => Err(LoadError::NoModule(directory.to_owned())),
        },
        several => Err(LoadError::SeveralModules {
            directory: directory.to_owned(),
            modules: several
                .iter()
                .filter_map(|path| Some(path.file_name()?.to_string_lossy()))
                .collect::<Vec<_>>()
                .join(", "),
        }),
    }
}

/// Reads a regular file; anything else, such as a pipe, could keep the reader waiting forever. Nothing when it has more
/// than `max`.
fn read_whole(path: &Path, max: Size) -> Result<Option<Vec<u8>>, LoadError> {
    let unreadable = |error| LoadError::Unreadable { path: path.to_owned(), error };
    if !fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(LoadError::NotAFile(path.to_owned()));
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(max.get().saturating_add(1)).read_to_end(&mut bytes).map_err(unreadable)?;
    Ok((bytes.len() <= max.as_usize()).then_some(bytes))
}

fn digest(manifest: &[u8], module: &[u8]) -> String {
    // The length keeps a byte that moves from one file to the other from giving the same digest.
    let length = (manifest.len() as u64).to_le_bytes();
    let digest = Sha256::new().chain_update(length).chain_update(manifest).chain_update(module).finalize();
    digest.iter().fold(String::with_capacity(64), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    const MAX: Size = Size::mib(1);

    /// A directory of plugins: each file is made with the directories above it.
    fn root(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (file, text) in files {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    fn refused(root: &tempfile::TempDir, name: &str) -> String {
        let error = Source::read(&root.path().join(name), MAX).unwrap_err().to_string();
        error.replace(&format!("{}/", root.path().display()), "")
    }

    #[test]
    fn only_visible_directories_with_a_manifest_or_a_module_are_plugins() {
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
    fn a_missing_root_says_which_setting_names_it() {
        let error = plugin_directories(Path::new("/nowhere/plugins")).unwrap_err().to_string();
        assert_eq!(error, "/nowhere/plugins: no such directory: make it, or set plugins.directory in distillery.yaml");
    }

    #[test]
    fn a_plugin_is_read_whole() {
        let root = root(&[("echo/echo.wat", "(module)"), ("two/a.wat", "a"), ("two/b.wat", "b")]);
        fs::write(root.path().join("two/plugin.yaml"), "component: b.wat").unwrap();
        let echo = Source::read(&root.path().join("echo"), MAX).unwrap();
        assert_eq!((echo.name.as_str(), echo.module_bytes.as_slice()), ("echo", b"(module)".as_slice()));
        assert!(echo.manifest.calls.contains_key("echo"));
        assert_eq!(Source::read(&root.path().join("two"), MAX).unwrap().module_bytes, b"b");
    }

    #[test]
    fn the_digest_changes_with_the_manifest_and_with_the_module() {
        let root = root(&[("echo/echo.wat", "a")]);
        let digest = || Source::read(&root.path().join("echo"), MAX).unwrap().digest;
        let first = digest();
        assert!(first.len() == 64 && first == digest());
        fs::write(root.path().join("echo/echo.wat"), "b").unwrap();
        let second = digest();
        fs::write(root.path().join("echo/plugin.yaml"), "# b").unwrap();
        assert!(first != second && second != digest());
    }

    #[test]
    fn what_does_not_load_says_what_to_do() {
        let root = root(&[
            ("empty/plugin.yaml", ""),
            ("unbuilt/plugin.yaml", "build: make it"),
            ("missing/plugin.yaml", "component: x.wasm"),
            ("many/a.wasm", ""),
            ("many/b.wat", ""),
            ("bad/plugin.yaml", "calls: 1"),
            ("yml/plugin.yml", ""),
            ("yml/x.wasm", ""),
            ("folder/plugin.yaml", "component: x.wasm"),
            ("folder/x.wasm/y", ""),
        ]);
        assert_eq!(
            refused(&root, "empty"),
            "empty: no module: put a .wasm or .wat file there, or name it with component: in plugin.yaml"
        );
        assert_eq!(refused(&root, "unbuilt"), "unbuilt: no such module: build it with: make it");
        assert_eq!(
            refused(&root, "missing"),
            "missing/x.wasm: no such module: put it there, or name another with component:"
        );
        assert_eq!(
            refused(&root, "many"),
            "many: several modules (a.wasm, b.wat): name one with component: in plugin.yaml"
        );
        assert!(refused(&root, "bad").starts_with("bad/plugin.yaml:1:1: calls: "), "{}", refused(&root, "bad"));
        assert_eq!(refused(&root, "yml"), "yml/plugin.yml: nothing reads this file: rename it to plugin.yaml");
        assert_eq!(refused(&root, "folder"), "folder/x.wasm: not a regular file: put the module itself there");
    }

    #[test]
    fn a_module_beyond_its_limit_is_not_read() {
        let root = root(&[("big/big.wat", "12345")]);
        let directory = root.path().join("big");
        assert!(Source::read(&directory, Size::bytes(5)).is_ok());
        let error = Source::read(&directory, Size::bytes(4)).unwrap_err().to_string();
        assert!(
            error.ends_with("big.wat: larger than 4B: make it smaller, or raise limits.module in distillery.yaml"),
            "{error}"
        );
    }
}
