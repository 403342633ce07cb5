//! Systems and news that the API writes for every caller to read.

use distillery_tests::{Server, http::Answer};
use hyper::Method;
use serde_json::{Value, json};

async fn post(server: &Server, bearer: &str, what: &str, body: &Value) -> Answer {
    server.send_json(Method::POST, &format!("/api/v1/{what}"), &[("authorization", bearer)], body).await
}

async fn delete(server: &Server, bearer: &str, what: &str) -> u16 {
    let headers = [("authorization", bearer)];
    server.request(Method::DELETE, &format!("/api/v1/{what}"), &headers).await.status.as_u16()
}

#[tokio::test]
async fn systems_are_written_over_the_api_and_survive_a_restart() {
    let builder = Server::builder().set("systems", json!([{ "slug": "atlas", "url": "https://atlas.example" }]));
    let writer = builder.user("ada", &["systems:write"]);
    let other = builder.user("bob", &["news:write"]);
    let mut server = builder.start().await;
    let coins = json!({
        "Slug": "coins", "URL": "https://coins.example", "Tagline": "Coins", "EntityCount": 7, "BundleCount": 2,
        "LastEdit": "2026-01-31T12:00:00Z",
    });
    let created = post(&server, &writer, "systems", &coins).await;
    assert_eq!((created.status.as_u16(), created.json()), (201, coins.clone()));
    assert_eq!(post(&server, &writer, "http/systems/", &coins).await.status, 200, "a repeated request changes nothing");
    assert_eq!(delete(&server, &writer, "systems/atlas").await, 204);
    assert_eq!(delete(&server, &writer, "systems/atlas").await, 404);
    for (wrong, status) in [
        (json!({ "Slug": "Coins", "URL": "https://coins.example" }), 400),
        (json!({ "Slug": "coins", "URL": "javascript:alert(1)" }), 400),
        (json!({ "Slug": "coins" }), 400),
        (json!({ "Slug": "coins", "URL": "https://coins.example", "Odd": 1 }), 400),
        (json!({ "Slug": "coins", "URL": "https://coins.example", "EntityCount": -1 }), 400),
        (json!({ "Slug": "coins", "URL": "https://coins.example", "LastEdit": "soon" }), 400),
        (json!({ "Slug": "coins", "URL": "https://coins.example", "Tagline": "x".repeat(70_000) }), 413),
    ] {
        assert_eq!(post(&server, &writer, "systems", &wrong).await.status, status, "{wrong:.200}");
    }
    assert_eq!(post(&server, &other, "systems", &coins).await.status, 403);
    assert_eq!(delete(&server, &other, "systems/coins").await, 403);
    assert_eq!(server.send_json(Method::POST, "/api/v1/systems", &[], &coins).await.status, 403);
    for _ in 0..2 {
        assert_eq!(server.get("/api/v1/instances/directory").await.json(), json!([coins]));
        server.crash_and_restart().await;
    }
}

#[tokio::test]
async fn news_is_rendered_as_safe_html_and_survives_a_restart() {
    let builder = Server::builder().file("news/file.md", "---\ntitle: File\ndate: 2020-01-01\n---\n");
    let news = builder.directory().join("news").display().to_string();
    let builder = builder.set("news", news);
    let writer = builder.user("ada", &["news:write"]);
    let mut server = builder.start().await;
    let body = json!({ "ID": "home", "Date": "2026-01-31", "Title": "Home", "Content": "*new* <script>x</script>" });
    let created = post(&server, &writer, "news", &body).await;
    assert_eq!(created.status, 201);
    let item = created.json();
    assert!(item["Content"].as_str().is_some_and(|it| it.contains("<em>new</em>") && !it.contains("script")));
    assert_eq!(post(&server, &writer, "news", &body).await.status, 200);
    let unnamed = post(&server, &writer, "news", &json!({ "Title": "Now", "Content": "" })).await.json();
    for wrong in [
        json!({ "Title": "", "Content": "" }),
        json!({ "Title": "T" }),
        json!({ "Title": "T", "Content": "", "Date": "x" }),
    ] {
        assert_eq!(post(&server, &writer, "news", &wrong).await.status, 400, "{wrong}");
    }
    let file = json!({ "ID": "file", "Title": "T", "Content": "" });
    assert_eq!(post(&server, &writer, "news", &file).await.status, 409);
    assert_eq!(delete(&server, &writer, "news/file").await, 409);
    server.crash_and_restart().await;
    let listed = server.get("/api/v1/news").await.json();
    let ids: Vec<_> = listed.as_array().expect("a list").iter().map(|it| &it["ID"]).collect();
    assert_eq!(ids, [&unnamed["ID"], &json!("home"), &json!("file")]);
    assert_eq!(listed[1], item);
    assert_eq!(delete(&server, &writer, "news/home").await, 204);
    assert_eq!(delete(&server, &writer, "news/home").await, 404);
    assert_eq!(server.get("/api/v1/news").await.json().as_array().map(Vec::len), Some(2));
}
