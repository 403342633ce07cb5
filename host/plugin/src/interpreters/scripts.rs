//! What an interpreter makes of the manifest of a plugin: arguments with the script, constants, linking.

use super::Interpreter;
use crate::{files::Tree, manifest::Manifest};

impl Interpreter {
    /// Completes the manifest of a plugin with what it needs to run the scripts of its calls, which are among `files`.
    pub(crate) fn complete(&self, plugin: &mut Manifest, files: Option<&Tree>) -> Result<(), String> {
        let how = &self.manifest;
        let (directory, at) = (plugin.files.directory.display(), plugin.files.at.as_str().trim_end_matches('/'));
        for (name, call) in &mut plugin.calls {
            let Some(script) = &call.script else {
                return Err(format!("the call {name} has no script: write script: FILE, which is below {directory}/"));
            };
            let script = script.to_string_lossy();
            if !files.is_some_and(|files| files.has(&script)) {
                return Err(format!("the script {script:?} of the call {name} is not in {directory}/: put it there"));
            }
            let own = plugin.arguments.iter().chain(&call.arguments).cloned();
            call.arguments = how.arguments(&format!("{at}/{script}")).into_iter().chain(own).collect();
        }
        plugin.arguments.clear();
        let asked = &plugin.capabilities;
        let taken =
            |name| plugin.env.iter().map(|(own, _)| own).chain(&asked.env).chain(&asked.secrets).any(|it| it == name);
        let constants: Vec<_> = how.env.iter().filter(|(name, _)| !taken(name)).cloned().collect();
        plugin.env.splice(0..0, constants);
        plugin.library = self.has_files().then(|| how.files.at.clone());
        plugin.linking = how.linking.clone();
        plugin.dev |= how.dev;
        Ok(())
    }
}
