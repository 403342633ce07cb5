//! What the calls do and say, with an engine of files.

use super::*;
use distillery_tests::{
    Frame, patiently,
    program::{output_of_tool, printed},
};
use std::{fs::OpenOptions, io::Write};

#[tokio::test]
async fn instance_is_provisioned_listed_saved_and_purged() {
    let server = builder().start_with([("INSTANCES_DOMAIN", "example.org")]).await;
    let (lines, found) = provision(&server, FORM);
    assert_eq!(
        lines,
        [
            "provisioning coins with Static",
            "ignored: System.PHP",
            "compose file and settings",
            "secrets",
            "starting its containers",
            "Creating coins",
            "waiting until all services are healthy",
            "  web: Up 1 second (healthy)",
            "created coins: https://coins.example.org"
        ]
    );
    // It has the credentials, so that it is for the client alone.
    assert_eq!(server.process_ended("provision").await.field("value"), "");
    let service = json!({ "service": "web", "state": "healthy", "status": "Up 1 second (healthy)" });
    assert_eq!(
        found,
        json!({"slug": "coins", "url": "https://coins.example.org", "state": "running", "services": [service],
            "flavor": "Static", "credentials": {}})
    );
    let listed = systems(&server).await;
    assert_eq!(
        (&listed[0]["Slug"], &listed[0]["URL"], &listed[0]["Tagline"]),
        (&json!("coins"), &json!("https://coins.example.org"), &json!("Static"))
    );
    let (home, fake) = (Home::of(&server), Fake::of(&server));
    home.is_whole("coins");
    assert_eq!(fake.everything(), ["coins.network", "coins.volume", "coins.web"]);

    let lines = succeeds(&server, "snapshot", &["coins"]).await;
    assert_eq!(lines.len(), 2, "{lines:?}");
    let kept = home.names("snapshots");
    assert!(kept[0].starts_with("coins-") && kept[0].ends_with("Z.tar.gz"), "{kept:?}");
    assert_eq!(kept[1], format!("{}.sha256", kept[0]));

    let mut client = server.call("purge", &["coins"]).await;
    assert_eq!(client.line().await, "coins will be removed with all its data; its snapshots stay");
    assert_eq!(client.line().await, "Type coins to go on: ");
    client.say("coin").await;
    assert_eq!(client.finish().await.failure(), "exit status 1: that is not coins: nothing was purged");
    home.is_whole("coins");

    let mut client = server.call("purge", &["coins"]).await;
    line_that_begins(&mut client, "Type").await;
    client.cancel().await;
    assert_eq!(client.finish().await.failure(), "cancelled by the client");
    home.is_whole("coins");

    let mut client = server.call("purge", &["coins"]).await;
    line_that_begins(&mut client, "Type").await;
    client.say("coins").await;
    let lines = client.finish().await.success();
    assert_eq!(lines, ["removing its containers, networks and volumes", "deleting its files", "purged coins"]);
    assert_eq!((systems(&server).await, fake.everything()), (json!([]), vec![]));
    assert_eq!((home.names(".versions").len(), home.names("snapshots")), (0, kept));
    assert_eq!(fails(&server, "purge", &["coins"]).await, "there is no instance coins");
}

#[tokio::test]
async fn purge_with_yes_serves_clients_without_input() {
    let server = builder().start().await;
    provisioned(&server, "coins").await;
    let mut client = server.call("purge", &["coins", "--yes"]).await;
    client.end_input().await;
    client.finish().await.success();
    assert_eq!(Fake::of(&server).everything(), [""; 0]);
    let said = refused(&server, "purge", &["coins", "--force"]).await;
    assert!(said.starts_with("parameter \"confirmed\""), "{said}");
}

#[tokio::test]
async fn instance_calls_require_their_scope() {
    let server = with_fake(Server::builder().example("instances")).start().await;
    for call in [
        "provision",
        "purge",
        "snapshot",
        "restore",
        "backup",
        "prune",
        "start",
        "stop",
        "status",
        "exec",
        "cron",
        "rebuild",
        "update",
        "instance_log",
    ] {
        assert_eq!(refused(&server, call, &["coins"]).await, format!("not authorized to run {call:?}"));
    }
    assert_eq!(server.get("/api/v1/calls").await.json(), json!([]));
}

#[tokio::test]
async fn plugin_without_the_command_says_that_it_is_not_granted() {
    let builder = Server::builder().example("instances");
    let (path, templates) = (instances_of(builder.directory()), TEMPLATES);
    fs::create_dir_all(&path).unwrap();
    let grants = json!({"instances": {
        "mounts": { "instances": { "path": path, "write": true }, "templates": { "path": templates } },
        "env": ["INSTANCES_DOMAIN"],
        "systems": "write",
    }});
    let server = builder.set("plugins.grants", grants).start().await;
    let told = |line: &distillery_tests::log::Line| line.message() == "plugin not loaded";
    let said = server.log().line("a word about the plugin", told).await.field("error");
    assert!(said.contains("not granted") && said.contains("compose"), "{said}");
}

#[tokio::test]
async fn invalid_form_is_refused_and_creates_nothing() {
    let server = builder().start().await;
    let policy = |text: &str| {
        json!({ "Slug": "coins", "Flavor": "Drupal 11", "System": { "ContentSecurityPolicy": text } }).to_string()
    };
    for (form, told) in [
        ("coins".to_owned(), "the form is not JSON: "),
        ("{\"Slug\": \"coins\"".to_owned(), "the form is not JSON: "),
        ("[]".to_owned(), "the form is not an object: "),
        ("{\"Flavor\": \"Drupal 10\"}".to_owned(), "Slug is missing: name the instance"),
        (form("Coins"), "\"Coins\" is not a slug: "),
        (form(""), "\"\" is not a slug: "),
        (form("../coins"), "\"../coins\" is not a slug: "),
        (form("a/b"), "\"a/b\" is not a slug: "),
        (form(".versions"), "\".versions\" is not a slug: "),
        (form("coins\nROOT=1"), "\"coins\\nROOT=1\" is not a slug: "),
        (form("coins\"; image: evil"), "\"coins\\\"; image: evil\" is not a slug: "),
        (form("${HOME}"), "\"${HOME}\" is not a slug: "),
        (form(&"a".repeat(64)), "\"aaa"),
        (form("snapshots"), "\"snapshots\" is not free"),
        (json!({"Slug": "coins", "Flavor": "Drupal 6"}).to_string(), "unknown Flavor \"Drupal 6\": choose one of "),
        (json!({"Slug": "coins", "Flavor": "drupal\n  evil: true"}).to_string(), "unknown Flavor "),
        (policy("x\nDATABASE_PASSWORD=known"), "ContentSecurityPolicy: contains '\\n'"),
        (policy("\" DATABASE_PASSWORD=\"known"), "ContentSecurityPolicy: contains '\"'"),
        (policy("${DATABASE_PASSWORD}"), "ContentSecurityPolicy: contains '$'"),
        (policy("`id`"), "ContentSecurityPolicy: contains '`'"),
        (policy("end\\"), "ContentSecurityPolicy: contains '\\\\'"),
    ] {
        let said = fails(&server, "provision", &[&form]).await;
        assert!(said.starts_with(told), "{form}: {said}");
    }
    assert_eq!(refused(&server, "provision", &[]).await, "parameter \"form\" is missing");
    Home::of(&server).has_nothing();
    assert_eq!((systems(&server).await, Fake::of(&server).everything()), (json!([]), vec![]));

    // Clients send whole forms, so several KB must be accepted.
    let large = json!({ "Slug": "coins", "Flavor": "Static", "Notes": "x".repeat(50_000) }).to_string();
    assert!(succeeds(&server, "provision", &[&large]).await.contains(&"ignored: Notes".to_owned()));
}

#[tokio::test]
async fn start_stop_status_rebuild_and_update_report_services() {
    let server = builder().start().await;
    let home = Home::of(&server);
    for call in ["start", "stop", "status", "cron", "rebuild", "update", "snapshot", "restore"] {
        let said = fails(&server, call, &["coins"]).await;
        let expected = if call == "restore" { "there is no snapshot of coins" } else { "there is no instance coins" };
        assert_eq!(said, expected, "{call}");
        let said = refused(&server, call, &["../coins"]).await;
        assert!(said.starts_with("parameter \"slug\" does not match "), "{call}: {said}");
    }
    provisioned(&server, "coins").await;
    let url = home
        .read("coins/.env")
        .lines()
        .find_map(|line| line.strip_prefix("URL=").map(|it| it.trim_matches('"').to_owned()));
    let url = url.expect("a URL");
    for (call, last, tagline) in [
        ("stop", ["coins is stopped".to_owned(), "  web: no container".to_owned()], "Static (stopped)"),
        ("status", [format!("coins is stopped: {url}"), "  web: no container".to_owned()], "Static (stopped)"),
        ("start", [format!("coins runs: {url}"), "  web: Up 1 second (healthy)".to_owned()], "Static"),
        ("status", [format!("coins is running: {url}"), "  web: Up 1 second (healthy)".to_owned()], "Static"),
    ] {
        let lines = succeeds(&server, call, &["coins"]).await;
        assert_eq!(lines[lines.len() - 2..], last, "{call}");
        assert_eq!(systems(&server).await[0]["Tagline"], tagline);
    }
    let compose = home.read("coins/compose.yaml");
    fs::write(home.at("coins/compose.yaml"), "changed").unwrap();
    fs::write(home.at("coins/data/www/index.html"), "mine").unwrap();
    let lines = succeeds(&server, "rebuild", &["coins", r#"{"PHP": "8.1"}"#]).await;
    assert_eq!((lines[0].as_str(), lines.last().unwrap().as_str()), ("ignored: System.PHP", "rebuilt coins"));
    assert_eq!(
        (home.read("coins/compose.yaml"), home.read("coins/data/www/index.html")),
        (compose.clone(), "mine".into())
    );
    let older = home.read("coins/instance.json").replace("\"version\": 1", "\"version\": 0");
    fs::write(home.at("coins/instance.json"), older).unwrap();
    fs::write(home.at("coins/compose.yaml"), "old").unwrap();
    let lines = succeeds(&server, "update", &["coins"]).await;
    assert_eq!(lines[0], "updated the files of coins from version 0 of its template to 1");
    assert_eq!((home.read("coins/compose.yaml"), home.read("coins/data/www/index.html")), (compose, "mine".into()));
    let ran = fs::read_to_string(Fake::of(&server).at("ran")).unwrap();
    assert!(ran.contains("pull\nbuild\nps\n"), "{ran}");
    succeeds(&server, "cron", &[]).await;
}

#[tokio::test]
async fn exec_passes_input_output_and_status() {
    let server = builder().start().await;
    provisioned(&server, "coins").await;
    let mut client = server.call("exec", &["coins", "echo ready; read -r line; echo \"got $line\"; exit 7"]).await;
    assert_eq!(client.line().await, "ready");
    client.say("hello").await;
    let end = client.finish().await;
    assert_eq!(end.lines, ["got hello"]);
    assert_eq!(end.failure(), "exit status 1: the command ended with status 7");
    let mut client = server.call("exec", &["coins", "cat"]).await;
    client.say("one").await;
    client.say("two").await;
    client.end_input().await;
    assert_eq!(client.finish().await.success(), ["one", "two"]);
    let mut client = server.call("exec", &["coins", "echo ready; sleep 1000"]).await;
    assert_eq!(client.line().await, "ready");
    client.cancel().await;
    assert_eq!(client.finish().await.failure(), "cancelled by the client");
}

fn append(file: &Path, text: &str) {
    let mut file = OpenOptions::new().append(true).create(true).open(file).expect("a log");
    file.write_all(text.as_bytes()).expect("a longer log");
}

#[tokio::test]
async fn log_of_the_stack_is_followed_until_a_cancel() {
    let server = builder().start().await;
    let fake = Fake::of(&server);
    assert_eq!(fails(&server, "instance_log", &["coins"]).await, "there is no instance coins");
    provisioned(&server, "coins").await;
    append(&fake.at("coins.log"), "one\ntwo\n");
    let mut client = server.call("instance_log", &["coins", "1"]).await;
    assert_eq!(client.line().await, "two");
    append(&fake.at("coins.log"), "three\n");
    assert_eq!(client.line().await, "three");
    client.cancel().await;
    let end = client.finish().await;
    assert_eq!(end.lines, [""; 0]);
    assert_eq!(end.failure(), "cancelled by the client", "the call ends by itself within its grace period");

    let mut client = server.call("instance_log", &["coins"]).await;
    assert_eq!(client.line().await, "one");
    let Frame::Text(line) = client.next().await else { panic!("no line") };
    assert_eq!(line, "two");
    server.terminate();
    loop {
        if let Frame::Text(_) = client.next().await {
            continue;
        }
        break;
    }
    patiently("the server to end", server.wait()).await;
}

#[tokio::test]
async fn drupal_stack_is_valid_for_compose() {
    let found = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|directory| directory.join("docker-compose").is_file()));
    if !found {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "there is no docker-compose: run `make engine`");
        return eprintln!("SKIPPED: drupal_stack_is_valid_for_compose, for want of docker-compose: run `make engine`");
    }
    let server = builder().start().await;
    let home = Home::of(&server);
    for (slug, flavor) in [("plain", "Drupal 11"), ("wisski", "Drupal 11 + WissKI Dev")] {
        let form = json!({ "Slug": slug, "Flavor": flavor, "System": { "PHP": "8.4" } }).to_string();
        // The engine of files does not have all of these services, so that the provision is cancelled.
        Fake::of(&server).close_gate();
        let mut client = server.call("provision", &[&form]).await;
        line_that_begins(&mut client, "Creating").await;
        let mut command = std::process::Command::new("docker-compose");
        command.arg("--project-directory").arg(home.at(slug)).args(["config", "--services"]);
        let found = printed(&output_of_tool(&mut command));
        let mut names: Vec<_> = found.lines().collect();
        names.sort_unstable();
        assert_eq!(names, ["database", "triplestore", "web"]);
        client.cancel().await;
        client.finish().await.failure();
        Fake::of(&server).open_gate();
    }
}
