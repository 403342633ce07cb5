//! The OpenAPI document, made from the same routes as the router.

use super::{
    calls::asked::DESCRIPTION,
    operation::{Answer, Content, Operation, Parameter, Who, schema},
    route::Route,
};
use schemars::{SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

const ABOUT: &str = "\
The HTTP API of a server of calls, for queries and changes. A call is run with `POST calls/{name}` or, as a \
conversation, over the websocket at `ws`, with the protocols in `asyncapi.json`.

- Every route exists below `/api/v1` and below `/api/v1/http`, with and without a trailing slash. Only `ws` exists below \
`/api/v1` alone.
- Every `GET` route also answers `HEAD`. `OPTIONS` returns the allowed methods. Any other method gets 405 with the header \
`Allow`, and any other path gets 404.
- Errors are `{\"status\": 404, \"message\": \"what is wrong\"}`.
- Callers authenticate with a token (`Authorization: Bearer …`) or with a session cookie. Invalid credentials get 401 on \
every route, never anonymous access. The operator can grant scopes to all callers with `auth.anonymous`.
- A page of another origin can read answers and make changes only if its origin is listed in `http.origins`.
- Answers that are the same for all callers have an `ETag`; all others are `no-store`.
- A connection above the limit gets 503. A request with too large headers gets 431, without a body.";

/// Returns the description of a header.
fn header(name: &str) -> Value {
    let (description, schema) = match name {
        "ETag" => (
            "Identifies this version of the answer: send it as If-None-Match.",
            json!({"type": "string", "pattern": "^\".+\"$"}),
        ),
        "Cache-Control" => {
            ("Whether the answer can be cached.", json!({"enum": ["no-store", "no-cache", "public, no-cache"]}))
        }
        "WWW-Authenticate" => ("The authentication scheme.", json!({"const": "Bearer"})),
        "Retry-After" => ("The seconds to wait before a retry.", json!({"type": "integer", "minimum": 1})),
        "Set-Cookie" => ("The session cookie, or its deletion.", json!({"type": "string"})),
        "Location" => ("The process.", json!({"type": "string", "format": "uri-reference"})),
        "Distillery-Offset" => ("The offset of the first byte of the body.", json!({"type": "integer", "minimum": 0})),
        "Distillery-Total" => {
            ("The number of bytes that were written in all.", json!({"type": "integer", "minimum": 0}))
        }
        "Distillery-Process" => ("The id of the process.", json!({"type": "string", "format": "uuid"})),
        "Distillery-Key" => {
            ("The key of a process that outlives its client and has no owner.", json!({"type": "string"}))
        }
        "Distillery-Outcome" => (
            "The outcome of a call without output; otherwise this and the next three are trailers.",
            json!({"enum": ["success", "exited", "trapped", "cancelled", "failed", "refused"]}),
        ),
        "Distillery-Exit-Status" => ("The exit status.", json!({"type": "integer", "minimum": 0})),
        "Distillery-Message" => ("The reason of a failure, percent-encoded.", json!({"type": "string"})),
        "Distillery-Value" => ("The value of the call, as JSON in ASCII.", json!({"type": "string"})),
        "Allow" => ("The allowed methods.", json!({"type": "string"})),
        "Content-Security-Policy" => ("Restricts the page to requests to this server.", json!({"type": "string"})),
        other => unreachable!("nothing is said of the header {other}"),
    };
    json!({"description": description, "schema": schema})
}

/// Returns the document of these routes.
pub(super) fn document(routes: &[Route]) -> Value {
    let mut schemas = Schemas::new("/components/schemas");
    let mut paths = Map::new();
    for route in routes {
        let operations =
            route.operations.iter().map(|(method, it)| ((*method).to_owned(), operation(it, &mut schemas)));
        paths.insert(route.path.to_owned(), Value::Object(operations.collect()));
    }
    paths.insert("/ws".to_owned(), socket(&mut schemas));
    let tags = [
        ("auth", "Authentication and scopes"),
        ("systems", "The public systems"),
        ("news", "The news"),
        ("calls", "The calls that can be run"),
        ("processes", "Running and ended processes"),
        ("plugins", "The plugins that provide the calls"),
        ("documents", "Descriptions of the API"),
    ];
    json!({
        "openapi": "3.1.1",
        "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
        "info": {
            "title": "distillery",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "Sandboxed, interactive calls",
            "description": ABOUT,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [
            {"url": "/api/v1", "description": "This server"},
            {"url": "/api/v1/http", "description": "The same server, by its longer path"},
        ],
        "tags": tags.map(|(name, description)| json!({"name": name, "description": description})),
        "paths": paths,
        "components": {
            "schemas": schemas.finish(),
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "dst_ and 64 hexadecimal digits",
                    "description": "A token from `distillery token add` or POST auth/tokens.",
                },
                "session": {
                    "type": "apiKey",
                    "in": "cookie",
                    "name": super::auth::SESSION,
                    "description": "The session cookie that POST auth/session sets for a browser.",
                },
            },
        },
    })
}

fn operation(operation: &Operation, schemas: &mut Schemas) -> Value {
    let mut told = json!({
        "operationId": operation.id,
        "tags": [operation.tag],
        "summary": operation.summary,
        "security": security(operation.who),
        "responses": operation.answers.iter()
            .map(|(status, it)| (status.to_string(), answer(*status, it, schemas)))
            .collect::<Map<_, _>>(),
    });
    let scope = match operation.who {
        Who::Holder(scope) => format!("Needs the scope `{scope}`."),
        Who::Everyone | Who::User => String::new(),
    };
    let description = [operation.description, &scope].join("\n\n");
    if !description.trim().is_empty() {
        told["description"] = description.trim().into();
    }
    for schema in &operation.more {
        schema(&mut schemas.writing);
    }
    if !operation.parameters.is_empty() {
        told["parameters"] = operation.parameters.iter().map(parameter).collect();
    }
    if let Some(body) = &operation.body {
        let schema = (body.schema)(&mut schemas.reading);
        let content = json!({"application/json": {"schema": schema, "example": body.example}});
        told["requestBody"] = json!({"required": true, "content": content});
    }
    if let Some(input) = &operation.input {
        let schema = (input.schema)(&mut schemas.reading);
        let content = json!({
            "application/octet-stream": {},
            "text/plain": {"schema": {"type": "string"}},
            (DESCRIPTION): {"schema": schema, "example": input.example},
        });
        told["requestBody"] = json!({"required": false, "content": content});
    }
    told
}

/// Returns the accepted credentials: a token or a session; for public methods also none.
fn security(who: Who) -> Value {
    let (token, session) = (json!({"token": []}), json!({"session": []}));
    match who {
        Who::Everyone => json!([{}, token, session]),
        Who::Holder(_) | Who::User => json!([token, session]),
    }
}

fn parameter(parameter: &Parameter) -> Value {
    let Parameter { name, place, description, schema, example } = parameter;
    json!({
        "name": name, "in": place, "required": *place == "path",
        "description": description, "schema": schema, "example": example,
    })
}

fn answer(status: u16, answer: &Answer, schemas: &mut Schemas) -> Value {
    let Answer { description, content, headers, links } = answer;
    let headers: Map<_, _> = headers.iter().map(|name| ((*name).to_owned(), header(name))).collect();
    let mut told = json!({"description": description, "headers": headers});
    for Content { media, schema, example } in content {
        let mut content = json!({"schema": schema(&mut schemas.writing)});
        match example {
            Some(example) => content["example"] = example.clone(),
            None if *media == "application/json" => {
                content["example"] = json!({"status": status, "message": "what is wrong, and what to do about it"});
            }
            None => {}
        }
        told["content"][*media] = content;
    }
    if links.as_object().is_some_and(|links| !links.is_empty()) {
        told["links"] = links.clone();
    }
    told
}

/// Describes the websocket, the only route that is not a request with an answer.
fn socket(schemas: &mut Schemas) -> Value {
    let error = |status: u16, description: &str, schemas: &mut Schemas| {
        let content =
            Content { media: "application/json", schema: schema::<super::operation::ErrorBody>, example: None };
        let told = Answer {
            description: description.to_owned(),
            content: vec![content],
            headers: if status == 401 { &["Cache-Control", "WWW-Authenticate"] } else { &["Cache-Control"] },
            links: json!({}),
        };
        answer(status, &told, schemas)
    };
    json!({
        "servers": [{"url": "/api/v1", "description": "Only available here"}],
        "get": {
            "operationId": "openSocket",
            "tags": ["calls"],
            "summary": "Opens a websocket for one call",
            "description": "Not usable by OpenAPI clients: `asyncapi.json` describes the protocol. A page of another origin \
                            presents its token as a subprotocol, `distillery.token.<token>`, in addition to the wanted \
                            protocol.",
            "externalDocs": {"url": "asyncapi.json", "description": "The protocol, as an AsyncAPI document"},
            "security": security(Who::Everyone),
            "responses": {
                "101": {"description": "The connection is a websocket from here on."},
                "400": error(400, "The request does not ask for a websocket.", schemas),
                "401": error(401, "The presented token or session is invalid.", schemas),
                "403": error(403, "A page of an origin that is not in http.origins sent it.", schemas),
                "426": error(426, "The connection cannot be upgraded.", schemas),
                "501": error(501, "The API is off: http.api is not true.", schemas),
                "503": error(503, "There are too many connections.", schemas),
            },
        },
    })
}

/// The schemas that a document refers to. A request can omit fields that answers always contain.
pub(super) struct Schemas {
    pub reading: SchemaGenerator,
    pub writing: SchemaGenerator,
}

impl Schemas {
    /// Makes a collection that is referred to by `at`.
    pub fn new(at: &'static str) -> Self {
        let settings = || {
            SchemaSettings::draft2020_12().with(|settings| {
                settings.definitions_path = at.into();
                settings.meta_schema = None;
            })
        };
        Self {
            reading: settings().for_deserialize().into_generator(),
            writing: settings().for_serialize().into_generator(),
        }
    }

    /// Returns all schemas by name.
    pub fn finish(&mut self) -> Map<String, Value> {
        let mut schemas = self.writing.take_definitions(true);
        for (name, schema) in self.reading.take_definitions(true) {
            let other = schemas.insert(name.clone(), schema.clone());
            assert!(other.is_none_or(|other| other == schema), "two schemas are named {name}: rename one");
        }
        schemas
    }
}
