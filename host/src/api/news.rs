//! The news: for everyone to read, and with `news:write` to change.

use super::{ApiState, auth::needs, error::ApiError, json, json_with, request};
use crate::{
    auth::Caller,
    store::{blocking, news, public},
};
use axum::{
    extract::{Path, Request, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use time::OffsetDateTime;
use uuid::Uuid;

const WRITE: &str = "news:write";
/// The longest id, and the longest title.
const ID: usize = 100;
const TITLE: usize = 300;

pub(super) async fn list(State(state): State<ApiState>) -> Response {
    json(StatusCode::OK, state.public.news.json())
}

/// By the names by which it is read, but the content is Markdown.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Written {
    /// Nothing means one that nothing else has.
    #[serde(rename = "ID")]
    id: Option<String>,
    /// Nothing means now.
    date: Option<String>,
    title: String,
    content: String,
}

impl Written {
    fn checked(self) -> Result<public::Written, String> {
        let line =
            |text: &str, most: usize| (1..=most).contains(&text.chars().count()) && !text.chars().any(char::is_control);
        let Self { id, date, title, content } = self;
        let id = id.unwrap_or_else(|| Uuid::now_v7().to_string());
        if !line(&id, ID) || id.contains('/') {
            return Err(format!("ID: write 1 to {ID} characters, none of them a /"));
        }
        if !line(&title, TITLE) {
            return Err(format!("Title: write one line of 1 to {TITLE} characters"));
        }
        let date = match date {
            None => OffsetDateTime::now_utc(),
            Some(date) => news::moment(&date)
                .ok_or_else(|| format!("Date: {date:?} is not one: write 2024-05-01 or 2024-05-01T12:00:00Z"))?,
        };
        Ok(public::Written { id, date, title, content })
    }
}

/// Creates a piece of news, or replaces the one with its id.
pub(super) async fn put(State(state): State<ApiState>, caller: Caller, request: Request) -> Result<Response, ApiError> {
    needs(&caller, WRITE)?;
    let written: Written = request::body(request).await?;
    let written = written.checked().map_err(|what| ApiError::new(StatusCode::BAD_REQUEST, what))?;
    let (item, new) = blocking(move || state.public.put_news(&written)).await?;
    json_with(if new { StatusCode::CREATED } else { StatusCode::OK }, &item)
}

pub(super) async fn remove(
    State(state): State<ApiState>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    needs(&caller, WRITE)?;
    let removed = id.clone();
    if !blocking(move || state.public.remove_news(&removed)).await? {
        return Err(ApiError::new(StatusCode::NOT_FOUND, format!("there is no news {id:?}")));
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}
