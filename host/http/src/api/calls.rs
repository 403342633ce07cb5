//! The calls that the caller is allowed to run, with the rules for their parameters; and a run of one.

pub mod asked;

use super::{Api, json_of, operation::Operation, request::Segment, route::Route};
use crate::answer::ApiError;
use crate::api::auth::Authenticated;
use crate::wire::exchange::Accepted;
use asked::{Asked, DETACH, Description, ORDERED};
use axum::{
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use distillery_core::auth::{self, Access, Permission};
use distillery_plugin::{
    Call,
    params::{ParamSpec, Pattern},
};
use futures_util::future::BoxFuture;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;
use std::sync::Arc;

/// Runs a call, and returns its answer.
pub type Run = Arc<dyn Fn(Asked) -> BoxFuture<'static, Response> + Send + Sync>;

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
    vec![Route::at("/calls").get(list, operation), Route::at("/calls/{name}").post(run, run_operation())]
}

const ABOUT_RUN: &str = "\
The body is the input of the call, and is read as fast as the call reads it; its end is the end of the input. The answer \
is the output of the call, as it comes. A client that disconnects cancels the call, unless the call says \
`on_disconnect: detach`.

Parameters are in the query: by their names, or in order as `params`. Only a body of the type \
`application/vnd.distillery.call+json` is not the input, but contains parameters and input.

`Accept` chooses the form: `text/plain` (the default) and `application/octet-stream` are stdout as it is. \
`text/event-stream` and `application/x-ndjson` are the messages of `distillery-1` and, for the output, \
`{\"type\":\"stdout\",\"from\":0,\"text\":\"…\"}`, `stderr` likewise, with `base64` in place of `text` if it is no text.

The outcome is in the fields Distillery-Outcome, -Exit-Status, -Message and -Value: in the headers, with the status of the \
answer, if the call has ended without output, and otherwise in the trailers of an answer with status 200. Over HTTP/1.1 \
they are sent to clients that send `TE: trailers`.";

fn run_operation() -> Operation {
    let accepted = json!({"id": "019c1a2b-3c4d-7e5f-8a9b-0c1d2e3f4a5b", "call": "provision", "generation": 3});
    let fields = &[
        "Cache-Control",
        "Distillery-Process",
        "Distillery-Key",
        "Distillery-Outcome",
        "Distillery-Exit-Status",
        "Distillery-Message",
        "Distillery-Value",
    ];
    Operation::new("runCall", "calls", "Runs a call")
        .described(ABOUT_RUN)
        .segment("name", "The name of the call", json!({"type": "string"}), json!("provision"))
        .query(
            "parameters",
            "The parameters by their names, each as NAME=VALUE",
            json!({"type": "object", "additionalProperties": {"type": "string"}}),
            json!({"slug": "coins"}),
        )
        .query(
            ORDERED,
            "The parameters in order, in place of their names",
            json!({"type": "array", "items": {"type": "string"}}),
            json!(["coins"]),
        )
        .query(
            DETACH,
            "Whether the process outlives the request, which is answered once the input is complete",
            json!({"type": "boolean", "default": false}),
            json!(true),
        )
        .input::<Description>(json!({"params": {"slug": "coins"}, "stdin": "text"}))
        .answers_with::<String>(200, "The output, or a success without output.", "text/plain", None)
        .or::<String>(200, "application/octet-stream")
        .or::<String>(200, "text/event-stream")
        .or::<String>(200, "application/x-ndjson")
        .with(200, fields, json!({}))
        .answers::<Accepted>(202, "The process, which continues.", accepted)
        .with(
            202,
            &["Cache-Control", "Location", "Distillery-Process", "Distillery-Key"],
            json!({"showProcess": {"operationId": "showProcess", "parameters": {"id": "$response.body#/id"}}}),
        )
        .error(400, "The parameters break a rule of the call, or the query or the description is malformed.")
        .error(401, "The presented token or session is invalid, or became so before the start.")
        .error(403, "The caller is not allowed to run the call.")
        .error(404, "There is no such call.")
        .error(408, "The description did not come in time.")
        .error(413, "The description has more than 64 KiB, or the call does not read its input.")
        .error(429, "The caller has too many processes.")
        .error(500, "The call failed without output.")
        .error(
            503,
            "There is no process slot, the plugin is still loading, or the server or an operator ended the call.",
        )
        .error(504, "The call reached its time or cpu limit without output.")
}

async fn run(State(state): State<Api>, Segment(name): Segment, request: Request) -> Response {
    match Asked::read(name, request).await {
        Ok(asked) => (state.run)(asked).await,
        Err(error) => error.into_response(),
    }
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
