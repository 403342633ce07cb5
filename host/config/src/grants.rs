//! The operator's grants for plugins. A plugin gets a resource if it requests it *and* is granted it.
//!
//! Only the form is checked here: the meaning of a grant, and the existence of a path, are checked elsewhere. This
//! module takes the granted variables from the environment, because no other module reads it.

use super::{
    commands::{CommandGrant, command_name},
    form::{self, Formed},
    secrets::SecretSource,
    source::{ConfigError, Node, Section, named},
};
use distillery_core::{secret::Secret, size::Size};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// The grants of one plugin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grant {
    /// Directories of the host, by the plugin's names for them.
    pub mounts: BTreeMap<String, Mount>,
    /// Origins to which the plugin can send requests.
    pub http: Vec<String>,
    /// Variables of the server's environment that the plugin can read.
    pub env: Vec<String>,
    /// Secrets, by the plugin's variable names.
    pub secrets: BTreeMap<String, SecretSource>,
    /// The access to the list of systems: read, or also write.
    pub systems: Option<SystemsGrant>,
    /// The maximum size of the private directory for temporary files.
    pub scratch: Option<Size>,
    /// Programs of this machine, by the plugin's names for them.
    pub commands: BTreeMap<String, CommandGrant>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    pub path: PathBuf,
    pub write: bool,
    /// Whether a missing directory is created.
    pub create: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SystemsGrant {
    Read,
    /// Includes reading.
    Write,
}

/// Reads the grants of all plugins, by plugin name.
pub(super) fn read(node: Node<'_>, base: &Path) -> Result<BTreeMap<String, Grant>, ConfigError> {
    named(node.section()?, form::plugin_name, |node| Grant::read(node.section()?, base))
}

/// Returns the environment variables that `grants` name. All others are withheld.
pub(super) fn named_in(
    grants: &BTreeMap<String, Grant>,
    environment: Vec<(String, String)>,
) -> BTreeMap<String, Secret> {
    let named = |name: &String| grants.values().any(|grant| grant.names(name));
    let named = environment.into_iter().filter(|(name, _)| named(name));
    named.map(|(name, value)| (name, Secret::new(value))).collect()
}

impl Grant {
    fn names(&self, variable: &String) -> bool {
        let is_secret = |secret: &SecretSource| matches!(secret, SecretSource::Env(name) if name == variable);
        let of_command = self.commands.values().any(|command| command.names(variable));
        self.env.contains(variable) || self.secrets.values().any(is_secret) || of_command
    }

    fn read(mut section: Section<'_>, base: &Path) -> Result<Self, ConfigError> {
        let grant = Self {
            mounts: match section.node("mounts")? {
                Some(node) => named(node.section()?, mount_name, |node| Mount::read(node.section()?, base))?,
                None => BTreeMap::new(),
            },
            http: section.list_of("http", form::origin)?,
            env: section.list_of("env", form::variable)?,
            secrets: match section.node("secrets")? {
                Some(node) => {
                    named(node.section()?, form::variable_name, |node| SecretSource::read(node.section()?, base))?
                }
                None => BTreeMap::new(),
            },
            systems: section
                .get("systems", form::word(&[("read", SystemsGrant::Read), ("write", SystemsGrant::Write)]))?,
            scratch: section.get("scratch", form::size(Size::kib(4)..=Size::mib(1 << 20)))?,
            commands: match section.node("commands")? {
                Some(node) => named(node.section()?, command_name, |node| CommandGrant::read(node.section()?, base))?,
                None => BTreeMap::new(),
            },
        };
        section.finish()?;
        Ok(grant)
    }
}

impl Mount {
    fn read(mut section: Section<'_>, base: &Path) -> Result<Self, ConfigError> {
        let mount = Self {
            path: base.join(section.need("path", form::path)?),
            write: section.get_or("write", false, form::switch)?,
            create: section.get_or("create", false, form::switch)?,
        };
        section.finish()?;
        Ok(mount)
    }
}

fn mount_name(name: &str) -> Formed<()> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if !name.is_empty() && name.len() <= 64 && name.chars().all(plain) {
        Ok(())
    } else {
        Err(format!("{name:?} is not a name for a mount: write 1 to 64 letters, digits, dots, underscores or dashes"))
    }
}
