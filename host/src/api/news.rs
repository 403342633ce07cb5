//! The news: for everyone to read, and with `news:write` to change.

use super::{
    Api,
    auth::needs,
    error::ApiError,
    json_with,
    operation::Operation,
    public,
    request::{self, Segment},
    route::Route,
};
use crate::{
    auth::Caller,
    store::{
        blocking,
        news::{self, NewsItem},
        public as kept,
    },
};
use axum::{
    extract::{Request, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use time::OffsetDateTime;
use uuid::Uuid;

const WRITE: &str = "news:write";
/// The longest id, and the longest title.
const ID: usize = 100;
const TITLE: usize = 300;

/// What an id must look like: one that begins with a dot could be taken for a way through directories.
const ID_PATTERN: &str = r"^[^/.\u0000-\u001f\u007f-\u009f][^/\u0000-\u001f\u007f-\u009f]*$";

pub(super) fn routes() -> Vec<Route> {
    let item = json!({
        "ID": "home",
        "Date": "2026-01-31T00:00:00Z",
        "Title": "A new home",
        "Content": "<p>We have <em>moved</em>.</p>\n",
    });
    let written = json!({
        "ID": "home", "Date": "2026-01-31", "Title": "A new home", "Content": "We have *moved*.",
    });
    let link = json!({"removeNews": {
        "operationId": "removeNews",
        "parameters": {"id": "$response.body#/ID"},
        "description": "Removes it again.",
    }});
    let list_operation = Operation::new("listNews", "news", "Lists the news")
        .answers::<Vec<NewsItem>>(200, "All of them, the newest first.", json!([item]))
        .revalidated();
    let put_operation = Operation::new("putNews", "news", "Creates a piece of news, or replaces the one with its id")
        .needs(WRITE)
        .body::<Written>(written)
        .error(409, "There are too many of them, or it is a file of the server, which can only be changed there.")
        .answers::<NewsItem>(200, "It has replaced the one with its id.", item.clone())
        .with(200, &["Cache-Control"], link.clone())
        .answers::<NewsItem>(201, "It is new.", item)
        .with(201, &["Cache-Control"], link);
    let remove_operation = Operation::new("removeNews", "news", "Removes a piece of news")
        .needs(WRITE)
        .segment(
            "id",
            "Its id",
            json!({"type": "string", "minLength": 1, "maxLength": ID, "pattern": ID_PATTERN}),
            json!("home"),
        )
        .answers_nothing(204, "It is removed.", &[])
        .error(404, "There is no such piece of news.")
        .error(409, "It is a file of the server, which can only be removed there.");
    vec![
        Route::at("/news").get(list, list_operation).post(put, put_operation),
        Route::at("/news/{id}").delete(remove, remove_operation),
    ]
}

async fn list(State(state): State<Api>, headers: HeaderMap) -> Response {
    public(&headers, "application/json", state.public.news.told())
}

/// By the names by which it is read, but the content is Markdown.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
#[schemars(rename = "NewNews")]
struct Written {
    /// Nothing means one that nothing else has.
    #[serde(rename = "ID")]
    #[schemars(length(min = 1, max = ID), regex(pattern = ID_PATTERN))]
    id: Option<String>,
    /// A day, or a moment. Nothing means now.
    #[schemars(extend("anyOf" = [{"type": "null"}, {"format": "date"}, {"format": "date-time"}]))]
    date: Option<String>,
    /// One line.
    #[schemars(length(min = 1, max = TITLE), regex(pattern = request::ONE_LINE))]
    title: String,
    /// Markdown. It is shown as HTML without anything that could run.
    content: String,
}

impl Written {
    fn checked(self) -> Result<kept::Written, String> {
        let line =
            |text: &str, most: usize| (1..=most).contains(&text.chars().count()) && !text.chars().any(char::is_control);
        let Self { id, date, title, content } = self;
        let id = id.unwrap_or_else(|| Uuid::now_v7().to_string());
        if !line(&id, ID) || id.contains('/') || id.starts_with('.') {
            return Err(format!("ID: write 1 to {ID} characters, none of them a / and the first not a dot"));
        }
        if !line(&title, TITLE) {
            return Err(format!("Title: write one line of 1 to {TITLE} characters"));
        }
        let date = match date {
            None => OffsetDateTime::now_utc(),
            Some(date) => news::moment(&date)
                .ok_or_else(|| format!("Date: {date:?} is not one: write 2024-05-01 or 2024-05-01T12:00:00Z"))?,
        };
        Ok(kept::Written { id, date, title, content })
    }
}

/// Creates a piece of news, or replaces the one with its id.
async fn put(State(state): State<Api>, caller: Caller, request: Request) -> Result<Response, ApiError> {
    needs(&caller, WRITE)?;
    let written: Written = request::body(request).await?;
    let written = written.checked().map_err(|what| ApiError::new(StatusCode::BAD_REQUEST, what))?;
    let (item, new) = blocking(move || state.public.put_news(&written)).await?;
    json_with(if new { StatusCode::CREATED } else { StatusCode::OK }, &item)
}

async fn remove(State(state): State<Api>, caller: Caller, Segment(id): Segment) -> Result<Response, ApiError> {
    needs(&caller, WRITE)?;
    let removed = id.clone();
    if !blocking(move || state.public.remove_news(&removed)).await? {
        return Err(ApiError::new(StatusCode::NOT_FOUND, format!("there is no news {id:?}")));
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}
