//! The rights of a plugin: what the operator's rules of this moment let its processes touch and use up.
//!
//! They are asked for anew whenever the rules may be others. A generation that does not get them any more has to stop
//! serving; one that gets others goes on with those.

use super::{
    Operator, Plugin, discover::LoadError, granted::Granted, manifest::Manifest, signature::Signed, source::Source,
};
use crate::{call::Span, limits::Limits, runtime::Reach, size::Size};
use std::{path::PathBuf, sync::Arc};

/// All of a version that is asked for when its rights are decided. It is the same for every generation of the version.
#[derive(Debug)]
pub struct Version {
    pub signed: Signed,
    /// Equal fingerprints load alike.
    pub fingerprint: String,
    pub manifest: Arc<Manifest>,
    directory: PathBuf,
    module: Size,
}

/// What the processes of a generation may touch and use up.
#[derive(Clone, Debug)]
pub struct Rights {
    pub limits: Limits,
    /// What it may touch, as it may be shown.
    pub granted: Granted,
    /// The same, as its processes reach it.
    pub reach: Arc<Reach>,
}

impl From<&Source> for Version {
    fn from(source: &Source) -> Self {
        Self {
            signed: source.into(),
            fingerprint: source.fingerprint(),
            manifest: Arc::new(source.manifest.clone()),
            directory: source.directory.clone(),
            module: Size::bytes(source.module_bytes.len() as u64),
        }
    }
}

impl Version {
    /// Returns the rights that this version gets under the rules of `operator`. It is refused if it asks for more than
    /// those grant. Opens directories and reads secrets.
    pub fn rights(&self, operator: &Operator) -> Result<Rights, LoadError> {
        let directory = || self.directory.clone();
        if let Some(trusted) = &operator.trusted {
            trusted.check(&self.signed).map_err(|error| LoadError::Signature { directory: directory(), error })?;
        }
        let manifest = &self.manifest;
        let (granted, reach) = operator
            .grants
            .meet(self.signed.name.as_str(), &manifest.capabilities)
            .map_err(|error| LoadError::Grant { directory: directory(), error })?;
        let limits = operator
            .limits
            .lowered(&manifest.limits)
            .map_err(|error| LoadError::Limit { directory: directory(), error })?;
        if let Some(asked) = manifest.cancel.grace.filter(|grace| *grace > operator.grace_max) {
            let (asked, allowed) = (Span(asked).to_string(), Span(operator.grace_max).to_string());
            return Err(LoadError::Grace { directory: directory(), asked, allowed });
        }
        Ok(Rights { limits, granted, reach: Arc::new(reach) })
    }
}

impl Plugin {
    /// Names what this generation holds and `now` does not give.
    pub fn lost(&self, now: &Rights) -> Vec<String> {
        let limits = self.limits.above(&now.limits).into_iter().map(|limit| format!("a higher limits.{limit}"));
        let kept = |name: &str| now.reach.env.iter().find(|(known, _)| known == name).map(|(_, value)| value);
        let values = self.reach.env.iter().filter(|(name, value)| kept(name) != Some(value));
        let values = values.map(|(name, _)| format!("the old value of {name}"));
        let mounts = self.granted.mounts.iter().zip(&self.reach.mounts);
        let mounts = mounts.filter(|(_, mounted)| !now.reach.mounts.contains(mounted));
        let mounts = mounts.map(|(mount, _)| format!("the directory that was the mount {}", mount.name));
        limits.chain(values).chain(mounts).collect()
    }

    fn has(&self, rights: &Rights) -> bool {
        self.limits == rights.limits
            && self.granted == rights.granted
            && self.reach.env == rights.reach.env
            && self.reach.mounts == rights.reach.mounts
    }

    /// Returns the rights that the version of this generation gets under the rules of `operator`.
    pub fn rights(&self, operator: &Operator) -> Result<Rights, LoadError> {
        self.version.rights(operator)
    }

    /// Returns the same version under the rules of `operator`: this generation if they give it the same rights, or else
    /// the one of the number `generation`.
    pub fn renewed(
        self: &Arc<Self>,
        operator: &Operator,
        max_module: Size,
        generation: u64,
    ) -> Result<Arc<Self>, LoadError> {
        let version = &self.version;
        if version.module > max_module {
            return Err(LoadError::ModuleTooLarge { path: version.directory.clone(), max: max_module });
        }
        let rights = version.rights(operator)?;
        if self.has(&rights) && !self.is_revoked() {
            return Ok(self.clone());
        }
        let path = || version.directory.clone();
        self.program.fits(&rights.limits).map_err(|error| LoadError::Module { path: path(), error })?;
        Ok(Arc::new(Self::of(version.clone(), rights, generation, self.program.clone())))
    }

    /// Tells whether both are generations of the same version.
    pub fn is_version_of(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.version, &other.version)
    }
}
