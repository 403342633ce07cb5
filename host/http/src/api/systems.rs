//! The public systems: readable by every caller, and changeable with `systems:write`.

use super::{
    Api,
    auth::needs,
    json_with,
    operation::Operation,
    public,
    request::{self, Segment},
    route::Route,
};
use crate::answer::ApiError;
use crate::api::auth::Authenticated;
use axum::{
    extract::{Request, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use distillery_config as config;
use distillery_config::{SLUG_PATTERN, SystemParts, TAGLINE, URL_PATTERN};
use distillery_store::{blocking, systems::System};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

const WRITE: &str = "systems:write";

pub(super) fn routes() -> Vec<Route> {
    let listed = |id, summary| {
        Operation::new(id, "systems", summary)
            .answers::<Vec<System>>(200, "The systems, by slug.", json!([example()]))
            .revalidated()
    };
    let link = json!({"removeSystem": {
        "operationId": "removeSystem",
        "parameters": {"slug": "$response.body#/Slug"},
        "description": "Removes the system.",
    }});
    let put_operation = Operation::new("putSystem", "systems", "Creates a system, or replaces the one with its slug")
        .needs(WRITE)
        .body::<Written>(example())
        .error(409, "There are too many systems already.")
        .answers::<System>(200, "The system replaced the one with its slug.", example())
        .with(200, &["Cache-Control"], link.clone())
        .answers::<System>(201, "The system is new.", example())
        .with(201, &["Cache-Control"], link);
    let remove_operation = Operation::new("removeSystem", "systems", "Removes a system")
        .needs(WRITE)
        .segment("slug", "The slug of the system", json!({"type": "string", "pattern": SLUG_PATTERN}), json!("coins"))
        .answers_nothing(204, "The system is removed.", &[])
        .error(404, "There is no such system.");
    vec![
        Route::at("/systems").get(list, listed("listSystems", "Lists the public systems")).post(put, put_operation),
        Route::at("/systems/{slug}").delete(remove, remove_operation),
        Route::at("/instances/directory")
            .get(list, listed("listDirectory", "Lists the public systems, at the path for clients of the directory")),
    ]
}

fn example() -> Value {
    json!({
        "Slug": "coins",
        "URL": "https://coins.example.org",
        "Tagline": "Coins and medals",
        "EntityCount": 1204,
        "BundleCount": 12,
        "LastEdit": "2026-01-31T12:00:00Z",
    })
}

async fn list(State(state): State<Api>, headers: HeaderMap) -> Response {
    public(&headers, "application/json", state.public.systems.told())
}

/// The fields of a system to write, named as in the answers.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
#[schemars(rename = "NewSystem")]
struct Written {
    /// The unique name: lowercase letters, digits and dashes, beginning with a letter.
    #[schemars(regex(pattern = SLUG_PATTERN))]
    slug: String,
    /// The address of the system.
    #[serde(rename = "URL")]
    #[schemars(regex(pattern = URL_PATTERN))]
    url: String,
    /// A description, in one line.
    #[serde(default)]
    #[schemars(length(max = TAGLINE), regex(pattern = request::ONE_LINE))]
    tagline: String,
    #[serde(default, deserialize_with = "request::whole")]
    #[schemars(range(max = i64::MAX))]
    entity_count: u64,
    #[serde(default, deserialize_with = "request::whole")]
    #[schemars(range(max = i64::MAX))]
    bundle_count: u64,
    /// The time of the last edit; never edited if it is missing.
    #[schemars(extend("format" = "date-time"))]
    last_edit: Option<String>,
}

/// Creates a system, or replaces the one with its slug.
async fn put(
    State(state): State<Api>,
    Authenticated(caller): Authenticated,
    request: Request,
) -> Result<Response, ApiError> {
    needs(&caller, WRITE)?;
    let written: Written = request::body(request).await?;
    let system = config::System::checked(SystemParts {
        slug: &written.slug,
        url: &written.url,
        tagline: &written.tagline,
        entity_count: written.entity_count,
        bundle_count: written.bundle_count,
        last_edit: written.last_edit.as_deref(),
    });
    let system = System::from(&system.map_err(|what| ApiError::new(StatusCode::BAD_REQUEST, what))?);
    let kept = system.clone();
    let new = blocking(move || state.public.put_system(kept)).await?;
    json_with(if new { StatusCode::CREATED } else { StatusCode::OK }, &system)
}

async fn remove(
    State(state): State<Api>,
    Authenticated(caller): Authenticated,
    Segment(slug): Segment,
) -> Result<Response, ApiError> {
    needs(&caller, WRITE)?;
    let removed = slug.clone();
    if !blocking(move || state.public.remove_system(&removed)).await? {
        return Err(ApiError::new(StatusCode::NOT_FOUND, format!("there is no system {slug:?}")));
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}
