//! Cross-origin rules: pages of origins that the operator lists can read answers and make changes; all other pages can
//! do neither.

use crate::answer::ApiError;
use crate::handshake;
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
use distillery_core::origin::Origin;
use parking_lot::Mutex;
use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

/// The request headers that a page is allowed to send, in addition to the default ones.
const SENT: HeaderValue = HeaderValue::from_static("authorization, content-type, if-none-match");
/// The answer headers that a page is allowed to read, in addition to the default ones.
const READ: HeaderValue = HeaderValue::from_static(
    "allow, etag, location, retry-after, www-authenticate, distillery-process, distillery-key, distillery-outcome, \
     distillery-exit-status, distillery-message, distillery-value",
);
/// The seconds for which a browser can cache a preflight answer.
const REMEMBERED: HeaderValue = HeaderValue::from_static("600");

/// The origins whose pages are treated like pages of this server.
#[derive(Debug, Default)]
pub struct Origins {
    all: bool,
    listed: Vec<Origin>,
    /// The recently refused origins, so that a page cannot flood the log.
    refused: Mutex<HashMap<String, Instant>>,
}

/// The time before a refused origin is logged again, and the number of remembered origins.
const TOLD_AGAIN: Duration = Duration::from_secs(60);
const REMEMBERED_ORIGINS: usize = 100;
/// The maximum length of a refused origin in the log.
const SHOWN: usize = 200;

impl Origins {
    /// Parses the origins in the configuration.
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

    /// Returns the value of the header that allows reading, if the request comes from a page of a listed origin.
    fn reader(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        let text = headers.get(ORIGIN)?;
        if of(text).is_some_and(|origin| self.listed.contains(&origin)) {
            return Some(text.clone());
        }
        self.all.then(|| HeaderValue::from_static("*"))
    }

    /// Returns whether a page can open a websocket or make a change at `target`: a page of the same origin or of a
    /// listed one. A request without an origin does not come from a browser page.
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

/// Refuses changes by pages of other origins, because browsers send such requests unasked and with the user's rights.
/// Lets pages of listed origins read answers.
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
    // A websocket has its own check, even over HTTP/2, where its method is not safe.
    let is_safe = request.method().is_safe() || handshake::asks(&request);
    let mut answer = if !is_safe && !origins.allow(headers, target) {
        let what = "this origin may not change anything: list it in http.origins";
        ApiError::new(StatusCode::FORBIDDEN, what).into_response()
    } else {
        next(request).await
    };
    // Without listed origins, answers do not depend on the origin.
    if origins.is_empty() {
        return answer;
    }
    let headers = answer.headers_mut();
    headers.append(VARY, HeaderValue::from_static("origin"));
    if let Some(origin) = reads {
        // Browsers do not send a session if all origins are allowed.
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
    fn only_pages_of_own_and_listed_origins_are_allowed() {
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
    fn request_with_two_origins_is_refused() {
        let target = "http://localhost".parse().unwrap();
        let twice = asked(&["http://localhost", "http://localhost"]);
        assert!(!Origins::default().allow(&twice, Some(&target)));
        assert!(!Origins::default().allow(&asked(&["http://localhost"]), None));
    }

    #[test]
    fn remembered_refused_origins_are_bounded() {
        let origins = Origins::default();
        for port in 1..500 {
            assert!(!origins.allow(&asked(&[&format!("http://evil.example:{port}")]), None));
        }
        assert_eq!(origins.refused.lock().len(), REMEMBERED_ORIGINS);
    }
}
