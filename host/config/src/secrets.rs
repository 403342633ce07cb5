//! The places of secrets: a file, or a variable of the environment.

use super::{
    form,
    source::{ConfigError, Section},
};
use std::path::{Path, PathBuf};

/// The source of a secret. The configuration itself never contains one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    File(PathBuf),
    Env(String),
}

impl SecretSource {
    pub(super) fn read(mut section: Section<'_>, base: &Path) -> Result<Self, ConfigError> {
        let (file, env) = (section.get("file", form::path)?, section.get("env", form::text)?);
        let secret = match (file, env) {
            (Some(file), None) => Self::File(base.join(file)),
            (None, Some(env)) => Self::Env(env),
            (file, _) => {
                let what = if file.is_some() { "comes from two places" } else { "comes from nowhere" };
                let what = format!("{what}: write either {{file: path}} or {{env: VARIABLE}}");
                return Err(section.refuse(&[], what));
            }
        };
        section.finish()?;
        Ok(secret)
    }
}
