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
    pub fn meet(&self, plugin: &str, wish: &Capabilities) -> Result<(Granted, Grants), GrantError> {
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
mod tests {
    use super::*;
    use crate::manifest::Manifest;
    use std::os::unix::fs::PermissionsExt;

    fn wish(capabilities: &str) -> Capabilities {
        let manifest = format!("capabilities: {capabilities}");
        Manifest::read(&manifest, Path::new("plugin.yaml"), &"echo".parse().unwrap()).unwrap().capabilities
    }

    struct Bench {
        directory: tempfile::TempDir,
        grants: OperatorGrants,
    }

    /// Returns an operator with one grant of each kind for `echo`.
    fn bench() -> Bench {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::create_dir(at("inside")).unwrap();
        fs::write(at("key"), "swordfish\r\n").unwrap();
        let mount = |path: &str, write| config::Mount { path: at(path), write, create: path == "made" };
        let grant = Grant {
            commands: BTreeMap::new(),
            mounts: [("in", "inside", false), ("out", "inside", true), ("gone", "gone", true), ("new", "made", true)]
                .map(|(name, path, write)| (name.to_owned(), mount(path, write)))
                .into(),
            http: vec!["https://api.example.org".to_owned(), "http://10.0.0.5:9000".to_owned()],
            env: vec!["LANG".to_owned(), "UNSET".to_owned()],
            secrets: [
                ("KEY", SecretSource::File(at("key"))),
                ("USER", SecretSource::Env("API_USER".to_owned())),
                ("LOST", SecretSource::File(at("lost"))),
                ("EMPTY", SecretSource::Env("NOBODY".to_owned())),
            ]
            .map(|(name, secret)| (name.to_owned(), secret))
            .into(),
            systems: Some(SystemsGrant::Read),
            scratch: Some(Size::mib(16)),
        };
        let environment = [("LANG", "eo"), ("API_USER", "me"), ("OTHER", "not granted")];
        let grants = OperatorGrants {
            plugins: [("echo".to_owned(), grant)].into(),
            environment: environment.map(|(name, value)| (name.to_owned(), Secret::new(value.to_owned()))).into(),
            scratch: Arc::new(ScratchRoot::new(at("scratch"))),
            files: Arc::default(),
            systems: None,
            commands: Arc::default(),
            look_only: false,
        };
        Bench { directory, grants }
    }

    impl Bench {
        fn refused(&self, capabilities: &str) -> String {
            let error = self.grants.meet("echo", &wish(capabilities)).unwrap_err().to_string();
            error.replace(&format!("{}/", self.directory.path().display()), "")
        }
    }

    #[test]
    fn plugin_gets_exactly_its_requests() {
        let bench = bench();
        let asked = "{mounts: [{name: in, at: /in}], http: ['https://API.example.org:443'], env: [LANG, UNSET], secrets: \
                     [KEY, USER], scratch: 1MiB}";
        let (granted, grants) = bench.grants.meet("echo", &wish(asked)).unwrap();
        let env: Vec<_> = grants.env.iter().map(|(name, value)| (name.as_str(), value.reveal())).collect();
        assert_eq!(env, [("LANG", "eo"), ("KEY", "swordfish"), ("USER", "me")]);
        assert_eq!((grants.mounts.len(), grants.http.len(), grants.scratch.is_some()), (1, 1, true));
        assert_eq!(
            granted.to_string(),
            "read the mount in at /in, send requests to https://API.example.org:443, read the variable LANG, read the \
             variable UNSET, read the secret KEY, read the secret USER, use 1MiB of scratch space"
        );

        let (granted, grants) = bench.grants.meet("echo", &wish("{}")).unwrap();
        assert_eq!(granted, Granted::default());
        assert!(
            grants.env.is_empty() && grants.mounts.is_empty() && grants.http.is_empty() && grants.scratch.is_none()
        );
    }

    #[test]
    fn displayed_grants_contain_no_value_and_no_path() {
        let bench = bench();
        let asked = "{mounts: [{name: out, at: /out, write: true}], env: [LANG], secrets: [KEY, USER], scratch: 1MiB}";
        let (granted, grants) = bench.grants.meet("echo", &wish(asked)).unwrap();
        assert_eq!(
            serde_json::to_value(&granted).unwrap(),
            serde_json::json!({
                "mounts": [{"name": "out", "at": "/out", "write": true}],
                "http": [],
                "env": ["LANG"],
                "secrets": ["KEY", "USER"],
                "scratch": "1MiB", "systems": null, "commands": [],
            })
        );
        let shown = format!("{granted:?} {grants:?} {:?}", bench.grants);
        assert!(!shown.contains("swordfish") && !shown.contains("eo\"") && !shown.contains("\"me\""), "{shown}");
    }

    #[test]
    fn each_missing_grant_is_named() {
        let bench = bench();
        assert_eq!(
            bench.refused(
                "{mounts: [{name: in, at: /in, write: true}, {name: other, at: /o}], http: ['http://api.example.org', \
                 'https://api.example.org:444', 'http://10.0.0.5'], env: [HOME], secrets: [OTHER], scratch: 17MiB}"
            ),
            "not granted: the mount in at /in to write (it is granted to read), the mount other at /o to read, http to \
             http://api.example.org, http to https://api.example.org:444, http to http://10.0.0.5, the environment \
             variable HOME, the secret OTHER, 17MiB of scratch space (16MiB is granted): grant it in plugins.grants.echo \
             in distillery.yaml"
        );
        let other = bench.grants.meet("other", &wish("{env: [LANG]}")).unwrap_err().to_string();
        assert_eq!(
            other,
            "not granted: the environment variable LANG: grant it in plugins.grants.other in distillery.yaml"
        );
        assert_eq!(
            bench.refused("{systems: write}"),
            "not granted: the systems to write (they are granted to read): grant it in plugins.grants.echo in \
             distillery.yaml"
        );
        let (granted, grants) = bench.grants.meet("echo", &wish("{systems: read}")).unwrap();
        assert_eq!((granted.to_string(), grants.systems.unwrap().write), ("read the systems".to_owned(), false));
    }

    #[test]
    fn created_mount_is_accessible_to_the_server_only() {
        let bench = bench();
        let made = bench.directory.path().join("made");
        for _ in 0..2 {
            assert!(bench.grants.meet("echo", &wish("{mounts: [{name: new, at: /n, write: true}]}")).is_ok());
            assert_eq!(fs::metadata(&made).unwrap().permissions().mode() & 0o777, 0o700);
            fs::write(made.join("file"), "").unwrap();
        }
    }

    #[test]
    fn missing_granted_resource_fails_the_load() {
        let bench = bench();
        assert_eq!(
            bench.refused("{mounts: [{name: gone, at: /g}]}"),
            "the mount gone: gone: No such file or directory (os error 2): make the directory, or change \
             plugins.grants.echo.mounts.gone in distillery.yaml"
        );
        assert_eq!(
            bench.refused("{secrets: [LOST]}"),
            "the secret LOST: lost: No such file or directory (os error 2): put it there, or change \
             plugins.grants.echo.secrets.LOST in distillery.yaml"
        );
        assert_eq!(
            bench.refused("{secrets: [EMPTY]}"),
            "the secret EMPTY: the variable NOBODY is not set in the environment of the server: put it there, or change \
             plugins.grants.echo.secrets.EMPTY in distillery.yaml"
        );
        for (content, told) in [
            (b"sword\xfffish".to_vec(), "not UTF-8 text"),
            (b"sword\0fish".to_vec(), "a zero byte"),
            (vec![b'x'; 70_000], "larger than 64KiB"),
        ] {
            fs::write(bench.directory.path().join("key"), content).unwrap();
            let refused = bench.refused("{secrets: [KEY]}");
            assert!(refused.contains(told) && !refused.contains("fish"), "{refused}");
        }
        fs::write(bench.directory.path().join("scratch"), "a file").unwrap();
        assert!(bench.refused("{scratch: 1MiB}").starts_with("no place for its scratch space: "));
    }
}
