//! The interpreters that the operator has installed: modules that run the scripts of plugins.
//!
//! Each has a directory with a manifest, a module and, if needed, files. It is read once for all plugins, and again when
//! it changes. This module knows no plugin.

mod scripts;

use super::{
    error::LoadError,
    files::{FileLimits, FilesError, Tree},
    manifest::{self, INTERPRETER_FILE, InterpreterManifest},
    reading::{Bounds, read_whole},
    stat::InterpreterLook,
};
use distillery_core::{call::CallName, limits::Limits, size::Size, yaml};
use distillery_runtime::{CompileError, Program, Runtime};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

/// One version of an interpreter.
#[derive(Debug)]
pub struct Interpreter {
    pub name: CallName,
    pub manifest: InterpreterManifest,
    /// Everything in its directory.
    pub tree: Tree,
    /// The path of the module.
    pub module: PathBuf,
    pub module_size: Size,
    module_digest: [u8; 32],
    /// Held while the module is compiled: plugins with the same interpreter load at once, and compile it once.
    compiling: Mutex<()>,
}

impl Interpreter {
    /// Reads the interpreter in `directory`.
    pub fn read(name: CallName, directory: &Path, bounds: &Bounds) -> Result<Self, LoadError> {
        let limits = FileLimits {
            // The manifest and the module are among the files.
            count: bounds.files.count.saturating_add(2),
            size: Size::bytes(bounds.files.size.get().saturating_add(bounds.module.get())),
        };
        let tree = Tree::read(directory, Path::new(""), limits).map_err(|error| match error {
            FilesError::Unreadable { error, .. } if error.kind() == io::ErrorKind::NotFound => {
                LoadError::NoInterpreter { name: name.to_string(), installed: listed(directory.parent()) }
            }
            error => LoadError::Files { path: directory.to_owned(), error },
        })?;
        Self::of(name, tree, bounds.module)
    }

    /// Makes the interpreter of these files.
    pub fn of(name: CallName, tree: Tree, max_module: Size) -> Result<Self, LoadError> {
        let file = tree.path(INTERPRETER_FILE);
        if tree.file(INTERPRETER_FILE).is_none() {
            return Err(LoadError::NoInterpreterManifest(file));
        }
        let text = read_whole(&file, manifest::MAX_SIZE)?;
        let text = text.ok_or_else(|| LoadError::ManifestTooLarge(file.clone()))?;
        let text = yaml::encoding::decode(text).map_err(|error| LoadError::NotText { path: file.clone(), error })?;
        let manifest = InterpreterManifest::read(&text, &file)?;
        let module = match &manifest.component {
            Some(component) => component.to_string_lossy().into_owned(),
            None => only_module(&tree)?,
        };
        let path = tree.path(&module);
        let Some((module_digest, size)) = tree.file(&module) else {
            return Err(LoadError::NotBuilt { path, build: None });
        };
        if size > max_module.get() {
            return Err(LoadError::ModuleTooLarge { path, max: max_module });
        }
        Ok(Self {
            name,
            manifest,
            tree,
            module: path,
            module_size: Size::bytes(size),
            module_digest,
            compiling: Mutex::default(),
        })
    }

    /// Returns its name and its description.
    pub fn titled(&self) -> String {
        let (name, described) = (&self.name, &self.manifest.description);
        if described.is_empty() { name.to_string() } else { format!("{name} ({described})") }
    }

    /// Returns whether it brings files along for its processes.
    pub fn has_files(&self) -> bool {
        self.tree.has_below(&self.manifest.files.directory)
    }

    /// Returns its program. The module is read and compiled only if no generation of any plugin uses it.
    pub fn program(&self, runtime: &Runtime, limits: &Limits) -> Result<Program, CompileError> {
        let _held = self.compiling.lock();
        let linking = &self.manifest.linking;
        if let Some(program) = runtime.in_use(&self.module_digest, linking) {
            program.fits(limits)?;
            return Ok(program);
        }
        let unreadable = |why: String| CompileError::Engine(format!("cannot be read: {why}"));
        let code = fs::read(&self.module).map_err(|error| unreadable(error.to_string()))?;
        if <[u8; 32]>::from(Sha256::digest(&code)) != self.module_digest {
            return Err(unreadable("it has changed: the next change or reload reads it again".to_owned()));
        }
        runtime.compile(&code, linking, limits)
    }
}

/// Returns the only module at the top of the directory.
fn only_module(tree: &Tree) -> Result<String, LoadError> {
    let modules: Vec<_> = tree.top().filter(|name| manifest::is_module(Path::new(name))).collect();
    match modules.as_slice() {
        [module] => Ok((*module).to_owned()),
        [] => Err(LoadError::NoInterpreterModule(tree.path(""))),
        several => Err(LoadError::SeveralInterpreterModules { directory: tree.path(""), modules: several.join(", ") }),
    }
}

/// All interpreters, each read on demand.
#[derive(Debug, Default)]
pub struct Interpreters {
    root: PathBuf,
    read: Mutex<BTreeMap<String, Arc<Slot>>>,
}

/// The last reading of an interpreter, and the look at its directory.
type Slot = Mutex<Option<(InterpreterLook, Arc<Interpreter>)>>;

impl Interpreters {
    /// Returns the interpreters below `root`.
    pub fn of(root: PathBuf) -> Self {
        Self { root, read: Mutex::default() }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns an interpreter as it is now.
    pub fn get(&self, name: &CallName, bounds: &Bounds) -> Result<Arc<Interpreter>, LoadError> {
        let slot = self.read.lock().entry(name.to_string()).or_default().clone();
        let mut read = slot.lock();
        let look = InterpreterLook::at(&self.root, name);
        if let Some((looked, interpreter)) = &*read
            && *looked == look
            && interpreter.module_size <= bounds.module
        {
            return Ok(interpreter.clone());
        }
        *read = None;
        let directory = self.root.join(name.as_str());
        let interpreter = Arc::new(Interpreter::read(name.clone(), &directory, bounds)?);
        if InterpreterLook::at(&self.root, name) != look {
            return Err(LoadError::Files { path: directory, error: FilesError::ChangedAsWhole });
        }
        *read = Some((look, interpreter.clone()));
        Ok(interpreter)
    }

    /// Returns the names of all directories of interpreters.
    pub fn names(&self) -> Vec<CallName> {
        names(&self.root)
    }
}

fn names(root: &Path) -> Vec<CallName> {
    let entries = fs::read_dir(root).into_iter().flatten().flatten();
    let directories = entries.filter(|entry| entry.path().is_dir());
    let mut names: Vec<_> = directories.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    names.sort_by(|a: &CallName, b| a.as_str().cmp(b.as_str()));
    names
}

/// Names the installed interpreters, for an error.
fn listed(root: Option<&Path>) -> String {
    let names: Vec<_> = root.map(names).unwrap_or_default().iter().map(ToString::to_string).collect();
    if names.is_empty() { "none is".to_owned() } else { format!("{} {}", names.join(", "), is(names.len())) }
}

fn is(count: usize) -> &'static str {
    if count == 1 { "is" } else { "are" }
}

#[cfg(test)]
mod tests;
