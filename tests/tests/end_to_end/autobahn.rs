//! The websocket, tested by Autobahn's test suite, whose cases our driver plays: the server receives exactly what each
//! case sends. `make toolchains` installs the suite. Cases with binary messages expect an echo of what are control
//! messages here, and other cases need compression extensions: both are left out.

use distillery_tests::{Server, program::output_of_tool};
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    env,
    path::{Path, PathBuf},
    process::Command,
};

const SUITE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/toolchains/autobahn");
const DRIVER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/end_to_end/autobahn/driver.py");

/// Number of cases in the suite for a server that echoes text.
const CASES: usize = 266;

/// The result of a case.
#[derive(Debug, Deserialize)]
struct Outcome {
    case: String,
    /// Whether the right frames came back.
    behavior: String,
    /// Whether the connection was closed correctly.
    close: String,
    result: String,
    closing: String,
}

/// Returns the Python of the suite and the directory of its cases. Without them the test is skipped by name, and never
/// in CI.
fn suite() -> Option<(PathBuf, PathBuf)> {
    let lib = Path::new(SUITE).join("lib");
    let versions = std::fs::read_dir(&lib).into_iter().flatten().filter_map(|it| Some(it.ok()?.path()));
    let cases = versions.map(|python| python.join("site-packages/autobahntestsuite/case")).find(|it| it.is_dir());
    if cases.is_none() {
        assert!(env::var("CI").as_deref() != Ok("true"), "no Autobahn: run `make toolchains`");
        eprintln!("SKIPPED: Autobahn's test suite, which is not there: run `make toolchains`");
    }
    Some((Path::new(SUITE).join("bin/python"), cases?))
}

#[tokio::test]
async fn autobahn_cases_pass() {
    let Some((python, cases)) = suite() else { return };
    // Its largest messages have 16 MiB.
    let server = Server::builder()
        .example("echo")
        .set("http.max_frame", "32MiB")
        .set("limits.line", "32MiB")
        .set("limits.input", "64MiB")
        .set("http.call_timeout", "60s")
        .start()
        .await;
    let mut driver = Command::new(python);
    driver.arg(DRIVER).arg(cases).args(["127.0.0.1", &server.address().port().to_string(), "echo"]);
    let said = tokio::task::spawn_blocking(move || output_of_tool(&mut driver)).await.expect("the driver runs");
    let lines = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.status.success(), "{lines}{}", String::from_utf8_lossy(&said.stderr));
    let outcomes: Vec<Outcome> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}")))
        .collect();
    assert_eq!(outcomes.len(), CASES);
    let mut counts = BTreeMap::<_, usize>::new();
    for outcome in &outcomes {
        *counts.entry((outcome.behavior.as_str(), outcome.close.as_str())).or_default() += 1;
    }
    eprintln!("Autobahn, by what came back and how it was closed: {counts:?}");
    // Frames can also be refused a moment later than the strictest reading asks for; the outcome of some cases is
    // undefined.
    let fine = |word: &str| matches!(word, "OK" | "NON-STRICT" | "INFORMATIONAL");
    let wrong = outcomes.iter().filter(|it| !fine(&it.behavior) || !fine(&it.close));
    let told =
        |it: &Outcome| format!("{}: {} ({}), closed: {} ({})", it.case, it.behavior, it.result, it.close, it.closing);
    let wrong: Vec<_> = wrong.map(told).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}
