//! Common behaviour of all commands: the destination and escaping of their output, and the owner of their arguments.

use distillery_tests::{
    Guest, Server, patiently,
    program::{failed, output, piped, printed, program, text},
};
use std::{
    fs::{self, File},
    io::pipe,
    path::Path,
    process::{Command, Output, Stdio},
};

/// Commands that print something, each with a running server.
const PRINTING: [&[&str]; 13] = [
    &["calls"],
    &["calls", "--json"],
    &["ps"],
    &["plugins"],
    &["check"],
    &["user", "list"],
    &["token", "list"],
    &["config"],
    &["openapi"],
    &["completions", "bash"],
    &["reload"],
    &["--help"],
    &["--version"],
];

/// Runs a command whose stdout is `stdout`.
fn into(mut command: Command, stdout: impl Into<Stdio>) -> Output {
    let child = command.stdin(Stdio::null()).stdout(stdout).stderr(Stdio::piped()).spawn().expect("it starts");
    child.wait_with_output().expect("it ends")
}

fn full() -> File {
    File::options().write(true).open("/dev/full").expect("a device that is always full")
}

/// Returns a pipe without a reader.
fn closed() -> Stdio {
    let (reader, writer) = pipe().expect("a pipe");
    drop(reader);
    writer.into()
}

async fn server() -> Server {
    let builder = Server::builder().guest(Guest::component("hold"));
    builder.user("ada", &["*"]);
    builder.start().await
}

#[tokio::test]
async fn closed_pipe_ends_every_command_quietly() {
    let server = server().await;
    for command in PRINTING {
        let output = into(server.command(command), closed());
        assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(0), ""), "{command:?}");
    }
}

#[tokio::test]
async fn full_disk_fails_every_command() {
    let server = server().await;
    for command in PRINTING {
        let output = into(server.command(command), full());
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{command:?}: {said}");
        assert!(said.starts_with("distillery: cannot write to stdout: ") && said.lines().count() == 1, "{said}");
    }
}

#[tokio::test]
async fn status_of_a_command_outlives_its_reader() {
    let builder = Server::builder().file("plugins/bad/plugin.yaml", "nonsense: true");
    let server = builder.start().await;
    // No reader sees the error, and the status still reports it.
    assert_eq!(into(server.command(&["check"]), closed()).status.code(), Some(1));
}

#[tokio::test]
async fn errors_without_a_reader_do_not_panic() {
    let server = server().await;
    let mut command = server.command(&["cancel", "00000000-0000-7000-8000-000000000000"]);
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(full()).status().expect("it ends");
    assert_eq!(status.code(), Some(1));
}

#[tokio::test]
async fn token_that_was_not_shown_is_revoked() {
    let server = server().await;
    let tokens = || printed(&server.run(&["token", "list"])).lines().count();
    assert_eq!(tokens(), 1);
    for stdout in [full().into(), closed()] {
        let output = into(server.command(&["token", "add", "--user", "ada"]), stdout);
        assert_eq!(output.status.code(), Some(1));
        let said = text(&output.stderr);
        assert!(said.contains("was not shown, and is revoked"), "{said}");
        assert_eq!(tokens(), 1);
    }
    printed(&server.run(&["token", "add", "--user", "ada"]));
    assert_eq!(tokens(), 2);
}

#[tokio::test]
async fn detached_process_whose_id_was_not_shown_is_cancelled() {
    let server = server().await;
    for (stdout, code) in [(full().into(), 125), (closed(), 141)] {
        let output = into(server.command(&["call", "--detach", "hold"]), stdout);
        assert_eq!(output.status.code(), Some(code), "{}", text(&output.stderr));
    }
    let ended = server.log().lines_of("the ends", 2, |line| line.message() == "process ended").await;
    assert!(ended.iter().all(|line| line.field("outcome").starts_with("cancelled by the client")), "{ended:?}");
    assert_eq!(printed(&server.run(&["ps"])).lines().count(), 1);
}

#[tokio::test]
async fn text_from_outside_reaches_the_terminal_escaped() {
    let manifest = r#"
description: "\e[2J plugin"
calls:
  shown:
    access: public
    description: "red \e[31m, \x9b2J, \u202e back\nforged  line"
    params: [{name: slug, description: "x"}]
"#;
    let server = Server::builder()
        .plugin("shown", Guest::component("args"), manifest)
        .file("plugins/bad\x1b[2Jname/plugin.yaml", "x: 1")
        .file("plugins/worse/plugin.yaml", "\"\\e[31mkey\\nforged\": 1")
        .start()
        .await;
    for command in [&["calls"][..], &["calls", "--json"], &["plugins"], &["plugins", "--json"], &["check"], &["reload"]]
    {
        let output = server.run(command);
        for said in [text(&output.stdout), text(&output.stderr)] {
            let harmful = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
            assert!(!said.contains(harmful), "{command:?}: {said:?}");
            assert!(!said.lines().any(|line| line.starts_with("forged")), "{command:?}: {said}");
        }
    }
    let calls = printed(&server.run(&["calls"]));
    assert_eq!(calls, "shown <slug>  red \\u{1b}[31m, \\u{9b}2J, \\u{202e} back\\nforged  line\n");
    let listed: serde_json::Value = serde_json::from_str(&printed(&server.run(&["calls", "--json"]))).expect("JSON");
    assert_eq!(listed[0]["description"], "red \u{1b}[31m, \u{9b}2J, \u{202e} back\nforged  line");
}

#[tokio::test]
async fn arguments_after_the_file_or_call_belong_to_the_guest() {
    let guest = Guest::component("args");
    let server = Server::builder().guest(guest.clone()).start().await;
    let file = guest.file.to_str().expect("a path of text");
    for arguments in [
        &["-c", "x"][..],
        &["--help"],
        &["--version"],
        &["-h", "-V"],
        &["--config", "none.yaml"],
        &["--call", "y", "--json"],
        &["--", "a", "--"],
        &["a", "--", "-x"],
    ] {
        let expected = format!("args\n{}\n", arguments.join("\n"));
        let ran = piped(&mut server.command(&[&["run", file], arguments].concat()), "");
        assert_eq!(printed(&ran), expected, "run {arguments:?}");
        let called = piped(&mut server.command(&[&["call", "args"], arguments].concat()), "");
        assert_eq!(printed(&called), expected, "call {arguments:?}");
        let ran = piped(&mut server.command(&[&["run", "--", file], arguments].concat()), "");
        assert_eq!(printed(&ran), expected, "run -- {arguments:?}");
        let called = piped(&mut server.command(&[&["call", "--", "args"], arguments].concat()), "");
        assert_eq!(printed(&called), expected, "call -- {arguments:?}");
    }
}

/// Runs a command that reads only this configuration.
fn configured(config: &[u8]) -> Output {
    let here = tempfile::tempdir().expect("a directory");
    fs::write(here.path().join("distillery.yaml"), config).expect("a configuration");
    fs::create_dir(here.path().join("plugins")).expect("a directory for plugins");
    output(Command::new(program()).args(["may", "nobody", "call:x"]).current_dir(here.path()))
}

#[test]
fn configuration_without_settings_is_read_in_every_form() {
    for config in ["", "\u{feff}", "\u{feff}# only\n# comments\n", "# a\r\n\r\n# b\r\n", "\t\n", "# a", "---\n"] {
        let output = configured(config.as_bytes());
        assert!(text(&output.stdout).starts_with("no: "), "{config:?}: {}", text(&output.stderr));
    }
    let output = configured("\u{feff}auth:\r\n  anonymous: [\"call:x\"]\r\n".as_bytes());
    assert!(text(&output.stdout).starts_with("yes: "), "{}", text(&output.stderr));
}

#[test]
fn configuration_that_is_not_text_says_so() {
    let utf16: Vec<u8> = "\u{feff}http:\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    for (config, part) in [
        (&utf16[..], ":1: UTF-16 or UTF-32 text, or no text at all: save the file as UTF-8"),
        (&b"http:\n\tapi: true\n"[..], ":2:1: not YAML: a tab cannot indent: use spaces"),
        (&b"# \xff\n"[..], ":1: not UTF-8: save the file in this encoding"),
        (&b"# a\rhttp: nonsense\n"[..], "is not a section"),
    ] {
        let said = failed(&configured(config));
        assert!(said.contains(part) && said.lines().count() == 1, "{said}");
    }
}

#[tokio::test]
async fn build_that_ignores_signals_is_killed_with_the_server() {
    let build = "trap '' TERM; echo $$ > begun; mv begun started; while :; do sleep 1000; done";
    let manifest = format!("component: m.wasm\nbuild: \"{build}\"\n");
    let server = Server::builder().argument("--dev").file("plugins/slow/plugin.yaml", manifest).start().await;
    let started = server.plugins().join("slow/started");
    let number = patiently("the build", async {
        loop {
            match fs::read_to_string(&started) {
                Ok(number) => return number,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    })
    .await;
    server.terminate();
    assert_eq!(server.wait().await.code(), Some(0));
    assert!(!Path::new(&format!("/proc/{}/exe", number.trim())).exists(), "the build is still running");
}
