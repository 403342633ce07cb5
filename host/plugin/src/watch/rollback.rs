//! The rollback to the previous generation.

use super::{NoWayBack, RolledBack, reconciler::Reconciler};
use crate::archive::Rollback;

impl Reconciler {
    /// Serves the previous version of a plugin, with its rights under the current rules.
    pub fn roll_back(&mut self, name: &str) -> Result<RolledBack, NoWayBack> {
        let snapshot = self.catalog.snapshot();
        let state = snapshot.plugins().get(name).filter(|state| state.is_there());
        let state = state.ok_or_else(|| NoWayBack::Unknown(name.to_owned()))?;
        let previous = state.previous.as_ref().ok_or_else(|| NoWayBack::NothingKept(name.to_owned()))?;
        let next_number = self.records.get(name).map_or(1, |record| record.generation + 1);
        let previous = previous.renewed(&self.loader.operator, &self.loader.bounds, next_number);
        let previous = previous.map_err(|error| NoWayBack::Refused(error.to_string()))?;
        let (generation, to) = (previous.generation, previous.digest.clone());
        let before = self.found.insert(name.to_owned(), Ok(previous));
        let next = self.next();
        if let Some(failure) = &next.plugins()[name].error {
            let refused = NoWayBack::Refused(failure.why.clone());
            self.found.extend(before.map(|before| (name.to_owned(), before)));
            return Err(refused);
        }
        tracing::info!(plugin = name, generation, "rolling back until the directory changes");
        let record = self.records.entry(name.to_owned()).or_default();
        record.generation = record.generation.max(generation);
        let rollback = Rollback { from: record.seen.clone(), to };
        record.rollback = Some(rollback.clone());
        let remembered = self.loader.archive.as_ref().map(|archive| archive.set_rollback(name, Some(rollback)));
        let forgotten = remembered.and_then(Result::err).map(|error| error.to_string());
        if let Some(error) = &forgotten {
            tracing::error!(plugin = name, error, "cannot save the rollback; a restart will undo it");
        }
        self.uncommitted.entry(name.to_owned()).or_default();
        self.swap(next);
        Ok(RolledBack { generation, forgotten })
    }
}
