//! The state of schedules, as it is shown to people.

use super::{Entry, Scheduler};
use crate::{dispatch::examine, history::kept};
use distillery_config::Schedule;
use distillery_core::{auth::Caller, principal::Principal};
use distillery_store::{blocking, database::StoreError, schedules::Run};
use std::sync::Arc;
use time::OffsetDateTime;

/// A schedule at one moment.
pub struct Shown {
    pub schedule: Arc<Schedule>,
    /// The user whose processes the runs are. Anonymous if there is no such user.
    pub owner: Principal,
    /// `None` in place of a secret. Without the call, its secrets are not known.
    pub params: Vec<Option<String>>,
    pub next: Option<OffsetDateTime>,
    /// The due time whose run waits for the end of an earlier one.
    pub waiting: Option<OffsetDateTime>,
    /// The reason why no run is due.
    pub paused: Option<&'static str>,
    /// The reason why the next run would be refused.
    pub problem: Option<String>,
    pub running: usize,
    pub last: Option<Run>,
}

impl Scheduler {
    /// Returns all configured schedules, by name.
    pub async fn list(self: &Arc<Self>) -> Result<Vec<Shown>, StoreError> {
        let scheduler = self.clone();
        blocking(move || {
            let mut last = scheduler.store.last_runs()?;
            let mut all: Vec<Shown> = {
                let entries = scheduler.entries.lock();
                entries.values().filter(|entry| entry.is_configured).map(|entry| scheduler.state(entry)).collect()
            };
            for shown in &mut all {
                shown.last = last.remove(&shown.schedule.name);
                scheduler.try_out(shown);
            }
            Ok(all)
        })
        .await
    }

    fn state(&self, entry: &Entry) -> Shown {
        let retired = self.parts.drain.retired().is_cancelled();
        let track = entry.track.as_ref().filter(|_| !retired);
        Shown {
            schedule: entry.schedule.clone(),
            owner: Principal::Anonymous,
            params: Vec::new(),
            next: track.and_then(|track| track.next()),
            waiting: track.and_then(|track| track.waiting()),
            paused: if entry.schedule.paused {
                Some("paused in the configuration")
            } else {
                retired.then_some("this server begins no new runs: it ends, or another one has taken over")
            },
            problem: None,
            running: entry.runs.len(),
            last: None,
        }
    }

    /// Finds out whether a run would be refused now.
    fn try_out(&self, shown: &mut Shown) {
        let schedule = shown.schedule.clone();
        let catalog = &self.parts.dispatcher.catalog;
        let caller = self.caller(&schedule);
        shown.owner = caller.as_ref().map_or(Principal::Anonymous, |caller| caller.principal.clone());
        shown.params = match catalog.snapshot().call(schedule.call.as_str()) {
            Some(call) => kept(call.spec.params.as_deref().unwrap_or_default(), &schedule.params),
            None => vec![None; schedule.params.len()],
        };
        let problem = |caller: &Caller| {
            examine(catalog, caller, schedule.call.as_str(), schedule.params.clone().into())
                .err()
                .map(|it| it.to_string())
        };
        shown.problem = match &caller {
            _ if self.is_loading(&schedule) => None,
            Ok(caller) => problem(caller),
            Err(error) => Some(error.to_string()),
        };
    }
}
