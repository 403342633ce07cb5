//! The instance calls as they are shipped: instances from their provision to their purge.

use distillery_tests::{Client, Frame, Guest, Server, Verdict, patiently, server::Builder};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::{
    fs::{self, OpenOptions},
    io::Write,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    time::SystemTime,
};

/// The form of a client that knows more about instances than the calls need.
const FORM: &str = r#"{"Slug": "coins", "Flavor": "Drupal 10", "System": {"PHP": "Default (8.1)",
    "OpCacheDevelopment": false, "ContentSecurityPolicy": "img-src 'self'"}}"#;

fn form(slug: &str) -> String {
    json!({ "Slug": slug }).to_string()
}

fn instances_of(directory: &Path) -> PathBuf {
    directory.join("data/instances")
}

/// Returns a server whose calls are public.
fn builder() -> Builder {
    granted(Server::builder().example("instances")).set("auth.anonymous", json!(["call:*"]))
}

/// Returns the same server, whose calls have no grace period.
fn without_grace() -> Builder {
    let manifest = Guest::example_manifest("instances");
    let cancel = "cancel: {grace: 5s, cleanup: true}";
    assert!(manifest.contains(cancel));
    let manifest = manifest.replace(cancel, "cancel: {grace: 0s, cleanup: true}");
    let builder = Server::builder().plugin("instances", Guest::example("instances"), &manifest);
    granted(builder).set("auth.anonymous", json!(["call:*"]))
}

fn granted(builder: Builder) -> Builder {
    let path = instances_of(builder.directory());
    let grants = json!({
        "instances": {
            "mounts": { "instances": { "path": path, "write": true, "create": true } },
            "env": ["INSTANCES_DOMAIN"],
            "systems": "write",
        },
        "instance_log": { "mounts": { "instances": { "path": path, "create": true } } },
    });
    builder.example("instance_log").set("plugins.grants", grants)
}

struct Home(PathBuf);

impl Home {
    fn of(server: &Server) -> Self {
        Self(instances_of(server.directory()))
    }

    fn at(&self, path: &str) -> PathBuf {
        self.0.join(path)
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.at(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    fn names(&self, path: &str) -> Vec<String> {
        let entries = fs::read_dir(self.at(path)).expect("a directory");
        let mut names: Vec<_> = entries.map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// Simulates another process that begins to change `slug` and never finishes.
    fn lock(&self, slug: &str) -> PathBuf {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis();
        let lock = self.at(&format!(".locks/{slug}.{}.other", now + 3_600_000));
        fs::create_dir_all(self.at(".locks")).unwrap();
        fs::write(&lock, "").unwrap();
        lock
    }

    #[track_caller]
    fn has_nothing(&self) {
        assert_eq!(self.names(""), [".garbage", ".locks", ".versions", "snapshots"]);
        for directory in [".garbage", ".versions", "snapshots"] {
            assert_eq!(self.names(directory), [""; 0], "{directory}");
        }
    }

    #[track_caller]
    fn is_whole(&self, slug: &str) {
        assert!(self.read(&format!("{slug}/compose.yaml")).contains(&format!("name: \"distillery-{slug}\"")));
        assert_eq!(self.read(&format!("{slug}/.env")).matches("PASSWORD=").count(), 2);
        assert!(self.at(&format!("{slug}/data/database")).is_dir());
    }
}

async fn systems(server: &Server) -> Value {
    server.get("/api/v1/systems").await.json()
}

async fn provisioned(server: &Server, slug: &str) {
    server.call("provision", &[&form(slug)]).await.finish().await.success();
}

/// Reads lines until one begins with `beginning`.
async fn line_that_begins(client: &mut Client, begin: &str) -> String {
    loop {
        let line = client.line().await;
        if line.starts_with(begin) {
            return line;
        }
    }
}

async fn succeeds(server: &Server, call: &str, params: &[&str]) -> Vec<String> {
    server.call(call, params).await.finish().await.success()
}

/// Returns the message of a call that ended with status 1.
async fn fails(server: &Server, call: &str, params: &[&str]) -> String {
    let message = server.call(call, params).await.finish().await.failure();
    message.strip_prefix("exit status 1: ").unwrap_or_else(|| panic!("{call}: {message}")).to_owned()
}

/// Returns the reason why a call was not started.
async fn refused(server: &Server, call: &str, params: &[&str]) -> String {
    server.call(call, params).await.finish().await.failure()
}

#[tokio::test]
async fn instance_is_provisioned_listed_saved_and_purged() {
    let server = builder().start_with([("INSTANCES_DOMAIN", "example.org")]).await;
    let lines = succeeds(&server, "provision", &[FORM]).await;
    assert_eq!(
        lines,
        [
            "provisioning coins with Drupal 10",
            "ignored: System.OpCacheDevelopment, System.PHP",
            "compose file and settings",
            "secrets",
            "publishing",
            "created coins: https://coins.example.org"
        ]
    );
    let value = server.process_ended("provision").await.field("value");
    let value: Value = serde_json::from_str(&value).unwrap();
    assert_eq!(value, json!({"slug": "coins", "url": "https://coins.example.org", "flavor": "drupal-10"}));
    let listed = systems(&server).await;
    assert_eq!(
        (&listed[0]["Slug"], &listed[0]["URL"], &listed[0]["Tagline"]),
        (&json!("coins"), &json!("https://coins.example.org"), &json!("Drupal 10"))
    );
    let home = Home::of(&server);
    home.is_whole("coins");
    assert!(home.read("coins/.env").contains("CONTENT_SECURITY_POLICY=\"img-src 'self'\"\n"));
    // Guests cannot set permissions, so other users cannot enter the directory at all.
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&home.0).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o700);

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
    assert_eq!(client.finish().await.success(), ["deleting its files", "purged coins"]);
    assert_eq!(systems(&server).await, json!([]));
    assert_eq!((home.names(".versions").len(), home.names("snapshots")), (0, kept));
    assert_eq!(fails(&server, "purge", &["coins"]).await, "there is no instance coins");
}

#[tokio::test]
async fn instance_calls_require_their_scope() {
    let server = granted(Server::builder().example("instances")).start().await;
    for call in
        ["provision", "purge", "snapshot", "restore", "backup", "start", "stop", "rebuild", "update", "instance_log"]
    {
        assert_eq!(refused(&server, call, &["coins"]).await, format!("not authorized to run {call:?}"));
    }
    assert_eq!(server.get("/api/v1/calls").await.json(), json!([]));
}

#[tokio::test]
async fn invalid_form_is_refused_and_creates_nothing() {
    let server = builder().start().await;
    let policy = |text: &str| json!({ "Slug": "coins", "System": { "ContentSecurityPolicy": text } }).to_string();
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
        (policy("x\nDATABASE_PASSWORD=known"), "ContentSecurityPolicy contains '\\n'"),
        (policy("\" DATABASE_PASSWORD=\"known"), "ContentSecurityPolicy contains '\"'"),
        (policy("${DATABASE_PASSWORD}"), "ContentSecurityPolicy contains '$'"),
        (policy("`id`"), "ContentSecurityPolicy contains '`'"),
        (policy("end\\"), "ContentSecurityPolicy contains '\\\\'"),
    ] {
        let said = fails(&server, "provision", &[&form]).await;
        assert!(said.starts_with(told), "{form}: {said}");
    }
    assert_eq!(refused(&server, "provision", &[]).await, "parameter \"form\" is missing");
    Home::of(&server).has_nothing();
    assert_eq!(systems(&server).await, json!([]));

    // Clients send whole forms, so several KB must be accepted.
    let large = json!({ "Slug": "coins", "Notes": "x".repeat(50_000) }).to_string();
    assert!(succeeds(&server, "provision", &[&large]).await.contains(&"ignored: Notes".to_owned()));
}

#[tokio::test]
async fn cancelled_provision_leaves_nothing() {
    let server = builder().start().await;
    let home = Home::of(&server);
    let lock = home.lock("coins");
    let mut client = server.call("provision", &[FORM]).await;
    line_that_begins(&mut client, "publishing").await;
    assert_eq!(home.names(".versions").len(), 1);
    client.cancel().await;
    assert_eq!(client.finish().await.failure(), "cancelled by the client");
    home.has_nothing();

    let mut client = server.call("provision", &[FORM]).await;
    line_that_begins(&mut client, "publishing").await;
    client.hang_up().await;
    let ended = |line: &distillery_tests::log::Line| line.message() == "process ended";
    server.log().lines_of("the end of both", 2, ended).await;
    home.has_nothing();

    // The provision is not delayed: the cancel arrives at any step.
    fs::remove_file(lock).unwrap();
    for lines in 0..6 {
        let mut client = server.call("provision", &[FORM]).await;
        for _ in 0..lines {
            client.line().await;
        }
        client.cancel().await;
        match client.finish().await.verdict {
            Verdict::Failure(why) => {
                assert_eq!(why, "cancelled by the client");
                home.has_nothing();
                assert_eq!(systems(&server).await, json!([]), "{lines}");
            }
            Verdict::Success => {
                home.is_whole("coins");
                let mut client = server.call("purge", &["coins"]).await;
                client.say("coins").await;
                client.finish().await.success();
            }
        }
    }
}

#[tokio::test]
async fn forced_provision_is_cleaned_up() {
    let server = without_grace().start().await;
    let home = Home::of(&server);
    provisioned(&server, "atlas").await;
    let before = home.names(".versions");
    home.lock("coins");
    let mut client = server.call("provision", &[FORM]).await;
    line_that_begins(&mut client, "publishing").await;
    assert_eq!(home.names(".versions").len(), 2);
    client.cancel().await;
    let message = client.finish().await.failure();
    assert!(message.starts_with("cancelled by the client") && !message.contains("cleanup"), "{message}");
    assert_eq!((home.names(".versions"), home.names(".locks").len()), (before, 1));
    home.is_whole("atlas");
    assert_eq!(systems(&server).await.as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn remains_of_a_killed_server_block_nothing_and_are_removed() {
    let mut server = builder().start().await;
    let home = Home::of(&server);
    let lock = home.lock("coins");
    let mut client = server.call("provision", &[FORM]).await;
    line_that_begins(&mut client, "publishing").await;
    server.crash_and_restart().await;
    assert!(!home.at("coins").exists());
    assert_eq!(systems(&server).await, json!([]));
    let left = home.names(".versions");
    assert_eq!(left.len(), 1);

    // The lock of the killed server can remain too. A new call waits until the lock is stale: too long for a test.
    fs::remove_file(lock).unwrap();
    for name in home.names(".locks") {
        fs::remove_file(home.at(".locks").join(name)).unwrap();
    }
    provisioned(&server, "coins").await;
    home.is_whole("coins");
    assert_eq!(home.names(".versions").len(), 2);
    // Simulates a restart hours later.
    let (_, process) = left[0].rsplit_once('.').unwrap();
    fs::rename(home.at(".versions").join(&left[0]), home.at(&format!(".versions/coins.1000.{process}"))).unwrap();
    succeeds(&server, "stop", &["coins"]).await;
    assert_eq!(home.names(".versions").len(), 1);
    home.is_whole("coins");
}

#[tokio::test]
async fn killed_server_leaves_a_whole_instance_or_none() {
    let mut server = builder().start().await;
    let home = Home::of(&server);
    for lines in 1..5 {
        let slug = format!("coins-{lines}");
        let mut client = server.call("provision", &[&form(&slug)]).await;
        for _ in 0..lines {
            client.line().await;
        }
        server.crash_and_restart().await;
        for name in home.names(".locks") {
            fs::remove_file(home.at(".locks").join(name)).unwrap();
        }
        if home.at(&slug).exists() {
            succeeds(&server, "start", &[&slug]).await;
        } else {
            let listed = systems(&server).await;
            assert!(listed.as_array().unwrap().iter().all(|it| it["Slug"] != slug.as_str()), "{listed}");
            provisioned(&server, &slug).await;
        }
        home.is_whole(&slug);
        let listed = systems(&server).await;
        assert!(listed.as_array().unwrap().iter().any(|it| it["Slug"] == slug.as_str()), "{listed}");
    }
}

#[tokio::test]
async fn concurrent_provisions_of_one_slug_create_one_instance() {
    let server = builder().start().await;
    let home = Home::of(&server);
    let lock = home.lock("coins");
    let (mut one, mut other) = (server.call("provision", &[FORM]).await, server.call("provision", &[FORM]).await);
    line_that_begins(&mut one, "publishing").await;
    line_that_begins(&mut other, "publishing").await;
    fs::remove_file(lock).unwrap();
    let verdicts = [one.finish().await.verdict, other.finish().await.verdict];
    let refused = Verdict::Failure("exit status 1: there is an instance coins already: choose another slug".to_owned());
    assert!(verdicts.contains(&Verdict::Success) && verdicts.contains(&refused), "{verdicts:?}");
    home.is_whole("coins");
    assert_eq!((home.names(".versions").len(), home.names(".locks").len()), (1, 0));
    assert_eq!(systems(&server).await.as_array().map(Vec::len), Some(1));
    // A later provision is refused before it builds anything.
    let end = server.call("provision", &[FORM]).await.finish().await;
    assert_eq!(end.lines, [""; 0]);
    assert_eq!(end.failure(), "exit status 1: there is an instance coins already: choose another slug");
}

#[tokio::test]
async fn provision_refuses_the_slug_of_another_system() {
    let server = builder().set("systems", json!([{ "slug": "atlas", "url": "https://atlas.example" }])).start().await;
    let before = systems(&server).await;
    let said = fails(&server, "provision", &[&form("atlas")]).await;
    assert_eq!(said, "there is a system atlas already, which is not an instance: choose another slug");
    assert_eq!(systems(&server).await, before);
    Home::of(&server).has_nothing();
}

#[tokio::test]
async fn restore_accepts_a_snapshot_and_refuses_a_tampered_one() {
    let server = builder().start().await;
    let home = Home::of(&server);
    provisioned(&server, "coins").await;
    fs::write(home.at("coins/data/files/medals"), "Medals").unwrap();
    succeeds(&server, "snapshot", &["coins"]).await;
    let name = home.names("snapshots").remove(0);
    let env = home.read("coins/.env");
    fs::write(home.at("coins/data/files/medals"), "lost").unwrap();
    fs::write(home.at("coins/.env"), "").unwrap();
    assert_eq!(fails(&server, "restore", &["coins"]).await, "coins is running: stop it first");
    succeeds(&server, "stop", &["coins"]).await;
    assert_eq!(fails(&server, "restore", &["coins", "coins-1"]).await, "there is no snapshot \"coins-1\" of coins");

    let whole = fs::read(home.at("snapshots").join(&name)).unwrap();
    let (archive, sums) = (home.at("snapshots").join(&name), home.at("snapshots").join(format!("{name}.sha256")));
    let listed = systems(&server).await;
    for checked in [true, false] {
        if !checked {
            fs::remove_file(&sums).unwrap();
        }
        for at in [20, whole.len() / 2, whole.len() - 4] {
            let mut tampered = whole.clone();
            tampered[at] ^= 0x55;
            fs::write(&archive, tampered).unwrap();
            let said = fails(&server, "restore", &["coins"]).await;
            assert!(said.starts_with(&format!("{name} is refused: ")), "{said}");
            assert_eq!((home.read("coins/data/files/medals").as_str(), home.read("coins/.env").as_str()), ("lost", ""));
            assert_eq!((home.names(".versions").len(), systems(&server).await), (1, listed.clone()));
        }
    }

    fs::write(&archive, whole).unwrap();
    succeeds(&server, "restore", &["coins", &name]).await;
    assert_eq!((home.read("coins/data/files/medals"), home.read("coins/.env")), ("Medals".to_owned(), env));
    assert_eq!((home.names(".versions").len(), home.names(".garbage").len()), (1, 0));
    assert_eq!(systems(&server).await[0]["Tagline"], "Drupal 11 (stopped)");
}

#[tokio::test]
async fn backup_continues_past_a_broken_instance_and_names_it() {
    let server = builder().start().await;
    let home = Home::of(&server);
    assert_eq!(succeeds(&server, "backup", &[]).await, ["0 of 0 backed up"]);
    for slug in ["atlas", "broken", "coins"] {
        provisioned(&server, slug).await;
    }
    fs::write(home.at("broken/instance.json"), "{").unwrap();
    let end = server.call("backup", &[]).await.finish().await;
    assert!(end.lines.contains(&"2 of 3 backed up".to_owned()), "{:?}", end.lines);
    let last = end.lines.last().unwrap();
    assert!(last.starts_with("failed: broken: broken is broken: instance.json is not understood"), "{last}");
    assert_eq!(end.failure(), "exit status 1: 1 of 3 failed: broken");
    assert_eq!(home.names("snapshots").iter().filter(|name| name.ends_with(".tar.gz")).count(), 2);
}

#[tokio::test]
async fn start_stop_rebuild_and_update_report_their_results() {
    let server = builder().start().await;
    let home = Home::of(&server);
    for call in ["start", "stop", "rebuild", "update", "snapshot", "restore"] {
        let said = fails(&server, call, &["coins"]).await;
        let expected = if call == "restore" { "there is no snapshot of coins" } else { "there is no instance coins" };
        assert_eq!(said, expected, "{call}");
        let said = refused(&server, call, &["../coins"]).await;
        assert!(said.starts_with("parameter \"slug\" does not match "), "{call}: {said}");
    }
    provisioned(&server, "coins").await;
    for (call, said, tagline) in [
        ("start", "coins is already set to running", "Drupal 11"),
        ("stop", "coins is set to stopped: the container runner applies it", "Drupal 11 (stopped)"),
        ("stop", "coins is already set to stopped", "Drupal 11 (stopped)"),
        ("start", "coins is set to running: the container runner applies it", "Drupal 11"),
    ] {
        assert_eq!(succeeds(&server, call, &["coins"]).await, [said]);
        assert_eq!(systems(&server).await[0]["Tagline"], tagline);
    }
    let (compose, env) = (home.read("coins/compose.yaml"), home.read("coins/.env"));
    fs::write(home.at("coins/compose.yaml"), "changed").unwrap();
    fs::write(home.at("coins/settings/php.ini"), "mine").unwrap();
    let system = r#"{"PHP": "8.1", "ContentSecurityPolicy": "img-src *"}"#;
    let lines = succeeds(&server, "rebuild", &["coins", system]).await;
    assert_eq!(lines, ["ignored: System.PHP", "rebuilt the compose file of coins"]);
    assert_eq!(
        (home.read("coins/compose.yaml"), home.read("coins/settings/php.ini")),
        (compose.clone(), "mine".into())
    );
    let policy = "CONTENT_SECURITY_POLICY=\"img-src *\"";
    assert_eq!(home.read("coins/.env"), env.replace("CONTENT_SECURITY_POLICY=\"\"", policy));

    assert_eq!(
        succeeds(&server, "update", &["coins"]).await,
        ["coins already has the newest version of the template: 1"]
    );
    fs::write(home.at("coins/compose.yaml"), "old").unwrap();
    let older = home.read("coins/instance.json").replace("\"template\": 1", "\"template\": 0");
    fs::write(home.at("coins/instance.json"), older).unwrap();
    assert_eq!(succeeds(&server, "update", &["coins"]).await, ["updated coins from version 0 of the template to 1"]);
    assert_eq!((home.read("coins/compose.yaml"), home.read("coins/settings/php.ini")), (compose, "mine".into()));
}

fn append(file: &Path, text: &str) {
    let mut file = OpenOptions::new().append(true).create(true).open(file).expect("a log");
    file.write_all(text.as_bytes()).expect("a longer log");
}

#[tokio::test]
async fn log_is_followed_across_truncation_and_rotation() {
    let server = builder().start().await;
    let home = Home::of(&server);
    assert_eq!(fails(&server, "instance_log", &["coins"]).await, "there is no instance coins");
    provisioned(&server, "coins").await;
    let log = home.at("coins/log/instance.log");
    append(&log, "one\ntwo\n");
    let mut all = server.call("instance_log", &["coins"]).await;
    assert!(all.line().await.ends_with(" provisioned"));
    assert_eq!((all.line().await, all.line().await), ("one".to_owned(), "two".to_owned()));
    let mut client = server.call("instance_log", &["coins", "1"]).await;
    assert_eq!(client.line().await, "two");
    append(&log, "three\n");
    assert_eq!(client.line().await, "three");

    // The log is truncated.
    fs::write(&log, "4\n").unwrap();
    assert_eq!(client.line().await, "4");
    // The log is replaced, after a last line in the old file.
    fs::rename(&log, home.at("coins/log/instance.log.1")).unwrap();
    append(&home.at("coins/log/instance.log.1"), "five\n");
    assert_eq!(client.line().await, "five");
    append(&log, "six\n");
    assert_eq!(client.line().await, "six");
    client.cancel().await;
    let end = client.finish().await;
    assert_eq!(end.lines, [""; 0]);
    assert_eq!(end.failure(), "cancelled by the client", "the call ends by itself within its grace period");
    all.cancel().await;
    all.finish().await.failure();

    let mut end = server.call("instance_log", &["coins", "1"]).await;
    assert_eq!(end.line().await, "six");
    append(&log, "seven\n");
    let Frame::Text(line) = end.next().await else { panic!("no line") };
    assert_eq!(line, "seven");
    server.terminate();
    assert_eq!(end.finish().await.failure(), "the server is shutting down");
    patiently("the server to end", server.wait()).await;
}

#[tokio::test]
async fn log_linked_to_secrets_of_another_instance_is_not_read() {
    let server = builder().start().await;
    let home = Home::of(&server);
    for slug in ["coins", "other"] {
        provisioned(&server, slug).await;
    }
    let secrets = home.names(".versions").into_iter().find(|name| name.starts_with("other")).unwrap();
    let log = home.at("coins/log/instance.log");
    fs::remove_file(&log).unwrap();
    symlink(format!("../../{secrets}/.env"), &log).unwrap();
    assert!(home.read("coins/log/instance.log").contains("PASSWORD"));
    let end = server.call("instance_log", &["coins"]).await.finish().await;
    assert_eq!(end.lines, [""; 0]);
    let said = end.failure();
    assert!(said.starts_with("exit status 1: the log cannot be read: "), "{said}");

    // A snapshot neither contains nor follows the link.
    let lines = succeeds(&server, "snapshot", &["coins"]).await;
    assert!(
        lines.iter().any(|line| line.contains("left out: \"log/instance.log\": a link that leads out")),
        "{lines:?}"
    );
}

#[tokio::test]
async fn snapshot_interrupted_by_a_kill_is_not_listed() {
    let mut server = builder().start().await;
    let home = Home::of(&server);
    provisioned(&server, "coins").await;
    fs::write(home.at("coins/data/files/large"), vec![7; 200 << 20]).unwrap();
    let mut client = server.call("snapshot", &["coins"]).await;
    assert_eq!(client.line().await, "taking a snapshot of coins");
    server.signal(Signal::KILL);
    server.wait().await;
    server.restart().await;
    assert!(home.names("snapshots").iter().all(|name| name.starts_with('.')), "{:?}", home.names("snapshots"));
    succeeds(&server, "stop", &["coins"]).await;
    assert_eq!(fails(&server, "restore", &["coins"]).await, "there is no snapshot of coins");

    // A cancelled snapshot leaves no more files.
    let left = home.names("snapshots");
    let mut client = server.call("snapshot", &["coins"]).await;
    assert_eq!(client.line().await, "taking a snapshot of coins");
    client.cancel().await;
    assert_eq!(client.finish().await.failure(), "cancelled by the client");
    assert_eq!(home.names("snapshots"), left);
}
