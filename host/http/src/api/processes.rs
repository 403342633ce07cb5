//! Running and ended processes that the caller is allowed to see: its own, or all with `processes:*`.

use super::{
    Api, ApiState, json, json_of, json_with, moment,
    operation::Operation,
    request::{self, Segment},
    route::Route,
};
use crate::answer::ApiError;
use crate::api::auth::Authenticated;
use axum::{
    body::Body,
    extract::State,
    http::{StatusCode, Uri},
    response::Response,
};
use bytes::Bytes;
use distillery_core::auth::{ALL_PROCESSES, Caller, Permission, may, may_see};
use distillery_process::history::{RUNNING, Seen};
use distillery_store::{
    database::StoreError,
    processes::{OUTCOMES, Wanted},
};
use futures_util::stream::try_unfold;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// The default and the maximum number of processes in a list.
const LIMIT: usize = 50;
const MOST: usize = 500;
/// The number of processes in memory at a time. Each has up to 4 KiB of parameters and 16 KiB of value.
const AT_A_TIME: usize = 32;

/// The id of the process in examples.
const ID: &str = "019c1a2b-3c4d-7e5f-8a9b-0c1d2e3f4a5b";

/// Adds the segment that names a process.
pub(super) fn id_of(operation: Operation) -> Operation {
    operation
        .segment("id", "The id of the process", json!({"type": "string", "format": "uuid"}), json!(ID))
        .error(404, "There is no such process, or the caller is not allowed to see it.")
}

pub(super) fn routes() -> Vec<Route> {
    let process = json!({
        "id": ID, "call": "provision", "params": ["coins", null], "user": "ada", "plugin": "provision",
        "generation": 3, "started": "2026-01-31T12:00:00Z", "schedule": null, "ended": "2026-01-31T12:00:04.25Z", "kept": false, "outcome": "exited",
        "message": "exit status 7", "stop": null, "cleanup": null, "value": null, "cpu_ms": 12, "memory": 1_114_112,
        "bytes_in": 0, "bytes_out": 312, "commands": {"count": 1, "ms": 2100, "cpu_ms": 350, "memory": 41_943_040},
    });
    let mut running = process.clone();
    (running["ended"], running["message"], running["outcome"]) = (Value::Null, Value::Null, RUNNING.into());
    let text = || json!({"type": "string"});
    let time = || json!({"type": "string", "format": "date-time"});
    let list_operation = Operation::new("listProcesses", "processes", "Lists processes, the newest first")
        .described(
            "The processes of the caller, or all processes with the scope `processes:*`. The next page begins `before` \
             the last process of this page.",
        )
        .for_users()
        .query(
            "before",
            "Only processes that began before this one",
            json!({"type": "string", "format": "uuid"}),
            json!(ID),
        )
        .query(
            "limit",
            "The maximum number of processes",
            json!({"type": "integer", "minimum": 1, "maximum": MOST, "default": LIMIT}),
            json!(LIMIT),
        )
        .query("call", "Only processes of this call", text(), json!("provision"))
        .query("user", "Only processes of this user; empty for anonymous callers", text(), json!("ada"))
        .query("outcome", "Only processes with this outcome", json!({"enum": outcomes()}), json!("success"))
        .query("since", "Only processes that began at this time or later", time(), json!("2026-01-31T00:00:00Z"))
        .query("until", "Only processes that began before this time", time(), json!("2026-02-01T00:00:00Z"))
        .query(
            "text",
            "Only processes with this text in a parameter or in the message, in any case",
            text(),
            json!("coins"),
        )
        .error(403, "Processes of other users need the scope processes:*.")
        .answers::<Vec<Shown<'_>>>(200, "The page.", json!([process]))
        .with(
            200,
            &["Cache-Control"],
            json!({
                "showProcess": {"operationId": "showProcess", "parameters": {"id": "$response.body#/0/id"}},
                "cancelProcess": {"operationId": "cancelProcess", "parameters": {"id": "$response.body#/0/id"}},
            }),
        );
    let one_operation = id_of(Operation::new("showProcess", "processes", "Shows one process")).answers::<Shown<'_>>(
        200,
        "The process.",
        process,
    );
    let cancel_operation = id_of(Operation::new("cancelProcess", "processes", "Tells a process to stop"))
        .described("The end takes time: the grace period, unless `force` skips it, and the cleanup.")
        .query(
            "force",
            "Whether to skip the grace period, even if the process was told to stop before",
            json!({"type": "boolean", "default": false}),
            json!(true),
        )
        .error(409, "The process has already ended.")
        .answers::<Shown<'_>>(202, "The process has been told to stop.", running);
    vec![
        Route::at("/processes").get(list, list_operation),
        Route::at("/processes/{id}").get(one, one_operation).delete(cancel, cancel_operation),
    ]
}

/// Returns all possible outcomes.
fn outcomes() -> Vec<&'static str> {
    [RUNNING].into_iter().chain(OUTCOMES).collect()
}

/// A process, in the API's representation.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Process")]
struct Shown<'a> {
    #[schemars(extend("format" = "uuid"))]
    id: String,
    call: &'a str,
    /// The values of the parameters; secrets are null.
    params: &'a [Option<String>],
    /// The user's name; empty for an anonymous caller.
    user: &'a str,
    /// The schedule that started it for the user, if any.
    schedule: Option<&'a str>,
    plugin: &'a str,
    /// The generation of the plugin.
    generation: u64,
    #[schemars(extend("format" = "date-time"))]
    started: String,
    #[schemars(extend("format" = "date-time"))]
    ended: Option<String>,
    /// Whether the output is kept, so that a client can attach.
    kept: bool,
    #[schemars(extend("enum" = outcomes()))]
    outcome: &'a str,
    /// The reason of a failure.
    message: Option<&'a str>,
    /// The strongest measure that the server needed to end the process, if any.
    stop: Option<&'a str>,
    cleanup: Option<&'a str>,
    /// The result value of the call, if it set one.
    value: Option<Value>,
    cpu_ms: u64,
    /// The peak memory in bytes.
    memory: u64,
    bytes_in: u64,
    bytes_out: u64,
    /// The granted commands that have ended; null if there were none.
    commands: Option<ShownCommands>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Commands")]
struct ShownCommands {
    count: u64,
    /// The time that they ran, also side by side.
    ms: u64,
    cpu_ms: u64,
    /// The peak memory in bytes of the largest of their processes.
    memory: u64,
}

impl<'a> Shown<'a> {
    fn new(state: &ApiState, seen: &'a Seen) -> Self {
        let (begun, ended) = (&seen.begun, seen.ended.as_ref());
        Self {
            id: begun.id.to_string(),
            call: &begun.call,
            params: &begun.params,
            user: &begun.user,
            schedule: begun.schedule.as_deref(),
            plugin: &begun.plugin,
            generation: begun.generation,
            started: moment(begun.started),
            ended: ended.and_then(|ended| ended.at).map(moment),
            kept: state.registry.as_ref().is_some_and(|registry| registry.get(begun.id).is_some()),
            outcome: seen.outcome(),
            message: ended.and_then(|ended| ended.message.as_deref()),
            stop: ended.and_then(|ended| ended.stop.as_deref()),
            cleanup: ended.and_then(|ended| ended.cleanup.as_deref()),
            value: ended.and_then(|ended| serde_json::from_str(ended.value.as_deref()?).ok()),
            cpu_ms: seen.used.cpu_ms,
            memory: seen.used.memory,
            bytes_in: seen.used.bytes_in,
            bytes_out: seen.used.bytes_out,
            commands: Some(seen.used.commands).filter(|used| used.count > 0).map(|used| ShownCommands {
                count: used.count,
                ms: used.ms,
                cpu_ms: used.cpu_ms,
                memory: used.memory,
            }),
        }
    }
}

async fn list(State(state): State<Api>, Authenticated(caller): Authenticated, uri: Uri) -> Result<Response, ApiError> {
    let mut wanted = wanted(&uri).map_err(|what| ApiError::new(StatusCode::BAD_REQUEST, what))?;
    if !may(&caller, Permission::Use(ALL_PROCESSES)) {
        if caller.principal.is_anonymous() {
            let what = format!("log in, or show a token: your own, or {ALL_PROCESSES}");
            return Err(ApiError::new(StatusCode::UNAUTHORIZED, what));
        }
        if wanted.user.take().is_some_and(|user| user != caller.user) {
            let what = format!("those of others need the scope {ALL_PROCESSES}");
            return Err(ApiError::new(StatusCode::FORBIDDEN, what));
        }
        // Compares identities: a removed user can have had the same name.
        wanted.owner = Some(caller.principal.clone());
    }
    let mut pages = Pages { left: wanted.limit, wanted, state };
    let first = pages.next().await.map_err(|error| ApiError::of_server(&error))?;
    let Some(mut text) = first else { return json_of(&[(); 0]) };
    text.insert(0, b'[');
    if pages.left == 0 {
        text.push(b']');
        return Ok(json(StatusCode::OK, text));
    }
    let mut answer = json(StatusCode::OK, Bytes::new());
    *answer.body_mut() = Body::from_stream(try_unfold(Some((text, pages)), |rest| async {
        let Some((text, mut pages)) = rest else { return Ok::<_, StoreError>(None) };
        let next = pages.next().await?.map(|mut next| {
            next.insert(0, b',');
            next
        });
        Ok(Some(match next {
            Some(next) => (Bytes::from(text), Some((next, pages))),
            None => (Bytes::from([text, b"]".to_vec()].concat()), None),
        }))
    }));
    Ok(answer)
}

/// A list of processes, read in pages as the client receives it, because long parameters can make the list large.
struct Pages {
    state: Api,
    wanted: Wanted,
    /// The number of processes still to be listed.
    left: usize,
}

impl Pages {
    /// Returns the text of the next page, separated by commas; `None` after the last one.
    async fn next(&mut self) -> Result<Option<Vec<u8>>, StoreError> {
        if self.left == 0 {
            return Ok(None);
        }
        self.wanted.limit = self.left.min(AT_A_TIME);
        let page = self.state.history.page(self.wanted.clone()).await?;
        self.left = if page.len() < self.wanted.limit { 0 } else { self.left - page.len() };
        let Some(last) = page.last() else { return Ok(None) };
        self.wanted.before = Some(last.begun.id);
        let shown: Vec<_> = page.iter().map(|seen| Shown::new(&self.state, seen)).collect();
        let text = serde_json::to_vec(&shown).expect("text and numbers are always JSON");
        Ok(Some(text[1..text.len() - 1].to_vec()))
    }
}

fn wanted(uri: &Uri) -> Result<Wanted, String> {
    let mut wanted = Wanted { limit: LIMIT, ..Wanted::default() };
    for (name, value) in request::query(uri) {
        match &*name {
            "before" => {
                let id = value.parse().map_err(|_| format!("before: {value:?} is not the id of a process"))?;
                wanted.before = Some(id);
            }
            "limit" => {
                let limit = value.parse().ok().filter(|limit| (1..=MOST).contains(limit));
                wanted.limit = limit.ok_or_else(|| format!("limit: write a number from 1 to {MOST}"))?;
            }
            "call" => wanted.call = Some(value.into_owned()),
            "user" => wanted.user = Some(value.into_owned()),
            "outcome" if value == RUNNING || OUTCOMES.contains(&&*value) => wanted.outcome = Some(value.into_owned()),
            "since" => wanted.since = Some(time_of("since", &value)?),
            "until" => wanted.until = Some(time_of("until", &value)?),
            "text" => wanted.text = Some(value.into_owned()),
            "outcome" => return Err(format!("outcome: write {RUNNING}, {}", OUTCOMES.join(", "))),
            other => {
                return Err(format!(
                    "{other:?} is not known here: use before, limit, call, user, outcome, since, until and text"
                ));
            }
        }
    }
    Ok(wanted)
}

fn time_of(name: &str, value: &str) -> Result<OffsetDateTime, String> {
    OffsetDateTime::parse(value, &Rfc3339).map_err(|_| format!("{name}: write a time such as 2026-01-31T12:00:00Z"))
}

fn forced(uri: &Uri) -> Result<bool, String> {
    let mut force = false;
    for (name, value) in request::query(uri) {
        match &*name {
            "force" => force = value.parse().map_err(|_| "force: write true or false".to_owned())?,
            other => return Err(format!("{other:?} is not known here: use force")),
        }
    }
    Ok(force)
}

/// Returns the process with this id if the caller is allowed to see it. The error does not tell whether the process
/// exists.
pub(super) async fn seen(state: &ApiState, caller: &Caller, id: &str) -> Result<Seen, ApiError> {
    let seen = match id.parse() {
        Ok(id) => state.history.one(id).await.map_err(|error| ApiError::of_server(&error))?,
        Err(_) => None,
    };
    seen.filter(|seen| may_see(caller, &seen.begun.owner))
        .ok_or_else(|| ApiError::new(StatusCode::NOT_FOUND, format!("there is no process {id:?} that you may see")))
}

async fn one(
    State(state): State<Api>,
    Authenticated(caller): Authenticated,
    Segment(id): Segment,
) -> Result<Response, ApiError> {
    json_of(&Shown::new(&state, &seen(&state, &caller, &id).await?))
}

/// Tells the process to stop. The end takes time: the grace period, unless skipped, and the cleanup.
async fn cancel(
    State(state): State<Api>,
    Authenticated(caller): Authenticated,
    Segment(id): Segment,
    uri: Uri,
) -> Result<Response, ApiError> {
    let force = forced(&uri).map_err(|what| ApiError::new(StatusCode::BAD_REQUEST, what))?;
    let seen = seen(&state, &caller, &id).await?;
    if !state.history.cancel(seen.begun.id, force) {
        return Err(ApiError::new(StatusCode::CONFLICT, "this process has already ended"));
    }
    json_with(StatusCode::ACCEPTED, &Shown::new(&state, &seen))
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn query_is_parsed_or_has_a_precise_error() {
        let read = |query: &str| wanted(&format!("/processes?{query}").parse().unwrap());
        assert_eq!(read("").unwrap(), Wanted { limit: LIMIT, ..Wanted::default() });
        let all = read(&format!("limit=7&call=a&user=b&outcome=success&before={}", Uuid::nil())).unwrap();
        let expected = Wanted {
            before: Some(Uuid::nil()),
            call: Some("a".into()),
            user: Some("b".into()),
            owner: None,
            outcome: Some("success".into()),
            limit: 7,
            ..Wanted::default()
        };
        assert_eq!(all, expected);
        assert!(read("outcome=running").is_ok() && read("since=2026-01-31T12:00:00Z&text=x").is_ok());
        for wrong in ["limit=0", "limit=501", "limit=x", "before=x", "outcome=odd", "since=today", "page=2"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
