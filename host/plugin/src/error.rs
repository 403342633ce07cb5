//! The reasons why a plugin does not load.

use super::{files::FilesError, granted::GrantError, manifest, signature::Untrusted};
use distillery_core::{call::CALL_NAME_FORM, limits::TooHigh, size::Size, yaml};
use distillery_runtime::CompileError;
use std::{io, path::PathBuf};

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
    #[error("{}: no module: put one .wasm or .wat file there, or name it with component: in {}", .0.display(), manifest::INTERPRETER_FILE)]
    NoInterpreterModule(PathBuf),
    #[error("{}: several modules ({modules}): name one with component: in {}", .directory.display(), manifest::INTERPRETER_FILE)]
    SeveralInterpreterModules { directory: PathBuf, modules: String },
    #[error("{}: no such file: write one that says how the interpreter takes a script: {{arguments: [\"{{script}}\"]}}", .0.display())]
    NoInterpreterManifest(PathBuf),
    #[error(
        "the interpreter {name:?} is not installed ({installed}): install it with `distillery interpreter add DIRECTORY`, or put it into plugins.interpreters"
    )]
    NoInterpreter { name: String, installed: String },
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
    #[error("{}: larger than {}: this is no manifest", .0.display(), manifest::MAX_SIZE)]
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
