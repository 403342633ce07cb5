//! Reads and checks `plugin.yaml`, the manifest of a plugin.
//!
//! This module reads no module and grants nothing: the manifest only contains requests.

use super::{
    capabilities::{Capabilities, EnvName, GuestPath, first_twice},
    files,
    params::{CallSpec, ParamList},
};
use distillery_core::{
    auth::Access,
    call::{CALL_NAME_FORM, CallName, OnDisconnect},
    limits::Lowered,
    size::Size,
    yaml,
};
use distillery_runtime::{DEV_AT, Linking, SCRATCH_AT, UnknownImports};
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, Visitor, value::MapAccessDeserializer},
};
use std::{
    collections::BTreeMap,
    fmt,
    path::{Component, Path, PathBuf},
    time::Duration,
};

/// The file name of the manifest in the directory of a plugin.
pub const FILE: &str = "plugin.yaml";

/// The checked contents of a manifest.
#[derive(Clone, Debug)]
pub struct Manifest {
    pub description: String,
    /// The module, relative to the directory; `None` means the only one in it.
    pub component: Option<PathBuf>,
    /// The command that builds the module.
    pub build: Option<String>,
    /// The files that the plugin brings along.
    pub files: Files,
    /// Arguments between the name of the call and its parameters, such as the script of an interpreter.
    pub arguments: Vec<String>,
    /// Constants in the environment of every process.
    pub env: Vec<(EnvName, String)>,
    /// The working directory: the place of files, of a mount or of the scratch space.
    pub directory: Option<GuestPath>,
    /// The way in which the module is linked and entered.
    pub linking: Linking,
    /// Whether guests have a small `/dev`.
    pub dev: bool,
    pub stderr: Stderr,
    pub calls: BTreeMap<CallName, CallSpec>,
    pub limits: Lowered,
    pub cancel: Cancel,
    pub capabilities: Capabilities,
}

/// The files that a plugin brings along.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    pub wanted: Wanted,
    /// Their directory, relative to the plugin's.
    pub directory: PathBuf,
    /// The guest's path of them.
    pub at: GuestPath,
}

/// Whether a plugin has files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wanted {
    No,
    /// If their directory exists.
    #[default]
    IfThere,
    Yes,
}

impl Default for Files {
    fn default() -> Self {
        let at = GuestPath::try_from(files::AT.to_owned()).expect("a path");
        Self { wanted: Wanted::default(), directory: files::DIRECTORY.into(), at }
    }
}

/// The destination of the guest's stderr.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stderr {
    /// The server's log.
    #[default]
    Log,
    /// The log and the client.
    Forward,
}

/// The cancellation settings of a plugin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cancel {
    /// The time from the request to stop to the forced end; `None` means the server's default.
    #[serde(deserialize_with = "span")]
    pub grace: Option<Duration>,
    /// Whether a fresh instance cleans up after a forced end.
    pub cleanup: bool,
}

impl Manifest {
    /// Returns the default manifest of a directory called `name`: one call of that name.
    pub fn of(name: &CallName) -> Self {
        Self::from_written(Written::default(), name)
    }

    /// Parses `text`, the manifest at `file` of the plugin `name`.
    pub fn read(text: &str, file: &Path, name: &CallName) -> Result<Self, yaml::Error> {
        let Checked(written) = yaml::read(text, file)?;
        Ok(Self::from_written(written, name))
    }

    /// Checks that no two directories of guests are at the same place, and that the working directory is one of them.
    pub(super) fn check_places(&self, has_files: bool) -> Result<(), String> {
        let asked = &self.capabilities;
        let files = has_files.then_some(self.files.at.as_str());
        let dev = self.dev.then_some(DEV_AT);
        let scratch = asked.scratch.map(|_| SCRATCH_AT);
        let mounts = asked.mounts.iter().map(|mount| mount.at.as_str());
        let places: Vec<_> = mounts.chain(files).chain(scratch).collect();
        if let Some(place) = first_twice(places.iter().copied().chain(dev)) {
            return Err(format!("two things are at {place}: move the files (files: {{at: …}}) or a mount"));
        }
        match &self.directory {
            Some(directory) if !places.contains(&directory.as_str()) => Err(format!(
                "directory: nothing is at {directory}: name the place of files, of a mount, or {SCRATCH_AT} with \
                 capabilities.scratch"
            )),
            _ => Ok(()),
        }
    }

    fn from_written(written: Written, name: &CallName) -> Self {
        let calls = match written.calls {
            Some(Calls(calls)) => {
                calls.into_iter().map(|(Name(name), call)| (name.clone(), call.named(name))).collect()
            }
            None => {
                let description = written.description.clone();
                BTreeMap::from([(name.clone(), CallSpec { description, ..CallSpec::any(name.clone()) })])
            }
        };
        Self {
            description: written.description,
            component: written.component.map(|ModulePath(path)| path),
            build: written.build,
            files: written.files,
            arguments: written.arguments.into_iter().map(|Argument(argument)| argument).collect(),
            env: written.env.into_iter().map(|(name, Constant(value))| (name, value)).collect(),
            directory: written.directory,
            linking: Linking {
                unknown: match written.imports {
                    WrittenImports::Refuse => UnknownImports::Refuse,
                    WrittenImports::Trap => UnknownImports::Trap,
                },
                invoke: written.invoke,
            },
            dev: written.dev,
            stderr: written.stderr,
            calls,
            limits: written.limits.into(),
            cancel: written.cancel,
            capabilities: written.capabilities,
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Written {
    description: String,
    component: Option<ModulePath>,
    build: Option<String>,
    files: Files,
    arguments: Vec<Argument>,
    #[serde(deserialize_with = "yaml::distinct")]
    env: BTreeMap<EnvName, Constant>,
    directory: Option<GuestPath>,
    imports: WrittenImports,
    invoke: Option<String>,
    dev: bool,
    stderr: Stderr,
    calls: Option<Calls>,
    limits: WrittenLimits,
    cancel: Cancel,
    capabilities: Capabilities,
}

/// A manifest whose keys agree with each other.
#[derive(Deserialize)]
#[serde(try_from = "Written")]
struct Checked(Written);

impl TryFrom<Written> for Checked {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let Capabilities { env, secrets, .. } = &written.capabilities;
        match env.iter().chain(secrets).find(|name| written.env.contains_key(*name)) {
            Some(name) => Err(format!("the variable {name} is a constant and a capability: remove one")),
            None => Ok(Self(written)),
        }
    }
}

/// The treatment of imports that the server does not have.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum WrittenImports {
    #[default]
    Refuse,
    Trap,
}

impl<'de> Deserialize<'de> for Files {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FilesForm)
    }
}

/// The forms of `files`: false, a directory, or a directory and its place.
struct FilesForm;

impl<'de> Visitor<'de> for FilesForm {
    type Value = Files;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a directory, false, or {directory: …, at: …}")
    }

    fn visit_bool<E: serde::de::Error>(self, wanted: bool) -> Result<Files, E> {
        Ok(Files { wanted: if wanted { Wanted::Yes } else { Wanted::No }, ..Files::default() })
    }

    fn visit_str<E: serde::de::Error>(self, directory: &str) -> Result<Files, E> {
        let InnerPath(directory) = PathBuf::from(directory).try_into().map_err(E::custom)?;
        Ok(Files { wanted: Wanted::Yes, directory, ..Files::default() })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Files, A::Error> {
        let written = WrittenFiles::deserialize(MapAccessDeserializer::new(map))?;
        let default = Files::default();
        Ok(Files {
            wanted: Wanted::Yes,
            directory: written.directory.map_or(default.directory, |InnerPath(path)| path),
            at: written.at.unwrap_or(default.at),
        })
    }
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct WrittenFiles {
    directory: Option<InnerPath>,
    at: Option<GuestPath>,
}

/// A path of a directory within the plugin's.
#[derive(Deserialize)]
#[serde(try_from = "PathBuf")]
struct InnerPath(PathBuf);

impl TryFrom<PathBuf> for InnerPath {
    type Error = String;

    fn try_from(path: PathBuf) -> Result<Self, String> {
        let path: PathBuf = path.components().filter(|part| !matches!(part, Component::CurDir)).collect();
        if path.components().all(|part| matches!(part, Component::Normal(_))) && path.components().next().is_some() {
            Ok(Self(path))
        } else {
            Err(format!("{path:?} is not a directory inside the plugin's: name one, such as files"))
        }
    }
}

/// The value of a constant variable.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Constant(String);

impl TryFrom<String> for Constant {
    type Error = &'static str;

    fn try_from(value: String) -> Result<Self, &'static str> {
        if value.contains('\0') { Err("a variable cannot contain a NUL character") } else { Ok(Self(value)) }
    }
}

#[derive(Deserialize)]
#[serde(try_from = "PathBuf")]
struct ModulePath(PathBuf);

impl TryFrom<PathBuf> for ModulePath {
    type Error = String;

    fn try_from(path: PathBuf) -> Result<Self, String> {
        let inside = path.components().all(|part| matches!(part, Component::Normal(_)));
        if inside && is_module(&path) {
            Ok(Self(path))
        } else {
            Err(format!("{path:?} is not a module of this directory: name a .wasm or .wat file inside it"))
        }
    }
}

/// Returns whether the file name is that of a module.
pub(super) fn is_module(file: &Path) -> bool {
    file.extension().is_some_and(|it| it == "wasm" || it == "wat")
}

#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Argument(String);

impl TryFrom<String> for Argument {
    type Error = &'static str;

    fn try_from(argument: String) -> Result<Self, &'static str> {
        if argument.contains('\0') { Err("an argument cannot contain a NUL character") } else { Ok(Self(argument)) }
    }
}

#[derive(Deserialize)]
#[serde(try_from = "DistinctCalls")]
struct Calls(BTreeMap<Name, WrittenCall>);

impl TryFrom<DistinctCalls> for Calls {
    type Error = &'static str;

    fn try_from(DistinctCalls(calls): DistinctCalls) -> Result<Self, &'static str> {
        if calls.is_empty() {
            Err("no call is listed: list one, or leave calls out to provide one named after the directory")
        } else {
            Ok(Self(calls))
        }
    }
}

#[derive(Deserialize)]
#[serde(transparent)]
struct DistinctCalls(#[serde(deserialize_with = "yaml::distinct")] BTreeMap<Name, WrittenCall>);

#[derive(PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
struct Name(CallName);

impl TryFrom<String> for Name {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        name.parse().map(Self).map_err(|_| format!("not a name for a call: use {CALL_NAME_FORM}"))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct WrittenCall {
    description: String,
    access: WrittenAccess,
    arguments: Vec<Argument>,
    params: Option<ParamList>,
    on_disconnect: OnDisconnect,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum WrittenAccess {
    Public,
    #[default]
    Scoped,
}

impl WrittenCall {
    fn named(self, name: CallName) -> CallSpec {
        CallSpec {
            name,
            description: self.description,
            access: match self.access {
                WrittenAccess::Public => Access::Public,
                WrittenAccess::Scoped => Access::Scoped,
            },
            arguments: self.arguments.into_iter().map(|Argument(argument)| argument).collect(),
            params: self.params.map(|ParamList(params)| params),
            on_disconnect: self.on_disconnect,
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct WrittenLimits {
    memory: Option<Positive<Size>>,
    #[serde(deserialize_with = "positive_span")]
    time: Option<Duration>,
    #[serde(deserialize_with = "positive_span")]
    cpu: Option<Duration>,
    output: Option<Positive<Size>>,
    input: Option<Positive<Size>>,
    line: Option<Positive<Size>>,
    params: Option<usize>,
    params_size: Option<Size>,
    tables: Option<u64>,
    instances: Option<Positive<u64>>,
    resources: Option<Positive<u64>>,
    processes: Option<Positive<u32>>,
}

impl From<WrittenLimits> for Lowered {
    fn from(written: WrittenLimits) -> Self {
        Self {
            memory: written.memory.map(|it| it.0),
            time: written.time,
            cpu: written.cpu,
            output: written.output.map(|it| it.0),
            input: written.input.map(|it| it.0),
            line: written.line.map(|it| it.0),
            params: written.params,
            params_size: written.params_size,
            tables: written.tables,
            instances: written.instances.map(|it| it.0),
            resources: written.resources.map(|it| it.0),
            processes: written.processes.map(|it| it.0),
        }
    }
}

/// A limit above zero. A limit of 0 would let nothing run; for `output` in distillery.yaml it means "none", which a
/// plugin cannot request.
struct Positive<T>(T);

const NOT_POSITIVE: &str = "0 lets nothing through: write more than 0, or leave it out to keep the server's limit";

impl<'de, T: Deserialize<'de> + Default + PartialEq> Deserialize<'de> for Positive<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = T::deserialize(deserializer)?;
        if value == T::default() { Err(D::Error::custom(NOT_POSITIVE)) } else { Ok(Self(value)) }
    }
}

fn span<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
    let refused = || D::Error::custom(format_args!("{text:?} is not a duration: write it with its unit, such as 30s"));
    humantime::parse_duration(&text).map(Some).map_err(|_| refused())
}

fn positive_span<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    match span(deserializer)? {
        Some(Duration::ZERO) => Err(D::Error::custom(NOT_POSITIVE)),
        span => Ok(span),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capabilities::{Scratch, SystemsAccess};

    fn read(text: &str) -> Result<Manifest, String> {
        let file = Path::new("plugins/echo/plugin.yaml");
        Manifest::read(text, file, &"echo".parse().unwrap()).map_err(|error| error.to_string())
    }

    fn refused(text: &str) -> String {
        read(text).unwrap_err()
    }

    #[test]
    fn every_key_is_read() {
        let manifest = read(
            r#"
description: Creates a new instance
component: provision.wasm
build: cargo build --release
arguments: [-u, script.py]
files: {directory: lib/python, at: /}
env: {LANG_OF_SCRIPT: eo, PORT: 80}
directory: /
imports: trap
invoke: main
dev: true
stderr: forward
calls:
  provision:
    description: Creates the instance <slug>
    access: public
    arguments: [provision.py]
    params:
      - {name: slug, description: Its name, pattern: "[a-z][a-z0-9-]{0,30}"}
      - {name: flavor, choices: [drupal-10, 11], default: 11}
    on_disconnect: detach
  list: {}
limits: {memory: 64MiB, time: 5m, cpu: 10s, output: 16MiB, processes: 4}
cancel: {grace: 2s, cleanup: true}
capabilities:
  mounts: [{name: instances, at: /instances, write: true}]
  http: ["https://api.example.org"]
  env: [LANG]
  secrets: [API_KEY]
  systems: write
  scratch: 64MiB
"#,
        )
        .unwrap();
        assert_eq!(manifest.component.as_deref(), Some(Path::new("provision.wasm")));
        assert_eq!(manifest.build.as_deref(), Some("cargo build --release"));
        assert_eq!(manifest.arguments, ["-u", "script.py"]);
        assert_eq!(manifest.files.directory, Path::new("lib/python"));
        assert_eq!((manifest.files.wanted, manifest.files.at.as_str()), (Wanted::Yes, "/"));
        let env: Vec<_> = manifest.env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(env, [("LANG_OF_SCRIPT", "eo"), ("PORT", "80")]);
        assert_eq!(manifest.directory.as_ref().map(GuestPath::as_str), Some("/"));
        assert_eq!(manifest.linking, Linking { unknown: UnknownImports::Trap, invoke: Some("main".into()) });
        assert!(manifest.dev);
        assert_eq!(manifest.stderr, Stderr::Forward);
        let provision = &manifest.calls["provision"];
        assert_eq!((provision.access, provision.on_disconnect), (Access::Public, OnDisconnect::Detach));
        assert_eq!(
            (provision.arguments.as_slice(), manifest.calls["list"].arguments.len()),
            (&["provision.py".into()][..], 0)
        );
        assert_eq!(provision.params.as_ref().unwrap()[1].default.as_deref(), Some("11"));
        assert_eq!((manifest.calls["list"].access, manifest.calls["list"].params.is_none()), (Access::Scoped, true));
        assert_eq!(manifest.limits.time, Some(Duration::from_secs(300)));
        assert_eq!((manifest.limits.output, manifest.limits.processes), (Some(Size::mib(16)), Some(4)));
        assert_eq!(manifest.cancel, Cancel { grace: Some(Duration::from_secs(2)), cleanup: true });
        let asked = &manifest.capabilities;
        let mount = &asked.mounts[0];
        assert_eq!((mount.name.as_str(), mount.at.as_str(), mount.write), ("instances", "/instances", true));
        assert_eq!(asked.http[0].as_str(), "https://api.example.org");
        assert_eq!((asked.env[0].as_str(), asked.secrets[0].as_str()), ("LANG", "API_KEY"));
        assert_eq!((asked.systems, asked.scratch), (Some(SystemsAccess::Write), Some(Scratch(Size::mib(64)))));
    }

    #[test]
    fn empty_manifest_provides_one_call_named_after_the_directory() {
        for manifest in [read("{}").unwrap(), Manifest::of(&"echo".parse().unwrap())] {
            assert_eq!(manifest.calls.keys().map(CallName::as_str).collect::<Vec<_>>(), ["echo"]);
            assert!(manifest.calls["echo"].params.is_none());
            assert_eq!(manifest.limits, Lowered::default());
            assert!(manifest.capabilities.is_empty());
        }
    }

    #[test]
    fn every_form_of_files_is_read() {
        let files = |text: &str| read(text).unwrap().files;
        assert_eq!(files("{}"), Files::default());
        assert_eq!(files("files: false").wanted, Wanted::No);
        assert_eq!(files("files: true"), Files { wanted: Wanted::Yes, ..Files::default() });
        assert_eq!(files("files: ./lib").directory, Path::new("lib"));
        assert_eq!(files("files: {at: /usr/lib}").at.as_str(), "/usr/lib");
    }

    #[test]
    fn places_of_a_guest_are_distinct() {
        let check = |text: &str, has_files| read(text).unwrap().check_places(has_files);
        let mount = "capabilities: {mounts: [{name: a, at: /plugin}]}";
        assert!(check(mount, false).is_ok());
        assert!(check(mount, true).unwrap_err().starts_with("two things are at /plugin"));
        assert!(check("dev: true\nfiles: {at: /dev}", true).unwrap_err().starts_with("two things are at /dev"));
        assert!(check("directory: /plugin", true).is_ok());
        assert!(check("directory: /plugin", false).unwrap_err().starts_with("directory: nothing is at /plugin"));
    }

    #[test]
    fn error_names_its_place() {
        assert_eq!(
            refused("description: x\ncalls:\n  echo:\n    acess: public\n"),
            "plugins/echo/plugin.yaml:4:5: calls.echo.acess: unknown key: did you mean access? (allowed: description, \
             access, arguments, params, on_disconnect)"
        );
        assert_eq!(
            refused("calls:\n  echo:\n    params:\n      - {name: a, default: x}\n      - {name: b}\n"),
            "plugins/echo/plugin.yaml:3:5: calls.echo.params: \"b\" is required, but follows the optional \"a\": put it \
             before, or make it optional"
        );
        assert_eq!(
            refused("calls:\n  echo:\n    params:\n      - name: a\n      - name: b\n        pattern: '['\n"),
            "plugins/echo/plugin.yaml:5:9: calls.echo.params[1]: pattern [ is not a regular expression: unclosed \
             character class"
        );
        assert_eq!(
            refused("calls:\n  /x: {}\n"),
            "plugins/echo/plugin.yaml:2:3: calls./x: not a name for a call: use 1 to 64 letters, digits, dots, \
             underscores or dashes, beginning with a letter or a digit"
        );
    }

    #[test]
    fn senseless_value_is_refused() {
        for (text, why) in [
            ("", "it is empty"),
            ("calls:", "calls: it has no value"),
            ("calls: {a: {params: }}", "calls.a.params: it has no value"),
            ("calls: {a: {params: [{name: b, pattern: }]}}", "calls.a.params[0].pattern: it has no value"),
            ("calls: {}", "calls: no call is listed"),
            ("calls: {a: {}, a: {}}", "calls.a: this key is there twice"),
            ("component: ../x.wasm", "component: \"../x.wasm\" is not a module of this directory"),
            ("component: /x.wasm", "not a module"),
            ("component: x.so", "not a module"),
            ("component: ''", "not a module"),
            ("arguments: [\"a\\0\"]", "arguments[0]: an argument cannot contain a NUL"),
            ("stderr: both", "stderr: \"both\" is not allowed: allowed: log, forward"),
            ("limits: {output: 0}", "limits.output: 0 lets nothing through"),
            ("limits: {time: 0s}", "limits.time: 0 lets nothing through"),
            ("limits: {time: 5}", "limits.time: \"5\" is not a duration"),
            ("limits: {processes: 0}", "limits.processes: 0 lets nothing through"),
            ("limits: {stack: 1MiB}", "limits.stack: unknown key"),
            ("cancel: {grace: soon}", "cancel.grace: \"soon\" is not a duration"),
            ("capabilities: {mounts: [{name: a, at: x}]}", "capabilities.mounts[0].at: \"x\" is not a place"),
            ("capabilities: {mounts: [{name: a, at: /x/../y}]}", "not a place"),
            ("capabilities: {mounts: [{name: a, at: /x/}]}", "not a place"),
            ("capabilities: {mounts: [{name: a, at: //}]}", "not a place"),
            ("files: ../x", "files: \"../x\" is not a directory inside the plugin's"),
            ("files: /etc", "is not a directory inside"),
            ("files: .", "is not a directory inside"),
            ("files: 7", "files: "),
            ("files: {at: x}", "files.at: \"x\" is not a place"),
            ("files: {form: x}", "files.form: unknown key"),
            ("env: {A: \"b\\0\"}", "env.A: a variable cannot contain a NUL"),
            ("env: {DISTILLERY_USER: root}", "is not the name of a variable"),
            ("env: {A: b, A: c}", "env.A: this key is there twice"),
            ("env: {A: b}\ncapabilities: {secrets: [A]}", "the variable A is a constant and a capability"),
            ("directory: relative", "directory: \"relative\" is not a place"),
            ("imports: stub", "imports: \"stub\" is not allowed: allowed: refuse, trap"),
            ("calls: {a: {arguments: [\"a\\0\"]}}", "an argument cannot contain a NUL"),
            ("capabilities: {mounts: [{name: a, at: /x}, {name: b, at: /x}]}", "capabilities: two things are at /x"),
            ("capabilities: {mounts: [{name: a, at: /tmp}], scratch: 1MiB}", "capabilities: two things are at /tmp"),
            ("capabilities: {env: [A], secrets: [A]}", "capabilities: the variable A is asked for twice"),
            ("capabilities: {env: [DISTILLERY_USER]}", "capabilities.env[0]: \"DISTILLERY_USER\" is not the name"),
            ("capabilities: {env: [A=B]}", "not the name of a variable"),
            ("capabilities: {systems: all}", "capabilities.systems: \"all\" is not allowed: allowed: read, write"),
            ("capabilities: {scratch: 0}", "capabilities.scratch: 0 holds nothing"),
            ("capabilities: {network: true}", "capabilities.network: unknown key"),
        ] {
            let refused = refused(text);
            assert!(refused.contains(why), "{refused} / {why}");
        }
    }
}
