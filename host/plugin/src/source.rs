//! Reads a complete plugin: manifest, module, files and signature, with a digest of its behaviour.
//!
//! This module compiles nothing and runs nothing.

pub use super::reading::Bounds;
use super::{
    discover::Listing,
    error::LoadError,
    files::{FileLimits, FilesError, Tree, hex},
    interpreters::{Interpreter, Interpreters},
    manifest::{self, Manifest, Wanted},
    reading::read_whole,
    signature::{self, Signed},
};
use distillery_core::{call::CallName, limits::Limits, size::Size, yaml};
use distillery_runtime::{CompileError, Program, Runtime};
use sha2::{Digest, Sha256};
use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

/// A signature is a line of hexadecimal digits.
const SIGNATURE_SIZE: Size = Size::kib(1);

/// The contents of a plugin directory at one moment.
#[derive(Debug)]
pub struct Source {
    pub name: CallName,
    pub directory: PathBuf,
    pub manifest: Manifest,
    pub manifest_text: String,
    /// Whether a manifest file exists.
    pub has_manifest: bool,
    pub module_path: PathBuf,
    pub module_bytes: Vec<u8>,
    /// The files that it brings along. Their content is read when they are kept.
    pub files: Option<Tree>,
    /// The interpreter that runs its scripts.
    pub interpreter: Option<Arc<Interpreter>>,
    /// The SHA-256 of manifest, module, files and interpreter, in hexadecimal: equal digests mean equal plugins.
    pub digest: String,
    /// The contents of the signature file.
    pub signature: Option<Vec<u8>>,
}

impl Source {
    /// Reads the plugin at `path`: its directory, or a single module as a complete plugin.
    pub fn at(path: &Path, bounds: &Bounds, interpreters: &Interpreters) -> Result<Self, LoadError> {
        // `.` has no name of its own.
        let path = fs::canonicalize(path).map_err(|error| LoadError::Unreadable { path: path.to_owned(), error })?;
        if path.is_dir() { Self::read(&path, bounds, interpreters) } else { Self::alone(path, bounds.module) }
    }

    /// Reads a module without a manifest; the file name gives its name.
    fn alone(module_path: PathBuf, max_module: Size) -> Result<Self, LoadError> {
        let name: CallName = module_path
            .file_stem()
            .and_then(|name| name.to_str()?.parse().ok())
            .ok_or_else(|| LoadError::BadName(module_path.clone()))?;
        let Some(module_bytes) = read_whole(&module_path, max_module)? else {
            return Err(LoadError::ModuleTooLarge { path: module_path, max: max_module });
        };
        let directory = module_path.parent().unwrap_or(Path::new("/")).to_owned();
        let digest = digest(b"", &module_bytes, None, None);
        Ok(Self {
            manifest: Manifest::of(&name),
            manifest_text: String::new(),
            has_manifest: false,
            name,
            directory,
            module_path,
            module_bytes,
            files: None,
            interpreter: None,
            digest,
            signature: None,
        })
    }

    /// Reads the plugin in `directory`, as far as it is within `bounds`.
    pub fn read(directory: &Path, bounds: &Bounds, interpreters: &Interpreters) -> Result<Self, LoadError> {
        let name = plugin_name(directory)?;
        let listing = Listing::of(directory)?;
        let manifest_text = text_of_manifest(&listing, directory)?;
        let mut manifest = read_manifest(manifest_text.as_deref(), directory, &name)?;
        let interpreter = manifest.interpreter.as_ref().map(|name| interpreters.get(name, bounds)).transpose()?;
        let module_path = match &interpreter {
            Some(interpreter) => interpreter.module.clone(),
            None => module_path(directory, listing, &manifest)?,
        };
        let read = match (&interpreter, &manifest.command) {
            (None, None) => read_whole(&module_path, bounds.module),
            // The guest is a part of the server, and so not of the version of the plugin. An interpreter is read only to
            // be compiled.
            _ => Ok(Some(Vec::new())),
        };
        let module_bytes = match read {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Err(LoadError::ModuleTooLarge { path: module_path, max: bounds.module }),
            Err(LoadError::Unreadable { path, error }) if error.kind() == io::ErrorKind::NotFound => {
                return Err(LoadError::NotBuilt { path, build: manifest.build });
            }
            Err(error) => return Err(error),
        };
        let has_manifest = manifest_text.is_some();
        let manifest_text = manifest_text.unwrap_or_default();
        let files = files(directory, &manifest, bounds.files)?;
        let digest = digest(manifest_text.as_bytes(), &module_bytes, files.as_ref(), interpreter.as_deref());
        complete(&mut manifest, interpreter.as_deref(), files.as_ref(), directory)?;
        let signature = signature_text(directory)?;
        Ok(Self {
            name,
            directory: directory.to_owned(),
            manifest,
            manifest_text,
            has_manifest,
            module_path,
            module_bytes,
            files,
            interpreter,
            digest,
            signature,
        })
    }

    /// Returns the program to run: the module, the interpreter, or the guest of this program that runs a command.
    pub fn program(&self, runtime: &Runtime, limits: &Limits) -> Result<Program, CompileError> {
        if let Some(interpreter) = &self.interpreter {
            return interpreter.program(runtime, limits);
        }
        let is_command = self.manifest.command.is_some();
        let code = if is_command { distillery_runtime::COMMAND_GUEST } else { &self.module_bytes };
        runtime.compile(code, &self.manifest.linking, limits)
    }

    /// Returns the size of the module that it runs, its own or that of the interpreter.
    pub fn module_size(&self) -> Size {
        let own = Size::bytes(self.module_bytes.len() as u64);
        self.interpreter.as_ref().map_or(own, |interpreter| interpreter.module_size)
    }

    /// Returns a fingerprint of everything that a load depends on: sources with equal fingerprints load alike. Includes
    /// the digest, the existence of a manifest, and the signature.
    pub(crate) fn fingerprint(&self) -> String {
        let signed = self.signature.as_deref();
        let parts = [[self.has_manifest, signed.is_some()].map(u8::from).to_vec(), signed.unwrap_or_default().to_vec()];
        hex(Sha256::new().chain_update(&self.digest).chain_update(parts.concat()).finalize().as_slice())
    }
}

impl From<&Source> for Signed {
    fn from(source: &Source) -> Self {
        Self {
            name: source.name.clone(),
            has_manifest: source.has_manifest,
            digest: source.digest.clone(),
            signature: source.signature.clone(),
        }
    }
}

/// Reads the name and the manifest of the plugin in `directory`, built or not.
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

/// Reads the text of the manifest in `directory`; `None` if there is none.
pub(super) fn manifest_text(directory: &Path) -> Result<Option<String>, LoadError> {
    text_of_manifest(&Listing::of(directory)?, directory)
}

/// Reads the text of a listed manifest. An unreadable manifest is an error, because a call without a manifest accepts
/// any parameters.
fn text_of_manifest(listing: &Listing, directory: &Path) -> Result<Option<String>, LoadError> {
    if let Some(misnamed) = &listing.misnamed {
        return Err(LoadError::Misnamed(misnamed.clone()));
    }
    if !listing.manifest {
        return Ok(None);
    }
    let path = directory.join(manifest::FILE);
    match read_whole(&path, manifest::MAX_SIZE) {
        Ok(None) => Err(LoadError::ManifestTooLarge(path)),
        Ok(Some(bytes)) => yaml::encoding::decode(bytes).map(Some).map_err(|error| LoadError::NotText { path, error }),
        Err(LoadError::Unreadable { error, .. }) if error.kind() == io::ErrorKind::NotFound => {
            Err(LoadError::DanglingManifest(path))
        }
        Err(error) => Err(error),
    }
}

/// Reads the signature; `None` if there is none or the file is too long for one.
fn signature_text(directory: &Path) -> Result<Option<Vec<u8>>, LoadError> {
    match read_whole(&directory.join(signature::FILE), SIGNATURE_SIZE) {
        Ok(read) => Ok(Some(read.unwrap_or_default())),
        Err(LoadError::Unreadable { error, .. }) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads the files that the manifest wants.
fn files(directory: &Path, manifest: &Manifest, limits: FileLimits) -> Result<Option<Tree>, LoadError> {
    let wanted = &manifest.files;
    let read = || match Tree::read(directory, &wanted.directory, limits) {
        // An empty directory is none, as in git.
        Ok(tree) => Ok((wanted.wanted == Wanted::Yes || !tree.is_empty()).then_some(tree)),
        Err(FilesError::Missing) if wanted.wanted == Wanted::IfThere => Ok(None),
        Err(FilesError::NotADirectory)
            if wanted.wanted == Wanted::IfThere && directory.join(&wanted.directory).is_file() =>
        {
            Ok(None)
        }
        Err(error) => Err(LoadError::Files { path: directory.join(&wanted.directory), error }),
    };
    if wanted.wanted == Wanted::No { Ok(None) } else { read() }
}

/// Completes the manifest with its interpreter, and checks the places of all directories.
pub(super) fn complete(
    manifest: &mut Manifest,
    interpreter: Option<&Interpreter>,
    files: Option<&Tree>,
    directory: &Path,
) -> Result<(), LoadError> {
    let run = interpreter.map_or(Ok(()), |interpreter| interpreter.complete(manifest, files));
    let right = run.and_then(|()| manifest.check_places(files.is_some()));
    right.map_err(|why| LoadError::Places { path: directory.join(manifest::FILE), why })
}

fn module_path(directory: &Path, listing: Listing, manifest: &Manifest) -> Result<PathBuf, LoadError> {
    if let Some(component) = &manifest.component {
        return Ok(directory.join(component));
    }
    if manifest.command.is_some() {
        return Ok(directory.join(manifest::BUILTIN_COMMAND));
    }
    match listing.modules.as_slice() {
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

/// Returns the digest of a manifest, a module, files and an interpreter.
pub(super) fn digest(
    manifest: &[u8],
    module: &[u8],
    files: Option<&Tree>,
    interpreter: Option<&Interpreter>,
) -> String {
    let mut hasher = Sha256::new();
    if let Some(interpreter) = interpreter {
        // Neither a manifest has this length, nor do files begin like this.
        hasher.update((u64::MAX - 1).to_le_bytes());
        hasher.update(&interpreter.tree.digest);
    }
    if let Some(files) = files {
        // No manifest has this length, so a plugin without files never has the digest of one with files.
        hasher.update(u64::MAX.to_le_bytes());
        hasher.update(&files.digest);
    }
    // The length separates the two files: moving a byte between them changes the digest.
    let length = (manifest.len() as u64).to_le_bytes();
    hex(hasher.chain_update(length).chain_update(manifest).chain_update(module).finalize().as_slice())
}

#[cfg(test)]
mod tests;
