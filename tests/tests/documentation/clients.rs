//! The example clients, each run as its first lines say.

use crate::{is_on_the_path, is_there, read, repository};
use distillery_tests::{
    Browser, Server,
    languages::toolchains,
    program::{output, piped, spawn, text},
};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    process::{Command, Stdio},
    thread,
};

/// All example clients: a new one is tested here, too.
const CLIENTS: [&str; 6] = [
    "browser/call.js",
    "browser/index.html",
    "python/call.py",
    "python/follow.py",
    "shell/call.sh",
    "shell/processes.sh",
];

/// Returns an example in Python, with the package that it needs.
fn python(client: &str, address: SocketAddr) -> Option<Command> {
    let python = toolchains().join("clients/bin/python");
    if !is_there(python.is_file(), "websockets for Python") {
        return None;
    }
    let mut command = Command::new(python);
    command.arg(repository("examples/clients/python").join(client)).arg(format!("ws://{address}/api/v1/ws"));
    Some(command)
}

fn shell(client: &str, server: &Server) -> Option<Command> {
    if !is_there(is_on_the_path("jq") && is_on_the_path("curl"), "curl and jq") {
        return None;
    }
    let mut command = Command::new("sh");
    command.arg(repository("examples/clients/shell").join(client)).arg(format!("http://{}", server.address()));
    Some(command)
}

async fn examples() -> Server {
    ["ask", "countdown", "echo"].iter().fold(Server::builder(), |server, name| server.example(name)).start().await
}

#[tokio::test]
async fn python_client_holds_a_conversation() {
    let server = examples().await;
    let Some(mut client) = python("call.py", server.address()) else { return };
    let ended = piped(client.arg("ask"), "Ada\n");
    // The prompt is a line of its own only if the answer came after the call had asked.
    let said = text(&ended.stdout).replace("name? \n", "name? ");
    assert_eq!(said, "What is your name? Hello, Ada!\n", "{}", text(&ended.stderr));
    assert_eq!(ended.status.code(), Some(0));

    let Some(mut client) = python("call.py", server.address()) else { return };
    let refused = piped(client.args(["echo", "many"]), "");
    assert_eq!(text(&refused.stderr), "parameter \"lines\" does not match [0-9]{1,9}\n");
    assert_eq!(refused.status.code(), Some(1));
}

#[tokio::test]
async fn python_client_cancels_on_interrupt() {
    let server = examples().await;
    let Some(mut client) = python("call.py", server.address()) else { return };
    let mut child = spawn(client.args(["countdown", "60"]));
    let mut out = BufReader::new(child.stdout.take().expect("stdout is piped"));
    let mut first = String::new();
    out.read_line(&mut first).expect("a line");
    kill_process(Pid::from_child(&child), Signal::INT).expect("it runs");
    let mut rest = String::new();
    out.read_to_string(&mut rest).expect("the rest");
    assert_eq!((first.as_str(), rest.as_str()), ("60\n", "countdown stopped at 60\n"));
    let ended = child.wait_with_output().expect("it can be waited for");
    assert_eq!(text(&ended.stderr), "cancelled by the client\n");
}

#[tokio::test]
async fn python_client_follows_a_process_over_a_lost_connection() {
    let server = examples().await;
    let proxy = cut_once(server.address(), b"3\n");
    let Some(mut client) = python("follow.py", proxy) else { return };
    let ended = output(client.args(["countdown", "4"]));
    assert_eq!(text(&ended.stdout), "4\n3\n2\n1\nliftoff\n", "{}", text(&ended.stderr));
    assert_eq!(text(&ended.stderr).matches("reconnecting: ").count(), 1, "{}", text(&ended.stderr));
}

/// Returns a proxy to `server` whose first connection breaks after these bytes.
fn cut_once(server: SocketAddr, behind: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for (number, client) in listener.incoming().flatten().enumerate() {
            let Ok(server) = TcpStream::connect(server) else { return };
            let (to_server, to_client) = (server.try_clone().expect("a socket"), client.try_clone().expect("a socket"));
            thread::spawn(move || carry(client, to_server, None));
            thread::spawn(move || carry(server, to_client, Some(behind).filter(|_| number == 0)));
        }
    });
    address
}

fn carry(mut from: TcpStream, mut to: TcpStream, behind: Option<&[u8]>) {
    let mut buffer = [0; 4096];
    let mut seen: Vec<u8> = Vec::new();
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
        seen.extend(&buffer[..read]);
        if behind.is_some_and(|behind| seen.windows(behind.len()).any(|it| it == behind)) {
            break;
        }
    }
    // Either side can be closed already.
    _ = from.shutdown(Shutdown::Both);
    _ = to.shutdown(Shutdown::Both);
}

#[tokio::test]
async fn shell_client_runs_a_call_by_requests() {
    let server = examples().await;
    let Some(mut client) = shell("call.sh", &server) else { return };
    let ended = piped(client.args(["echo", "2"]), "one \"two\" \\ ü\nlast\n");
    assert_eq!(text(&ended.stdout), "one \"two\" \\ ü\nlast\n", "{}", text(&ended.stderr));
    assert_eq!(ended.status.code(), Some(0));

    let Some(mut client) = shell("call.sh", &server) else { return };
    let failed = piped(client.arg("ask"), "\n");
    assert_eq!((text(&failed.stderr).as_str(), failed.status.code()), ("exit status 2: a name is needed\n", Some(1)));
}

#[tokio::test]
async fn shell_client_lists_the_processes_of_its_user() {
    let builder = Server::builder().example("countdown");
    let bearer = builder.user("ada", &["processes:*"]);
    let token = bearer.strip_prefix("Bearer ").expect("a token");
    let server = builder.start().await;
    let mut running = server.call("countdown", &["600"]).await;
    running.line().await;
    let Some(mut client) = shell("processes.sh", &server) else { return };
    let listed = output(client.env("DISTILLERY_TOKEN", token));
    let listed = text(&listed.stdout);
    assert_eq!(listed.lines().map(|line| line.split('\t').nth(1)).collect::<Vec<_>>(), [Some("countdown")], "{listed}");

    let Some(mut client) = shell("processes.sh", &server) else { return };
    assert!(!output(client.env("DISTILLERY_TOKEN", "dst_nonsense")).status.success());
}

#[tokio::test]
async fn page_of_another_origin_runs_a_call() {
    if !is_there(is_on_the_path("python3"), "python3") {
        return;
    }
    let Some(browser) = Browser::open().await else { return };
    // Any file server works.
    let mut files = Command::new("python3");
    files.args(["-u", "-m", "http.server", "--bind", "127.0.0.1", "0", "--directory"]);
    let files = files.arg(repository("examples/clients/browser")).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut files = Killed(files.spawn().expect("a server of files"));
    let mut told = String::new();
    BufReader::new(files.0.stdout.take().expect("stdout is piped")).read_line(&mut told).expect("a line");
    let port = told.split_whitespace().nth(5).unwrap_or_else(|| panic!("{told}"));
    let origin = format!("http://127.0.0.1:{port}");
    let server = Server::builder().example("ask").set("http.origins", vec![origin.clone()]).start().await;
    browser.go(&format!("{origin}/?server=ws://{}/api/v1/ws", server.address())).await;
    browser.press("Start").await;
    browser.sees("What is your name?").await;
    browser.write("Input", "Ada").await;
    browser.press("Send").await;
    browser.sees("Hello, Ada!").await;
    browser.sees("Success").await;
    browser.press("Start").await;
    browser.sees("What is your name?").await;
    browser.press("Cancel").await;
    browser.sees("Failure: ").await;
}

/// A program that ends with its test.
struct Killed(std::process::Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // The program can have ended by itself.
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

#[test]
fn every_example_client_is_tested_and_listed() {
    let list = read("examples/clients/README.md");
    for client in CLIENTS {
        assert!(list.contains(&format!("({client})")), "{client}");
    }
    let folders = ["browser", "python", "shell"];
    let found = folders.iter().map(|folder| {
        let files = std::fs::read_dir(repository("examples/clients").join(folder)).expect("clients");
        files.filter(|it| it.as_ref().is_ok_and(|it| it.path().is_file())).count()
    });
    assert_eq!(found.sum::<usize>(), CLIENTS.len());
}
