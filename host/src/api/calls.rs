//! The calls that the caller may run, with the rules for their parameters.

use super::{ApiState, error::ApiError, json_of};
use crate::{
    auth::{self, Access, Caller, Wish},
    plugin::{
        Call,
        params::{ParamSpec, Pattern},
    },
};
use axum::{extract::State, response::Response};
use serde::Serialize;

/// A call as the API shows it.
#[derive(Serialize)]
struct Shown<'a> {
    name: &'a str,
    description: &'a str,
    access: &'static str,
    /// Nothing means any.
    params: Option<Vec<ShownParam<'a>>>,
    on_disconnect: &'static str,
    plugin: &'a str,
}

#[derive(Serialize)]
struct ShownParam<'a> {
    name: &'a str,
    description: &'a str,
    pattern: Option<&'a str>,
    choices: Option<&'a [String]>,
    default: Option<&'a str>,
    required: bool,
    secret: bool,
    rest: bool,
}

impl<'a> From<&'a Call> for Shown<'a> {
    fn from(call: &'a Call) -> Self {
        let spec = &call.spec;
        Self {
            name: spec.name.as_str(),
            description: &spec.description,
            access: match spec.access {
                Access::Public => "public",
                Access::Scoped => "scoped",
            },
            params: spec.params.as_ref().map(|params| params.iter().map(ShownParam::from).collect()),
            on_disconnect: spec.on_disconnect.name(),
            plugin: &call.plugin.name,
        }
    }
}

impl<'a> From<&'a ParamSpec> for ShownParam<'a> {
    fn from(spec: &'a ParamSpec) -> Self {
        Self {
            name: &spec.name,
            description: &spec.description,
            pattern: spec.pattern.as_ref().map(Pattern::as_str),
            choices: if spec.choices.is_empty() { None } else { Some(&spec.choices) },
            default: spec.default.as_deref().filter(|_| !spec.secret),
            required: spec.required,
            secret: spec.secret,
            rest: spec.rest,
        }
    }
}

pub(super) async fn list(State(state): State<ApiState>, caller: Caller) -> Result<Response, ApiError> {
    let snapshot = state.catalog.snapshot();
    let may_run = |call: &Call| auth::may(&caller, Wish::Run(&call.spec.name, call.spec.access));
    let mut calls: Vec<Shown<'_>> =
        snapshot.calls().map(|call| &**call).filter(|call| may_run(call)).map(Shown::from).collect();
    calls.sort_by_key(|call| call.name);
    json_of(&calls)
}
