use super::*;
use axum::{
    http::{HeaderMap, Request},
    routing::get,
};
use bytes::Bytes;
use distillery_core::size::Size;
use distillery_plugin::{
    Operator, Plugin, Snapshot,
    files::FileLimits,
    interpreters::Interpreters,
    source::{Bounds, Source},
};
use distillery_store::{news::News, systems::System};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use time::macros::datetime;
use tower::ServiceExt;

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

fn compile(
    limits: &distillery_core::limits::Limits,
) -> Result<distillery_runtime::Program, distillery_runtime::CompileError> {
    distillery_runtime::testing::runtime().compile(b"(module (func (export \"_start\")))", &Default::default(), limits)
}

fn state(enabled: bool) -> ApiState {
    let directory = tempfile::tempdir().unwrap();
    let plugin = directory.path().join("provision");
    std::fs::create_dir(&plugin).unwrap();
    std::fs::write(plugin.join("x.wat"), "").unwrap();
    let manifest = "
calls:
  provision:
    description: Creates an instance
    access: public
    params:
      - {name: slug, description: Its name, pattern: '[a-z]+'}
      - {name: password, secret: true, default: hunter2}
      - {name: flavor, choices: [ten, eleven], default: eleven, rest: true}
  anything: {access: public, on_disconnect: detach}
  hidden: {}
";
    std::fs::write(plugin.join("plugin.yaml"), manifest).unwrap();
    let files = FileLimits { count: 1, size: Size::mib(1) };
    let source = Source::read(&plugin, &Bounds { module: Size::mib(1), files }, &Interpreters::default()).unwrap();
    let plugin = Arc::new(Plugin::new(&source, &Operator::default(), 1, compile).unwrap());
    let found = BTreeMap::from([("provision".to_owned(), Ok(plugin))]);

    let system = System {
        slug: "coins".into(),
        url: "https://coins.example.org".into(),
        tagline: "Coins".into(),
        entity_count: 1,
        bundle_count: 2,
        last_edit: Some(datetime!(2024-05-01 0:00 UTC)),
    };

    std::fs::write(directory.path().join("hi.md"), "---\ntitle: Hi\ndate: 2024-05-01\n---\nthere").unwrap();
    let (news, _) = News::read(directory.path());
    let database = distillery_store::database::Database::open(directory.path()).unwrap();
    let accounts = Arc::new(distillery_store::accounts::Accounts::open(&database).unwrap());
    let retention =
        distillery_process::history::Retention { age: std::time::Duration::MAX, count: 1, output: 0, output_each: 0 };
    let identity = distillery_store::identity::Identity::new(accounts, Vec::new(), std::time::Duration::from_secs(60));
    ApiState {
        enabled,
        history: Arc::new(History::start(&database, retention).unwrap()),
        registry: None,
        scheduler: None,
        catalog: Arc::new(Catalog::new(Snapshot::default().next(&found))),
        plugins: Watcher::ended(),
        drain: Drain::default(),
        public: Arc::new(Public::open(&database, vec![system], &news).unwrap()),
        door: auth::Door { identity: Arc::new(identity), secure_cookies: false },
        run: Arc::new(|_| Box::pin(async { ApiError::new(StatusCode::NOT_FOUND, "unknown call").into_response() })),
    }
}

fn sockets() -> Router {
    Router::new().route("/api/v1/ws", get(|| async { "socket" })).route("/api/v1/ws/", get(|| async { "socket" }))
}

async fn ask_with(enabled: bool, method: &str, path: &str) -> Answer {
    ask_of(router(state(enabled), sockets()), method, path).await
}

async fn ask_of(router: Router, method: &str, path: &str) -> Answer {
    let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
    let (parts, body) = router.oneshot(request).await.unwrap().into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    Answer { status: parts.status, headers: parts.headers, body: String::from_utf8(body.into()).unwrap() }
}

async fn ask(method: &str, path: &str) -> Answer {
    ask_with(true, method, path).await
}

/// Returns every path of a resource.
fn paths(resource: &str) -> [String; 4] {
    let [long, short] = ROOTS.map(|root| format!("{root}/{resource}"));
    [format!("{long}/"), format!("{short}/"), long, short]
}

const RESOURCES: [&str; 5] = ["auth", "systems", "instances/directory", "news", "calls"];

fn assert_headers(answer: &Answer, of: &str) {
    let public = answer.status.is_success() && ["systems", "directory", "news"].iter().any(|it| of.contains(it));
    let cache = if public { "public, no-cache" } else { "no-store" };
    for (name, value) in
        [("content-type", "application/json"), ("cache-control", cache), ("x-content-type-options", "nosniff")]
    {
        assert_eq!(answer.headers.get(name).unwrap(), value, "{name} of {of}");
    }
    assert_eq!(answer.headers.contains_key("etag"), public, "{of}");
}

/// Asks the router itself: documents and routes must match.
#[tokio::test]
async fn exactly_the_existing_routes_are_described() {
    let document = documents::openapi();
    let described = document["paths"].as_object().unwrap();
    assert_eq!(described.len(), routes().len() + 1, "two routes have the same path");
    let router = router(state(true), sockets());
    for (path, item) in described {
        if path == "/ws" {
            continue;
        }
        let operation = |method: &str| item.get(method.replace("HEAD", "GET").to_lowercase());
        let has = |method: &str| operation(method).is_some();
        let mut allowed = vec!["OPTIONS"];
        allowed.extend(["GET", "HEAD", "POST", "DELETE"].into_iter().filter(|method| has(method)));
        allowed.sort_unstable();
        for at in paths(path.trim_start_matches('/')) {
            let at = at.replace("{id}", "odd").replace("{slug}", "odd").replace("{name}", "odd");
            for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"] {
                let answer = ask_of(router.clone(), method, &at).await;
                let allow = || {
                    let mut allow: Vec<_> = answer.headers["allow"].to_str().unwrap().split(',').collect();
                    allow.sort_unstable();
                    allow
                };
                if method == "OPTIONS" {
                    assert_eq!((answer.status, allow()), (StatusCode::NO_CONTENT, allowed.clone()), "{at}");
                } else if let Some(operation) = operation(method) {
                    let status = answer.status.as_str();
                    assert!(operation["responses"][status].is_object(), "{method} {at}: {status}");
                    assert!(!answer.body.contains("no such route"), "{method} {at}");
                } else {
                    assert_eq!((answer.status.as_u16(), allow()), (405, allowed.clone()), "{method} {at}");
                }
            }
        }
    }
}

#[test]
fn every_operation_has_a_unique_id_and_describes_its_inputs() {
    let mut names = Vec::new();
    for route in routes() {
        for (method, operation) in &route.operations {
            names.push(operation.id);
            assert!(operation.answers.keys().any(|status| *status < 300), "{} is never answered", operation.id);
            assert_eq!(operation.answers.contains_key(&415), operation.body.is_some(), "{}", operation.id);
            // A page of another origin is not allowed to send it.
            assert!(*method == "get" || operation.answers.contains_key(&403), "{}", operation.id);
            let within =
                operation.parameters.iter().filter(|it| it.place == "path").map(|it| format!("{{{}}}", it.name));
            assert_eq!(route.path.matches('{').count(), within.clone().count(), "{}", route.path);
            assert!(within.clone().all(|it| route.path.contains(&it)), "{}", route.path);
        }
    }
    let all = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), all);
}

#[tokio::test]
async fn every_resource_has_all_its_paths() {
    for resource in RESOURCES {
        let first = ask("GET", &format!("/api/v1/{resource}")).await;
        for path in paths(resource) {
            let answer = ask("GET", &path).await;
            assert_eq!((answer.status, &answer.body), (StatusCode::OK, &first.body), "{path}");
            assert_headers(&answer, &path);
        }
    }
}

#[tokio::test]
async fn head_returns_the_headers_of_get_without_a_body() {
    for path in RESOURCES.iter().flat_map(|resource| paths(resource)) {
        let (get, head) = (ask("GET", &path).await, ask("HEAD", &path).await);
        assert_eq!((head.status, head.body.as_str()), (StatusCode::OK, ""), "{path}");
        assert_eq!(head.headers, get.headers, "{path}");
    }
}

#[tokio::test]
async fn anonymous_caller_is_shown_as_anonymous() {
    assert_eq!(ask("GET", "/api/v1/auth").await.body, r#"{"User":"","Token":false,"Scopes":[]}"#);
}

#[tokio::test]
async fn systems_and_news_come_from_the_store() {
    let state = state(true);
    let bodies = [ask("GET", "/api/v1/systems").await.body, ask("GET", "/api/v1/news").await.body];
    assert_eq!(bodies.map(Bytes::from), [state.public.systems.json(), state.public.news.json()]);
    assert_eq!(ask("GET", "/api/v1/news?after=x").await.json()[0]["Title"], "Hi");
}

#[tokio::test]
async fn caller_sees_its_calls_by_name_and_no_secret() {
    let answer = ask("GET", "/api/v1/calls").await;
    assert_eq!(
        answer.json(),
        json!([
            {
                "name": "anything", "description": "", "access": "public", "params": null,
                "on_disconnect": "detach", "plugin": "provision",
            },
            {
                "name": "provision", "description": "Creates an instance", "access": "public",
                "params": [
                    {
                        "name": "slug", "description": "Its name", "pattern": "[a-z]+", "choices": null,
                        "default": null, "required": true, "secret": false, "rest": false,
                    },
                    {
                        "name": "password", "description": "", "pattern": null, "choices": null,
                        "default": null, "required": false, "secret": true, "rest": false,
                    },
                    {
                        "name": "flavor", "description": "", "pattern": null, "choices": ["ten", "eleven"],
                        "default": "eleven", "required": false, "secret": false, "rest": true,
                    },
                ],
                "on_disconnect": "cancel", "plugin": "provision",
            },
        ])
    );
    assert!(!answer.body.contains("hunter2"));
}

#[tokio::test]
async fn wrong_method_gets_the_allowed_ones() {
    for method in ["POST", "PUT", "DELETE", "PATCH", "TRACE", "BREW"] {
        for path in RESOURCES.iter().flat_map(|resource| paths(resource)).chain(["/api/v1/ws".into()]) {
            let is_written = ["systems", "news"].iter().any(|it| path.trim_end_matches('/').ends_with(it));
            if is_written && method == "POST" {
                continue;
            }
            let answer = ask(method, &path).await;
            assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED, "{method} {path}");
            let right = match (is_written, path.ends_with("/ws")) {
                (true, _) => "GET,HEAD,POST,OPTIONS",
                (false, true) => "GET,HEAD",
                (false, false) => "GET,HEAD,OPTIONS",
            };
            assert_eq!(answer.headers["allow"], right, "{method} {path}");
            assert_headers(&answer, &path);
            let message = format!("{method} is not allowed here");
            assert_eq!(answer.json(), json!({"status": 405, "message": message}), "{method} {path}");
        }
    }
}

#[tokio::test]
async fn plugins_need_a_scope() {
    let routes = [
        ("GET", "plugins", "read"),
        ("GET", "plugins/events", "read"),
        ("POST", "plugins/reload", "write"),
        ("POST", "plugins/provision/rollback", "write"),
    ];
    for (method, route, scope) in routes {
        for path in paths(route) {
            let answer = ask(method, &path).await;
            let message = format!("this needs the scope plugins:{scope}");
            assert_eq!(answer.json(), json!({"status": 403, "message": message}), "{method} {path}");
        }
    }
}

#[tokio::test]
async fn unknown_path_is_a_json_404() {
    for path in ["/", "/api", "/api/", "/api/v1", "/api/v2/auth", "/api/v1/auth//", "/api/v1/http/ws", "/index.html"] {
        for method in ["GET", "POST"] {
            let answer = ask(method, path).await;
            assert_eq!(
                answer.json(),
                json!({"status": 404, "message": format!("no such route: {path}")}),
                "{method} {path}"
            );
            assert_eq!(answer.status, StatusCode::NOT_FOUND);
            assert_headers(&answer, path);
        }
    }
    assert_eq!(ask("HEAD", "/nowhere").await.body, "");
}

#[tokio::test]
async fn socket_has_a_path_with_and_without_a_slash() {
    for path in ["/api/v1/ws", "/api/v1/ws/"] {
        assert_eq!(ask("GET", path).await.body, "socket");
    }
}

#[tokio::test]
async fn disabled_api_names_the_setting_that_enables_it() {
    let resources = RESOURCES.iter().flat_map(|resource| paths(resource));
    let others = ["/api", "/api/", "/api/v1/ws", "/api/v1/ws/", "/api/v1/nowhere", "/api/v2"].map(str::to_owned);
    for path in resources.chain(others) {
        for method in ["GET", "POST", "OPTIONS", "DELETE"] {
            let answer = ask_with(false, method, &path).await;
            let message = "the API is off: set http.api to true in distillery.yaml";
            assert_eq!(answer.json(), json!({"status": 501, "message": message}), "{method} {path}");
            assert_eq!(answer.status, StatusCode::NOT_IMPLEMENTED);
            assert_headers(&answer, &path);
        }
    }
    for path in ["/", "/apiary", "/index.html"] {
        assert_eq!(ask_with(false, "GET", path).await.status, StatusCode::NOT_FOUND, "{path}");
    }
}
