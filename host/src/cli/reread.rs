//! The configuration, read again while the server runs: what of it is taken over, and what needs a restart.

use crate::{
    config::{Changes, Config},
    plugin::{Operator, archive::Archive, granted::Grants, load::Loader, watch::Reread},
    runtime::{Runtime, ScratchRoot, systems::Directory},
    telemetry::Level,
};
use std::{path::PathBuf, sync::Arc};

/// Reads the configuration that the server was started with, again and again.
pub(super) struct Rereader {
    /// The file that was named, if any was.
    path: Option<PathBuf>,
    started: Config,
    /// What was taken over until now.
    running: Config,
    runtime: Arc<Runtime>,
    systems: Option<Arc<dyn Directory>>,
    scratch: Arc<ScratchRoot>,
    archive: Option<Arc<Archive>>,
    level: Level,
}

impl Rereader {
    /// Plugins are loaded by `loader` until then.
    pub(super) fn new(started: Config, path: Option<PathBuf>, loader: &Loader, level: Level) -> Self {
        let grants = &loader.operator.grants;
        Self {
            path,
            running: started.clone(),
            started,
            runtime: loader.runtime.clone(),
            systems: grants.systems.clone(),
            scratch: grants.scratch.clone(),
            archive: loader.archive.clone(),
            level,
        }
    }

    /// What is different now. A configuration that is wrong changes nothing.
    pub(super) fn reread(&mut self) -> Result<Reread, String> {
        let new = super::load(self.path.as_deref()).map_err(|error| error.to_string())?;
        let Changes { plugins: mut changed, log_level, restart } = Changes::between(&self.started, &self.running, &new);
        let operator = super::operator(&new).map_err(|error| format!("{error:#}"))?;
        // Also where no key has another value: a file that one names may have another content.
        let grants = Grants { systems: self.systems.clone(), scratch: self.scratch.clone(), ..operator.grants };
        let operator = Operator { limits: new.limits_within(&self.started), grants, ..operator };
        let (runtime, archive) = (self.runtime.clone(), self.archive.clone());
        let loader = Loader { runtime, operator, max_module: new.limits.module, archive };
        if log_level {
            self.level.set(&new.log).map_err(|error| format!("{error:#}"))?;
            changed.push("log.level");
        }
        self.running = new;
        Ok(Reread { loader, changed, restart })
    }
}
