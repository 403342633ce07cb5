//! Reads and checks `interpreter.yaml`: the way in which an interpreter takes a script.

use super::{
    Argument, Constant, ModulePath, WrittenImports,
    files::{Files, InnerPath, Wanted},
};
use crate::capabilities::{EnvName, GuestPath};
use distillery_core::yaml;
use distillery_runtime::Linking;
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// The file name of the manifest in the directory of an interpreter.
pub const INTERPRETER_FILE: &str = "interpreter.yaml";
/// The guest's path of the files of an interpreter, by default.
const AT: &str = "/interpreter";
/// The placeholder for the guest's path of the script.
const SCRIPT: &str = "{script}";

/// The checked contents of the manifest of an interpreter.
#[derive(Clone, Debug)]
pub struct InterpreterManifest {
    pub description: String,
    /// The module, relative to the directory; `None` means the only one in it.
    pub component: Option<PathBuf>,
    /// The files that the interpreter needs, such as a standard library.
    pub files: Files,
    /// Constants in the environment of every process, which a plugin can override.
    pub env: Vec<(EnvName, String)>,
    pub linking: Linking,
    /// Whether guests have a small `/dev`.
    pub dev: bool,
    arguments: Vec<String>,
}

impl InterpreterManifest {
    /// Parses `text`, the manifest at `file`.
    pub fn read(text: &str, file: &Path) -> Result<Self, yaml::Error> {
        let Checked(written) = yaml::read(text, file)?;
        let default = Files { at: GuestPath::try_from(AT.to_owned()).expect("a path"), ..Files::default() };
        let files = match written.files {
            None => default,
            Some(files) => Files {
                wanted: Wanted::Yes,
                directory: files.directory.map_or(default.directory, |InnerPath(path)| path),
                at: files.at.unwrap_or(default.at),
            },
        };
        Ok(Self {
            description: written.description,
            component: written.component.map(|ModulePath(path)| path),
            files,
            env: written.env.into_iter().map(|(name, Constant(value))| (name, value)).collect(),
            linking: Linking { unknown: written.imports.into(), invoke: written.invoke },
            dev: written.dev,
            arguments: written.arguments.into_iter().map(|Argument(argument)| argument).collect(),
        })
    }

    /// Returns the arguments for the script at this path of the guest.
    pub fn arguments(&self, script: &str) -> Vec<String> {
        self.arguments.iter().map(|argument| argument.replace(SCRIPT, script)).collect()
    }
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Written {
    description: String,
    component: Option<ModulePath>,
    files: Option<WrittenFiles>,
    arguments: Vec<Argument>,
    #[serde(deserialize_with = "yaml::distinct")]
    env: BTreeMap<EnvName, Constant>,
    imports: WrittenImports,
    invoke: Option<String>,
    dev: bool,
}

impl Default for Written {
    fn default() -> Self {
        Self {
            description: String::new(),
            component: None,
            files: None,
            arguments: vec![Argument(SCRIPT.to_owned())],
            env: BTreeMap::new(),
            imports: WrittenImports::default(),
            invoke: None,
            dev: false,
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct WrittenFiles {
    directory: Option<InnerPath>,
    at: Option<GuestPath>,
}

/// A manifest that says where the script goes.
#[derive(Deserialize)]
#[serde(try_from = "Written")]
struct Checked(Written);

impl TryFrom<Written> for Checked {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        if written.arguments.iter().any(|Argument(argument)| argument.contains(SCRIPT)) {
            Ok(Self(written))
        } else {
            Err(format!("arguments: no {SCRIPT} in them: write it where the interpreter takes the script's path"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<InterpreterManifest, String> {
        InterpreterManifest::read(text, Path::new(INTERPRETER_FILE)).map_err(|error| error.to_string())
    }

    #[test]
    fn interpreter_takes_the_script_first_by_default() {
        let manifest = read("description: x").unwrap();
        assert_eq!(manifest.arguments("/plugin/a.py"), ["/plugin/a.py"]);
        assert_eq!((manifest.files.at.as_str(), manifest.files.wanted), (AT, Wanted::IfThere));
    }

    #[test]
    fn manifest_says_where_the_script_goes() {
        let manifest = read("{arguments: [-u, 'run={script}'], files: {at: /usr}}").unwrap();
        assert_eq!(manifest.arguments("/plugin/a.py"), ["-u", "run=/plugin/a.py"]);
        assert_eq!((manifest.files.at.as_str(), manifest.files.wanted), ("/usr", Wanted::Yes));
        let refused = read("arguments: [-u]").unwrap_err();
        assert!(refused.contains("no {script} in them"), "{refused}");
        assert!(read("component: ../x.wasm").is_err() && read("calls: {}").is_err());
    }
}
