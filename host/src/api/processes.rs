//! The processes that run and that have run, as far as the caller may see them: its own, or all with `processes:*`.

use super::{ApiState, error::ApiError, json_of, json_with, moment, request};
use crate::{
    auth::{Caller, Wish, may},
    history::{RUNNING, Seen},
    store::processes::{OUTCOMES, Wanted},
};
use axum::{
    extract::{Path, State},
    http::{StatusCode, Uri},
    response::Response,
};
use serde::Serialize;
use serde_json::Value;

/// How many are listed if nothing is said, and how many at most.
const LIMIT: usize = 50;
const MOST: usize = 500;
/// The scope of those who may see and end the processes of everybody.
const ALL: &str = "processes:*";

/// A process as the API shows it.
#[derive(Serialize)]
struct Shown<'a> {
    id: String,
    call: &'a str,
    /// Secrets are null.
    params: &'a [Option<String>],
    user: &'a str,
    plugin: &'a str,
    generation: u64,
    started: String,
    ended: Option<String>,
    outcome: &'a str,
    message: Option<&'a str>,
    /// How far the server had to go to end it, where it had to.
    stop: Option<&'a str>,
    cleanup: Option<&'a str>,
    /// What came of the call, if it said so.
    value: Option<Value>,
    cpu_ms: u64,
    /// The most bytes that it had at once.
    memory: u64,
    bytes_in: u64,
    bytes_out: u64,
}

impl<'a> From<&'a Seen> for Shown<'a> {
    fn from(seen: &'a Seen) -> Self {
        let (begun, ended) = (&seen.begun, seen.ended.as_ref());
        Self {
            id: begun.id.to_string(),
            call: &begun.call,
            params: &begun.params,
            user: &begun.user,
            plugin: &begun.plugin,
            generation: begun.generation,
            started: moment(begun.started),
            ended: ended.and_then(|ended| ended.at).map(moment),
            outcome: seen.outcome(),
            message: ended.and_then(|ended| ended.message.as_deref()),
            stop: ended.and_then(|ended| ended.stop.as_deref()),
            cleanup: ended.and_then(|ended| ended.cleanup.as_deref()),
            value: ended.and_then(|ended| serde_json::from_str(ended.value.as_deref()?).ok()),
            cpu_ms: seen.used.cpu_ms,
            memory: seen.used.memory,
            bytes_in: seen.used.bytes_in,
            bytes_out: seen.used.bytes_out,
        }
    }
}

/// Whether the caller may see and end processes of `user`. Nobody has none of their own: all who show nothing are nobody.
fn may_see(caller: &Caller, user: &str) -> bool {
    let own = !caller.user.is_empty() && caller.user == user;
    own || may(caller, Wish::Use(ALL))
}

pub(super) async fn list(State(state): State<ApiState>, caller: Caller, uri: Uri) -> Result<Response, ApiError> {
    let mut wanted = wanted(&uri).map_err(|what| ApiError::new(StatusCode::BAD_REQUEST, what))?;
    let whose = wanted.user.get_or_insert_with(|| caller.user.clone());
    if !may_see(&caller, whose) {
        return Err(match caller.user.as_str() {
            "" => ApiError::new(StatusCode::UNAUTHORIZED, format!("log in, or show a token: your own, or {ALL}")),
            _ => ApiError::new(StatusCode::FORBIDDEN, format!("those of others need the scope {ALL}")),
        });
    }
    let named = request::query(&uri).any(|(name, _)| name == "user");
    if !named && may(&caller, Wish::Use(ALL)) {
        wanted.user = None;
    }
    let page = state.history.page(wanted).await.map_err(|error| ApiError::of_server(&error))?;
    json_of(&page.iter().map(Shown::from).collect::<Vec<_>>())
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
            "outcome" => return Err(format!("outcome: write {RUNNING}, {}", OUTCOMES.join(", "))),
            other => return Err(format!("{other:?} is not known here: use before, limit, call, user and outcome")),
        }
    }
    Ok(wanted)
}

/// The process of this id, if there is one that the caller may see. Which of the two is not so, is not said.
async fn seen(state: &ApiState, caller: &Caller, id: &str) -> Result<Seen, ApiError> {
    let seen = match id.parse() {
        Ok(id) => state.history.one(id).await.map_err(|error| ApiError::of_server(&error))?,
        Err(_) => None,
    };
    seen.filter(|seen| may_see(caller, &seen.begun.user))
        .ok_or_else(|| ApiError::new(StatusCode::NOT_FOUND, format!("there is no process {id:?} that you may see")))
}

pub(super) async fn one(
    State(state): State<ApiState>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    json_of(&Shown::from(&seen(&state, &caller, &id).await?))
}

/// Tells it to stop, which takes its time: its grace, and its cleanup.
pub(super) async fn cancel(
    State(state): State<ApiState>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let seen = seen(&state, &caller, &id).await?;
    if !state.history.cancel(seen.begun.id) {
        return Err(ApiError::new(StatusCode::CONFLICT, "this process has already ended"));
    }
    json_with(StatusCode::ACCEPTED, &Shown::from(&seen))
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn a_query_says_which_are_wanted_or_what_is_wrong_with_it() {
        let read = |query: &str| wanted(&format!("/processes?{query}").parse().unwrap());
        assert_eq!(read("").unwrap(), Wanted { limit: LIMIT, ..Wanted::default() });
        let all = read(&format!("limit=7&call=a&user=b&outcome=success&before={}", Uuid::nil())).unwrap();
        let expected = Wanted {
            before: Some(Uuid::nil()),
            call: Some("a".into()),
            user: Some("b".into()),
            outcome: Some("success".into()),
            limit: 7,
        };
        assert_eq!(all, expected);
        assert!(read("outcome=running").is_ok());
        for wrong in ["limit=0", "limit=501", "limit=x", "before=x", "outcome=odd", "page=2"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn nobody_sees_what_somebody_else_ran_and_nobody_least() {
        let caller = |user: &str, scopes: &[&str]| Caller {
            user: user.into(),
            scopes: scopes.iter().map(|it| it.parse().unwrap()).collect(),
            ..Caller::nobody()
        };
        assert!(may_see(&caller("ada", &[]), "ada"));
        assert!(!may_see(&caller("ada", &["call:*"]), "bob"));
        assert!(!may_see(&Caller::nobody(), ""));
        assert!(may_see(&caller("ada", &["processes:*"]), "bob"));
        assert!(may_see(&Caller::operator(), ""));
    }
}
