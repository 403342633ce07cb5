//! The Model Context Protocol: the calls that a caller can run, as tools of a language model.
//!
//! The call of a tool becomes a call of this server, with the same caller, rights, limits and history. Only this module
//! names the SDK. `tools` describes calls and reads arguments, `run` is a running call, `answer` makes its result, `log`
//! passes on its stderr, `paused` keeps calls whose question waits for an answer, and `service` implements the requests of
//! the protocol. This file has the route, and the sessions of clients that use them.

mod answer;
#[expect(deprecated, reason = "clients of today have it")]
mod log;
mod paused;
mod run;
mod service;
mod tools;

use crate::{
    answer::ApiError,
    api::{ApiState, auth::Authenticated},
};
use axum::{
    Router,
    body::Body,
    extract::{FromRequestParts, Request, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::any,
};
use distillery_core::auth::Caller;
use parking_lot::Mutex;
use paused::Paused;
use rmcp::transport::streamable_http_server::{
    StreamableHttpServerConfig, StreamableHttpService, session::local::LocalSessionManager,
};
use service::Tools;
use std::{collections::HashMap, sync::Arc};

/// The paths of the endpoint.
const PATHS: [&str; 2] = ["/api/v1/mcp", "/api/v1/mcp/"];
/// The header with the session of a client that speaks a version with sessions.
const SESSION: &str = "mcp-session-id";
/// The maximum number of sessions. One without requests ends after five minutes.
const SESSIONS: usize = 1_000;
/// The maximum size of a message of a client.
const MESSAGE: usize = 4 << 20;

struct Mcp {
    service: StreamableHttpService<Tools, LocalSessionManager>,
    sessions: Arc<LocalSessionManager>,
    /// The user of each session: its identifier alone opens nothing.
    users: Mutex<HashMap<String, String>>,
}

/// Returns the routes of the protocol. There are none if the API is off.
pub fn router(state: &ApiState) -> Router {
    if !state.enabled {
        return Router::new();
    }
    let sessions = Arc::new(LocalSessionManager::default());
    // The hosts and origins of requests are checked before they come here.
    let config = StreamableHttpServerConfig::default()
        .disable_allowed_hosts()
        .with_max_request_body_bytes(MESSAGE)
        .with_cancellation_token(state.drain.signal());
    let (state, paused) = (Arc::new(state.clone()), Arc::new(Paused::default()));
    let tools = move || Ok(Tools::new(state.clone(), paused.clone()));
    let service = StreamableHttpService::new(tools, sessions.clone(), config);
    let mcp = Arc::new(Mcp { service, sessions, users: Mutex::default() });
    PATHS.into_iter().fold(Router::new(), |router, path| router.route(path, any(serve))).with_state(mcp)
}

async fn serve(State(mcp): State<Arc<Mcp>>, request: Request) -> Response {
    let (mut parts, body) = request.into_parts();
    let Ok(Authenticated(caller)) = Authenticated::from_request_parts(&mut parts, &()).await;
    match session(&parts.headers) {
        Some(session) if !mcp.is_of(session, &caller) => {
            return ApiError::new(StatusCode::NOT_FOUND, "there is no such session: initialize a new one")
                .into_response();
        }
        None if mcp.is_full().await => {
            return ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "too many sessions: try again later")
                .into_response();
        }
        _ => {}
    }
    let answer = mcp.service.handle(Request::from_parts(parts, body)).await.map(Body::new);
    if let Some(session) = session(answer.headers()) {
        mcp.users.lock().entry(session.to_owned()).or_insert_with(|| caller.user.to_string());
    }
    answer
}

fn session(headers: &HeaderMap) -> Option<&str> {
    headers.get(SESSION)?.to_str().ok()
}

impl Mcp {
    /// Returns whether the session is one of this caller.
    fn is_of(&self, session: &str, caller: &Caller) -> bool {
        self.users.lock().get(session).is_some_and(|user| *user == *caller.user)
    }

    /// Returns whether there is no room for a new session, and forgets those that have ended.
    async fn is_full(&self) -> bool {
        if self.users.lock().len() < SESSIONS {
            return false;
        }
        let open = self.sessions.sessions.read().await;
        let mut users = self.users.lock();
        users.retain(|session, _| open.contains_key(session.as_str()));
        users.len() >= SESSIONS
    }
}
