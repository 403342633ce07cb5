//! One run of a schedule: the claim of its due time, the process, and its outcome.

use super::{Scheduler, counts::Count, track::Reason};
use crate::{
    Process,
    dispatch::{Admitted, Queued, Request},
};
use distillery_config::Schedule;
use distillery_core::{
    auth::Caller,
    call::{CancelReason, Outcome, Refusal},
    timer::poll_due,
};
use distillery_store::{
    accounts::AccountError,
    blocking,
    database::StoreError,
    identity::acting::acting,
    schedules::{MISSED, REFUSED, RUNNING, RunResult, SKIPPED, STARTING, Schedules},
};
use std::{
    future::poll_fn,
    pin::pin,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

/// The delay before a run that could not be claimed is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// The reason why a run has no process.
enum NotStarted {
    /// The call cannot run.
    Refused(String),
    /// The next run has cancelled this one while it waited for a slot.
    Superseded,
    /// The server accepts no new work. Another one can begin the run.
    Retired,
}

impl Scheduler {
    /// Performs the run of a due time, unless another server has claimed it.
    pub(super) async fn perform(
        self: Arc<Self>,
        schedule: Arc<Schedule>,
        due: OffsetDateTime,
        cancel: CancellationToken,
    ) {
        match self.claim(&schedule, due, RunResult::new(STARTING, None, None)).await {
            Ok(true) => self.run_claimed(&schedule, due, &cancel).await,
            Ok(false) => tracing::debug!(
                schedule = schedule.name,
                due = local(&schedule, due),
                "another server runs the schedule"
            ),
            Err(error) => {
                let at = local(&schedule, due);
                tracing::error!(schedule = schedule.name, due = at, %error, "scheduled run not claimed; trying again");
                let retired = self.parts.drain.retired();
                // An unclaimed run is left to the next server.
                let _ = tokio::time::timeout(RETRY, retired.cancelled()).await;
                return self.finished(&schedule, due, true);
            }
        }
        self.finished(&schedule, due, false);
    }

    /// Records that a run is left out.
    pub(super) async fn skip(self: Arc<Self>, schedule: Arc<Schedule>, due: OffsetDateTime, reason: Reason) {
        let (state, why, count) = match reason {
            Reason::StillRunning => (SKIPPED, "an earlier run was still running", Count::Skipped),
            Reason::TooLate => (MISSED, "no server was running at the time", Count::Missed),
        };
        match self.claim(&schedule, due, RunResult::new(state, Some(why.to_owned()), None)).await {
            Ok(true) => {
                self.count(&schedule.name, count);
                tracing::warn!(schedule = schedule.name, call = %schedule.call, due = local(&schedule, due), why, "scheduled run left out");
            }
            Ok(false) => {}
            Err(error) => {
                let due = local(&schedule, due);
                tracing::error!(schedule = schedule.name, due, %error, "cannot record a left out run");
            }
        }
    }

    async fn run_claimed(self: &Arc<Self>, schedule: &Arc<Schedule>, due: OffsetDateTime, cancel: &CancellationToken) {
        let name = schedule.name.as_str();
        let (process, caller) = match self.start(schedule, cancel).await {
            Ok(started) => started,
            Err(NotStarted::Retired) => {
                let scheduled = schedule.clone();
                return self.write(name, move |store| store.release(&scheduled.name, due)).await;
            }
            Err(NotStarted::Superseded) => {
                self.count(name, Count::Skipped);
                let why = "cancelled by the next run before it began".to_owned();
                return self.settle(schedule, due, RunResult::new(SKIPPED, Some(why), None)).await;
            }
            Err(NotStarted::Refused(why)) => {
                self.count(name, Count::Refused);
                let user = schedule.user.to_string();
                tracing::error!(schedule = name, call = %schedule.call, user, due = local(schedule, due), error = why, "scheduled run refused");
                return self.settle(schedule, due, RunResult::new(REFUSED, Some(why), None)).await;
            }
        };
        self.count(name, Count::Started);
        let (id, control) = (process.control().id, process.control().clone());
        tracing::info!(schedule = name, call = %schedule.call, user = caller.user, process = %id, due = local(schedule, due), "scheduled run started");
        let (tell, ended) = oneshot::channel();
        let dispatcher = &self.parts.dispatcher;
        // No client reads: the output goes on without back-pressure, and clients can attach.
        drop(dispatcher.keep_until(&self.parts.registry, process, &caller, move |outcome: &Outcome| {
            // The receiver waits as long as the server.
            let _ = tell.send(outcome.clone());
        }));
        self.settle(schedule, due, RunResult::new(RUNNING, None, Some(id))).await;
        let mut ended = pin!(ended);
        let outcome = tokio::select! {
            outcome = &mut ended => outcome,
            () = cancel.cancelled() => {
                control.cancel(CancelReason::Operator);
                ended.await
            }
        };
        // The process is dropped with the server.
        let Ok(outcome) = outcome else { return };
        let failure = outcome.failure();
        let state = if outcome.is_success() { "success" } else { outcome.kind() };
        self.count(name, if outcome.is_success() { Count::Succeeded } else { Count::Failed });
        if let Some(failure) = &failure {
            tracing::warn!(schedule = name, call = %schedule.call, process = %id, failure, "scheduled run failed");
        }
        self.settle(schedule, due, RunResult::new(state, failure, Some(id))).await;
    }

    /// Starts the process of a run, when there is a slot.
    async fn start(
        self: &Arc<Self>,
        schedule: &Arc<Schedule>,
        cancel: &CancellationToken,
    ) -> Result<(Process, Caller), NotStarted> {
        let scheduler = self.clone();
        let scheduled = schedule.clone();
        let caller = blocking(move || scheduler.caller(&scheduled)).await;
        let caller = caller.map_err(|error| NotStarted::Refused(error.to_string()))?;
        if self.parts.drain.retired().is_cancelled() {
            return Err(NotStarted::Retired);
        }
        let refused = |refusal: Refusal| NotStarted::Refused(refusal.to_string());
        let request = Request { call: schedule.call.to_string(), params: schedule.params.clone().into() };
        let admitted = self.parts.dispatcher.admit(&caller, request).map_err(refused)?;
        admitted.raw_output();
        // No client writes: a call that reads sees the end of its input.
        admitted.control().input.end();
        let process = match admitted {
            Admitted::Now(process) => process,
            Admitted::Later(queued) => {
                let retired = self.parts.drain.retired();
                tokio::select! {
                    started = slot(queued) => started.map_err(refused)?,
                    () = cancel.cancelled() => return Err(NotStarted::Superseded),
                    () = retired.cancelled() => return Err(NotStarted::Retired),
                }
            }
        };
        Ok((process, caller))
    }

    /// Returns the caller that the schedule acts for, with the rights that it has now.
    pub(super) fn caller(&self, schedule: &Schedule) -> Result<Caller, AccountError> {
        let caller = acting(&schedule.user, &self.parts.anonymous, |name| self.parts.accounts.user(name))?;
        Ok(Caller { schedule: Some(schedule.name.as_str().into()), ..caller })
    }

    async fn claim(
        self: &Arc<Self>,
        schedule: &Arc<Schedule>,
        due: OffsetDateTime,
        result: RunResult,
    ) -> Result<bool, StoreError> {
        let (scheduler, schedule) = (self.clone(), schedule.clone());
        blocking(move || scheduler.store.claim(&schedule.name, due, OffsetDateTime::now_utc(), &result)).await
    }

    async fn settle(self: &Arc<Self>, schedule: &Arc<Schedule>, due: OffsetDateTime, result: RunResult) {
        let scheduled = schedule.clone();
        self.write(&schedule.name, move |store| store.settle(&scheduled.name, due, &result)).await;
    }

    async fn write(
        self: &Arc<Self>,
        schedule: &str,
        write: impl FnOnce(&Schedules) -> Result<(), StoreError> + Send + 'static,
    ) {
        let scheduler = self.clone();
        if let Err(error) = blocking(move || write(&scheduler.store)).await {
            tracing::error!(schedule, %error, "cannot record a scheduled run");
        }
    }
}

/// Formats a due time for the log, in the time zone of the schedule.
fn local(schedule: &Schedule, due: OffsetDateTime) -> String {
    schedule.timetable.local(due).format(&Rfc3339).unwrap_or_default()
}

/// Waits for a slot, and starts the process.
async fn slot(mut queued: Queued) -> Result<Process, Refusal> {
    let mut timer = pin!(tokio::time::sleep(Duration::ZERO));
    poll_fn(|cx| {
        loop {
            if let Poll::Ready(started) = queued.poll(Instant::now(), cx) {
                return Poll::Ready(started);
            }
            if poll_due(timer.as_mut(), queued.until, cx).is_pending() {
                return Poll::Pending;
            }
        }
    })
    .await
}
