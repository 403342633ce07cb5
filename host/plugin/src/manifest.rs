//! Reads and checks `plugin.yaml`, the manifest of a plugin.
//!
//! This module reads no module and grants nothing: the manifest only contains requests.

mod files;
mod interpreter;
mod limits;
mod scripts;

use super::{
    capabilities::{Capabilities, CommandName, EnvName, GuestPath, first_twice},
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
use files::InnerPath;
pub use files::{Files, Wanted};
pub use interpreter::{INTERPRETER_FILE, InterpreterManifest};
use limits::{WrittenLimits, span};
use scripts::InterpreterName;
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    fmt,
    path::{Component, Path, PathBuf},
    time::Duration,
};

/// A manifest is about a page; a larger file is not one. The limit also bounds the time to parse a manifest. The parser
/// needs the square of the depth: two seconds for a file of this size with a bracket in every word.
pub(crate) const MAX_SIZE: Size = Size::kib(64);
/// The file name of the manifest in the directory of a plugin.
pub const FILE: &str = "plugin.yaml";
/// The component of a plugin that runs a granted command.
pub(crate) const BUILTIN_COMMAND: &str = "builtin:command";

/// The checked contents of a manifest.
#[derive(Clone, Debug)]
pub struct Manifest {
    pub description: String,
    /// The module, relative to the directory; `None` means the only one in it.
    pub component: Option<PathBuf>,
    /// The granted command that is run instead of a module.
    pub command: Option<CommandName>,
    /// The installed interpreter that is run instead of a module.
    pub interpreter: Option<CallName>,
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
    /// The place of the interpreter's files, if it has any.
    pub library: Option<GuestPath>,
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
        let library = self.library.as_ref().map(GuestPath::as_str);
        let places: Vec<_> = mounts.chain(files).chain(scratch).chain(library).collect();
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
        let script = written.script.map(|InnerPath(path)| path);
        let calls = match written.calls {
            Some(Calls(calls)) => {
                calls.into_iter().map(|(Name(name), call)| (name.clone(), call.named(name, &script))).collect()
            }
            None => {
                let description = written.description.clone();
                BTreeMap::from([(name.clone(), CallSpec { description, script, ..CallSpec::any(name.clone()) })])
            }
        };
        let mut capabilities = written.capabilities;
        let (component, command) = match written.component {
            Some(Program::Command) => (None, written.command),
            Some(Program::Module(ModulePath(path))) => (Some(path), None),
            None => (None, None),
        };
        capabilities.commands.extend(command.clone().filter(|name| !capabilities.commands.contains(name)));
        Self {
            description: written.description,
            component,
            command,
            interpreter: written.interpreter.map(|InterpreterName(name)| name),
            build: written.build,
            files: written.files,
            arguments: written.arguments.into_iter().map(|Argument(argument)| argument).collect(),
            env: written.env.into_iter().map(|(name, Constant(value))| (name, value)).collect(),
            directory: written.directory,
            library: None,
            linking: Linking { unknown: written.imports.into(), invoke: written.invoke },
            dev: written.dev,
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
    interpreter: Option<InterpreterName>,
    script: Option<InnerPath>,
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
        if let Some(name) = env.iter().chain(secrets).find(|name| written.env.contains_key(*name)) {
            return Err(format!("the variable {name} is a constant and a capability: remove one"));
        }
        written.check_scripts()?;
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

/// The treatment of imports that the server does not have.
#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum WrittenImports {
    #[default]
    Refuse,
    Trap,
}

impl From<WrittenImports> for UnknownImports {
    fn from(imports: WrittenImports) -> Self {
        match imports {
            WrittenImports::Refuse => Self::Refuse,
            WrittenImports::Trap => Self::Trap,
        }
    }
}

/// The value of a constant variable.
#[derive(Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Constant(pub String);

impl TryFrom<String> for Constant {
    type Error = &'static str;

    fn try_from(value: String) -> Result<Self, &'static str> {
        if value.contains('\0') { Err("a variable cannot contain a NUL character") } else { Ok(Self(value)) }
    }
}

/// What a plugin runs.
#[derive(Deserialize)]
#[serde(try_from = "PathBuf")]
enum Program {
    Module(ModulePath),
    /// The guest in this program that runs a granted command.
    Command,
}

impl TryFrom<PathBuf> for Program {
    type Error = String;

    fn try_from(path: PathBuf) -> Result<Self, String> {
        if path == Path::new(BUILTIN_COMMAND) {
            return Ok(Self::Command);
        }
        ModulePath::try_from(path).map(Self::Module).map_err(|why| format!("{why}, or {BUILTIN_COMMAND}"))
    }
}

/// The path of a module within a directory.
#[derive(Deserialize)]
#[serde(try_from = "PathBuf")]
pub(crate) struct ModulePath(pub PathBuf);

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
pub(crate) struct Argument(pub String);

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
    script: Option<InnerPath>,
    arguments: Vec<Argument>,
    params: Option<ParamList>,
    on_disconnect: OnDisconnect,
    secret_value: bool,
    output: KeptOutput,
}

/// What the history keeps of the output of a call.
#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum KeptOutput {
    #[default]
    Keep,
    None,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum WrittenAccess {
    Public,
    #[default]
    Scoped,
}

impl WrittenCall {
    fn named(self, name: CallName, script: &Option<PathBuf>) -> CallSpec {
        CallSpec {
            name,
            description: self.description,
            access: match self.access {
                WrittenAccess::Public => Access::Public,
                WrittenAccess::Scoped => Access::Scoped,
            },
            script: self.script.map(|InnerPath(path)| path).or_else(|| script.clone()),
            arguments: self.arguments.into_iter().map(|Argument(argument)| argument).collect(),
            params: self.params.map(|ParamList(params)| params),
            on_disconnect: self.on_disconnect,
            secret_value: self.secret_value,
            keeps_output: self.output == KeptOutput::Keep,
        }
    }
}

#[cfg(test)]
mod tests;
