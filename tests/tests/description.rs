//! The descriptions of the API: they are well-formed by their standards and match the server, checked by tools that
//! know nothing else. `make toolchains` installs the tools.
//!
//! `DESCRIPTION_EXAMPLES` and `DESCRIPTION_SEED` set the number of generated requests for each operation, and their
//! seed.

use distillery_tests::{
    Guest, Server,
    program::{output_of_tool, piped},
};
use hyper::Method;
use serde_json::Value;
use std::{
    env, fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output},
};
use tempfile::TempDir;

const TOOLCHAINS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/toolchains");
const HERE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/description");

/// Returns a tool below the directory of toolchains. A missing tool is named, and fails the test in CI.
fn tool(path: &str) -> Option<PathBuf> {
    let tool = Path::new(TOOLCHAINS).join(path);
    if tool.exists() {
        return Some(fs::canonicalize(TOOLCHAINS).expect("it is there").join(path));
    }
    assert!(env::var("CI").as_deref() != Ok("true"), "no {path}: run `make toolchains`");
    eprintln!("SKIPPED: what needs {path}, which is not there: run `make toolchains`");
    None
}

/// Returns the output of the program without a server.
fn printed(arguments: &[&str]) -> Vec<u8> {
    let output = Server::builder().run(arguments, "");
    assert!(output.status.success(), "{}", said(&output));
    output.stdout
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[tokio::test]
async fn printed_documents_equal_the_served_ones() {
    let server = Server::builder().start().await;
    for (arguments, name) in [(&["openapi"][..], "openapi.json"), (&["openapi", "--asyncapi"], "asyncapi.json")] {
        let printed: Value = serde_json::from_slice(&printed(arguments)).expect("it is JSON");
        for root in ["/api/v1", "/api/v1/http"] {
            for slash in ["", "/"] {
                let answer = server.get(&format!("{root}/{name}{slash}")).await;
                assert_eq!((answer.status.as_u16(), answer.json()), (200, printed.clone()), "{root}/{name}{slash}");
            }
        }
    }
}

#[test]
fn openapi_document_is_valid() {
    let Some(validator) = tool("schemathesis/bin/openapi-spec-validator") else { return };
    let mut file = tempfile::NamedTempFile::new().expect("a file for the document");
    file.write_all(&printed(&["openapi"])).expect("it can be written");
    let output = output_of_tool(Command::new(validator).args(["--schema", "3.1"]).arg(file.path()));
    assert!(output.status.success(), "{}", said(&output));
}

#[test]
fn asyncapi_document_is_valid() {
    let Some(modules) = tool("asyncapi/node_modules") else { return };
    let mut node = Command::new("node");
    node.arg(Path::new(HERE).join("asyncapi.cjs")).env("NODE_PATH", modules);
    given(node, &printed(&["openapi", "--asyncapi"]));
}

#[test]
fn examples_match_their_schemas() {
    let Some(python) = tool("schemathesis/bin/python") else { return };
    for arguments in [&["openapi"][..], &["openapi", "--asyncapi"]] {
        let mut checker = Command::new(&python);
        checker.arg(Path::new(HERE).join("examples.py"));
        given(checker, &printed(arguments));
    }
}

/// Lets a command check a document, and expects no errors.
fn given(mut command: Command, document: &[u8]) {
    let output = piped(&mut command, document);
    assert!(output.status.success(), "{}", said(&output));
}

/// A caller: its credentials, and the operations that it skips.
struct Asking {
    who: &'static str,
    token: String,
    /// Operations that never end or are no exchange of request and answer, and those that would revoke the caller's own
    /// token.
    without: &'static [&'static str],
}

#[tokio::test]
async fn every_answer_is_described_by_the_document() {
    let Some(schemathesis) = tool("schemathesis/bin/schemathesis") else { return };
    let builder = Server::builder()
        .example("echo")
        .bare_plugin("args", Guest::component("args"))
        .set("http.origins", serde_json::json!(["https://a.example"]))
        .file("news/file.md", "---\ntitle: File\ndate: 2020-01-01\n---\n");
    let news = builder.directory().join("news").display().to_string();
    let builder = builder.set("news", news);
    let (all, none) = (builder.user("ada", &["*"]), builder.user("bob", &[]));
    let server = builder.start().await;
    // Creates some data for the answers.
    let mut called = server.call("echo", &[]).await;
    called.cancel().await;
    called.finish().await;

    let everything =
        Asking { who: "a caller with all rights", token: all, without: &["openSocket", "followPlugins", "listTokens"] };
    let nothing = Asking { who: "a caller without rights", token: none, without: &["openSocket"] };
    let nobody = Asking { who: "an anonymous caller", token: String::new(), without: &["openSocket"] };
    // Runs concurrently: schemathesis takes most of the time.
    let ask = |asking| ask(&schemathesis, &server, asking);
    tokio::join!(ask(&everything), ask(&nothing), ask(&nobody));
    let wrong = server.log().lines().into_iter().filter(|line| line.level() == "ERROR" || line.level().is_empty());
    assert_eq!(wrong.map(|line| line.message()).collect::<Vec<_>>(), [""; 0]);
}

/// Lets schemathesis generate requests for the whole document, and check every answer.
async fn ask(schemathesis: &Path, server: &Server, asking: &Asking) {
    let Asking { who, token, without } = asking;
    let setting = |name: &str, default: &str| env::var(name).unwrap_or_else(|_| default.to_owned());
    let ground = TempDir::with_prefix("distillery-test-").expect("a directory for what it keeps");
    let mut command = Command::new(schemathesis);
    command
        .arg("--config-file")
        .arg(Path::new(HERE).join("schemathesis.toml"))
        .args(["run", &format!("http://{}/api/v1/openapi.json", server.address())])
        .args(["--checks", "all", "--no-color", "--request-timeout", "30", "--continue-on-failure"])
        .args(["--max-examples", &setting("DESCRIPTION_EXAMPLES", "8")])
        .args(["--seed", &setting("DESCRIPTION_SEED", "1")])
        .args(without.iter().flat_map(|id| ["--exclude-operation-id", *id]))
        .current_dir(ground.path());
    if !token.is_empty() {
        command.args(["--header", &format!("Authorization: {token}")]);
    }
    let output = tokio::task::spawn_blocking(move || output_of_tool(&mut command)).await.expect("it ends");
    let said = said(&output);
    assert!(output.status.success(), "{who}:\n{said}");
    let counted = said.lines().skip_while(|line| *line != "Test cases:").nth(1).unwrap_or_default();
    println!("{who}: {}", counted.trim());
    assert!(counted.contains("generated"), "{who}:\n{said}");
    // A caller that had revoked its own token would have continued as anonymous.
    let headers = [("authorization", token.as_str())];
    let answer = server.request(Method::GET, "/api/v1/auth", if token.is_empty() { &[] } else { &headers }).await;
    assert_eq!(answer.status, 200, "{who}");
}

/// The one route that schemathesis cannot try.
#[tokio::test]
async fn socket_is_refused_as_the_document_describes() {
    let server = Server::builder().start().await;
    let document: Value = serde_json::from_slice(&printed(&["openapi"])).expect("it is JSON");
    let described = &document["paths"]["/ws"]["get"]["responses"];
    let upgrade = [("connection", "upgrade"), ("upgrade", "websocket"), ("sec-websocket-version", "13")];
    let key = ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    let whole = [&upgrade[..], &[key]].concat();
    let elsewhere = [&whole[..], &[("origin", "https://evil.example")]].concat();
    let unknown = [&whole[..], &[("authorization", "Bearer odd")]].concat();
    for headers in [&[][..], &upgrade, &elsewhere, &unknown] {
        let answer = server.request(Method::GET, "/api/v1/ws", headers).await;
        let status = answer.status.as_str();
        assert!(described[status].is_object() && answer.status.is_client_error(), "{status} is not described");
        assert_eq!(answer.header("content-type"), "application/json", "{status}");
        assert_eq!(answer.json()["status"], answer.status.as_u16());
    }
}
