//! The calls that the caller is allowed to run, with the rules for their parameters.

use super::{Api, json_of, operation::Operation, route::Route};
use crate::answer::ApiError;
use crate::api::auth::Authenticated;
use axum::{extract::State, response::Response};
use distillery_core::auth::{self, Access, Permission};
use distillery_plugin::{
    Call,
    params::{ParamSpec, Pattern},
};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;

pub(super) fn routes() -> Vec<Route> {
    let example = json!([{
        "name": "provision",
        "description": "Creates the instance <slug>",
        "access": "scoped",
        "params": [{
            "name": "slug", "description": "Its name", "pattern": "[a-z][a-z0-9-]{0,30}", "choices": null,
            "default": null, "required": true, "secret": false, "rest": false,
        }],
        "on_disconnect": "cancel",
        "plugin": "provision",
    }]);
    let operation = Operation::new("listCalls", "calls", "Lists the calls that the caller may run")
        .described("Includes the descriptions of calls and parameters. Calls that the caller cannot run are omitted.")
        .answers::<Vec<Shown<'_>>>(200, "The calls, by name.", example);
    vec![Route::at("/calls").get(list, operation)]
}

/// A call, in the API's representation.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Call")]
struct Shown<'a> {
    name: &'a str,
    description: &'a str,
    /// The callers that can run the call: `public` for everyone, otherwise holders of its scope.
    #[schemars(extend("enum" = ["public", "scoped"]))]
    access: &'static str,
    /// The parameters in order. Null allows any number of any parameters.
    params: Option<Vec<ShownParam<'a>>>,
    /// The action when the client disconnects: cancel the call, or detach it.
    #[schemars(extend("enum" = ["cancel", "detach"]))]
    on_disconnect: &'static str,
    plugin: &'a str,
}

/// A parameter and its rules.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "CallParameter")]
struct ShownParam<'a> {
    name: &'a str,
    description: &'a str,
    /// A regular expression that the whole value must match.
    pattern: Option<&'a str>,
    choices: Option<&'a [String]>,
    /// The value if the parameter is omitted; the default of a secret is not shown.
    default: Option<&'a str>,
    required: bool,
    /// Whether the value is kept out of the log and the history.
    secret: bool,
    /// Whether the parameter takes all remaining values.
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

async fn list(State(state): State<Api>, Authenticated(caller): Authenticated) -> Result<Response, ApiError> {
    let snapshot = state.catalog.snapshot();
    let may_run = |call: &Call| auth::may(&caller, Permission::Run(&call.spec.name, call.spec.access));
    let mut calls: Vec<Shown<'_>> =
        snapshot.calls().map(|call| &**call).filter(|call| may_run(call)).map(Shown::from).collect();
    calls.sort_by_key(|call| call.name);
    json_of(&calls)
}
