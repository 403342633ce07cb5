//! What pages of other origins may do in somebody's browser: read answers and change things if the operator lists them,
//! and nothing otherwise.

use super::error::ApiError;
use axum::{
    extract::Request,
    http::{
        HeaderMap, HeaderValue, Method, StatusCode,
        header::{
            ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
            ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
            ACCESS_CONTROL_REQUEST_METHOD, ALLOW, HOST, ORIGIN, VARY,
        },
    },
    response::{IntoResponse, Response},
};

/// The headers that a page may send beside those that any may.
const SENT: HeaderValue = HeaderValue::from_static("authorization, content-type, if-none-match");
/// The headers of answers that a page may read beside those that any may.
const READ: HeaderValue = HeaderValue::from_static("allow, etag, retry-after, www-authenticate");
/// How many seconds a browser may remember what it was told before it asked.
const REMEMBERED: HeaderValue = HeaderValue::from_static("600");

/// Refuses what a page of another origin would have a browser change here: a browser sends such a request unasked, with
/// whatever rights its user has. Lets pages of listed origins read the answers.
pub async fn check<Answer>(origins: &[String], request: Request, next: impl FnOnce(Request) -> Answer) -> Response
where
    Answer: Future<Output = Response>,
{
    let headers = request.headers();
    let asks_before = *request.method() == Method::OPTIONS && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD);
    let reads = reader(headers, origins);
    let mut answer = if !request.method().is_safe() && !allowed(headers, origins) {
        let what = "this origin may not change anything: list it in http.origins";
        ApiError::new(StatusCode::FORBIDDEN, what).into_response()
    } else {
        next(request).await
    };
    // Nothing depends on the origin where none is listed.
    if origins.is_empty() {
        return answer;
    }
    let headers = answer.headers_mut();
    headers.append(VARY, HeaderValue::from_static("origin"));
    if let Some(origin) = reads {
        // A browser sends no session to whom everyone is.
        if origin != "*" {
            headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, READ);
        if let Some(methods) = headers.get(ALLOW).cloned().filter(|_| asks_before) {
            headers.insert(ACCESS_CONTROL_ALLOW_METHODS, methods);
            headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, SENT);
            headers.insert(ACCESS_CONTROL_MAX_AGE, REMEMBERED);
        }
    }
    answer
}

/// Who may read the answer, if the request comes from a page of a listed origin.
fn reader(headers: &HeaderMap, listed: &[String]) -> Option<HeaderValue> {
    let origin = headers.get(ORIGIN)?;
    let text = origin.to_str().ok()?;
    if listed.iter().any(|it| it.eq_ignore_ascii_case(text)) {
        return Some(origin.clone());
    }
    listed.iter().any(|it| it == "*").then(|| HeaderValue::from_static("*"))
}

/// Whether a browser's page may open a websocket or change something here: one of this very host, or one that the
/// operator lists. What sends no origin is not a browser.
pub fn allowed(headers: &HeaderMap, listed: &[String]) -> bool {
    let Some(origin) = headers.get(ORIGIN) else { return true };
    let Ok(origin) = origin.to_str() else { return false };
    if listed.iter().any(|it| it == "*" || it.eq_ignore_ascii_case(origin)) {
        return true;
    }
    let same = |host: &HeaderValue| {
        let page = origin.split_once("://").map(|(_, page)| page);
        page.is_some_and(|page| host.to_str().is_ok_and(|host| host.eq_ignore_ascii_case(page)))
    };
    headers.get(HOST).is_some_and(same)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(origin: Option<&str>, host: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, host.parse().unwrap());
        if let Some(origin) = origin {
            headers.insert(ORIGIN, origin.parse().unwrap());
        }
        headers
    }

    #[test]
    fn only_pages_of_this_host_and_of_the_list_may() {
        for (origin, host, list, may, reads) in [
            (None, "localhost:8080", &[][..], true, None),
            (Some("http://localhost:8080"), "localhost:8080", &[], true, None),
            (Some("http://localhost:8081"), "localhost:8080", &[], false, None),
            (Some("https://evil.example"), "localhost:8080", &["https://a.example"], false, None),
            (Some("https://a.example"), "localhost:8080", &["https://a.example"], true, Some("https://a.example")),
            (Some("https://any.example"), "localhost:8080", &["*"], true, Some("*")),
            (Some("https://a.example"), "localhost", &["*", "https://a.example"], true, Some("https://a.example")),
            (Some("null"), "localhost:8080", &[], false, None),
        ] {
            let headers = asked(origin, host);
            let list: Vec<_> = list.iter().map(|it| (*it).to_owned()).collect();
            assert_eq!(allowed(&headers, &list), may, "{origin:?}");
            assert_eq!(reader(&headers, &list).as_ref().map(|it| it.to_str().unwrap()), reads, "{origin:?}");
        }
    }
}
