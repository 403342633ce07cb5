//! The JSON API: its routes, and the answers for unknown paths.
//!
//! Each resource has a file, which only turns the server's data into JSON.

pub mod asyncapi;
pub mod auth;
pub mod calls;
pub mod cross_origin;
pub mod documents;
pub mod news;
pub mod openapi;
mod operation;
pub mod output;
pub mod plugins;
pub mod pow;
pub mod processes;
pub(crate) mod request;
mod route;
pub mod schedules;
pub mod systems;
pub mod tokens;

use crate::{
    answer::{ApiError, json, json_of, json_with, no_such_route},
    extensions::SharedBody,
};
use axum::{
    Extension, Router,
    body::Body,
    http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use distillery_core::drain::Drain;
use distillery_plugin::{Catalog, watch::Watcher};
use distillery_process::{detached::registry::Registry, history::History, schedules::Scheduler};
use distillery_store::{Told, public::Public};
use route::Route;
use std::sync::Arc;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// The root of the API's paths.
pub const ROOT: &str = "/api";

/// The services that the routes use.
#[derive(Clone)]
pub struct ApiState {
    /// Whether the API is enabled.
    pub enabled: bool,
    pub catalog: Arc<Catalog>,
    pub history: Arc<History>,
    /// `None` if no process can outlive its client.
    pub registry: Option<Arc<Registry>>,
    /// `None` if no calls run by themselves.
    pub scheduler: Option<Arc<Scheduler>>,
    pub plugins: Watcher,
    /// Ends long-lived answers at shutdown.
    pub drain: Drain,
    pub public: Arc<Public>,
    pub door: auth::Door,
    pub run: calls::Run,
}

/// The shared state of routes: each request clones a reference only.
type Api = Arc<ApiState>;

/// Both roots serve the same resources.
const ROOTS: [&str; 2] = ["/api/v1/http", "/api/v1"];

/// Returns every route except the sockets, with its description.
fn routes() -> Vec<Route> {
    [
        auth::routes(),
        tokens::routes(),
        systems::routes(),
        news::routes(),
        calls::routes(),
        processes::routes(),
        output::routes(),
        schedules::routes(),
        plugins::routes(),
        documents::routes(),
    ]
    .concat()
}

/// Returns a router for all routes. `sockets` contributes the websocket API, `/api/v1/ws` and `/api/v1/ws/`, without a
/// fallback. Answers for a wrong method, an unknown path and a disabled API apply to the sockets too.
pub fn router(state: ApiState, sockets: Router) -> Router {
    if !state.enabled {
        return Router::new().fallback(off);
    }
    let mut router = Router::new();
    for route in routes() {
        let methods = route.methods();
        for root in ROOTS {
            for slash in ["", "/"] {
                router = router.route(&format!("{root}{}{slash}", route.path), methods.clone());
            }
        }
    }
    router.with_state(Arc::new(state)).merge(sockets).fallback(no_such_route).method_not_allowed_fallback(wrong_method)
}

/// Builds an answer that is the same for every client. Cacheable: sends an ETag, answers 304 on a match.
fn public(asked: &HeaderMap, media: &'static str, told: Told) -> Response {
    let Ok(tag) = HeaderValue::from_maybe_shared(told.tag) else {
        return ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "its tag is no header").into_response();
    };
    let has_it = asked.get_all(header::IF_NONE_MATCH).iter().any(|tags| matches(tags, &tag));
    let headers = [
        (header::ETAG, tag),
        (header::CACHE_CONTROL, HeaderValue::from_static("public, no-cache")),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ];
    if has_it {
        return (StatusCode::NOT_MODIFIED, headers).into_response();
    }
    (Extension(SharedBody), headers, [(header::CONTENT_TYPE, media)], Body::from(told.body)).into_response()
}

/// Returns whether one of the tags of a request is this one.
fn matches(tags: &HeaderValue, tag: &HeaderValue) -> bool {
    let mut tags = tags.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    tags.any(|it| it == b"*" || it.strip_prefix(b"W/").unwrap_or(it) == tag.as_bytes())
}

/// Answers a request with a wrong method. The router adds the header that lists the allowed ones.
async fn wrong_method(method: Method) -> ApiError {
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, format!("{method} is not allowed here"))
}

/// Answers every request while the API is disabled.
async fn off(uri: Uri) -> ApiError {
    match uri.path().strip_prefix(ROOT) {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => {
            ApiError::new(StatusCode::NOT_IMPLEMENTED, "the API is off: set http.api to true in distillery.yaml")
        }
        _ => no_such_route(uri).await,
    }
}

/// Formats a time for the API.
fn moment(at: OffsetDateTime) -> String {
    at.format(&Rfc3339).unwrap_or_default()
}

#[cfg(test)]
mod tests;
