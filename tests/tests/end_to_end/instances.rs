//! The instance calls as they are shipped: instances from their provision to their purge.

mod calls;
mod kills;
mod snapshots;
mod story;

use distillery_tests::{
    Client, Guest, Server, Verdict,
    program::{piped, printed},
    server::Builder,
};
use serde_json::{Value, json};
use std::{
    fs,
    path::{Path, PathBuf},
    time::SystemTime,
};

/// The form of a client that knows more about instances than the template does.
const FORM: &str = r#"{"Slug": "coins", "Flavor": "Static", "System": {"PHP": "Default (8.1)"}}"#;

const TEMPLATES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/instances/templates");
const FAKE_ENGINE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/end_to_end/instances/engine.sh");

fn form(slug: &str) -> String {
    json!({ "Slug": slug, "Flavor": "Static" }).to_string()
}

fn instances_of(directory: &Path) -> PathBuf {
    directory.join("data/instances")
}

fn fake_of(directory: &Path) -> PathBuf {
    directory.join("fake")
}

/// Returns a server whose calls are public, with an engine of files.
fn builder() -> Builder {
    with_fake(Server::builder().example("instances")).set("auth.anonymous", json!(["call:*"]))
}

/// Returns the same server, whose calls have no grace period.
fn without_grace() -> Builder {
    let manifest = Guest::example_manifest("instances");
    let cancel = "cancel: {grace: 60s, cleanup: true}";
    assert!(manifest.contains(cancel));
    let manifest = manifest.replace(cancel, "cancel: {grace: 0s, cleanup: true}");
    let builder = Server::builder().plugin("instances", Guest::example("instances"), &manifest);
    with_fake(builder).set("auth.anonymous", json!(["call:*"]))
}

fn with_fake(builder: Builder) -> Builder {
    let fake = fake_of(builder.directory());
    fs::create_dir_all(&fake).expect("a directory for the engine");
    let command = json!({
        "run": [FAKE_ENGINE, "{verb}", "{slug}", "{service}", "{text}"],
        "env": { "FAKE": fake, "PATH": "/usr/bin:/bin" },
    });
    granted(builder, command, Path::new(TEMPLATES))
}

/// Grants everything that the plugins ask for, with this program as `compose`.
fn granted(builder: Builder, mut compose: Value, templates: &Path) -> Builder {
    let path = instances_of(builder.directory());
    compose["params"] = json!({
        "verb": { "choices": ["up", "down", "remove", "left", "build", "pull", "ps", "logs", "tail", "exec"] },
        "slug": { "pattern": "[a-z]([a-z0-9-]{0,61}[a-z0-9])?" },
        "service": { "pattern": "([a-z0-9][a-z0-9_-]{0,62})?" },
        "text": { "pattern": "(?s).*", "secret": true },
    });
    compose["directory"] = json!(path);
    compose["timeout"] = "1h".into();
    compose["output"] = "1GiB".into();
    compose["concurrent"] = 16.into();
    fs::create_dir_all(&path).expect("a directory for the instances");
    let grants = json!({
        "instances": {
            "mounts": {
                "instances": { "path": path, "write": true },
                "templates": { "path": templates },
            },
            "commands": { "compose": compose },
            "env": ["INSTANCES_DOMAIN"],
            "systems": "write",
        },
        "instance_log": {
            "mounts": { "instances": { "path": path } },
            "commands": { "compose": compose },
        },
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

    /// Removes the locks of a killed server, which the next call would wait for until they are old.
    fn unlock(&self) {
        for name in self.names(".locks") {
            fs::remove_file(self.at(".locks").join(name)).unwrap();
        }
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
        assert!(self.read(&format!("{slug}/compose.yaml")).contains("services:"));
        assert!(self.read(&format!("{slug}/.env")).contains(&format!("SLUG=\"{slug}\"\n")));
        assert!(self.at(&format!("{slug}/data/www/index.html")).is_file());
    }
}

/// The engine of files.
struct Fake(PathBuf);

impl Fake {
    fn of(server: &Server) -> Self {
        Self(fake_of(server.directory()))
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Keeps `up` from ending until the gate is opened.
    fn close_gate(&self) {
        fs::write(self.at("gate"), "").expect("a gate");
    }

    fn open_gate(&self) {
        fs::remove_file(self.at("gate")).expect("a gate");
    }

    /// Returns containers, networks and volumes.
    fn everything(&self) -> Vec<String> {
        let names =
            fs::read_dir(&self.0).expect("a directory").map(|it| it.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.filter(|name| name.contains('.') && !name.ends_with(".log")).collect();
        names.sort();
        names
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

/// Provisions an instance. Returns the output of the call and its value, which only its client gets.
fn provision(server: &Server, form: &str) -> (Vec<String>, Value) {
    let output = printed(&piped(&mut server.command(&["call", "--json", "provision", form]), ""));
    let events: Vec<Value> = output.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let said: String = events.iter().filter(|it| it["type"] == "stdout").filter_map(|it| it["text"].as_str()).collect();
    let value = events.last().expect("an event")["outcome"]["value"].clone();
    (said.lines().map(str::to_owned).collect(), value)
}
