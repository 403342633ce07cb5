//! Instances in the containers of a real engine, with the command as it is shipped.

use super::*;
use distillery_tests::{Engine, http::get_at};
use std::net::SocketAddr;

const COMPOSE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/instances/compose");
const TEMPLATE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/end_to_end/instances/template");

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("an entry");
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() { copy(&from, &to) } else { _ = fs::copy(from, to).expect("a copy") }
    }
}

/// Returns a server with the template of the tests, and the shipped one of static pages with an image of this machine.
fn builder_with(engine: &Engine) -> Builder {
    let image = engine.import_busybox();
    let builder = Server::builder().example("instances");
    let templates = builder.directory().join("templates");
    copy(Path::new(TEMPLATE), &templates.join("test"));
    copy(&Path::new(TEMPLATES).join("static"), &templates.join("static"));
    let file = templates.join("static/template.yaml");
    let text = fs::read_to_string(&file).expect("a template");
    assert!(text.contains("docker.io/library/busybox:1.37"));
    fs::write(file, text.replace("docker.io/library/busybox:1.37", image)).expect("a template");
    let env: serde_json::Map<_, _> =
        engine.environment().into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
    let command = json!({ "run": [COMPOSE, "{verb}", "{slug}", "{service}", "{text}"], "env": env });
    granted(builder, command, &templates).set("auth.anonymous", json!(["call:*"]))
}

fn test_form(slug: &str, flavor: &str) -> String {
    json!({ "Slug": slug, "Flavor": flavor }).to_string()
}

async fn page(url: &str) -> String {
    let address: SocketAddr = url.strip_prefix("http://").expect("an address").parse().expect("an address");
    let answer = get_at(address, "/").await;
    assert_eq!(answer.status, 200);
    String::from_utf8(answer.body.to_vec()).expect("text")
}

/// Returns the output of a command in the database.
async fn database(server: &Server, command: &str) -> Vec<String> {
    succeeds(server, "exec", &["coins", command, "database"]).await
}

#[tokio::test]
async fn instance_lives_from_its_provision_to_its_purge() {
    let Some(engine) = Engine::start() else { return };
    let server = builder_with(&engine).start().await;
    let home = Home::of(&server);
    let (lines, found) = provision(&server, &test_form("coins", "Test"));
    let url = found["url"].as_str().expect("a URL").to_owned();
    assert_eq!((lines.last().unwrap(), &found["state"]), (&format!("created coins: {url}"), &json!("running")));
    let password = found["credentials"]["password"].as_str().expect("a password");
    assert!(home.read("coins/.env").contains(&format!("PASSWORD=\"{password}\"\n")));
    assert_eq!(page(&url).await, "<p>the page\n");
    assert_eq!(database(&server, "cat /state/value").await, ["new"]);

    let lines = succeeds(&server, "status", &["coins"]).await;
    assert_eq!(lines[0], format!("coins is running: {url}"));
    assert!(lines[1..].iter().all(|line| line.ends_with("(healthy)")) && lines.len() == 3, "{lines:?}");
    let mut log = server.call("instance_log", &["coins"]).await;
    while !log.line().await.ends_with("started") {}
    log.cancel().await;
    assert_eq!(log.finish().await.failure(), "cancelled by the client");

    let lines = succeeds(&server, "snapshot", &["coins"]).await;
    assert!(lines.contains(&"dumping value".to_owned()), "{lines:?}");
    assert_eq!(succeeds(&server, "cron", &[]).await, ["done", "coins: done"]);
    assert_eq!(database(&server, "cat /state/value").await, ["new", "again"]);
    let said = fails(&server, "restore", &["coins"]).await;
    assert!(said.starts_with("coins is running (database: Up "), "{said}");
    succeeds(&server, "stop", &["coins"]).await;
    assert_eq!(engine.everything(), ["volume distillery-coins_state"]);
    assert_eq!(systems(&server).await[0]["Tagline"], "Test (stopped)");

    fs::write(home.at("coins/data/www/index.html"), "changed").unwrap();
    succeeds(&server, "restore", &["coins"]).await;
    succeeds(&server, "start", &["coins"]).await;
    assert_eq!(page(&url).await, "<p>the page\n");
    assert_eq!(database(&server, "cat /state/value").await, ["new"]);
    succeeds(&server, "rebuild", &["coins"]).await;
    assert_eq!(page(&url).await, "<p>the page\n");

    let lines = succeeds(&server, "purge", &["coins", "--yes"]).await;
    assert_eq!(lines.last().unwrap(), "purged coins");
    assert_eq!((engine.everything(), systems(&server).await), (vec![], json!([])));
    assert_eq!((home.names(".versions").len(), home.names("snapshots").len()), (0, 2));

    // What a snapshot needs is in it.
    succeeds(&server, "restore", &["coins"]).await;
    succeeds(&server, "start", &["coins"]).await;
    assert_eq!(database(&server, "cat /state/value").await, ["new"]);
    succeeds(&server, "purge", &["coins", "--yes"]).await;
    assert_eq!(engine.everything(), [""; 0]);
}

#[tokio::test]
async fn provision_without_success_leaves_no_container() {
    let Some(engine) = Engine::start() else { return };
    let server = builder_with(&engine).start().await;
    let home = Home::of(&server);
    let said = fails(&server, "provision", &[&test_form("coins", "Without Image")]).await;
    assert!(said.starts_with("compose up of coins ended with status 1: "), "{said}");
    assert_eq!(engine.everything(), [""; 0]);
    home.has_nothing();

    for step in ["starting its containers", "waiting until all services are healthy"] {
        let mut client = server.call("provision", &[&test_form("coins", "Ill")]).await;
        line_that_begins(&mut client, step).await;
        client.cancel().await;
        assert_eq!(client.finish().await.failure(), "cancelled by the client", "{step}");
        assert_eq!(engine.everything(), [""; 0], "{step}");
        home.has_nothing();
    }
}

#[tokio::test]
async fn exec_is_interactive_in_a_container() {
    let Some(engine) = Engine::start() else { return };
    let server = builder_with(&engine).start().await;
    let (lines, value) = provision(&server, &form("coins"));
    assert_eq!(lines[0], "provisioning coins with Static");
    let url = value["url"].as_str().expect("a URL").to_owned();
    assert!(page(&url).await.contains("It works"));
    let mut client = server.call("exec", &["coins", "echo ready; read -r line; echo \"got $line\"; exit 7"]).await;
    assert_eq!(client.line().await, "ready");
    client.say("hello").await;
    let end = client.finish().await;
    assert_eq!(end.lines, ["got hello"]);
    assert_eq!(end.failure(), "exit status 1: the command ended with status 7");
    succeeds(&server, "purge", &["coins", "--yes"]).await;
    assert_eq!(engine.everything(), [""; 0]);
}

/// Kills the server at a moment of a call: after some lines of output.
async fn killed_after(server: &mut Server, home: &Home, call: &str, params: &[&str], lines: usize) {
    let mut client = server.call(call, params).await;
    for _ in 0..lines {
        if !matches!(client.next().await, distillery_tests::Frame::Text(_)) {
            break;
        }
    }
    server.crash_and_restart().await;
    home.unlock();
}

#[tokio::test]
async fn killed_server_leaves_nothing_that_a_purge_does_not_remove() {
    let Some(engine) = Engine::start() else { return };
    let mut server = builder_with(&engine).start().await;
    let home = Home::of(&server);
    for _ in 0..6 {
        let form = test_form("coins", "Test");
        killed_after(&mut server, &home, "provision", &[&form], fastrand::usize(1..12)).await;
        // It is whole, or provisioned again.
        if server.call("provision", &[&form]).await.finish().await.verdict != Verdict::Success {
            succeeds(&server, "start", &["coins"]).await;
        }
        let call = ["stop", "start", "rebuild", "snapshot"][fastrand::usize(..4)];
        killed_after(&mut server, &home, call, &["coins"], fastrand::usize(1..5)).await;
        killed_after(&mut server, &home, "purge", &["coins", "--yes"], fastrand::usize(1..4)).await;
        if home.at("coins").exists() {
            succeeds(&server, "purge", &["coins", "--yes"]).await;
        }
        assert_eq!((engine.everything(), systems(&server).await), (vec![], json!([])), "{call}");
    }
}
