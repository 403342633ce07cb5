//! The Model Context Protocol: the conformance tests of its authors, the official SDK for Python over both transports, and
//! what belongs to whom.

use distillery_tests::{
    Guest, Server,
    languages::toolchains,
    program::{output_of_tool, program},
};
use hyper::Method;
use serde_json::{Value, json};
use std::{env, fs, path::PathBuf, process::Command};

const CHECK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/mcp/check.py");
const PATH: &str = "/api/v1/mcp";

/// The scenarios about tools and sessions. The others are about prompts, resources, completion and sampling, which calls
/// do not have, about content that a call cannot write, or about forms with several fields.
const SCENARIOS: [&str; 13] = [
    "server-initialize",
    "ping",
    "logging-set-level",
    "tools-list",
    "tools-call-simple-text",
    "tools-call-image",
    "tools-call-audio",
    "tools-call-error",
    "tools-call-with-logging",
    "tools-call-with-progress",
    "tools-call-elicitation",
    "server-sse-multiple-streams",
    "dns-rebinding-protection",
];

const TOOLS: &str = "
stderr: forward
calls:
  test_simple_text: {}
  test_image_content: {}
  test_audio_content: {}
  test_error_handling: {}
  test_tool_with_logging: {}
  test_tool_with_progress: {}
  test_elicitation: {params: [{name: message}]}
";

/// Returns a program of the toolchains. `None`, with a message, if it could not be had; CI must have it.
fn tool(path: &str) -> Option<PathBuf> {
    let file = toolchains().join(path);
    if file.exists() {
        return Some(file);
    }
    assert!(env::var("CI").as_deref() != Ok("true"), "there is no {path}: run `make needed`");
    let test = std::thread::current();
    eprintln!("SKIPPED: {}, for want of {path}: run `make needed`", test.name().unwrap_or_default());
    None
}

/// Starts a server whose anonymous clients can run all calls.
async fn server() -> Server {
    let mut builder = Server::builder().set("auth.anonymous", vec!["call:*"]);
    for name in ["ask", "assemble", "countdown", "echo", "grind"] {
        builder = builder.example(name);
    }
    builder.plugin("tool", Guest::component("tool"), TOOLS).start().await
}

async fn run_aside(mut command: Command) -> String {
    let output = tokio::task::spawn_blocking(move || output_of_tool(&mut command)).await.expect("it ends");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    said
}

#[tokio::test]
async fn conformance_tests_of_the_protocol_pass() {
    let Some(suite) = tool("mcp/node_modules/@modelcontextprotocol/conformance/dist/index.js") else { return };
    let Some(node) = tool("mcp/node_modules/node/bin/node") else { return };
    let server = server().await;
    for scenario in SCENARIOS {
        let mut command = Command::new(&node);
        command.arg(&suite).args(["server", "--scenario", scenario, "--url"]);
        command.arg(format!("http://{}{PATH}", server.address())).current_dir(server.directory());
        let said = run_aside(command).await;
        assert!(said.contains(", 0 failed, 0 warnings") && !said.contains("Passed: 0/"), "{scenario}: {said}");
    }
}

/// Runs the check of the SDK, and returns what it saw.
async fn seen(server: &Server, place: &[&str], mode: &str) -> Option<Value> {
    let python = tool("mcp/bin/python")?;
    let prepared = server.directory().join("prepared");
    fs::create_dir(&prepared).expect("a directory");
    fs::copy(Guest::component("tool").file, prepared.join("added.wasm")).expect("a module");
    let mut command = Command::new(python);
    command.arg(CHECK).args(place).arg(mode).arg(server.plugins()).arg(prepared).env("DISTILLERY_TOKEN", "");
    Some(serde_json::from_str(run_aside(command).await.trim()).expect("JSON"))
}

/// Compares what the SDK saw with what the calls do.
async fn check(server: &Server, seen: &Value) {
    let tools = seen["tools"].as_array().expect("tools");
    assert_eq!((tools.len(), &tools[0]), (12, &json!("ask")), "{seen}");
    let schema = json!({
        "type": "object",
        "properties": {
            "from": {"type": "string", "pattern": "^(?:[0-9]{1,4})$", "default": "10", "description": "First number"},
            "stdin": {"type": "string", "description": "Text that the call reads as its input, all at once"},
        },
        "required": [],
        "additionalProperties": false,
    });
    assert_eq!(seen["schema"], schema);
    assert_eq!(seen["echo"], json!([["one\ntwo\n"], null, false]));
    assert_eq!(seen["questions"], json!(["What is your name?"]));
    assert_eq!(seen["ask"], json!([["What is your name? Hello, Ada!\n"], null, false]));
    assert_eq!(seen["countdown"], json!([["1\nliftoff\n"], null, false]));
    assert_eq!(seen["progress"], json!([[1.0, "1"], [2.0, "liftoff"]]));
    assert_eq!(seen["value"][1], json!({"parts": 1}));
    let why = "This tool intentionally returns an error for testing";
    assert_eq!(seen["error"], json!([[format!("stderr:\n{why}\n"), format!("exit status 1: {why}")], null, true]));
    let refused = ["there is no tool \"nothing\" for this caller", "the argument \"stdin\" is not text: give a string"];
    assert_eq!(seen["refused"], json!(refused));
    assert_eq!(seen["added"], json!(true));
    let ended = server.process_ended("grind").await;
    assert_eq!(ended.field("kind"), "cancelled", "{ended:?}");
}

#[tokio::test]
async fn python_sdk_uses_calls_as_tools_over_http() {
    for mode in ["legacy", "auto"] {
        let server = server().await;
        let url = format!("http://{}{PATH}", server.address());
        let Some(seen) = seen(&server, &[&url], mode).await else { return };
        check(&server, &seen).await;
    }
}

#[tokio::test]
async fn python_sdk_uses_calls_as_tools_over_stdio() {
    for mode in ["legacy", "auto"] {
        let server = server().await;
        let url = format!("http://{}", server.address());
        let program = program();
        let place = [program.to_str().expect("a path"), "mcp", "--url", &url];
        let Some(seen) = seen(&server, &place, mode).await else { return };
        check(&server, &seen).await;
    }
}

const BEGIN: &str = r#"{"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
    "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}}"#;
const LIST: &str = r#"{"jsonrpc": "2.0", "id": 2, "method": "tools/list"}"#;
const HEADERS: [(&str, &str); 2] =
    [("content-type", "application/json"), ("accept", "application/json, text/event-stream")];

#[tokio::test]
async fn session_and_tools_are_those_of_the_caller() {
    let builder = Server::builder().example("echo").plugin("tool", Guest::component("tool"), TOOLS);
    let (ada, eve) = (builder.user("ada", &["call:*"]), builder.user("eve", &["call:test_simple_text"]));
    let server = builder.start().await;
    let post = async |headers: &[(&str, &str)], body: &str| {
        let headers = [&HEADERS, headers].concat();
        server.send(Method::POST, PATH, &headers, body.as_bytes().to_vec().into()).await
    };
    let begun = post(&[("authorization", &ada)], BEGIN).await;
    let session = begun.header("mcp-session-id").to_owned();
    let own = [("authorization", ada.as_str()), ("mcp-session-id", &session)];
    assert_eq!(post(&own, r#"{"jsonrpc": "2.0", "method": "notifications/initialized"}"#).await.status.as_u16(), 202);
    let listed = post(&own, LIST).await;
    assert!(String::from_utf8_lossy(&listed.body).contains("test_elicitation"), "{listed:?}");
    for headers in
        [&[("authorization", eve.as_str()), ("mcp-session-id", &session)][..], &[("mcp-session-id", &session)]]
    {
        let answer = post(headers, LIST).await;
        assert_eq!((answer.status.as_u16(), answer.json()["status"].clone()), (404, json!(404)), "{headers:?}");
    }
    let begun = post(&[("authorization", &eve)], BEGIN).await;
    let session = begun.header("mcp-session-id").to_owned();
    let listed = post(&[("authorization", &eve), ("mcp-session-id", &session)], LIST).await;
    let listed = String::from_utf8_lossy(&listed.body);
    // The example is public.
    assert!(listed.contains("test_simple_text") && listed.contains("echo") && !listed.contains("elicit"), "{listed}");
    assert_eq!(post(&[("authorization", "Bearer dst_nonsense")], BEGIN).await.status.as_u16(), 401);
}

#[tokio::test]
async fn protocol_is_off_with_the_api() {
    let server = Server::builder().example("echo").set("http.api", false).start().await;
    let answer = server.send(Method::POST, PATH, &HEADERS, BEGIN.into()).await;
    assert_eq!(answer.status.as_u16(), 501, "{answer:?}");
}
