//! The documents that describe the API, for programs and for people. They are the same for every caller, and made once.

mod script;

use super::{asyncapi as protocols, openapi as routes_document, operation::Operation, public, route::Route};
use axum::{
    http::{HeaderMap, HeaderValue, header},
    response::Response,
};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use bytes::Bytes;
use distillery_store::Told;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::{collections::BTreeMap, sync::LazyLock};

const STYLE: &str = include_str!("../../pages/docs/page.css");
const PAGE: &str = include_str!("../../pages/docs/page.html");

/// The OpenAPI document.
pub fn openapi() -> Value {
    routes_document::document(&super::routes())
}

/// The AsyncAPI document.
pub fn asyncapi() -> Value {
    protocols::document()
}

pub(super) fn routes() -> Vec<Route> {
    let document = |id, summary, example| {
        Operation::new(id, "documents", summary)
            .answers::<BTreeMap<String, Value>>(200, "The document.", example)
            .revalidated()
    };
    let openapi = document("showOpenapi", "The OpenAPI document of these routes", json!({"openapi": "3.1.1"}));
    let asyncapi = document("showAsyncapi", "The AsyncAPI document of the websocket", json!({"asyncapi": "3.0.0"}));
    let docs = Operation::new("showDocs", "documents", "A page that shows both documents and can try the routes")
        .answers_with::<String>(200, "The page, complete in one response.", "text/html; charset=utf-8", None)
        .revalidated()
        .with(200, &["Cache-Control", "ETag", "Content-Security-Policy"], json!({}));
    vec![
        Route::at("/openapi.json").get(show_openapi, openapi),
        Route::at("/asyncapi.json").get(show_asyncapi, asyncapi),
        Route::at("/docs").get(show_docs, docs),
    ]
}

async fn show_openapi(headers: HeaderMap) -> Response {
    static TOLD: LazyLock<Told> = LazyLock::new(|| written(&openapi()));
    public(&headers, "application/json", TOLD.clone())
}

async fn show_asyncapi(headers: HeaderMap) -> Response {
    static TOLD: LazyLock<Told> = LazyLock::new(|| written(&asyncapi()));
    public(&headers, "application/json", TOLD.clone())
}

fn written(document: &Value) -> Told {
    Bytes::from(document.to_string()).into()
}

async fn show_docs(headers: HeaderMap) -> Response {
    static TOLD: LazyLock<Told> = LazyLock::new(|| Bytes::from(page()).into());
    static POLICY: LazyLock<Option<HeaderValue>> = LazyLock::new(|| policy().parse().ok());
    let mut answer = public(&headers, "text/html; charset=utf-8", TOLD.clone());
    let headers = answer.headers_mut();
    // Denies everything if the policy is not a valid header.
    let policy = POLICY.clone().unwrap_or_else(|| HeaderValue::from_static("default-src 'none'"));
    headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    answer
}

/// Returns the page with its style, its script and both documents inside.
fn page() -> String {
    let within = |document: Value| document.to_string().replace('<', "\\u003c");
    PAGE.replace("{{style}}", STYLE)
        .replace("{{openapi}}", &within(openapi()))
        .replace("{{asyncapi}}", &within(asyncapi()))
        .replace("{{script}}", &script::SCRIPT)
}

/// Returns the policy of the page: its own script and style, and requests to this server.
fn policy() -> String {
    let hash = |text: &str| format!("'sha256-{}'", BASE64.encode(Sha256::digest(text)));
    format!(
        "default-src 'none'; script-src {}; style-src {}; connect-src 'self'; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'",
        hash(&script::SCRIPT),
        hash(STYLE)
    )
}
