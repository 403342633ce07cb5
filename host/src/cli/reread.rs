//! The configuration, read again while the server runs: what of it is taken over, and what needs a restart.

use crate::{
    config::{Changes, Config},
    plugin::{load::Loader, watch::Reread},
    runtime::{Runtime, systems::Directory},
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
    level: Level,
}

impl Rereader {
    /// Plugins are loaded by `loader` until then.
    pub(super) fn new(started: Config, path: Option<PathBuf>, loader: &Loader, level: Level) -> Self {
        let (runtime, systems) = (loader.runtime.clone(), loader.operator.grants.systems.clone());
        Self { path, running: started.clone(), started, runtime, systems, level }
    }

    /// What is different now. A configuration that is wrong changes nothing.
    pub(super) fn reread(&mut self) -> Result<Reread, String> {
        let new = super::load(self.path.as_deref()).map_err(|error| error.to_string())?;
        let Changes { plugins: mut changed, log_level, restart } = Changes::between(&self.started, &self.running, &new);
        let operator = super::operator(&new).map_err(|error| format!("{error:#}"))?;
        let loader = (!changed.is_empty()).then(|| {
            let mut operator = crate::plugin::Operator { limits: new.limits_within(&self.started), ..operator };
            operator.grants.systems = self.systems.clone();
            Loader { runtime: self.runtime.clone(), operator, max_module: new.limits.module }
        });
        if log_level {
            self.level.set(&new.log).map_err(|error| format!("{error:#}"))?;
            changed.push("log.level");
        }
        self.running = new;
        Ok(Reread { loader, changed, restart })
    }
}
