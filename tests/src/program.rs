//! The program as it is run at a terminal or by a script: what goes into it, and what it prints.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

/// The program that cargo has built for the tests: it lies beside the directory of the test programs.
pub fn program() -> PathBuf {
    let test = std::env::current_exe().expect("a test has a path");
    let profile = test.ancestors().find(|it| it.ends_with("deps")).and_then(Path::parent);
    profile.expect("test programs are in deps/").join("distillery-under-test")
}

/// Starts it with pipes on all sides.
pub fn spawn(command: &mut Command) -> Child {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("it can be started")
}

/// Runs it with `input` piped in, to its end.
pub fn piped(command: &mut Command, input: impl Into<Vec<u8>>) -> Output {
    let input = input.into();
    let mut child = spawn(command);
    let mut stdin = child.stdin.take().expect("stdin is piped");
    // What does not read its input closes it.
    let writer = std::thread::spawn(move || _ = stdin.write_all(&input));
    let output = child.wait_with_output().expect("it can be waited for");
    writer.join().expect("the writer ends");
    output
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What it printed, where it succeeded.
#[track_caller]
pub fn printed(output: &Output) -> String {
    assert!(output.status.success(), "{:?}: {}", output.status, text(&output.stderr));
    text(&output.stdout)
}

/// The same without the newline at its end, as a script takes it.
#[track_caller]
pub fn worked(output: &Output) -> String {
    printed(output).trim_end().to_owned()
}

/// What it said was wrong, where it failed.
#[track_caller]
pub fn failed(output: &Output) -> String {
    assert!(!output.status.success(), "{}", text(&output.stdout));
    text(&output.stderr)
}
