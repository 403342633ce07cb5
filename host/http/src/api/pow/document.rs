//! Documents the requests of `pow-1`, for programs (OpenAPI) and for people.

use super::ROOT;
use crate::extensions::SharedBody;
use axum::{
    Extension,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use serde_json::{Map, Value, json};
use std::sync::LazyLock;

/// A request: method, path, description, and answers.
type Described = (&'static str, &'static str, &'static str, &'static [(u16, &'static str)]);

const REQUESTS: [Described; 5] = [
    (
        "post",
        "/new",
        "Starts a call. The body is {\"call\":\"name\",\"params\":[\"…\"]}.",
        &[
            (200, "The id of the process, as a JSON string. For an anonymous caller, the id contains a secret."),
            (400, "The body is not a call, or its parameters are wrong."),
            (403, "The caller is not allowed to run the call."),
            (404, "There is no such call."),
            (503, "There is no process slot now, or the server is shutting down."),
        ],
    ),
    (
        "get",
        "/status/{id}",
        "Returns the output and the result of the process.",
        &[(200, "The status of the process."), (400, "A wrong offset.")],
    ),
    (
        "post",
        "/input/{id}",
        "Sends the body to the process as input, regardless of its type.",
        &[
            (200, "input sent"),
            (409, "The input has ended, or the process has not read the earlier input."),
            (413, "The body is too large."),
        ],
    ),
    ("post", "/closeInput/{id}", "Ends the input of the process.", &[(200, "input closed")]),
    (
        "post",
        "/cancel/{id}",
        "Tells the process to stop; a second request ends it at once. Has no effect on an ended process.",
        &[(200, "process cancelled")],
    ),
];

/// Returns the OpenAPI 3.1 document.
pub(super) fn openapi() -> Value {
    let mut paths = Map::new();
    for (method, path, summary, answers) in REQUESTS {
        let mut responses = Map::new();
        for (status, words) in answers {
            let content = match (*status, path) {
                (200, "/new") => json!({"application/json": {"schema": {"type": "string"}}}),
                (200, "/status/{id}") => {
                    json!({"application/json": {"schema": {"$ref": "#/components/schemas/Status"}}})
                }
                _ => json!({"text/plain": {"schema": {"type": "string"}}}),
            };
            responses.insert(status.to_string(), json!({"description": words, "content": content}));
        }
        let mut operation = json!({
            "operationId": path.trim_start_matches('/').split('/').next(),
            "summary": summary,
            "responses": responses,
        });
        let mut parameters = Vec::new();
        if path.ends_with("{id}") {
            let absent =
                json!({"description": "process not found", "content": {"text/plain": {"schema": {"type": "string"}}}});
            operation["responses"]["404"] = absent;
            parameters.push(json!({"name": "id", "in": "path", "required": true, "schema": {"type": "string"}}));
        }
        if path == "/status/{id}" {
            for name in ["offset", "stderr_offset"] {
                let what = "Only output after this many bytes of the stream. Without an offset, the last lines.";
                let schema = json!({"type": "integer", "minimum": 0});
                parameters.push(json!({"name": name, "in": "query", "description": what, "schema": schema}));
            }
        }
        operation["parameters"] = parameters.into();
        let body = match path {
            "/new" => json!({"application/json": {"schema": {"$ref": "#/components/schemas/Call"}}}),
            "/input/{id}" => json!({"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}),
            _ => Value::Null,
        };
        if !body.is_null() {
            operation["requestBody"] = json!({"required": true, "content": body});
        }
        paths.insert(format!("{ROOT}{path}"), json!({ method: operation }));
    }
    let text = json!({"type": "string"});
    let place = json!({"type": "integer", "minimum": 0});
    json!({
        "openapi": "3.1.0",
        "info": {"title": "distillery: pow-1 by requests", "version": env!("CARGO_PKG_VERSION")},
        "paths": paths,
        "components": {"schemas": {
            "Call": {
                "type": "object",
                "required": ["call"],
                "properties": {"call": text, "params": {"type": ["array", "null"], "items": text}},
            },
            "Status": {
                "type": "object",
                "required": ["offset", "stderr_offset", "result"],
                "properties": {
                    "buffer": text, "offset": place, "lost": place,
                    "stderr": text, "stderr_offset": place, "stderr_lost": place,
                    "result": {"$ref": "#/components/schemas/Result"},
                },
            },
            "Result": {"oneOf": [
                {"type": "object", "required": ["status"], "properties": {"status": {"const": "pending"}}},
                {
                    "type": "object", "required": ["status", "value"],
                    "properties": {"status": {"const": "fulfilled"}, "value": {}},
                },
                {
                    "type": "object", "required": ["status", "reason"],
                    "properties": {"status": {"const": "rejected"}, "reason": text},
                },
            ]},
        }},
    })
}

pub(super) async fn json() -> Response {
    static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| Bytes::from(openapi().to_string()));
    (Extension(SharedBody), super::super::json(StatusCode::OK, DOCUMENT.clone())).into_response()
}

/// Returns the same description as a page without scripts.
pub(super) async fn page() -> Response {
    static PAGE: LazyLock<Bytes> = LazyLock::new(|| Bytes::from(written()));
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'; base-uri 'none'"),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (StatusCode::OK, headers, Extension(SharedBody), PAGE.clone()).into_response()
}

fn written() -> String {
    let mut rows = String::new();
    for (method, path, summary, answers) in REQUESTS {
        let answers: String =
            answers.iter().map(|(status, words)| format!("<dt>{status}<dd>{}", escaped(words))).collect();
        let (method, summary) = (method.to_uppercase(), escaped(summary));
        rows += &format!("<h2><code>{method} {ROOT}{path}</code></h2><p>{summary}</p><dl>{answers}</dl>");
    }
    format!(
        "<!doctype html><html lang=en><meta charset=utf-8><title>pow-1</title><h1>pow-1</h1><p>Every path \
         below <code>{ROOT}</code> accepts websockets of the subprotocol <code>pow-1</code>. This page describes the same \
         protocol over requests, also as <a href=\"{ROOT}/openapi.json\">OpenAPI</a>.</p>{rows}</html>"
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_is_described_and_every_reference_resolves() {
        let document = openapi();
        assert_eq!(document["paths"].as_object().unwrap().len(), REQUESTS.len());
        assert_eq!(document["paths"]["/api/v1/pow/status/{id}"]["get"]["parameters"].as_array().unwrap().len(), 3);
        let text = document.to_string();
        for (at, _) in text.match_indices("#/components/") {
            let path = text[at + 1..].split('"').next().unwrap();
            assert!(document.pointer(path).is_some(), "{path}");
        }
    }
}
