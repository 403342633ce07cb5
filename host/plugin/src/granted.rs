//! The resources of a plugin: the requests of its manifest, checked against the operator's grants.
//!
//! All requests must be granted, and nothing else is given. Directories are opened and secrets read when the plugin
//! loads. A missing one therefore fails the load instead of its processes.

mod commands;

use super::{
    capabilities::{Capabilities, HttpOrigin, Mount, Scratch, SystemsAccess},
    files::store::FileStore,
};
use distillery_command::Slots;
use distillery_config as config;
use distillery_config::{Grant, SecretSource, SystemsGrant};
use distillery_core::systems::Directory;
use distillery_core::{directory::try_writable, origin::Origin, secret::Secret, size::Size};
use distillery_runtime::{Grants, Mounted, ScratchRoot, systems::SystemsReach};
use rustix::fs::Access;
use schemars::JsonSchema;
use serde::Serialize;
use std::{
    collections::BTreeMap,
    fmt,
    fs::{self, File},
    io::{self, Read},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::Arc,
};

/// A secret is a line or a key file; a larger file is not one.
const SECRET_SIZE: Size = Size::kib(64);

/// The operator's grants.
#[derive(Clone, Debug, Default)]
pub struct OperatorGrants {
    /// Grants by plugin name.
    pub plugins: BTreeMap<String, Grant>,
    /// The environment variables that grants name and that are set.
    pub environment: BTreeMap<String, Secret>,
    /// The root of private directories.
    pub scratch: Arc<ScratchRoot>,
    /// The files of plugins.
    pub files: Arc<FileStore>,
    /// The public systems; `None` if no server runs.
    pub systems: Option<Arc<dyn Directory>>,
    /// Counts the commands that run.
    pub commands: Arc<Slots>,
    /// If true, nothing is created for plugins: they are inspected and never run.
    pub look_only: bool,
}

/// The resources of a plugin for display: names only, never values or paths.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "Grants")]
pub struct Granted {
    pub mounts: Vec<Mount>,
    #[schemars(with = "Vec<String>")]
    pub http: Vec<HttpOrigin>,
    pub env: Vec<String>,
    pub secrets: Vec<String>,
    /// The public systems.
    pub systems: Option<SystemsAccess>,
    /// The size of a private `/tmp`.
    #[schemars(with = "Option<String>")]
    pub scratch: Option<Size>,
    /// Programs of the server's machine.
    pub commands: Vec<String>,
}

/// The reason why a plugin does not get its requests.
#[derive(Debug, thiserror::Error)]
pub enum GrantError {
    #[error("not granted: {}: grant it in plugins.grants.{plugin} in distillery.yaml", .missing.join(", "))]
    NotGranted { plugin: String, missing: Vec<String> },
    #[error("the mount {name}: {}: {error}: make the directory, or change plugins.grants.{plugin}.mounts.{name} in distillery.yaml", .path.display())]
    Mount { plugin: String, name: String, path: PathBuf, error: io::Error },
    #[error(
        "the secret {name}: {why}: put it there, or change plugins.grants.{plugin}.secrets.{name} in distillery.yaml"
    )]
    SecretSource { plugin: String, name: String, why: String },
    #[error("the command {name}: {why}: change plugins.grants.{plugin}.commands.{name} in distillery.yaml")]
    Command { plugin: String, name: String, why: String },
    #[error("no place for its scratch space: {0}: set data in distillery.yaml to a directory that can be written")]
    Scratch(io::Error),
}

/// Describes all requests in `wish`, each in words.
pub fn wishes(wish: &Capabilities) -> Vec<String> {
    missing(wish, &Grant::default())
}

impl OperatorGrants {
    /// Grants `wish` to `plugin`. Returns the resources for display and for use.
    pub(crate) fn meet(&self, plugin: &str, wish: &Capabilities) -> Result<(Granted, Grants), GrantError> {
        let nothing = Grant::default();
        let grant = self.plugins.get(plugin).unwrap_or(&nothing);
        let missing = missing(wish, grant);
        if !missing.is_empty() {
            return Err(GrantError::NotGranted { plugin: plugin.to_owned(), missing });
        }
        let granted = Granted {
            mounts: wish.mounts.clone(),
            http: wish.http.clone(),
            env: wish.env.iter().map(|name| name.as_str().to_owned()).collect(),
            secrets: wish.secrets.iter().map(|name| name.as_str().to_owned()).collect(),
            systems: wish.systems,
            scratch: wish.scratch.map(|Scratch(size)| size),
            commands: wish.commands.iter().map(|name| name.as_str().to_owned()).collect(),
        };
        let grants = self.open(plugin, &granted, grant)?;
        Ok((granted, grants))
    }

    fn open(&self, plugin: &str, granted: &Granted, grant: &Grant) -> Result<Grants, GrantError> {
        let mounts = granted.mounts.iter().map(|mount| {
            let (name, at) = (mount.name.as_str(), mount.at.as_str().to_owned());
            let granted = &grant.mounts[name];
            let opened = match self.look_only && granted.create && !granted.path.exists() {
                true => try_writable(&granted.path).map(|()| None),
                false => open_mount(granted, at, mount.write).map(Some),
            };
            opened.map_err(|error| GrantError::Mount {
                plugin: plugin.to_owned(),
                name: name.to_owned(),
                path: granted.path.clone(),
                error,
            })
        });
        let secrets = granted.secrets.iter().map(|name| match self.secret(&grant.secrets[name]) {
            Ok(value) => Ok((name.clone(), value)),
            Err(why) => Err(GrantError::SecretSource { plugin: plugin.to_owned(), name: name.clone(), why }),
        });
        // A variable that is not set on the server is not set for the guest either.
        let env = granted.env.iter().filter_map(|name| Some(Ok((name.clone(), self.environment.get(name)?.clone()))));
        Ok(Grants {
            mounts: mounts.filter_map(Result::transpose).collect::<Result<_, _>>()?,
            http: granted.http.iter().filter_map(|origin| origin.as_str().parse().ok()).collect(),
            env: env.chain(secrets).collect::<Result<_, _>>()?,
            systems: granted
                .systems
                .map(|access| SystemsReach { directory: self.systems.clone(), write: access == SystemsAccess::Write }),
            scratch: granted
                .scratch
                .filter(|_| !self.look_only)
                .map(|size| self.scratch.space(size).map_err(GrantError::Scratch))
                .transpose()?,
            commands: Arc::new(self.commands(plugin, &granted.commands, grant)?),
            ..Grants::default()
        })
    }

    /// Reads the value of a secret. An error never contains any of it.
    fn secret(&self, source: &SecretSource) -> Result<Secret, String> {
        match source {
            SecretSource::File(path) => read_secret(path).map_err(|why| format!("{}: {why}", path.display())),
            SecretSource::Env(name) => {
                let value = self.environment.get(name).cloned();
                value.ok_or_else(|| format!("the variable {name} is not set in the environment of the server"))
            }
        }
    }
}

/// Describes each request that is not granted.
fn missing(wish: &Capabilities, grant: &Grant) -> Vec<String> {
    let granted: Vec<Origin> = grant.http.iter().filter_map(|origin| origin.parse().ok()).collect();
    let mut missing = Vec::new();
    for mount in &wish.mounts {
        let way = if mount.write { "to write" } else { "to read" };
        let asked = format!("the mount {} at {} {way}", mount.name, mount.at);
        match grant.mounts.get(mount.name.as_str()) {
            None => missing.push(asked),
            Some(granted) if mount.write && !granted.write => missing.push(format!("{asked} (it is granted to read)")),
            Some(_) => {}
        }
    }
    for origin in &wish.http {
        if !origin.as_str().parse().is_ok_and(|origin| granted.contains(&origin)) {
            missing.push(format!("http to {origin}"));
        }
    }
    for name in &wish.env {
        if !grant.env.iter().any(|granted| granted == name.as_str()) {
            missing.push(format!("the environment variable {name}"));
        }
    }
    for name in &wish.secrets {
        if !grant.secrets.contains_key(name.as_str()) {
            missing.push(format!("the secret {name}"));
        }
    }
    match (wish.systems, grant.systems) {
        (Some(SystemsAccess::Read), None) => missing.push("the systems to read".to_owned()),
        (Some(SystemsAccess::Write), None) => missing.push("the systems to write".to_owned()),
        (Some(SystemsAccess::Write), Some(SystemsGrant::Read)) => {
            missing.push("the systems to write (they are granted to read)".to_owned());
        }
        _ => {}
    }
    for name in &wish.commands {
        if !grant.commands.contains_key(name.as_str()) {
            missing.push(format!("the command {name}"));
        }
    }
    match (wish.scratch, grant.scratch) {
        (Some(Scratch(asked)), None) => missing.push(format!("{asked} of scratch space")),
        (Some(Scratch(asked)), Some(granted)) if asked > granted => {
            missing.push(format!("{asked} of scratch space ({granted} is granted)"));
        }
        _ => {}
    }
    missing
}

fn open_mount(granted: &config::Mount, at: String, write: bool) -> io::Result<Mounted> {
    let path = &granted.path;
    if granted.create {
        make_private(path)?;
    }
    let mounted = Mounted::open(path, at, write)?;
    if write {
        rustix::fs::access(path, Access::WRITE_OK)?;
    }
    Ok(mounted)
}

/// Creates a missing directory, accessible to the server's user only. Guests cannot set permissions, so the directory
/// protects their files.
fn make_private(path: &Path) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// Reads a secret from a file, without the line break at its end. An error never contains any of it.
pub fn read_secret(path: &Path) -> Result<Secret, String> {
    // Anything but a regular file, such as a pipe, could block the reader forever.
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => {}
        Ok(_) => return Err("not a regular file".to_owned()),
        Err(error) => return Err(error.to_string()),
    }
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(SECRET_SIZE.get() + 1).read_to_end(&mut bytes));
    read.map_err(|error| error.to_string())?;
    if bytes.len() > SECRET_SIZE.as_usize() {
        return Err(format!("larger than {SECRET_SIZE}"));
    }
    let mut text = String::from_utf8(bytes).map_err(|_| "not UTF-8 text".to_owned())?;
    if text.contains('\0') {
        return Err("it has a zero byte in it, which no variable can hold".to_owned());
    }
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    Ok(Secret::new(text))
}

/// Formats as one line; empty if there is nothing.
impl fmt::Display for Granted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mounts = self.mounts.iter().map(|mount| {
            let way = if mount.write { "write" } else { "read" };
            format!("{way} the mount {} at {}", mount.name, mount.at)
        });
        let parts = mounts
            .chain(self.http.iter().map(|origin| format!("send requests to {origin}")))
            .chain(self.env.iter().map(|name| format!("read the variable {name}")))
            .chain(self.secrets.iter().map(|name| format!("read the secret {name}")))
            .chain(self.systems.map(|access| match access {
                SystemsAccess::Read => "read the systems".to_owned(),
                SystemsAccess::Write => "write the systems".to_owned(),
            }))
            .chain(self.scratch.map(|size| format!("use {size} of scratch space")))
            .chain(self.commands.iter().map(|name| format!("run the command {name}")));
        f.write_str(&parts.collect::<Vec<_>>().join(", "))
    }
}

#[cfg(test)]
mod tests;
