//! Existing clients, as far as their protocol is known: the client of `pow-1` in `tests/clients`, in node and in a
//! browser, and the end of their websockets.

use distillery_tests::{Guest, Server, browser::Browser, languages::toolchains, program::output_of_tool};
use std::{
    env, fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

const CLOSING: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/closing/close.js");
const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/pow-1");

/// Returns the client as JavaScript, beside the packages that it needs. `None`, with a message, if they are missing.
fn built() -> Option<tempfile::TempDir> {
    let packages = toolchains().join("node/node_modules");
    let missing = ["typescript", "ws"].into_iter().find(|name| !packages.join(name).is_dir());
    if let Some(missing) = missing {
        assert!(env::var("CI").as_deref() != Ok("true"), "there is no {missing}: run `make toolchains`");
        eprintln!("SKIPPED: the client of pow-1, for want of {missing}: run `make toolchains`");
        return None;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let inside = |name: &str| directory.path().join(name);
    for file in ["client.ts", "drive.ts", "package.json", "tsconfig.json"] {
        fs::copy(Path::new(SOURCE).join(file), inside(file)).expect("a file of the client");
    }
    symlink(packages, inside("node_modules")).expect("a link to the packages");
    run(Command::new(inside("node_modules/.bin/tsc")).args(["--project", "."]), directory.path());
    Some(directory)
}

#[track_caller]
fn run(command: &mut Command, directory: &Path) -> String {
    let output = output_of_tool(command.current_dir(directory));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    said
}

async fn server() -> Server {
    let guests =
        ["args", "conversation", "cut_char", "no_newline", "prompt", "says_goodbye", "spin", "stderr_words", "told"];
    guests.iter().fold(Server::builder(), |server, name| server.guest(Guest::component(name))).start().await
}

#[tokio::test]
async fn pow1_client_holds_its_conversations() {
    let Some(client) = built() else { return };
    let server = server().await;
    let (address, directory) = (server.address().to_string(), client.path().to_owned());
    let said = tokio::task::spawn_blocking(move || run(Command::new("node").args(["drive.js", &address]), &directory));
    let said = said.await.expect("it ends");
    let source = fs::read_to_string(Path::new(SOURCE).join("drive.ts")).expect("its source");
    let conversations = source.matches("\n  async \"").count();
    assert!(conversations > 10, "{conversations}");
    assert_eq!(said.lines().filter(|line| line.starts_with("ok: ")).count(), conversations, "{said}");
}

#[tokio::test]
async fn pow1_client_works_in_a_browser() {
    let Some(client) = built() else { return };
    let Some(browser) = Browser::open().await else { return };
    let server = server().await;
    let module: PathBuf = client.path().join("client.js");
    let script = fs::read_to_string(module).expect("the client").replace("\nexport ", "\n");
    browser.go(&format!("http://{}/api/v1/systems", server.address())).await;
    let talk = "
        window.heard = '';
        const url = location.origin.replace('http', 'ws') + '/api/v1/pow/';
        const call = new Call(url, { call: 'conversation', params: ['Ada'] }, (text) => { window.heard += text; });
        call.result.then((result) => { window.result = result; }, (error) => { window.result = String(error); });
        call.input('one\\n').then(() => call.closeInput());
    ";
    browser.run(&format!("{script}\n{talk}")).await;
    let result = browser.until("the result", "window.result").await;
    assert_eq!(result["status"], "fulfilled", "{result}");
    assert_eq!(browser.run("return window.heard").await, "hello Ada\necho: one\n");
    let refused = format!(
        "{script}\nnew Call(location.origin.replace('http', 'ws') + '/api/v1/ws', {{ call: 'nowhere' }}, () => {{}})
            .result.then((result) => {{ window.refused = result; }}, (error) => {{ window.refused = String(error); }});"
    );
    browser.run(&refused).await;
    let refused = browser.until("the refusal", "window.refused").await;
    assert_eq!(refused["status"], "rejected", "{refused}");
}

/// Returns a server whose guests run for long.
async fn patient() -> Server {
    let builder = Server::builder().guest(Guest::component("spin")).guest(Guest::component("says_goodbye"));
    builder.grace(Duration::from_secs(60)).start().await
}

/// Nine sockets: three protocols, each before the call, while a guest computes, and while a guest waits.
const SOCKETS: usize = 9;

#[tokio::test]
async fn node_clients_close_in_order() {
    let packages = toolchains().join("node/node_modules");
    if !packages.join("ws").is_dir() {
        assert!(env::var("CI").as_deref() != Ok("true"), "there is no ws: run `make toolchains`");
        return eprintln!("SKIPPED: the clients of node, for want of ws: run `make toolchains`");
    }
    let server = patient().await;
    let directory = tempfile::tempdir().expect("a directory");
    fs::copy(CLOSING, directory.path().join("close.js")).expect("the client");
    symlink(packages, directory.path().join("node_modules")).expect("a link to the packages");
    let (address, path) = (server.address().to_string(), directory.path().to_owned());
    let said = tokio::task::spawn_blocking(move || {
        run(Command::new("node").args(["--experimental-websocket", "close.js", &address]), &path)
    });
    let said = said.await.expect("it ends");
    assert_eq!(said.lines().filter(|line| line.starts_with("ok: ")).count(), 2 * SOCKETS, "{said}");
}

#[tokio::test]
async fn browser_closes_in_order() {
    let Some(browser) = Browser::open().await else { return };
    let server = patient().await;
    browser.go(&format!("http://{}/api/v1/systems", server.address())).await;
    let script = fs::read_to_string(CLOSING).expect("the client");
    browser
        .run(&format!("{script}\ncloseAll(location.host, WebSocket).then((lines) => {{ window.lines = lines; }});"))
        .await;
    let lines = browser.until("the ends of all sockets", "window.lines").await;
    let lines: Vec<_> = lines.as_array().expect("lines").iter().filter_map(|line| line.as_str()).collect();
    assert!(lines.len() == SOCKETS && lines.iter().all(|line| line.starts_with("ok: ")), "{lines:?}");
}
