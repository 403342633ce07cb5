//! The public systems: for everyone to read, and with `systems:write` to change.

use super::{ApiState, auth::needs, error::ApiError, json, json_with, request};
use crate::{
    auth::Caller,
    config::{self, SystemParts},
    store::{blocking, systems::System},
};
use axum::{
    extract::{Path, Request, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Deserialize;

const WRITE: &str = "systems:write";

pub(super) async fn list(State(state): State<ApiState>) -> Response {
    json(StatusCode::OK, state.public.systems.json())
}

/// By the names by which it is read.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Written {
    slug: String,
    #[serde(rename = "URL")]
    url: String,
    #[serde(default)]
    tagline: String,
    #[serde(default)]
    entity_count: u64,
    #[serde(default)]
    bundle_count: u64,
    last_edit: Option<String>,
}

/// Creates a system, or replaces the one with its slug.
pub(super) async fn put(State(state): State<ApiState>, caller: Caller, request: Request) -> Result<Response, ApiError> {
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

pub(super) async fn remove(
    State(state): State<ApiState>,
    caller: Caller,
    Path(slug): Path<String>,
) -> Result<Response, ApiError> {
    needs(&caller, WRITE)?;
    let removed = slug.clone();
    if !blocking(move || state.public.remove_system(&removed)).await? {
        return Err(ApiError::new(StatusCode::NOT_FOUND, format!("there is no system {slug:?}")));
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}
