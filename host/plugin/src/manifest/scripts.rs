//! Scripts in a manifest: the name of an interpreter, and the keys that go together with it.

use super::{Program, Wanted, Written, WrittenCall, WrittenImports};
use distillery_core::call::CallName;
use serde::Deserialize;

/// The name of an installed interpreter, which has the form of a call's.
#[derive(Deserialize)]
#[serde(try_from = "String")]
pub(super) struct InterpreterName(pub CallName);

impl TryFrom<String> for InterpreterName {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        let bad = |_| format!("{name:?} is not a name for an interpreter: `distillery interpreter list` has the names");
        name.parse().map(Self).map_err(bad)
    }
}

impl Written {
    /// Checks that scripts and an interpreter come together.
    pub(super) fn check_scripts(&self) -> Result<(), String> {
        let has_script = |call: &WrittenCall| call.script.is_some();
        let mut calls = self.calls.iter().flat_map(|calls| calls.0.values());
        if self.interpreter.is_none() {
            return if self.script.is_some() || calls.any(has_script) {
                Err("script: needs an interpreter: name one with interpreter:, such as python".to_owned())
            } else {
                Ok(())
            };
        }
        match &self.component {
            Some(Program::Module(_) | Program::Command) => {
                Err("interpreter: is what runs: remove component".to_owned())
            }
            None if self.command.is_some() => Err("interpreter: is what runs: remove command".to_owned()),
            None if self.imports != WrittenImports::Refuse || self.invoke.is_some() => {
                Err("the manifest of the interpreter says how it is linked: remove imports and invoke".to_owned())
            }
            None if self.files.wanted == Wanted::No => {
                Err("scripts are files of the plugin: remove files: false".to_owned())
            }
            None => Ok(()),
        }
    }
}
