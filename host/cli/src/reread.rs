//! Rereads the configuration while the server runs: applies some keys, and reports those that need a restart.

use distillery_command::Slots;
use distillery_config::{Changes, Config};
use distillery_core::systems::Directory;
use distillery_http::hooks::{Hooks, Table};
use distillery_observe::telemetry::Level;
use distillery_plugin::{
    Operator, archive::Archive, files::store::FileStore, granted::OperatorGrants, load::Loader, watch::Reread,
};
use distillery_process::schedules::Scheduler;
use distillery_runtime::{Runtime, ScratchRoot};
use std::{path::PathBuf, sync::Arc};

/// The rereader of the configuration that the server was started with.
pub(super) struct Rereader {
    /// The named file, if any.
    path: Option<PathBuf>,
    started: Config,
    /// The configuration including applied changes.
    running: Config,
    runtime: Arc<Runtime>,
    systems: Option<Arc<dyn Directory>>,
    scratch: Arc<ScratchRoot>,
    files: Arc<FileStore>,
    /// The commands that run, under the old grants too.
    commands: Arc<Slots>,
    archive: Option<Arc<Archive>>,
    scheduler: Arc<Scheduler>,
    hooks: Arc<Hooks>,
    level: Level,
}

impl Rereader {
    /// Returns a rereader; `loader` loads plugins until the first change.
    pub(super) fn new(
        started: Config,
        path: Option<PathBuf>,
        loader: &Loader,
        scheduler: Arc<Scheduler>,
        hooks: Arc<Hooks>,
        level: Level,
    ) -> Self {
        let grants = &loader.operator.grants;
        Self {
            path,
            running: started.clone(),
            started,
            runtime: loader.runtime.clone(),
            systems: grants.systems.clone(),
            scratch: grants.scratch.clone(),
            files: grants.files.clone(),
            commands: grants.commands.clone(),
            archive: loader.archive.clone(),
            scheduler,
            hooks,
            level,
        }
    }

    /// Rereads and applies the changes. A wrong configuration changes nothing.
    pub(super) fn reread(&mut self) -> Result<Reread, String> {
        let new = super::setup::load(self.path.as_deref()).map_err(|error| error.to_string())?;
        let Changes { plugins: mut changed, log_level, schedules, restart } =
            Changes::between(&self.started, &self.running, &new);
        // Read even if no key has changed: the content of a named file can have.
        let hooks = Table::open(&new.hooks).map_err(|error| error.to_string())?;
        let operator = super::setup::operator(&new).map_err(|error| format!("{error:#}"))?;
        let grants = OperatorGrants {
            systems: self.systems.clone(),
            scratch: self.scratch.clone(),
            files: self.files.clone(),
            commands: self.commands.clone(),
            ..operator.grants
        };
        let operator = Operator { limits: new.limits_within(&self.started), grants, ..operator };
        let (runtime, archive) = (self.runtime.clone(), self.archive.clone());
        let interpreters = Arc::new(super::setup::interpreters(&new));
        let loader = Loader { runtime, operator, bounds: super::setup::bounds(&new), interpreters, archive };
        if log_level {
            self.level.set(&new.log).map_err(|error| format!("{error:#}"))?;
            changed.push("log.level");
        }
        if schedules {
            // The last step that can fail.
            self.scheduler.configure(new.schedules.clone()).map_err(|error| error.to_string())?;
            changed.push("schedules");
        }
        self.hooks.replace(hooks);
        self.running = new;
        Ok(Reread { loader, changed, restart })
    }
}
