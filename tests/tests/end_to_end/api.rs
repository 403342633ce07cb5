//! The JSON API: every route at each of its addresses.

use distillery_tests::{Guest, Server};
use hyper::Method;
use serde_json::json;

/// Returns each address of each route.
fn addresses(route: &str) -> [String; 4] {
    ["/api/v1/", "/api/v1/http/"]
        .map(|prefix| ["", "/"].map(|slash| format!("{prefix}{route}{slash}")))
        .concat()
        .try_into()
        .expect("two prefixes, with and without a slash")
}

#[tokio::test]
async fn anonymous_caller_has_no_name_no_token_and_no_scopes() {
    let server = Server::builder().start().await;
    for address in addresses("auth") {
        let answer = server.get(&address).await;
        assert_eq!(answer.status, 200, "{address}");
        assert_eq!(answer.header("content-type"), "application/json", "{address}");
        assert_eq!(answer.json(), json!({ "User": "", "Token": false, "Scopes": [] }), "{address}");
    }
}

#[tokio::test]
async fn systems_come_from_the_configuration() {
    let systems = json!([{
        "slug": "atlas",
        "url": "https://atlas.example.org/",
        "tagline": "Maps",
        "entity_count": 3,
        "bundle_count": 2,
        "last_edit": "2026-11-20T16:45:00Z",
    }]);
    let server = Server::builder().set("systems", systems).start().await;
    for address in [addresses("systems"), addresses("instances/directory")].concat() {
        let answer = server.get(&address).await;
        assert_eq!(answer.status, 200, "{address}");
        let expected = json!([{
            "Slug": "atlas",
            "URL": "https://atlas.example.org/",
            "Tagline": "Maps",
            "EntityCount": 3,
            "BundleCount": 2,
            "LastEdit": "2026-11-20T16:45:00Z",
        }]);
        assert_eq!(answer.json(), expected, "{address}");
    }
}

#[tokio::test]
async fn news_lists_files_newest_first_as_safe_html() {
    let builder =
        Server::builder().file("news/first.md", "---\ntitle: First\ndate: 2026-01-02\n---\nIt *begins*.\n").file(
            "news/second.md",
            "---\ntitle: Second\ndate: 2026-03-04\n---\n<script>alert(1)</script>\n\nIt goes on.\n",
        );
    let news = builder.directory().join("news").display().to_string();
    let server = builder.set("news", news).start().await;
    for address in addresses("news") {
        let answer = server.get(&address).await;
        assert_eq!(answer.status, 200, "{address}");
        let news = answer.json();
        let titles: Vec<_> = news.as_array().expect("a list").iter().map(|item| &item["Title"]).collect();
        assert_eq!(titles, ["Second", "First"], "{address}");
        assert!(
            news[0]["Content"].as_str().is_some_and(|html| html.contains("It goes on") && !html.contains("script"))
        );
        assert!(news[1]["Content"].as_str().is_some_and(|html| html.contains("<em>begins</em>")));
        for item in news.as_array().expect("a list") {
            assert!(item["ID"].is_string() || item["ID"].is_number(), "{item}");
            assert!(item["Date"].is_string(), "{item}");
        }
    }
}

#[tokio::test]
async fn calls_lists_only_those_the_caller_can_run() {
    let server = Server::builder().example("echo").bare_plugin("secret", Guest::component("args")).start().await;
    for address in addresses("calls") {
        let answer = server.get(&address).await;
        assert_eq!(answer.status, 200, "{address}");
        let calls = answer.json();
        assert_eq!(calls.as_array().map(Vec::len), Some(1), "{calls}");
        assert_eq!((&calls[0]["name"], &calls[0]["access"]), (&json!("echo"), &json!("public")));
        assert_eq!(
            (&calls[0]["params"][0]["name"], &calls[0]["params"][0]["required"]),
            (&json!("lines"), &json!(false))
        );
    }
}

#[tokio::test]
async fn routes_are_not_implemented_while_the_api_is_off() {
    let server = Server::builder().set("http.api", false).start().await;
    let routes = ["auth", "systems", "news", "calls", "nowhere", "ws"].map(addresses).concat();
    for address in routes.into_iter().chain(["/api/".into()]) {
        let answer = server.get(&address).await;
        assert_eq!(answer.status, 501, "{address}");
        assert_eq!(answer.json()["status"], 501, "{address}");
        assert!(answer.json()["message"].as_str().is_some_and(|message| message.contains("http.api")), "{address}");
    }
}

#[tokio::test]
async fn unknown_route_is_an_error_in_json() {
    let server = Server::builder().start().await;
    for address in ["/api/v1/nowhere", "/api/v2/auth", "/api/v1/auth/more", "/nowhere"] {
        let answer = server.get(address).await;
        assert_eq!(answer.status, 404, "{address}");
        assert_eq!(answer.header("content-type"), "application/json", "{address}");
        assert_eq!(answer.json()["status"], 404, "{address}");
    }
}

#[tokio::test]
async fn wrong_method_is_answered_with_the_allowed_ones() {
    let server = Server::builder().start().await;
    for address in ["auth", "systems", "news", "calls"].map(addresses).concat() {
        let answer = server.request(Method::PUT, &address, &[]).await;
        assert_eq!(answer.status, 405, "{address}");
        assert!(answer.header("allow").contains("GET"), "{address}");
        assert_eq!(answer.json()["status"], 405, "{address}");
    }
}

#[tokio::test]
async fn websocket_requires_an_upgrade() {
    let server = Server::builder().start().await;
    for address in ["/api/v1/ws", "/api/v1/ws/"] {
        let answer = server.get(address).await;
        assert!(answer.status.is_client_error(), "{address}: {}", answer.status);
        assert_eq!(answer.json()["status"], answer.status.as_u16(), "{address}");
    }
}
