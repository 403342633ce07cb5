//! The schedules that the caller is allowed to see: those that act for it, or all with `schedules:read`.

use super::{Api, json_of, moment, operation::Operation, route::Route};
use crate::{answer::ApiError, api::auth::Authenticated};
use axum::{extract::State, http::StatusCode, response::Response};
use distillery_config::{MISSED, OVERLAPS};
use distillery_core::auth::{ALL_SCHEDULES, Permission, may};
use distillery_process::schedules::Shown as ScheduleState;
use distillery_store::{
    processes::OUTCOMES,
    schedules::{Run, STATES},
};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;
use time::OffsetDateTime;

pub(super) fn routes() -> Vec<Route> {
    let process = "019c1a2b-3c4d-7e5f-8a9b-0c1d2e3f4a5b";
    let schedule = json!({
        "name": "nightly-snapshot", "cron": "30 2 * * *", "zone": "Europe/Berlin", "call": "backup", "params": [],
        "user": "operator", "overlap": "skip", "missed": "run_once", "jitter_ms": 600_000,
        "next": "2026-02-01T02:30:00+01:00", "paused": null, "problem": null, "running": 0, "waiting": null,
        "last": {
            "due": "2026-01-31T02:30:00+01:00", "began": "2026-01-31T02:33:07+01:00", "state": "success",
            "message": null, "process": process,
        },
    });
    let operation = Operation::new("listSchedules", "schedules", "Lists the schedules")
        .described(
            "The schedules that run calls for the caller, or all schedules with the scope `schedules:read`. Times have \
             the offset of the schedule's time zone.",
        )
        .for_users()
        .answers::<Vec<Shown<'_>>>(200, "The schedules, by name.", json!([schedule]))
        .with(
            200,
            &["Cache-Control"],
            json!({
                "showProcess": {
                    "operationId": "showProcess", "parameters": {"id": "$response.body#/0/last/process"},
                },
            }),
        );
    vec![Route::at("/schedules").get(list, operation)]
}

/// A schedule, in the API's representation.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Schedule")]
struct Shown<'a> {
    name: &'a str,
    /// The cron expression.
    cron: &'a str,
    /// The time zone of the cron expression.
    zone: &'a str,
    call: &'a str,
    /// The values of the parameters. Secrets are null, and so is every value while the call does not exist.
    params: &'a [Option<String>],
    /// The user whose rights decide, or `operator`.
    user: String,
    #[schemars(extend("enum" = words(&OVERLAPS)))]
    overlap: &'static str,
    #[schemars(extend("enum" = words(&MISSED)))]
    missed: &'static str,
    /// The longest random delay of a run, in milliseconds.
    jitter_ms: u64,
    /// The next due time; null if the schedule is paused.
    #[schemars(extend("format" = "date-time"))]
    next: Option<String>,
    /// The reason why no run is due.
    paused: Option<&'static str>,
    /// The reason why a run would be refused now.
    problem: Option<&'a str>,
    /// The number of runs of this server that have not ended.
    running: usize,
    /// The due time whose run waits for the end of an earlier one.
    #[schemars(extend("format" = "date-time"))]
    waiting: Option<String>,
    /// The last due time, and what became of it.
    last: Option<ShownRun<'a>>,
}

/// A due time of a schedule, and what became of it.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ScheduleRun")]
struct ShownRun<'a> {
    #[schemars(extend("format" = "date-time"))]
    due: String,
    /// The time at which a server took it up.
    #[schemars(extend("format" = "date-time"))]
    began: String,
    /// The outcome of its process, or the state before that.
    #[schemars(extend("enum" = states()))]
    state: &'a str,
    /// The reason of a failure, or why there was no run.
    message: Option<&'a str>,
    /// The id of its process, if it has begun.
    #[schemars(extend("format" = "uuid"))]
    process: Option<String>,
}

fn words<T>(words: &[(&'static str, T)]) -> Vec<&'static str> {
    words.iter().map(|(word, _)| *word).collect()
}

fn word<T: PartialEq>(words: &[(&'static str, T)], value: &T) -> &'static str {
    words.iter().find(|(_, it)| it == value).map_or("", |(word, _)| *word)
}

/// Returns all states of a run.
fn states() -> Vec<&'static str> {
    STATES.into_iter().chain(OUTCOMES).collect()
}

impl<'a> Shown<'a> {
    fn new(state: &'a ScheduleState) -> Self {
        let schedule = &state.schedule;
        let timetable = &schedule.timetable;
        let local = |at: OffsetDateTime| moment(timetable.local(at));
        let run = |run: &'a Run| ShownRun {
            due: local(run.due),
            began: local(run.claimed),
            state: &run.result.state,
            message: run.result.message.as_deref(),
            process: run.result.process.map(|id| id.to_string()),
        };
        Self {
            name: &schedule.name,
            cron: timetable.expression(),
            zone: timetable.zone().name(),
            call: schedule.call.as_str(),
            params: &state.params,
            user: schedule.user.to_string(),
            overlap: word(&OVERLAPS, &schedule.overlap),
            missed: word(&MISSED, &schedule.missed),
            jitter_ms: u64::try_from(schedule.jitter.as_millis()).unwrap_or(u64::MAX),
            next: state.next.map(local),
            paused: state.paused,
            problem: state.problem.as_deref(),
            running: state.running,
            waiting: state.waiting.map(local),
            last: state.last.as_ref().map(run),
        }
    }
}

async fn list(State(state): State<Api>, Authenticated(caller): Authenticated) -> Result<Response, ApiError> {
    let all = may(&caller, Permission::Use(ALL_SCHEDULES));
    if !all && caller.principal.is_anonymous() {
        let what = format!("log in, or show a token: your own, or {ALL_SCHEDULES}");
        return Err(ApiError::new(StatusCode::UNAUTHORIZED, what));
    }
    let mut schedules = match &state.scheduler {
        Some(scheduler) => scheduler.list().await.map_err(|error| ApiError::of_server(&error))?,
        None => Vec::new(),
    };
    // Compares identities: a removed user can have had the same name.
    schedules.retain(|schedule| all || !schedule.owner.is_anonymous() && schedule.owner == caller.principal);
    json_of(&schedules.iter().map(Shown::new).collect::<Vec<_>>())
}
