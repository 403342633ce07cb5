//! The inputs of a request: a part of its path, its query, and a JSON body with limits of size and time.

use crate::answer::ApiError;
use axum::{
    body::to_bytes,
    extract::{FromRequestParts, Path, Request},
    http::{StatusCode, Uri, header, request::Parts},
};
use bytes::Bytes;
use http_body_util::LengthLimitError;
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error as _},
};
use serde_json::Number;
use std::{borrow::Cow, time::Duration};

/// The maximum size of a body; the API accepts only small ones.
pub(crate) const BODY: usize = 64 << 10;
/// The timeout for receiving a body.
const TIME: Duration = Duration::from_secs(10);

/// The form of a one-line text, for programs.
pub(super) const ONE_LINE: &str = r"^[^\u0000-\u001f\u007f-\u009f]*$";

/// A decoded segment of the path that names an item.
pub(super) struct Segment(pub String);

impl<S: Send + Sync> FromRequestParts<S> for Segment {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        let Path(segment) = path.map_err(|error| ApiError::new(StatusCode::BAD_REQUEST, error.body_text()))?;
        Ok(Self(segment))
    }
}

/// Deserializes a whole number in any notation: in JSON, 7 and 7.0 are equal.
pub(super) fn whole<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    /// Above this value not every whole number can be represented.
    const EXACT: f64 = (1u64 << f64::MANTISSA_DIGITS) as f64;
    let number = Number::deserialize(deserializer)?;
    let float = || number.as_f64().filter(|float| float.fract() == 0.0 && (0.0..=EXACT).contains(float));
    let whole = number.as_u64().or_else(|| float().map(|float| float as u64));
    whole.ok_or_else(|| D::Error::custom(format!("{number} is not a whole number from 0 on that can be counted to")))
}

/// Returns the decoded names and values of the query.
pub(crate) fn query(uri: &Uri) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes())
}

/// Parses the JSON body. The required content type excludes forms of other pages.
pub(super) async fn body<T: DeserializeOwned>(request: Request) -> Result<T, ApiError> {
    body_within(TIME, request).await
}

async fn body_within<T: DeserializeOwned>(time: Duration, request: Request) -> Result<T, ApiError> {
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|it| it.to_str().ok()).unwrap_or_default();
    let media = kind.split(';').next().unwrap_or_default().trim();
    if !media.eq_ignore_ascii_case("application/json") {
        let what = "send JSON, with the header Content-Type: application/json";
        return Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, what));
    }
    let bytes = raw_within(time, request, BODY).await?;
    serde_json::from_slice(&bytes).map_err(|error| {
        ApiError::new(StatusCode::BAD_REQUEST, format!("the body is not what is needed here: {error}"))
    })
}

/// Returns the raw body, up to `most` bytes.
pub(crate) async fn raw_body(request: Request, most: usize) -> Result<Bytes, ApiError> {
    raw_within(TIME, request, most).await
}

async fn raw_within(time: Duration, request: Request, most: usize) -> Result<Bytes, ApiError> {
    let read = tokio::time::timeout(time, to_bytes(request.into_body(), most)).await;
    let Ok(read) = read else {
        return Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, "the body did not come in time"));
    };
    read.map_err(|error| {
        if error.into_inner().is::<LengthLimitError>() {
            return ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, format!("the body has more than {most} bytes"));
        }
        ApiError::new(StatusCode::BAD_REQUEST, "the body is malformed, or broke off")
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
    async fn body_must_be_json_of_bounded_size() {
        assert_eq!(read("application/json", "[1]").await, Ok(serde_json::json!([1])));
        assert!(read("Application/JSON; charset=utf-8", "[1]").await.is_ok());
        for other in ["text/plain", "application/x-www-form-urlencoded", ""] {
            assert_eq!(read(other, "[1]").await, Err(StatusCode::UNSUPPORTED_MEDIA_TYPE), "{other}");
        }
        assert_eq!(read("application/json", "[1").await, Err(StatusCode::BAD_REQUEST));
        assert_eq!(read("application/json", "1".repeat(BODY + 1)).await, Err(StatusCode::PAYLOAD_TOO_LARGE));
    }

    #[tokio::test]
    async fn missing_body_times_out() {
        let endless = Body::from_stream(futures_util::stream::pending::<Result<&str, std::io::Error>>());
        let request = Request::builder().header("content-type", "application/json").body(endless).unwrap();
        let read: Result<Value, _> = body_within(Duration::from_millis(1), request).await;
        assert_eq!(read.map_err(|error| error.status), Err(StatusCode::REQUEST_TIMEOUT));
    }

    #[test]
    fn whole_number_can_have_any_notation() {
        let read = |text: &str| whole(&mut serde_json::Deserializer::from_str(text)).ok();
        for (text, number) in [("7", Some(7)), ("7.0", Some(7)), ("7e2", Some(700)), ("0.0", Some(0))] {
            assert_eq!(read(text), number, "{text}");
        }
        for text in ["7.5", "-1", "-1.0", "1e300", "\"7\"", "null"] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn query_is_decoded() {
        let uri: Uri = "/x?call=a%20b&user=c+d&flag".parse().unwrap();
        let pairs: Vec<_> = query(&uri).collect();
        assert_eq!(pairs, [("call".into(), "a b".into()), ("user".into(), "c d".into()), ("flag".into(), "".into())]);
        assert_eq!(query(&"/x".parse().unwrap()).count(), 0);
    }
}
