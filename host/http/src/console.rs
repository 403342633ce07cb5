//! The console: a page for people at `/`. Its files are part of the program.
//!
//! It knows how the files reach a browser and what the browser is allowed to do, not what they show: the page uses the API
//! like any other client.

use crate::{answer::ApiError, extensions::SharedBody};
use axum::{
    Extension, Router,
    body::Body,
    extract::{Path, State},
    http::{HeaderMap, HeaderName, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use bytes::Bytes;
use sha2::{Digest, Sha256};
use std::sync::Arc;

const PAGE: &str = include_str!("../console/index.html");
/// Placeholder in the page for the path of its files.
const FILES_PATH: &str = "{files}";

macro_rules! files {
    ($($name:literal)*) => { [$(($name, include_bytes!(concat!("../console/", $name)) as &[u8])),*] };
}

/// All files beside the page.
const FILES: &[(&str, &[u8])] = &files! {
    "api.js"
    "calls.js"
    "colour.js"
    "console.css"
    "console.js"
    "dom.js"
    "element.js"
    "form.js"
    "icon.svg"
    "input.js"
    "line.js"
    "live.js"
    "login.js"
    "outcome.js"
    "output.js"
    "overview.js"
    "plugins.js"
    "process.js"
    "processes.js"
    "record.js"
    "running.js"
    "screen.js"
    "settings.js"
    "stored.js"
    "style.js"
    "terminal.js"
    "text.js"
    "tokens.js"
    "wire.js"
};

/// The content security policy: only files of this server run or style the page, and it only connects to this server.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; \
                      trusted-types news";

/// For the page, which can change with the next start of the server.
const REVALIDATE: &str = "no-cache";
/// For the files, whose paths change with their content.
const IMMUTABLE: &str = "public, max-age=31536000, immutable";

struct Console {
    page: Bytes,
    /// Digest of all files, and part of their paths.
    version: String,
}

/// Returns the routes of the console, without a fallback.
pub fn router() -> Router {
    let console = Arc::new(Console::new());
    let files = format!("/console/{}/{{file}}", console.version);
    Router::new().route("/", get(page)).route(&files, get(file)).with_state(console)
}

impl Console {
    fn new() -> Self {
        let mut digest = Sha256::new().chain_update(PAGE);
        for (name, content) in FILES {
            digest.update(name);
            digest.update((content.len() as u64).to_be_bytes());
            digest.update(content);
        }
        let version = format!("{:x}", digest.finalize())[..16].to_owned();
        Self { page: PAGE.replace(FILES_PATH, &format!("/console/{version}")).into(), version }
    }
}

async fn page(State(console): State<Arc<Console>>, headers: HeaderMap) -> Response {
    answer(&console.version, &headers, "text/html; charset=utf-8", REVALIDATE, console.page.clone())
}

async fn file(State(console): State<Arc<Console>>, Path(file): Path<String>, headers: HeaderMap) -> Response {
    let Some((name, content)) = FILES.iter().find(|(name, _)| *name == file) else {
        let message = format!("no such route: /console/{}/{file}", console.version);
        return ApiError::new(StatusCode::NOT_FOUND, message).into_response();
    };
    let kind = match name.rsplit_once('.') {
        Some((_, "js")) => "text/javascript; charset=utf-8",
        Some((_, "css")) => "text/css; charset=utf-8",
        _ => "image/svg+xml",
    };
    answer(&console.version, &headers, kind, IMMUTABLE, Bytes::from_static(content))
}

/// Sends a file, or 304 if the browser has it already.
fn answer(version: &str, asked: &HeaderMap, kind: &'static str, cache: &'static str, content: Bytes) -> Response {
    let tag = format!("\"{version}\"");
    let known = asked.get_all(header::IF_NONE_MATCH).into_iter().filter_map(|it| it.to_str().ok());
    let known = known.flat_map(|it| it.split(',')).any(|it| it.trim().trim_start_matches("W/") == tag);
    let headers = [
        (header::ETAG, &*tag),
        (header::CACHE_CONTROL, cache),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (
            HeaderName::from_static("permissions-policy"),
            "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
        ),
    ];
    if known {
        return (StatusCode::NOT_MODIFIED, headers).into_response();
    }
    (Extension(SharedBody), headers, [(header::CONTENT_TYPE, kind)], Body::from(content)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::Request;
    use std::collections::BTreeSet;
    use tower::ServiceExt;

    async fn ask(method: &str, path: &str, tag: &str) -> (StatusCode, HeaderMap, String) {
        let request = Request::builder().method(method).uri(path).header("if-none-match", tag);
        let answer = router().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        let (head, body) = answer.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        (head.status, head.headers, String::from_utf8(body.into()).unwrap())
    }

    fn path_of(file: &str) -> String {
        format!("/console/{}/{file}", Console::new().version)
    }

    #[test]
    fn program_contains_every_file_of_the_console() {
        let directory = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/console")).unwrap();
        let there: BTreeSet<_> = directory.map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
        let part: BTreeSet<_> = FILES.iter().map(|(name, _)| (*name).to_owned()).chain(["index.html".into()]).collect();
        assert_eq!(there, part);
    }

    #[tokio::test]
    async fn page_links_files_by_their_digest() {
        let (status, headers, body) = ask("GET", "/", "").await;
        assert_eq!((status, &headers["content-type"]), (StatusCode::OK, &"text/html; charset=utf-8".parse().unwrap()));
        assert!(body.contains(&path_of("console.js")) && !body.contains(FILES_PATH), "{body}");
        for (name, _) in FILES {
            let (status, headers, _) = ask("GET", &path_of(name), "").await;
            assert_eq!((status, &headers["cache-control"]), (StatusCode::OK, &IMMUTABLE.parse().unwrap()), "{name}");
        }
    }

    #[tokio::test]
    async fn cached_file_is_not_sent_again() {
        for path in ["/".to_owned(), path_of("console.js")] {
            let (_, headers, _) = ask("GET", &path, "").await;
            let tag = headers["etag"].to_str().unwrap();
            for known in [tag, &format!("\"other\", W/{tag}")] {
                let (status, headers, body) = ask("GET", &path, known).await;
                assert_eq!((status, body.as_str()), (StatusCode::NOT_MODIFIED, ""), "{path}");
                assert_eq!(headers["etag"], tag);
            }
            assert_eq!(ask("GET", &path, "\"other\"").await.0, StatusCode::OK);
        }
    }

    #[tokio::test]
    async fn policy_allows_only_files_of_this_server() {
        for path in ["/".to_owned(), path_of("console.js")] {
            let (_, headers, _) = ask("GET", &path, "").await;
            let policy = headers["content-security-policy"].to_str().unwrap();
            assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self';"), "{policy}");
            assert!(!policy.contains("unsafe") && !policy.contains("data:"), "{policy}");
            assert_eq!(headers["x-content-type-options"], "nosniff");
        }
    }

    #[tokio::test]
    async fn unknown_file_or_version_is_not_found() {
        for path in [path_of("Cargo.toml"), path_of("..%2Fsrc%2Fmain.rs"), "/console/0000/console.js".into()] {
            assert_eq!(ask("GET", &path, "").await.0, StatusCode::NOT_FOUND, "{path}");
        }
    }
}
