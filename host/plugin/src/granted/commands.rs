//! Granted commands, made ready to start: the program is found and secrets are read when the plugin loads.

use super::{GrantError, OperatorGrants};
use distillery_command::{Command, KernelLimits, Paths, can_confine};
use distillery_config::{CommandGrant, CommandPaths, CommandValue, Grant};
use distillery_core::secret::Secret;
use rustix::fs::Access;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Where a program without a path is looked for, if the grant's environment has no PATH.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

impl OperatorGrants {
    /// Returns the commands `names` of the plugin.
    pub(super) fn commands(
        &self,
        plugin: &str,
        names: &[String],
        grant: &Grant,
    ) -> Result<BTreeMap<String, Arc<Command>>, GrantError> {
        let each = names.iter().map(|name| {
            let command = self.command(plugin, name, &grant.commands[name]).map_err(|why| GrantError::Command {
                plugin: plugin.to_owned(),
                name: name.clone(),
                why,
            })?;
            Ok((name.clone(), Arc::new(command)))
        });
        each.collect()
    }

    fn command(&self, plugin: &str, name: &str, grant: &CommandGrant) -> Result<Command, String> {
        let CommandGrant { line, directory, env, timeout, output, concurrent, limits, paths } = grant;
        let env = env.iter().map(|(variable, value)| match value {
            CommandValue::Text(text) => Ok((variable.clone(), Secret::new(text.clone()))),
            CommandValue::Secret(source) => match self.secret(source) {
                Ok(secret) => Ok((variable.clone(), secret)),
                Err(why) => Err(format!("the variable {variable}: {why}")),
            },
        });
        let env = env.collect::<Result<Vec<_>, _>>()?;
        let path = env.iter().find(|(name, _)| name == "PATH").map_or(PATH, |(_, path)| path.reveal());
        if !directory.is_dir() {
            return Err(format!("its directory {} does not exist", directory.display()));
        }
        Ok(Command {
            plugin: plugin.to_owned(),
            name: name.to_owned(),
            line: line.clone(),
            program: program(line.program(), path, directory)?,
            directory: directory.clone(),
            timeout: *timeout,
            output: *output,
            concurrent: *concurrent,
            limits: KernelLimits {
                memory: limits.memory.map(|size| size.get()),
                cpu: limits.cpu.map(|time| time.as_secs()),
                files: limits.files,
            },
            paths: paths.as_ref().map(confined).transpose()?,
            slots: self.commands.clone(),
            env,
        })
    }
}

/// Returns the file of the program `name`.
fn program(name: &str, path: &str, directory: &Path) -> Result<PathBuf, String> {
    let runs = |file: &PathBuf| file.is_file() && rustix::fs::access(file, Access::EXEC_OK).is_ok();
    if name.contains('/') {
        let file = directory.join(name);
        return Some(file).filter(runs).ok_or_else(|| format!("{name} is no program that the server may run"));
    }
    // An empty part would mean the working directory.
    let mut files = path.split(':').filter(|part| part.starts_with('/')).map(|part| Path::new(part).join(name));
    files.find(runs).ok_or_else(|| format!("there is no program {name} in {path}"))
}

fn confined(CommandPaths { read, write }: &CommandPaths) -> Result<Paths, String> {
    if !can_confine() {
        return Err("this kernel cannot confine it to paths, as it has no Landlock".to_owned());
    }
    match read.iter().chain(write).find(|path| !path.exists()) {
        Some(missing) => Err(format!("{} does not exist", missing.display())),
        None => Ok(Paths { read: read.clone(), write: write.clone() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn program_is_found_in_absolute_places_only() {
        let here = Path::new("/bin");
        assert!(program("sh", "/nowhere:/bin", here).unwrap().ends_with("bin/sh"));
        assert!(program("/bin/sh", "", here).is_ok() && program("./sh", "", here).is_ok());
        assert_eq!(program("sh", ":.:bin", here).unwrap_err(), "there is no program sh in :.:bin");
        assert!(program("/etc/passwd", PATH, here).unwrap_err().contains("is no program that the server may run"));
    }
}
