//! `distillery run`: a call in the terminal, without a server.

use distillery_tests::{
    Guest,
    program::{piped, program, spawn, text},
};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    process::{Child, Command},
    sync::mpsc::{self, RecvTimeoutError},
    time::Duration,
};
use tempfile::TempDir;

fn run(guest: &Guest) -> Command {
    let mut command = Command::new(program());
    command.args(["run", guest.file.to_str().expect("a path of text")]);
    // The configuration of the environment must not affect the tests.
    command.current_dir(std::env::temp_dir());
    command
}

/// Returns a plugin directory of its own.
fn plugin(guest: &Guest, manifest: &str) -> (TempDir, String) {
    let directory = TempDir::with_prefix("distillery-test-").expect("a directory");
    let inside = directory.path().join("plugin");
    fs::create_dir(&inside).expect("a directory for the plugin");
    fs::copy(&guest.file, inside.join("guest.wasm")).expect("a copy of the guest");
    fs::write(inside.join("plugin.yaml"), manifest).expect("a manifest");
    let path = inside.to_str().expect("a path of text").to_owned();
    (directory, path)
}

#[test]
fn bytes_pass_in_and_out_unchanged() {
    let conversation = Guest::component("conversation");
    let output = piped(run(&conversation).arg("wörld ☃"), "one\n\nlast without an end");
    assert_eq!(text(&output.stdout), "hello wörld ☃\necho: one\necho: \necho: last without an end\n");
    assert_eq!((text(&output.stderr).as_str(), output.status.code()), ("", Some(0)));

    let output = piped(&mut run(&Guest::component("bad_utf8")), "");
    assert!(String::from_utf8(output.stdout).is_err());
    let output = piped(&mut run(&Guest::component("no_newline")), "");
    assert!(!output.stdout.ends_with(b"\n"), "{}", text(&output.stdout));
}

#[test]
fn pipe_of_any_length_passes_through() {
    let lines: String = (0..20_000).map(|number| format!("line {number} {}\n", "x".repeat(number % 200))).collect();
    let output = piped(run(&Guest::module("conversation")).arg("many"), lines.as_str());
    let echoed: String = lines.lines().map(|line| format!("echo: {line}\n")).collect();
    assert!(text(&output.stdout) == format!("hello many\n{echoed}"));
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn prompt_is_shown_before_the_answer_without_a_line_break() {
    let mut child = spawn(&mut run(&Guest::component("prompt")));
    let mut stdout = child.stdout.take().expect("stdout is piped");
    let mut prompt = [0; 6];
    stdout.read_exact(&mut prompt).expect("a prompt");
    assert_eq!(text(&prompt), "name? ");
    child.stdin.take().expect("stdin is piped").write_all(b"Ada\n").expect("it reads");
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).expect("text");
    assert_eq!(rest, "hello Ada\n");
    assert!(child.wait().expect("it ends").success());
}

#[test]
fn exit_status_and_stderr_are_those_of_the_guest() {
    let output = piped(run(&Guest::component("conversation")).arg("fail"), "");
    assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(3), "distillery: exit status 3\n"));
    let output = piped(&mut run(&Guest::component("stderr_words")), "");
    assert_eq!(output.status.code(), Some(7));
    assert!(text(&output.stderr).contains("no capacitor at hand"), "{}", text(&output.stderr));
    assert!(!text(&output.stderr).contains("distillery:"), "{}", text(&output.stderr));
}

#[test]
fn limits_and_traps_have_a_status_and_a_message() {
    for (guest, variable, value, status, sentence) in [
        ("sleep", "TIME", "200ms", 124, "time limit of 200ms reached"),
        ("spin", "CPU", "200ms", 124, "cpu limit of 200ms reached"),
        ("hoard", "MEMORY", "16MiB", 125, "memory limit of 16MiB reached"),
        ("flood", "OUTPUT", "1KiB", 125, "output limit of 1KiB reached"),
        ("panics", "TIME", "1h", 134, "trap: unreachable"),
    ] {
        let mut command = run(&Guest::component(guest));
        command.env(format!("DISTILLERY_LIMITS__{variable}"), value).env("DISTILLERY_CANCEL__GRACE", "0s");
        let output = piped(&mut command, "");
        assert_eq!(output.status.code(), Some(status), "{guest}");
        let last = text(&output.stderr).lines().last().unwrap_or_default().to_owned();
        assert!(last.starts_with(&format!("distillery: {sentence}")), "{guest}: {last}");
    }
}

#[test]
fn interrupt_cancels_and_a_second_one_forces() {
    let interrupt = |child: &Child| kill_process(Pid::from_child(child), Signal::INT).expect("it is running");
    let first_line = |child: &mut Child| {
        let mut stdout = BufReader::new(child.stdout.take().expect("stdout is piped"));
        let mut line = String::new();
        stdout.read_line(&mut line).expect("text");
        stdout
    };
    // Its stdin stays open: only the cancel ends the guest.
    let mut child = spawn(&mut run(&Guest::component("conversation")));
    let _stdout = first_line(&mut child);
    let _stdin = child.stdin.take();
    interrupt(&child);
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(
        (output.status.code(), text(&output.stderr).as_str()),
        (Some(130), "distillery: cancelled by the client\n")
    );

    // With this grace period the test would not see the end.
    let mut child = spawn(run(&Guest::component("spin")).env("DISTILLERY_CANCEL__GRACE", "60s"));
    let _stdout = first_line(&mut child);
    let pid = Pid::from_child(&child);
    // Signals of the same kind merge while pending: the second one is sent until it arrives, and not so often that the
    // program only handles signals.
    let (over, is_over) = mpsc::channel::<()>();
    let interrupts = std::thread::spawn(move || {
        while is_over.recv_timeout(Duration::from_millis(10)) == Err(RecvTimeoutError::Timeout) {
            kill_process(pid, Signal::INT).expect("the process has not been waited for");
        }
    });
    let mut said = String::new();
    child.stderr.take().expect("stderr is piped").read_to_string(&mut said).expect("text");
    drop(over);
    interrupts.join().expect("it was running");
    let status = child.wait().expect("it ends");
    assert_eq!(status.code(), Some(130));
    assert!(said.starts_with("distillery: cancelled by the client (forced after "), "{said}");
}

#[test]
fn run_ends_when_its_output_is_closed() {
    let mut child = spawn(&mut run(&Guest::component("flood")));
    let mut stdout = BufReader::new(child.stdout.take().expect("stdout is piped"));
    let mut line = String::new();
    stdout.read_line(&mut line).expect("text");
    assert_eq!(line, "line 0\n");
    drop(stdout);
    let output = child.wait_with_output().expect("it ends");
    assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(141), ""));
}

#[test]
fn parameters_and_calls_are_checked_as_on_the_server() {
    let conversation = Guest::component("conversation");
    let manifest = "calls:\n  one: {params: [{name: word, pattern: '[a-z]+'}]}\n  two: {}\n";
    let (_directory, path) = plugin(&conversation, manifest);
    let with = |arguments: &[&str]| {
        let mut command = Command::new(program());
        piped(command.arg("run").args(arguments).current_dir(std::env::temp_dir()), "")
    };
    let output = with(&["--call", "one", &path, "Word"]);
    assert_eq!(
        (output.status.code(), text(&output.stderr).as_str()),
        (Some(126), "distillery: parameter \"word\" does not match [a-z]+\n")
    );
    let output = with(&[&path, "word"]);
    assert_eq!(
        (output.status.code(), text(&output.stderr).as_str()),
        (Some(126), "distillery: it has no call \"plugin\": name one of one, two with --call\n")
    );
    let output = with(&["--call", "two", &path, "--any=thing"]);
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(0), "hello --any=thing\n"));
}
