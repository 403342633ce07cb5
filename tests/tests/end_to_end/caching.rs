//! Caching of answers: public answers can be cached with revalidation, and answers for a caller cannot be cached.

use distillery_tests::Server;
use hyper::Method;
use serde_json::json;

const PUBLIC: [&str; 6] = ["systems", "instances/directory", "news", "openapi.json", "asyncapi.json", "docs"];

#[tokio::test]
async fn cached_public_answer_is_not_sent_again() {
    let server = Server::builder().start().await;
    for name in PUBLIC {
        let path = format!("/api/v1/{name}");
        let answer = server.get(&path).await;
        let tag = answer.header("etag");
        assert_eq!((answer.status.as_u16(), answer.header("cache-control")), (200, "public, no-cache"), "{name}");
        assert!(tag.len() > 2 && tag.starts_with('"') && tag.ends_with('"'), "{name}: {tag}");
        for (has, status) in [
            (tag.to_owned(), 304),
            (format!("W/{tag}"), 304),
            (format!("\"other\", {tag}"), 304),
            ("*".to_owned(), 304),
            ("\"other\"".to_owned(), 200),
            (tag.trim_matches('"').to_owned(), 200),
        ] {
            for method in [Method::GET, Method::HEAD] {
                let again = server.request(method.clone(), &path, &[("if-none-match", &has)]).await;
                assert_eq!(again.status, status, "{method} {name}: {has}");
                assert_eq!(again.header("etag"), tag, "{method} {name}");
                assert_eq!(again.body.is_empty(), status == 304 || method == Method::HEAD, "{method} {name}");
            }
        }
    }
}

#[tokio::test]
async fn changed_content_has_a_new_etag_at_once() {
    let builder = Server::builder();
    assert!(builder.run(&["user", "add", "ada", "--no-password", "--scope", "*"], "").status.success());
    let made = builder.run(&["token", "add", "--user", "ada"], "");
    let bearer = format!("Bearer {}", String::from_utf8_lossy(&made.stdout).trim_end());
    let server = builder.start().await;
    let headers = [("authorization", bearer.as_str())];
    for (name, body, item) in [
        ("systems", json!({"Slug": "coins", "URL": "https://coins.example"}), "systems/coins"),
        ("news", json!({"ID": "home", "Title": "Home", "Content": "*new*"}), "news/home"),
    ] {
        let path = format!("/api/v1/{name}");
        let before = server.get(&path).await.header("etag").to_owned();
        assert_eq!(server.send_json(Method::POST, &path, &headers, &body).await.status, 201, "{name}");
        let after = server.request(Method::GET, &path, &[("if-none-match", &before)]).await;
        assert_eq!(after.status, 200, "{name}");
        assert_ne!(after.header("etag"), before, "{name}");
        assert_eq!(server.request(Method::DELETE, &format!("/api/v1/{item}"), &headers).await.status, 204, "{name}");
        assert_eq!(server.request(Method::GET, &path, &[("if-none-match", &before)]).await.status, 304, "{name}");
    }
}

#[tokio::test]
async fn private_answers_are_never_cached() {
    let builder = Server::builder();
    assert!(builder.run(&["user", "add", "ada", "--no-password", "--scope", "*"], "").status.success());
    let made = builder.run(&["token", "add", "--user", "ada"], "");
    let bearer = format!("Bearer {}", String::from_utf8_lossy(&made.stdout).trim_end());
    let server = builder.start().await;
    for name in ["auth", "auth/tokens", "calls", "processes", "plugins", "nowhere", "processes/odd"] {
        for headers in [&[][..], &[("authorization", bearer.as_str())], &[("authorization", "Bearer odd")]] {
            let answer = server.request(Method::GET, &format!("/api/v1/{name}"), headers).await;
            assert_eq!(answer.header("cache-control"), "no-store", "{name}: {}", answer.status);
            assert_eq!(answer.header("etag"), "", "{name}");
        }
    }
}

#[tokio::test]
async fn page_of_the_documents_is_self_contained_and_restricted() {
    let server = Server::builder().start().await;
    for address in ["/api/v1/docs", "/api/v1/docs/", "/api/v1/http/docs", "/api/v1/http/docs/"] {
        let answer = server.get(address).await;
        assert_eq!(answer.header("content-type"), "text/html; charset=utf-8", "{address}");
        let policy = answer.header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'; script-src 'sha256-"), "{policy}");
        assert!(!policy.contains("unsafe") && !policy.contains('*') && !policy.contains("http"), "{policy}");
        let page = String::from_utf8(answer.body.to_vec()).expect("it is text");
        let (style, _) = page.split_once("</style>").expect("it has a style");
        assert!(!style.contains("url("), "{address}");
        for loads in ["src=", "@import", "<link", "innerHTML", "{{style}}", "{{script}}"] {
            assert!(!page.contains(loads), "{address} has {loads}");
        }
        for told in ["putSystem", "followPlugins", "CallMessage", "/plugins/{name}/rollback"] {
            assert!(page.contains(told), "{address} does not mention {told}");
        }
    }
}
