//! The command line as a client of a server: `distillery call` and related commands.

use distillery_tests::{
    Guest, Server, patiently,
    program::{output, piped, printed, program, spawn, text},
    server::Builder,
};
use futures_util::{SinkExt, StreamExt};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::{
    fs::{self, Permissions},
    io::{BufRead, BufReader, Read, Write},
    os::unix::fs::PermissionsExt,
    process::{Child, ChildStdout, Command},
    time::Duration,
};
use tokio::net::TcpListener;
use tokio_tungstenite::tungstenite::Message;

fn first_line(child: &mut Child) -> BufReader<ChildStdout> {
    let mut stdout = BufReader::new(child.stdout.take().expect("stdout is piped"));
    let mut line = String::new();
    stdout.read_line(&mut line).expect("text");
    assert!(!line.is_empty(), "the command ended without output");
    stdout
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).expect("it is running");
}

fn url(server: &Server) -> String {
    format!("http://{}", server.address())
}

/// Returns a server with a user who can run everything, and the file of a token of that user.
async fn with_token(builder: Builder) -> (Server, String) {
    let server = builder.start().await;
    let made = server.run_with(&["user", "add", "ada", "--scope", "*"], "a long password\na long password\n");
    assert!(made.status.success(), "{}", text(&made.stderr));
    let token = printed(&server.run(&["token", "add", "--user", "ada"]));
    let file = server.directory().join("token");
    fs::write(&file, token).expect("a file for the token");
    fs::set_permissions(&file, Permissions::from_mode(0o600)).expect("a file of one's own");
    (server, file.to_str().expect("a path of text").to_owned())
}

#[tokio::test]
async fn call_reads_and_writes_pipes() {
    let server = Server::builder().both("conversation").start().await;
    for call in ["conversation", "conversation.module"] {
        let output = piped(&mut server.command(&["call", call, "wörld ☃"]), "one\n\nlast without an end");
        assert_eq!(printed(&output), "hello wörld ☃\necho: one\necho: \necho: last without an end\n");
        assert_eq!(text(&output.stderr), "");
    }
}

#[tokio::test]
async fn parameters_can_look_like_options() {
    let server = Server::builder().guest(Guest::component("args")).start().await;
    let output = piped(&mut server.command(&["call", "args", "--json", "-x", "--", "a b"]), "");
    assert_eq!(printed(&output), "args\n--json\n-x\n--\na b\n");
}

#[tokio::test]
async fn hundred_megabytes_pass_through_a_pipe_unchanged() {
    let server = Server::builder().example("echo").start().await;
    // Not lines, not UTF-8, and no two pieces alike.
    let mut state = 1u64;
    let bytes: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    })
    .take(100 << 20)
    .collect();
    let before = server.memory();
    let mut child = spawn(&mut server.command(&["call", "echo"]));
    let mut stdin = child.stdin.take().expect("stdin is piped");
    let sent = bytes.clone();
    let writer = std::thread::spawn(move || stdin.write_all(&sent));
    let mut stdout = child.stdout.take().expect("stdout is piped");
    let mut piece = vec![0; 1 << 20];
    let (mut at, mut most) = (0, 0);
    let status = format!("/proc/{}/status", child.id());
    loop {
        let read = stdout.read(&mut piece).expect("it writes");
        if read == 0 {
            break;
        }
        assert!(piece[..read] == bytes[at..at + read], "the bytes after {at} differ");
        at += read;
        let status = fs::read_to_string(&status).unwrap_or_default();
        let peak =
            status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse().ok());
        most = most.max(peak.unwrap_or(0u64));
    }
    writer.join().expect("the writer ends").expect("all of it is taken");
    assert_eq!(at, bytes.len());
    assert!(child.wait().expect("it ends").success());
    assert!(most < 64 << 10, "the client had {most} KiB");
    let grown = server.memory().saturating_sub(before);
    assert!(grown < 96 << 20, "the server grew by {grown} bytes");
}

#[tokio::test]
async fn exit_status_reports_the_outcome() {
    let server = Server::builder()
        .guest(Guest::component("stderr_words"))
        .guest(Guest::component("exit"))
        .guest(Guest::wat("trap_unreachable"))
        .plugin("sleep", Guest::component("sleep"), "calls: {sleep: {access: public}}\nlimits: {time: 200ms}\n")
        .plugin(
            "chosen",
            Guest::component("args"),
            "calls: {chosen: {access: public, params: [{name: a, choices: [x]}]}}\n",
        )
        .grace(Duration::from_millis(100))
        .start()
        .await;
    for (arguments, status, said) in [
        (vec!["exit", "0"], 0, ""),
        (vec!["exit", "3"], 3, "distillery: exit status 3\n"),
        (vec!["stderr_words"], 7, "distillery: exit status 7: no capacitor at hand\n"),
        (vec!["trap_unreachable"], 134, "distillery: trap: unreachable\n"),
        (vec!["sleep"], 124, "distillery: time limit of 200ms reached (forced after 1…"),
        (vec!["nowhere"], 126, "distillery: unknown call \"nowhere\"\n"),
        (vec!["chosen", "y"], 126, "distillery: parameter \"a\"…"),
    ] {
        let output = piped(&mut server.command(&[&["call", "--no-stdin"], &arguments[..]].concat()), "");
        let got = text(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {got}");
        let as_said = said.strip_suffix('…').map_or(got == said, |beginning| got.starts_with(beginning));
        assert!(as_said, "{arguments:?}: {got}");
    }
}

#[tokio::test]
async fn call_without_stdin_gets_no_input_and_no_end_of_input() {
    let server = Server::builder().guest(Guest::component("says_goodbye")).start().await;
    let mut child = spawn(&mut server.command(&["call", "--no-stdin", "says_goodbye"]));
    let _stdout = first_line(&mut child);
    signal(&child, Signal::INT);
    assert_eq!(child.wait().expect("it ends").code(), Some(130));
    let ended = piped(&mut server.command(&["call", "says_goodbye"]), "");
    assert_eq!(printed(&ended), "ready\ngoodbye\n");
}

#[tokio::test]
async fn closed_output_of_attach_leaves_the_process_running() {
    let server = Server::builder().guest(Guest::component("flood")).grace(Duration::ZERO).start().await;
    let id = printed(&server.run(&["call", "--detach", "flood"]));
    let mut watching = spawn(&mut server.command(&["attach", id.trim_end()]));
    drop(first_line(&mut watching));
    assert_eq!(watching.wait().expect("it ends").code(), Some(141));
    let running = printed(&server.run(&["ps"]));
    assert!(running.contains(id.trim_end()), "{running}");
    printed(&server.run(&["cancel", id.trim_end()]));
}

#[tokio::test]
async fn interrupt_cancels_and_a_second_one_forces() {
    let server = Server::builder()
        .guest(Guest::component("conversation"))
        .guest(Guest::component("hold"))
        .grace(Duration::from_secs(60))
        .start()
        .await;
    let mut child = spawn(&mut server.command(&["call", "conversation"]));
    let _stdout = first_line(&mut child);
    let _stdin = child.stdin.take();
    signal(&child, Signal::INT);
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(
        (output.status.code(), text(&output.stderr).as_str()),
        (Some(130), "distillery: cancelled by the client\n")
    );

    for (asked, status) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let mut child = spawn(&mut server.command(&["call", "--json", "hold"]));
        let mut lines = BufReader::new(child.stdout.take().expect("stdout is piped")).lines();
        let mut until = |kind: &str| loop {
            let line: Value = serde_json::from_str(&lines.next().expect("a line").expect("text")).expect("JSON");
            if line["type"] == kind {
                return line;
            }
        };
        until("started");
        signal(&child, asked);
        // The guest ignores the first signal: the next one must be another signal.
        assert_eq!(until("cancelling")["reason"], "client");
        signal(&child, asked);
        let end = until("ended");
        assert_eq!(end["outcome"]["reason"], "client");
        assert_ne!(end["outcome"]["stop"], "told");
        assert_eq!(child.wait().expect("it ends").code(), Some(status));
    }
}

#[tokio::test]
async fn call_without_a_reader_of_its_output_is_cancelled() {
    let server = Server::builder().guest(Guest::component("flood")).start().await;
    let mut child = spawn(&mut server.command(&["call", "flood"]));
    drop(first_line(&mut child));
    let output = child.wait_with_output().expect("it ends");
    assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(141), ""));
    let outcome = server.process_ended("flood").await.field("outcome").to_owned();
    // The guest never listens, and can be blocked.
    assert!(outcome.starts_with("cancelled by the client"), "{outcome}");
}

#[tokio::test]
async fn missing_server_is_an_error_and_a_drain_is_reported() {
    let server = Server::builder().guest(Guest::component("conversation")).start().await;
    let mut child = spawn(&mut server.command(&["call", "conversation"]));
    let _stdout = first_line(&mut child);
    let _stdin = child.stdin.take();
    server.signal(Signal::KILL);
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(125));
    assert!(text(&output.stderr).contains("before the call ended"), "{}", text(&output.stderr));
    // Until then the port is still taken.
    server.wait().await;

    let output = piped(&mut server.command(&["call", "conversation"]), "");
    assert_eq!(output.status.code(), Some(126));
    assert!(text(&output.stderr).contains("start one with `distillery serve`"), "{}", text(&output.stderr));

    let server = Server::builder().guest(Guest::component("conversation")).start().await;
    let mut child = spawn(&mut server.command(&["call", "conversation"]));
    let _stdout = first_line(&mut child);
    // The end of this input would end the call.
    let _stdin = child.stdin.take();
    server.terminate();
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(
        (output.status.code(), text(&output.stderr).as_str()),
        (Some(143), "distillery: the server is shutting down\n")
    );
}

#[tokio::test]
async fn token_comes_from_a_private_file() {
    let conversation = Guest::component("conversation");
    let (server, token) = with_token(Server::builder().plugin("talk", conversation, "description: talks\n")).await;
    let url = url(&server);
    let call =
        |token: &[&str]| piped(&mut server.command(&[&["call", "--url", &url], token, &["talk", "Ada"]].concat()), "");
    assert_eq!(printed(&call(&["--token-file", &token])), "hello Ada\n");
    let nobody = call(&[]);
    assert_eq!(
        (nobody.status.code(), text(&nobody.stderr).as_str()),
        (Some(126), "distillery: not authorized to run \"talk\"\n")
    );

    fs::set_permissions(&token, Permissions::from_mode(0o644)).expect("a file that others can read");
    let refused = call(&["--token-file", &token]);
    assert_eq!(refused.status.code(), Some(126));
    assert!(text(&refused.stderr).contains("chmod 600"), "{}", text(&refused.stderr));

    let with_variable = |value: &str| {
        let mut command = server.command(&["call", "--url", &url, "talk", "Eve"]);
        piped(command.env("DISTILLERY_TOKEN", value), "")
    };
    let secret = fs::read_to_string(&token).expect("a token");
    assert_eq!(printed(&with_variable(&secret)), "hello Eve\n");
    let wrong = with_variable("dst_wrong");
    assert_eq!(wrong.status.code(), Some(126));
    assert!(text(&wrong.stderr).contains("token"), "{}", text(&wrong.stderr));
}

#[tokio::test]
async fn calls_and_processes_are_listed_and_a_process_is_cancelled() {
    let sleep =
        "description: Sleeps\ncalls: {sleep: {access: public, description: Sleeps long, params: [{name: how}]}}\n";
    let server =
        Server::builder().plugin("sleep", Guest::component("sleep"), sleep).grace(Duration::ZERO).start().await;
    assert_eq!(printed(&server.run(&["calls"])), "sleep <how>  Sleeps long\n");
    let listed: Value = serde_json::from_str(&printed(&server.run(&["calls", "--json"]))).expect("JSON");
    assert_eq!(listed[0]["name"], "sleep");
    assert_eq!(printed(&server.run(&["ps"])).lines().count(), 1);

    let mut child = spawn(&mut server.command(&["call", "--no-stdin", "--json", "sleep", "long"]));
    let _stdout = first_line(&mut child);
    let listed = printed(&server.run(&["ps"]));
    let line = listed.lines().nth(1).expect("a process");
    let words: Vec<_> = line.split_whitespace().collect();
    assert_eq!((words[1], words[2], *words.last().unwrap()), ("sleep", "operator", "running"));
    assert_eq!(printed(&server.run(&["cancel", words[0]])), format!("{}: told to stop\n", words[0]));
    assert_eq!(child.wait().expect("it ends").code(), Some(125));
    assert_eq!(printed(&server.run(&["ps"])).lines().count(), 1);
    let all = printed(&server.run(&["ps", "--all"]));
    assert!(all.lines().nth(1).is_some_and(|line| line.ends_with("cancelled")), "{all}");
    let unknown = server.run(&["cancel", "00000000-0000-7000-8000-000000000000"]);
    assert!(!unknown.status.success());
}

#[tokio::test]
async fn forced_cancel_skips_the_grace_period() {
    let server = Server::builder().guest(Guest::component("hold")).grace(Duration::from_secs(60)).start().await;
    let id = printed(&server.run(&["call", "--detach", "hold"]));
    let id = id.split([':', '\n']).next().expect("an id");
    assert_eq!(printed(&server.run(&["cancel", id])), format!("{id}: told to stop\n"));
    assert_eq!(printed(&server.run(&["cancel", "--force", id])), format!("{id}: is ended\n"));
    let ended = server.process_ended("hold").await;
    assert_ne!(ended.field("stop"), "told");
}

#[tokio::test]
async fn json_output_has_one_line_per_event() {
    let server = Server::builder().guest(Guest::component("bad_utf8")).guest(Guest::component("told")).start().await;
    let lines = |arguments: &[&str]| -> Vec<Value> {
        let output = piped(&mut server.command(&[&["call", "--json"], arguments].concat()), "");
        printed(&output).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    };
    let told = lines(&["told", "value", "[1]"]);
    assert_eq!(told[0]["type"], "started");
    let end = told.last().unwrap();
    assert_eq!((&end["type"], &end["outcome"]["value"]), (&json!("ended"), &json!([1])));
    let bad = lines(&["bad_utf8"]);
    assert!(bad.iter().any(|line| line["type"] == "stdout" && line["hex"].is_string()), "{bad:?}");
}

#[tokio::test]
async fn detached_call_continues_and_can_be_attached() {
    let (server, token) = with_token(Server::builder().guest(Guest::component("conversation"))).await;
    let url = url(&server);
    let as_ada = ["--url", &url, "--token-file", &token];
    for (who, is_named) in [(&[][..], false), (&["--url", &url], true), (&as_ada, false)] {
        let begun =
            printed(&piped(&mut server.command(&[&["call", "--detach"], who, &["conversation", "Ada"]].concat()), ""));
        let id = begun.trim_end();
        // A process without an owner is available only with its key.
        assert_eq!(id.contains(':'), is_named, "{id}");
        let mut watching = spawn(&mut server.command(&[&["attach"], who, &[id]].concat()));
        let _stdout = first_line(&mut watching);
        signal(&watching, Signal::INT);
        assert_eq!(watching.wait().expect("it leaves").code(), Some(130));

        let interactive = [&["attach", "--interactive"], who, &[id]].concat();
        let output = piped(&mut server.command(&interactive), "one\nend\n");
        assert_eq!(printed(&output), "hello Ada\necho: one\n");
        // Works also after the end of the process.
        assert_eq!(
            printed(&piped(&mut server.command(&[&["attach"], who, &[id]].concat()), "")),
            "hello Ada\necho: one\n"
        );
        // The environment passes the key if other users of the machine must not see it.
        if let Some((bare, key)) = id.split_once(':') {
            let mut attach = server.command(&[&["attach"], who, &[bare]].concat());
            assert_eq!(piped(&mut attach, "").status.code(), Some(126));
            assert_eq!(printed(&piped(attach.env("DISTILLERY_PROCESS_KEY", key), "")), "hello Ada\necho: one\n");
        }
    }
    let unknown = piped(&mut server.command(&["attach", "00000000-0000-7000-8000-000000000000"]), "");
    assert_eq!(unknown.status.code(), Some(126));
}

#[tokio::test]
async fn client_falls_back_to_the_line_protocol() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let server = async {
        // The server echoes no subprotocol, which ends the first connection.
        let mut socket = loop {
            let (stream, _) = listener.accept().await.expect("a client");
            let Ok(mut socket) = tokio_tungstenite::accept_async(stream).await else { continue };
            let Some(Ok(Message::Binary(call))) = socket.next().await else { continue };
            assert_eq!(serde_json::from_slice::<Value>(&call).unwrap(), json!({"call": "talk", "params": ["a"]}));
            break socket;
        };
        for line in ["one", "two"] {
            assert_eq!(socket.next().await.expect("a line").expect("a line"), Message::text(line));
            socket.send(Message::text(format!("echo: {line}"))).await.unwrap();
        }
        socket.send(Message::binary(br#"{"success":false,"message":"exit status 4"}"#.to_vec())).await.unwrap();
    };
    let mut command = Command::new(program());
    command.current_dir(std::env::temp_dir()).args(["call", "--url", &url, "talk", "a"]);
    let client = tokio::task::spawn_blocking(move || piped(&mut command, "one\ntwo"));
    let ((), output) = tokio::join!(patiently("a call", server), client);
    let output = output.expect("it ends");
    assert_eq!(text(&output.stdout), "echo: one\necho: two\n");
    assert_eq!(output.status.code(), Some(4));
    assert!(text(&output.stderr).ends_with("distillery: exit status 4\n"), "{}", text(&output.stderr));
}

#[test]
fn shells_complete_the_commands_and_man_shows_them() {
    let run = |arguments: &[&str]| {
        let mut command = Command::new(program());
        printed(&output(command.args(arguments).current_dir(std::env::temp_dir())))
    };
    let bash = run(&["completions", "bash"]);
    let checked = piped(Command::new("bash").arg("-n"), bash.clone());
    assert!(checked.status.success(), "{}", text(&checked.stderr));
    let source = format!(
        "{bash}\nCOMP_WORDS=(distillery atta) COMP_CWORD=1; _distillery distillery atta distillery; echo \"${{COMPREPLY[@]}}\""
    );
    assert_eq!(printed(&output(Command::new("bash").args(["-c", &source]))), "attach\n");
    for shell in ["zsh", "fish"] {
        assert!(run(&["completions", shell]).contains("attach"), "{shell}");
    }
    let directory = tempfile::tempdir().expect("a directory");
    run(&["man", directory.path().to_str().expect("a path of text")]);
    for page in ["distillery.1", "distillery-call.1", "distillery-token-add.1"] {
        let page = fs::read_to_string(directory.path().join(page)).expect("a page");
        assert!(page.contains(".TH "), "{page}");
    }
}
