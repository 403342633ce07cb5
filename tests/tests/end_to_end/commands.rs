//! Granted commands: what they get, how they end, and that nothing of them is left.

mod bounds;
mod ending;
mod surroundings;
mod tools;

use distillery_tests::{Guest, Server, patiently, server::Builder};
use serde_json::{Value, json};
use std::{fs, time::Duration};

/// A command without a module, and the guests that start it: of WASI 0.2 and 0.3. The first is one of preview 1.
const KINDS: [&str; 3] = ["builtin", "component", "component3"];

/// A variable that every process of a command inherits.
const MARK: &str = "COMMAND_OF_TEST";

/// Returns a server with the command `run` as the calls of [`KINDS`]. `more` are further keys of the grant.
fn builder_of(run: &[&str], more: Value) -> Builder {
    let mut grant = json!({"run": run});
    for (key, value) in more.as_object().expect("keys of a grant") {
        grant[key] = value.clone();
    }
    let builder = Server::builder();
    let mark = builder.directory().display().to_string();
    grant["env"][MARK] = mark.into();
    grant["env"]["PATH"] = "/usr/local/bin:/usr/bin:/bin".into();
    let grants: serde_json::Map<_, _> =
        KINDS.map(|kind| (kind.to_owned(), json!({"commands": {"it": grant}}))).into_iter().collect();
    let manifest = |kind: &str| {
        format!("stderr: forward\ncalls: {{{kind}: {{access: public}}}}\ncapabilities: {{commands: [it]}}")
    };
    builder
        .file(
            "plugins/builtin/plugin.yaml",
            "component: builtin:command\ncommand: it\nstderr: forward\ncalls: {builtin: {access: public}}",
        )
        .plugin("component", Guest::component("granted"), &manifest("component"))
        .plugin("component3", Guest::component3("granted"), &manifest("component3"))
        .set("plugins.grants", grants)
}

/// Returns the parameters of the call `kind` that give the command these parameters.
fn params(kind: &str, given: &[(&str, &str)]) -> Vec<String> {
    let named = given.iter().map(|(name, value)| format!("{name}={value}"));
    match kind {
        "builtin" => given.iter().map(|(_, value)| (*value).to_owned()).collect(),
        "component" => ["run".to_owned(), "it".to_owned()].into_iter().chain(named).collect(),
        _ => ["it".to_owned()].into_iter().chain(named).collect(),
    }
}

/// Returns the processes of commands of this server, by their inherited variable.
fn living(server: &Server) -> Vec<u32> {
    living_below(&server.directory().display().to_string())
}

fn living_below(directory: &str) -> Vec<u32> {
    let mark = format!("{MARK}={directory}");
    let entries = fs::read_dir("/proc").expect("Linux has it").flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let marked = |pid: &u32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes())
    };
    pids.filter(marked).collect()
}

/// Waits until `is_so`.
#[expect(clippy::disallowed_methods, reason = "the kernel reports no changes, so the value is polled")]
async fn until(what: &str, is_so: impl Fn() -> bool) {
    patiently(what, async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// Waits until the commands of the server in `directory` have this many processes.
async fn processes_of(directory: &str, what: &str, wanted: impl Fn(usize) -> bool) {
    until(what, || wanted(living_below(directory).len())).await;
}

async fn nothing_is_left(server: &Server) {
    processes_of(&server.directory().display().to_string(), "the end of every command", |count| count == 0).await;
}

async fn something_runs(server: &Server, processes: usize) {
    processes_of(&server.directory().display().to_string(), "a running command", |count| count >= processes).await;
}
