//! The news: readable by every caller, and changeable with `news:write`.

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
use distillery_store::{
    blocking,
    news::{self, NewsItem},
    public as kept,
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use time::OffsetDateTime;
use uuid::Uuid;

const WRITE: &str = "news:write";
/// The maximum length of an id, and of a title.
const ID: usize = 100;
const TITLE: usize = 300;

/// The form of an id: an id that begins with a dot could be used for path traversal.
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
        "description": "Removes the item.",
    }});
    let list_operation = Operation::new("listNews", "news", "Lists the news")
        .answers::<Vec<NewsItem>>(200, "The news, newest first.", json!([item]))
        .revalidated();
    let put_operation = Operation::new("putNews", "news", "Creates a news item, or replaces the one with its id")
        .needs(WRITE)
        .body::<Written>(written)
        .error(409, "There are too many items, or the item is a file on the server, which can only be changed there.")
        .answers::<NewsItem>(200, "The item replaced the one with its id.", item.clone())
        .with(200, &["Cache-Control"], link.clone())
        .answers::<NewsItem>(201, "The item is new.", item)
        .with(201, &["Cache-Control"], link);
    let remove_operation = Operation::new("removeNews", "news", "Removes a news item")
        .needs(WRITE)
        .segment(
            "id",
            "The id of the item",
            json!({"type": "string", "minLength": 1, "maxLength": ID, "pattern": ID_PATTERN}),
            json!("home"),
        )
        .answers_nothing(204, "The item is removed.", &[])
        .error(404, "There is no such item.")
        .error(409, "The item is a file on the server, which can only be removed there.");
    vec![
        Route::at("/news").get(list, list_operation).post(put, put_operation),
        Route::at("/news/{id}").delete(remove, remove_operation),
    ]
}

async fn list(State(state): State<Api>, headers: HeaderMap) -> Response {
    public(&headers, "application/json", state.public.news.told())
}

/// The fields of an item to write: named as in the answers, with Markdown as content.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
#[schemars(rename = "NewNews")]
struct Written {
    /// The id; a new unique one if it is missing.
    #[serde(rename = "ID")]
    #[schemars(length(min = 1, max = ID), regex(pattern = ID_PATTERN))]
    id: Option<String>,
    /// A date or a time; now if it is missing.
    #[schemars(extend("anyOf" = [{"type": "null"}, {"format": "date"}, {"format": "date-time"}]))]
    date: Option<String>,
    /// The title, in one line.
    #[schemars(length(min = 1, max = TITLE), regex(pattern = request::ONE_LINE))]
    title: String,
    /// Markdown. It is displayed as HTML without active content.
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

/// Creates a news item, or replaces the one with its id.
async fn put(
    State(state): State<Api>,
    Authenticated(caller): Authenticated,
    request: Request,
) -> Result<Response, ApiError> {
    needs(&caller, WRITE)?;
    let written: Written = request::body(request).await?;
    let written = written.checked().map_err(|what| ApiError::new(StatusCode::BAD_REQUEST, what))?;
    let (item, new) = blocking(move || state.public.put_news(&written)).await?;
    json_with(if new { StatusCode::CREATED } else { StatusCode::OK }, &item)
}

async fn remove(
    State(state): State<Api>,
    Authenticated(caller): Authenticated,
    Segment(id): Segment,
) -> Result<Response, ApiError> {
    needs(&caller, WRITE)?;
    let removed = id.clone();
    if !blocking(move || state.public.remove_news(&removed)).await? {
        return Err(ApiError::new(StatusCode::NOT_FOUND, format!("there is no news {id:?}")));
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}
