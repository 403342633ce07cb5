//! Reads and checks `plugin.yaml`, the manifest of a plugin.
//!
//! This module reads no module and grants nothing: the manifest only contains requests.

use super::{
    capabilities::{Capabilities, CommandName},
    params::{CallSpec, ParamList},
};
use distillery_core::{
    auth::Access,
    call::{CALL_NAME_FORM, CallName, OnDisconnect},
    limits::Lowered,
    size::Size,
    yaml,
};
use serde::{Deserialize, Deserializer, de::Error as _};
use std::{
    collections::BTreeMap,
    fmt,
    path::{Component, Path, PathBuf},
    time::Duration,
};

/// The file name of the manifest in the directory of a plugin.
pub const FILE: &str = "plugin.yaml";
/// The component of a plugin that runs a granted command.
pub const BUILTIN_COMMAND: &str = "builtin:command";

/// The checked contents of a manifest.
#[derive(Clone, Debug)]
pub struct Manifest {
    pub description: String,
    /// The module, relative to the directory; `None` means the only one in it.
    pub component: Option<PathBuf>,
    /// The granted command that is run instead of a module.
    pub command: Option<CommandName>,
    /// The command that builds the module.
    pub build: Option<String>,
    /// Arguments between the name of the call and its parameters, such as the script of an interpreter.
    pub arguments: Vec<String>,
    pub stderr: Stderr,
    pub calls: BTreeMap<CallName, CallSpec>,
    pub limits: Lowered,
    pub cancel: Cancel,
    pub capabilities: Capabilities,
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
        let Consistent(written) = yaml::read(text, file)?;
        Ok(Self::from_written(written, name))
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
        let mut capabilities = written.capabilities;
        let (component, command) = match written.component {
            Some(Program::Command) => (None, written.command),
            Some(Program::Module(path)) => (Some(path), None),
            None => (None, None),
        };
        capabilities.commands.extend(command.clone().filter(|name| !capabilities.commands.contains(name)));
        Self {
            description: written.description,
            component,
            command,
            build: written.build,
            arguments: written.arguments.into_iter().map(|Argument(argument)| argument).collect(),
            stderr: written.stderr,
            calls,
            limits: written.limits.into(),
            cancel: written.cancel,
            capabilities,
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Written {
    description: String,
    component: Option<Program>,
    command: Option<CommandName>,
    build: Option<String>,
    arguments: Vec<Argument>,
    stderr: Stderr,
    calls: Option<Calls>,
    limits: WrittenLimits,
    cancel: Cancel,
    capabilities: Capabilities,
}

/// A manifest whose keys fit together.
#[derive(Deserialize)]
#[serde(try_from = "Written")]
struct Consistent(Written);

impl TryFrom<Written> for Consistent {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        match (&written.component, &written.command) {
            (Some(Program::Command), None) => {
                Err(format!("component: {BUILTIN_COMMAND} needs a command: name one with command:"))
            }
            (Some(Program::Module(_)) | None, Some(_)) => {
                Err(format!("command: needs component: {BUILTIN_COMMAND}; a module starts its commands itself"))
            }
            (Some(Program::Command), Some(_)) if written.build.is_some() || !written.arguments.is_empty() => {
                Err(format!(
                    "component: {BUILTIN_COMMAND} has nothing to build and no arguments: remove build and arguments"
                ))
            }
            _ => Ok(Self(written)),
        }
    }
}

/// What a plugin runs.
#[derive(Deserialize)]
#[serde(try_from = "PathBuf")]
enum Program {
    Module(PathBuf),
    /// The guest in this program that runs a granted command.
    Command,
}

impl TryFrom<PathBuf> for Program {
    type Error = String;

    fn try_from(path: PathBuf) -> Result<Self, String> {
        if path == Path::new(BUILTIN_COMMAND) {
            return Ok(Self::Command);
        }
        let inside = path.components().all(|part| matches!(part, Component::Normal(_)));
        if inside && is_module(&path) {
            Ok(Self::Module(path))
        } else {
            Err(format!(
                "{path:?} is not a module of this directory: name a .wasm or .wat file inside it, or {BUILTIN_COMMAND}"
            ))
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
stderr: forward
calls:
  provision:
    description: Creates the instance <slug>
    access: public
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
  commands: [compose, docker.ps]
"#,
        )
        .unwrap();
        assert_eq!(manifest.component.as_deref(), Some(Path::new("provision.wasm")));
        assert_eq!(manifest.build.as_deref(), Some("cargo build --release"));
        assert_eq!(manifest.arguments, ["-u", "script.py"]);
        assert_eq!(manifest.stderr, Stderr::Forward);
        let provision = &manifest.calls["provision"];
        assert_eq!((provision.access, provision.on_disconnect), (Access::Public, OnDisconnect::Detach));
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
        assert_eq!(asked.commands.iter().map(CommandName::as_str).collect::<Vec<_>>(), ["compose", "docker.ps"]);
        assert!(manifest.command.is_none());
    }

    #[test]
    fn command_without_a_module_asks_for_its_grant() {
        let manifest = read("description: Restarts it\ncomponent: builtin:command\ncommand: restart-web\n").unwrap();
        assert_eq!(manifest.command.as_ref().map(CommandName::as_str), Some("restart-web"));
        assert_eq!((manifest.component.is_none(), manifest.capabilities.commands.len()), (true, 1));
        let both = "{component: 'builtin:command', command: x, capabilities: {commands: [x]}}";
        assert_eq!(read(both).unwrap().capabilities.commands.len(), 1);
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
    fn error_names_its_place() {
        assert_eq!(
            refused("description: x\ncalls:\n  echo:\n    acess: public\n"),
            "plugins/echo/plugin.yaml:4:5: calls.echo.acess: unknown key: did you mean access? (allowed: description, \
             access, params, on_disconnect)"
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
            ("component: builtin:shell", "not a module of this directory"),
            ("component: builtin:command", "component: builtin:command needs a command"),
            ("command: x", "command: needs component: builtin:command"),
            ("{component: x.wasm, command: x}", "command: needs component: builtin:command"),
            ("{component: 'builtin:command', command: x, arguments: [y]}", "has nothing to build and no arguments"),
            ("{component: 'builtin:command', command: x y}", "command: \"x y\" is not the name of a command"),
            ("capabilities: {commands: [a, a]}", "capabilities: the command a is asked for twice"),
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
            ("capabilities: {mounts: [{name: a, at: /}]}", "not a place"),
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
