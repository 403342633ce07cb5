//! The console in a real browser, on a real server. One file for each subject.

mod access;
mod calls;
mod docs_page;
mod flood;
mod pages;
mod stored;
mod terminal;

use distillery_tests::{Browser, Guest, Server, server::Builder};

const PASSWORD: &str = "correct horse battery";

/// Opens a page of the console in a new browser.
async fn open(server: &Server, page: &str) -> Option<Browser> {
    let browser = Browser::open().await?;
    browser.go(&at(server, page)).await;
    Some(browser)
}

/// Returns the address of a page.
fn at(server: &Server, page: &str) -> String {
    format!("http://{}/#/{page}", server.address())
}

/// Adds a user with these scopes.
fn user(server: &Server, name: &str, scopes: &[&str]) {
    let scopes: Vec<_> = scopes.iter().flat_map(|scope| ["--scope", scope]).collect();
    let output = server.run_with(&[&["user", "add", name], &scopes[..]].concat(), PASSWORD);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

async fn log_in(browser: &Browser, server: &Server, name: &str) {
    browser.go(&at(server, "login")).await;
    browser.write("User", name).await;
    browser.write("Password", PASSWORD).await;
    browser.stroke("Enter").await;
    browser.sees(&format!("Logged in as {name}")).await;
}

/// A server with news, a system, and a call with every kind of parameter.
fn builder() -> Builder {
    let manifest = "
description: Creates instances
calls:
  provision:
    description: Creates the instance <slug>
    access: public
    params:
      - {name: slug, description: Its name in addresses, pattern: '[a-z][a-z0-9-]{0,30}'}
      - {name: flavor, description: What it is made from, choices: [drupal-10, drupal-11], default: drupal-11}
      - {name: password, description: Of the first administrator, secret: true, required: false}
      - {name: modules, description: What to switch on, pattern: '[a-z]+', rest: true, required: false}
";
    let news = "---\ntitle: A first release\ndate: 2026-11-24\n---\nIt **runs**.\n\n<script>document.title = 'owned'</script>\n\n\
                ![a cat](https://elsewhere.example/cat.png)\n";
    Server::builder()
        .set("systems", serde_json::json!([
            { "slug": "atlas", "url": "https://atlas.example.org/", "tagline": "Maps and their makers", "entity_count": 48210 },
        ]))
        .plugin("provision", Guest::component("args"), manifest)
        .file("news/first.md", news)
        .guest(Guest::component("conversation"))
}
