//! The news.

use super::{ApiState, json};
use axum::{extract::State, http::StatusCode, response::Response};

pub(super) async fn list(State(state): State<ApiState>) -> Response {
    json(StatusCode::OK, state.news.json())
}
