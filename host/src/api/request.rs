//! What a request brings along: a part of its path, the pairs of its query, and a body of JSON that is bounded in size
//! and time.

use super::error::ApiError;
use axum::{
    body::to_bytes,
    extract::{FromRequestParts, Path, Request},
    http::{StatusCode, Uri, header, request::Parts},
};
use serde::de::DeserializeOwned;
use std::{borrow::Cow, time::Duration};

/// The largest body that is read. What is written here is small.
const BODY: usize = 64 << 10;
/// How long a body may take to come.
const TIME: Duration = Duration::from_secs(10);

/// What text must look like that is one line, for programs.
pub(super) const ONE_LINE: &str = r"^[^\u0000-\u001f\u007f-\u009f]*$";

/// The part of the path that names something, decoded.
pub(super) struct Segment(pub String);

impl<S: Send + Sync> FromRequestParts<S> for Segment {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        let Path(segment) = path.map_err(|error| ApiError::new(StatusCode::BAD_REQUEST, error.body_text()))?;
        Ok(Self(segment))
    }
}

/// The names and values of the query, decoded.
pub(super) fn query(uri: &Uri) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes())
}

/// The JSON of the body. Anything that a form of another page could send is refused by its type.
pub(super) async fn body<T: DeserializeOwned>(request: Request) -> Result<T, ApiError> {
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|it| it.to_str().ok()).unwrap_or_default();
    let media = kind.split(';').next().unwrap_or_default().trim();
    if !media.eq_ignore_ascii_case("application/json") {
        let what = "send JSON, with the header Content-Type: application/json";
        return Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, what));
    }
    let read = tokio::time::timeout(TIME, to_bytes(request.into_body(), BODY)).await;
    let Ok(read) = read else {
        return Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, "the body did not come in time"));
    };
    let bytes = read.map_err(|_| {
        let what = format!("the body broke off, or has more than {BODY} bytes");
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, what)
    })?;
    serde_json::from_slice(&bytes).map_err(|error| {
        ApiError::new(StatusCode::BAD_REQUEST, format!("the body is not what is needed here: {error}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use serde_json::Value;

    async fn read(kind: &str, content: impl Into<Body>) -> Result<Value, StatusCode> {
        let request = Request::builder().header("content-type", kind).body(content.into()).unwrap();
        body(request).await.map_err(|error| error.status)
    }

    #[tokio::test]
    async fn only_json_of_a_bounded_size_is_a_body() {
        assert_eq!(read("application/json", "[1]").await, Ok(serde_json::json!([1])));
        assert!(read("Application/JSON; charset=utf-8", "[1]").await.is_ok());
        for other in ["text/plain", "application/x-www-form-urlencoded", ""] {
            assert_eq!(read(other, "[1]").await, Err(StatusCode::UNSUPPORTED_MEDIA_TYPE), "{other}");
        }
        assert_eq!(read("application/json", "[1").await, Err(StatusCode::BAD_REQUEST));
        assert_eq!(read("application/json", "1".repeat(BODY + 1)).await, Err(StatusCode::PAYLOAD_TOO_LARGE));
    }

    #[test]
    fn a_query_is_decoded() {
        let uri: Uri = "/x?call=a%20b&user=c+d&flag".parse().unwrap();
        let pairs: Vec<_> = query(&uri).collect();
        assert_eq!(pairs, [("call".into(), "a b".into()), ("user".into(), "c d".into()), ("flag".into(), "".into())]);
        assert_eq!(query(&"/x".parse().unwrap()).count(), 0);
    }
}
