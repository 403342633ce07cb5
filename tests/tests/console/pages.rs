//! What each caller sees: systems, news, plugins, processes and tokens; and logging in and out.

use crate::{at, builder, log_in, open, user};
use distillery_tests::{Guest, Server};
use hyper::Method;
use serde_json::json;

#[tokio::test]
async fn anonymous_caller_sees_systems_and_news() {
    let server = builder().start().await;
    let Some(browser) = open(&server, "").await else { return };
    browser.sees("atlas").await;
    browser.sees("Maps and their makers").await;
    browser.sees("48,210 entities").await;
    browser.sees("A first release").await;
    browser.sees("It runs.").await;
    browser.sees("Not logged in").await;
    // Scripts in the news do not run, and images do not tell other servers about the reader.
    assert_eq!(browser.run("return document.title").await, "Overview · distillery");
    assert_eq!(browser.run("return document.querySelectorAll('.prose img, .prose script').length").await, 0);
    browser.sees("Image: a cat").await;
    assert_eq!(browser.complaints(&[]).await, [""; 0]);
}

#[tokio::test]
async fn empty_server_says_so_on_each_page() {
    let server = Server::builder().start().await;
    let Some(browser) = open(&server, "").await else { return };
    browser.sees("There are no public systems yet.").await;
    browser.sees("There is no news yet.").await;
    browser.press("Calls").await;
    browser.sees("There is no call that you can run.").await;
    browser.press("Processes").await;
    browser.sees("Processes belong to users.").await;
    browser.press("Plugins").await;
    browser.sees("plugins:read").await;
    browser.press("Tokens").await;
    browser.sees("Tokens belong to users").await;
    browser.go(&at(&server, "nowhere")).await;
    browser.sees("There is no such page.").await;
    assert_eq!(browser.complaints(&[]).await, [""; 0]);
}

#[tokio::test]
async fn disabled_api_is_explained() {
    let server = builder().set("http.api", false).start().await;
    let Some(browser) = open(&server, "calls").await else { return };
    browser.sees("The API of this server is disabled.").await;
    browser.sees("http.api").await;
    assert_eq!(browser.complaints(&["501"]).await, [""; 0]);
}

#[tokio::test]
async fn disabled_console_is_not_found() {
    let server = builder().set("http.console", false).start().await;
    let answer = server.get("/").await;
    assert_eq!((answer.status.as_u16(), answer.json()["message"].as_str()), (404, Some("no such route: /")));
    assert_eq!(server.get("/api/v1/auth").await.status, 200);
}

#[tokio::test]
async fn page_has_a_policy_and_cacheable_files() {
    let server = builder().start().await;
    let page = server.get("/").await;
    assert_eq!((page.status.as_u16(), page.header("content-type")), (200, "text/html; charset=utf-8"));
    assert!(page.header("content-security-policy").starts_with("default-src 'none'; script-src 'self';"));
    let text = String::from_utf8(page.body.to_vec()).expect("text");
    let file = text.split('"').find(|it| it.ends_with("/console.js")).expect("its program");
    let program = server.get(file).await;
    assert_eq!((program.status.as_u16(), program.header("content-type")), (200, "text/javascript; charset=utf-8"));
    assert!(program.header("cache-control").contains("immutable"));
    let known = [("if-none-match", page.header("etag"))];
    assert_eq!(server.request(Method::GET, "/", &known).await.status, 304);
    assert_eq!(server.request(Method::POST, "/", &[]).await.status, 405);
    assert_eq!(server.get("/console/0/console.js").await.status, 404);
}

#[tokio::test]
async fn session_lasts_until_logout() {
    let server = builder().start().await;
    user(&server, "ada", &[]);
    let Some(browser) = open(&server, "login").await else { return };
    browser.write("User", "ada").await;
    browser.write("Password", "wrong").await;
    browser.stroke("Enter").await;
    browser.sees("wrong user or password").await;
    // The form is ready for another attempt.
    browser
        .until(
            "the focus on the password",
            "document.activeElement.name === 'password' && !document.activeElement.value",
        )
        .await;
    log_in(&browser, &server, "ada").await;
    browser.reload().await;
    browser.sees("Logged in as ada").await;
    browser.press("Log out").await;
    browser.sees("Not logged in").await;
    browser.reload().await;
    browser.sees("Not logged in").await;
    assert_eq!(browser.complaints(&["401"]).await, [""; 0]);
}

#[tokio::test]
async fn token_is_shown_once_and_can_be_revoked() {
    let server = builder().start().await;
    user(&server, "ada", &["call:*"]);
    let Some(browser) = open(&server, "login").await else { return };
    log_in(&browser, &server, "ada").await;
    browser.press("Tokens").await;
    browser.sees("You have no tokens.").await;
    browser.write("Scopes", "call:*, nonsense").await;
    browser.press("Create token").await;
    browser.sees("\"nonsense\" is not a scope").await;
    browser.write("Label", "backups").await;
    browser.write("Scopes", "call:conversation").await;
    browser.press("Create token").await;
    browser.sees("it is shown only once").await;
    let token = browser.run("return document.querySelector('.secret').textContent").await;
    let bearer = format!("Bearer {}", token.as_str().expect("a token"));
    let who = || async { server.request(Method::GET, "/api/v1/auth", &[("authorization", &bearer)]).await };
    assert_eq!(who().await.json(), json!({ "User": "ada", "Token": true, "Scopes": ["call:conversation"] }));
    browser.reload().await;
    browser.sees("backups").await;
    // The page scrolls rather than its table.
    browser.window(1280, 500).await;
    let hidden =
        "const { scrollHeight, clientHeight } = document.querySelector('.wide'); return scrollHeight - clientHeight";
    assert_eq!(browser.run(hidden).await, 0);
    assert!(!browser.text().await.contains(token.as_str().expect("a token")));
    browser.press("Revoke backups").await;
    browser.press("Cancel").await;
    browser.press("Revoke backups").await;
    browser.press("Revoke").await;
    browser.sees("You have no tokens.").await;
    assert_eq!(who().await.status, 401);
    assert_eq!(browser.complaints(&["400"]).await, [""; 0]);
}

#[tokio::test]
async fn plugins_page_follows_changes() {
    let server = builder().file("plugins/broken/broken.wat", "(module").start().await;
    user(&server, "ada", &["plugins:*"]);
    let Some(browser) = open(&server, "login").await else { return };
    log_in(&browser, &server, "ada").await;
    browser.press("Plugins").await;
    browser.sees("provision").await;
    browser.sees("Failed to load:").await;
    browser.sees("nothing outside its sandbox").await;
    browser.sees("live").await;
    // A new plugin appears, and so does the error of one that fails to load.
    let module = std::fs::read(Guest::module("conversation").file).expect("a guest can be read");
    server.put("plugins/conversation/conversation.wasm", module);
    browser.sees("conversation: generation 2 is serving").await;
    browser.press("Roll conversation back to generation").await;
    browser.sees("Running processes keep the generation").await;
    browser.press("Roll back").await;
    browser.sees("conversation was rolled back").await;
    browser
        .until("the previous generation", "document.querySelector('[aria-label=conversation] dd').textContent === '1'")
        .await;
    server.put("plugins/conversation/plugin.yaml", "calls: [");
    browser.sees("failed to load").await;
    browser.sees("newest generation failed to load").await;
    browser.press("Reload all").await;
    browser.sees("Reloaded.").await;
    assert_eq!(browser.complaints(&[]).await, [""; 0]);
}

#[tokio::test]
async fn plugins_reader_is_offered_no_actions() {
    let server = builder().start().await;
    user(&server, "bob", &["plugins:read"]);
    let Some(browser) = open(&server, "login").await else { return };
    log_in(&browser, &server, "bob").await;
    browser.press("Plugins").await;
    browser.sees("WASI 0.2 component").await;
    assert!(!browser.text().await.contains("Reload all"));
    assert_eq!(browser.complaints(&[]).await, [""; 0]);
}

#[tokio::test]
async fn process_list_has_pages_and_only_own_processes() {
    let server = builder().start().await;
    user(&server, "ada", &[]);
    user(&server, "bob", &[]);
    user(&server, "eve", &["processes:*"]);
    let token = |name: &str| {
        let output = server.run_with(&["token", "add", "--user", name], "");
        format!("Bearer {}", String::from_utf8_lossy(&output.stdout).trim_end())
    };
    let run = |token: String, name: &'static str, params: Vec<String>| {
        let address = server.address();
        async move {
            let headers = [("authorization", token.as_str())];
            let mut client =
                distillery_tests::Client::connect_to(address, "/api/v1/ws", &headers).await.expect("a socket");
            client.call(name, &params.iter().map(String::as_str).collect::<Vec<_>>()).await;
            client.say("end").await;
            client.finish().await
        }
    };
    let (ada, bob) = (token("ada"), token("bob"));
    for number in 1..=27 {
        run(ada.clone(), "conversation", vec![format!("ada-{number}")]).await;
    }
    run(ada.clone(), "conversation", vec!["fail".into()]).await;
    run(bob, "provision", vec!["of-bob".into(), "drupal-10".into(), "geheim".into()]).await;

    let Some(browser) = open(&server, "login").await else { return };
    log_in(&browser, &server, "ada").await;
    browser.press("Processes").await;
    browser.sees("fail").await;
    browser.sees("ada-27").await;
    let text = browser.text().await;
    assert!(!text.contains("of-bob") && !text.contains("ada-1\n"), "{text}");
    browser.press("Older").await;
    browser.sees("ada-1").await;
    browser.press("Newest").await;
    browser.sees("ada-27").await;
    browser.choose("Outcome", "exited").await;
    browser.until("only the one that failed", "document.querySelectorAll('tbody tr').length === 1").await;
    browser.press("conversation").await;
    browser.sees("exit status 3").await;
    browser.sees("hello").await;
    browser.press("Log out").await;
    browser.sees("Cannot show this process").await;
    assert!(!browser.text().await.contains("exit status 3"));

    log_in(&browser, &server, "eve").await;
    browser.press("Processes").await;
    browser.sees("of-bob").await;
    assert!(!browser.text().await.contains("geheim"));
    browser.write("User", "bob").await;
    browser.press("Filter").await;
    browser.until("only what bob ran", "document.querySelectorAll('tbody tr').length === 1").await;
    browser.sees("drupal-10 •••").await;
    assert_eq!(browser.complaints(&["404", "is kept"]).await, [""; 0]);
}
