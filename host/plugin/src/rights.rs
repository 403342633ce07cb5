//! The rights of a plugin: the resources and limits that the operator's current rules grant its processes.
//!
//! Rights are computed anew when the rules can have changed. A generation that loses its rights stops serving. A
//! generation with different rights continues with the new ones.

use super::{
    error::LoadError,
    files::{FilesError, store::Kept},
    granted::Granted,
    interpreters::Interpreter,
    manifest::Manifest,
    operator::Operator,
    signature::Signed,
    source::{Bounds, Source},
};
use distillery_core::{call::Span, limits::Limits, size::Size};
use distillery_runtime::Grants;
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// The part of a version that decides its rights, identical in all its generations.
#[derive(Debug)]
pub struct Version {
    pub signed: Signed,
    /// Versions with equal fingerprints load alike.
    pub fingerprint: String,
    pub manifest: Arc<Manifest>,
    pub directory: PathBuf,
    module: Size,
    /// The number and the size of its files.
    files: Option<(usize, Size)>,
    /// Its files and those of its interpreter, in use as long as any of its generations; none if nothing is run.
    kept: Vec<Kept>,
}

/// The resources and limits of the processes of a generation.
#[derive(Clone, Debug)]
pub struct Rights {
    pub limits: Limits,
    /// The granted resources, for display.
    pub granted: Granted,
    /// The granted resources, for use by processes.
    pub grants: Arc<Grants>,
}

fn not_kept(path: PathBuf, error: FilesError) -> LoadError {
    match error {
        FilesError::Unreadable { .. } => LoadError::FilesNotKept { path, error },
        error => LoadError::Files { path, error },
    }
}

impl Version {
    /// Makes the version that `source` describes, and keeps its files if the operator trusts them.
    pub fn new(source: &Source, operator: &Operator) -> Result<Self, LoadError> {
        let mut version = Self::of(source);
        version.check_signature(operator)?;
        if let Some(tree) = source.files.as_ref().filter(|_| !operator.grants.look_only) {
            let path = || source.directory.join(&source.manifest.files.directory);
            let kept = operator.grants.files.keep(tree, Some((Path::new(""), source.manifest.files.at.as_str())));
            version.kept.push(kept.map_err(|error| not_kept(path(), error))?);
        }
        if let Some(interpreter) = source.interpreter.as_ref().filter(|_| !operator.grants.look_only) {
            let Interpreter { tree, manifest, .. } = &**interpreter;
            let library = interpreter.has_files().then_some((&*manifest.files.directory, manifest.files.at.as_str()));
            let kept = operator.grants.files.keep(tree, library);
            version.kept.push(kept.map_err(|error| not_kept(tree.path(""), error))?);
        }
        Ok(version)
    }

    fn of(source: &Source) -> Self {
        Self {
            signed: source.into(),
            fingerprint: source.fingerprint(),
            manifest: Arc::new(source.manifest.clone()),
            directory: source.directory.clone(),
            module: source.module_size(),
            files: source.files.as_ref().map(|tree| (tree.count(), tree.size)),
            kept: Vec::new(),
        }
    }

    /// Returns the number and the size of its files.
    pub fn files(&self) -> Option<(usize, Size)> {
        self.files
    }

    fn check_signature(&self, operator: &Operator) -> Result<(), LoadError> {
        let Some(trusted) = &operator.trusted else { return Ok(()) };
        trusted.check(&self.signed).map_err(|error| LoadError::Signature { directory: self.directory.clone(), error })
    }

    /// Checks whether this version is still within `bounds`.
    pub fn check_bounds(&self, bounds: &Bounds) -> Result<(), LoadError> {
        if self.module > bounds.module {
            return Err(LoadError::ModuleTooLarge { path: self.directory.clone(), max: bounds.module });
        }
        let Some((count, size)) = self.files else { return Ok(()) };
        let error = match bounds.files {
            limits if count > limits.count => FilesError::TooMany(limits.count),
            limits if size > limits.size => FilesError::TooLarge(limits.size),
            _ => return Ok(()),
        };
        Err(LoadError::Files { path: self.directory.join(&self.manifest.files.directory), error })
    }

    /// Returns the rights of this version under the rules of `operator`, or an error if it asks for more than they
    /// grant. Opens directories and reads secrets.
    pub fn rights(&self, operator: &Operator) -> Result<Rights, LoadError> {
        let directory = || self.directory.clone();
        self.check_signature(operator)?;
        let manifest = &self.manifest;
        let (granted, mut grants) = operator
            .grants
            .meet(self.signed.name.as_str(), &manifest.capabilities)
            .map_err(|error| LoadError::Grant { directory: directory(), error })?;
        if let Some(command) = manifest.command.as_ref().and_then(|name| grants.commands.get(name.as_str())) {
            for call in manifest.calls.values() {
                let refused = |why| LoadError::CommandCall { directory: directory(), why };
                call.check_command(&command.line).map_err(refused)?;
            }
        }
        let limits = operator
            .limits
            .lowered(&manifest.limits)
            .map_err(|error| LoadError::Limit { directory: directory(), error })?;
        if let Some(asked) = manifest.cancel.grace.filter(|grace| *grace > operator.grace_max) {
            let (asked, allowed) = (Span(asked).to_string(), Span(operator.grace_max).to_string());
            return Err(LoadError::Grace { directory: directory(), asked, allowed });
        }
        grants.files = self.kept.iter().filter_map(|kept| kept.mounted.clone()).collect();
        grants.directory = manifest.directory.as_ref().map(|directory| directory.as_str().to_owned());
        grants.dev = manifest.dev;
        Ok(Rights { limits, granted, grants: Arc::new(grants) })
    }
}
