//! What pages of other origins may do in somebody's browser: read answers and change things if the operator lists them,
//! and nothing otherwise.

use super::error::ApiError;
use crate::{origin::Origin, server::handshake};
use axum::{
    extract::Request,
    http::{
        HeaderMap, HeaderValue, Method, StatusCode,
        header::{
            ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
            ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
            ACCESS_CONTROL_REQUEST_METHOD, ALLOW, ORIGIN, VARY,
        },
    },
    response::{IntoResponse, Response},
};
use parking_lot::Mutex;
use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

/// The headers that a page may send beside those that any may.
const SENT: HeaderValue = HeaderValue::from_static("authorization, content-type, if-none-match");
/// The headers of answers that a page may read beside those that any may.
const READ: HeaderValue = HeaderValue::from_static("allow, etag, retry-after, www-authenticate");
/// How many seconds a browser may remember what it was told before it asked.
const REMEMBERED: HeaderValue = HeaderValue::from_static("600");

/// The origins whose pages may do what pages of this server may.
#[derive(Debug, Default)]
pub struct Origins {
    all: bool,
    listed: Vec<Origin>,
    /// Those that were refused lately, so that a page cannot fill the log.
    refused: Mutex<HashMap<String, Instant>>,
}

/// How long an origin that was refused is not told of again, and of how many that is remembered.
const TOLD_AGAIN: Duration = Duration::from_secs(60);
const REMEMBERED_ORIGINS: usize = 100;
/// How much of an origin that is refused stands in the log.
const SHOWN: usize = 200;

impl Origins {
    /// The origins as the configuration lists them.
    pub fn new(listed: &[String]) -> Self {
        Self {
            all: listed.iter().any(|it| it == "*"),
            listed: listed.iter().filter_map(|it| it.parse().ok()).collect(),
            refused: Mutex::default(),
        }
    }

    fn is_empty(&self) -> bool {
        !self.all && self.listed.is_empty()
    }

    /// Returns the readers that an answer allows, if the request comes from a page of a listed origin.
    fn reader(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        let text = headers.get(ORIGIN)?;
        if of(text).is_some_and(|origin| self.listed.contains(&origin)) {
            return Some(text.clone());
        }
        self.all.then(|| HeaderValue::from_static("*"))
    }

    /// Whether a browser's page may open a websocket or change something at `target`: one of this very origin, or one that
    /// the operator lists. What sends no origin is not a browser.
    pub fn allow(&self, headers: &HeaderMap, target: Option<&Origin>) -> bool {
        let mut origins = headers.get_all(ORIGIN).iter();
        let Some(text) = origins.next() else { return true };
        let page = of(text).filter(|_| origins.next().is_none());
        let allowed = self.all || page.as_ref().is_some_and(|page| self.listed.contains(page) || target == Some(page));
        if !allowed {
            self.tell(&String::from_utf8_lossy(text.as_bytes()), target);
        }
        allowed
    }

    fn tell(&self, origin: &str, target: Option<&Origin>) {
        let origin: String = origin.chars().take(SHOWN).collect();
        let now = Instant::now();
        let mut refused = self.refused.lock();
        refused.retain(|_, told| now.duration_since(*told) < TOLD_AGAIN);
        if refused.len() < REMEMBERED_ORIGINS && !refused.contains_key(&origin) {
            let target = target.map(Origin::to_string).unwrap_or_default();
            tracing::warn!(
                origin,
                target,
                "refused a page of another origin: list it in http.origins to allow it, or, where a proxy changes the \
                 scheme or the host, list the proxy in http.trusted_proxies"
            );
            refused.insert(origin, now);
        }
    }
}

fn of(text: &HeaderValue) -> Option<Origin> {
    text.to_str().ok()?.parse().ok()
}

/// Refuses what a page of another origin would have a browser change here: a browser sends such a request unasked, with
/// whatever rights its user has. Lets pages of listed origins read the answers.
pub async fn check<Answer>(
    origins: &Origins,
    target: Option<&Origin>,
    request: Request,
    next: impl FnOnce(Request) -> Answer,
) -> Response
where
    Answer: Future<Output = Response>,
{
    let headers = request.headers();
    let asks_before = *request.method() == Method::OPTIONS && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD);
    let reads = origins.reader(headers);
    // A websocket has answers of its own to that, over HTTP/2 too, where its method is not safe.
    let is_safe = request.method().is_safe() || handshake::asks(&request);
    let mut answer = if !is_safe && !origins.allow(headers, target) {
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
        // Browsers send no session to a server that allows every origin.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(origins: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for origin in origins {
            headers.append(ORIGIN, origin.parse().unwrap());
        }
        headers
    }

    #[test]
    fn only_pages_of_this_origin_and_of_the_list_may() {
        for (origin, target, list, may, reads) in [
            (None, "http://localhost:8080", &[][..], true, None),
            (Some("http://localhost:8080"), "http://localhost:8080", &[], true, None),
            (Some("http://localhost:8081"), "http://localhost:8080", &[], false, None),
            (Some("https://localhost:8080"), "http://localhost:8080", &[], false, None),
            (Some("http://localhost"), "http://localhost:80", &[], true, None),
            (Some("https://calls.example"), "https://calls.example:443", &[], true, None),
            (Some("http://calls.example"), "https://calls.example", &[], false, None),
            (Some("https://calls.example"), "http://calls.example:443", &[], false, None),
            (Some("https://evil.example"), "http://localhost:8080", &["https://a.example"], false, None),
            (Some("https://a.example"), "http://localhost", &["https://a.example"], true, Some("https://a.example")),
            (Some("https://any.example"), "http://localhost", &["*"], true, Some("*")),
            (
                Some("https://a.example"),
                "http://localhost",
                &["*", "https://a.example"],
                true,
                Some("https://a.example"),
            ),
            (Some("null"), "http://localhost", &[], false, None),
            (Some("null"), "http://localhost", &["https://a.example"], false, None),
        ] {
            let headers = asked(origin.as_slice());
            let list: Vec<_> = list.iter().map(|it| (*it).to_owned()).collect();
            let (origins, target) = (Origins::new(&list), target.parse().unwrap());
            assert_eq!(origins.allow(&headers, Some(&target)), may, "{origin:?} at {target}");
            let reader = origins.reader(&headers);
            assert_eq!(reader.as_ref().map(|it| it.to_str().unwrap()), reads, "{origin:?}");
        }
    }

    #[test]
    fn a_page_of_two_origins_is_of_none() {
        let target = "http://localhost".parse().unwrap();
        let twice = asked(&["http://localhost", "http://localhost"]);
        assert!(!Origins::default().allow(&twice, Some(&target)));
        assert!(!Origins::default().allow(&asked(&["http://localhost"]), None));
    }

    #[test]
    fn few_refused_origins_are_remembered() {
        let origins = Origins::default();
        for port in 1..500 {
            assert!(!origins.allow(&asked(&[&format!("http://evil.example:{port}")]), None));
        }
        assert_eq!(origins.refused.lock().len(), REMEMBERED_ORIGINS);
    }
}
