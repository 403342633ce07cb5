//! The program as a terminal or a script runs it: its input, and its output.
//!
//! A test that waits for a program blocks as a whole, and cannot give up by itself: a program that runs for too long is
//! killed.

use crate::{PATIENCE, deadline};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};
use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
    time::Duration,
};

/// Time limit of an external program, such as a compiler: shorter than that of a test, which would be given up first.
const TOOLS_PATIENCE: Duration = Duration::from_secs(10 * 60);

/// Returns the program that cargo has built for the tests: it is beside the directory of the test programs.
pub fn program() -> PathBuf {
    let test = std::env::current_exe().expect("a test has a path");
    let profile = test.ancestors().find(|it| it.ends_with("deps")).and_then(Path::parent);
    profile.expect("test programs are in deps/").join("distillery-under-test")
}

/// Starts the program with pipes on all sides.
pub fn spawn(command: &mut Command) -> Child {
    spawn_for(PATIENCE, command)
}

/// Runs the program with `input` piped in, to its end.
pub fn piped(command: &mut Command, input: impl Into<Vec<u8>>) -> Output {
    piped_for(PATIENCE, command, input.into())
}

/// Runs the program to its end without any input.
pub fn output(command: &mut Command) -> Output {
    piped_for(PATIENCE, command, Vec::new())
}

/// Runs a slow program to its end: a compiler, a linter, an external test suite.
pub fn output_of_tool(command: &mut Command) -> Output {
    piped_for(TOOLS_PATIENCE, command, Vec::new())
}

fn piped_for(patience: Duration, command: &mut Command, input: Vec<u8>) -> Output {
    let mut child = spawn_for(patience, command);
    let mut stdin = child.stdin.take().expect("stdin is piped");
    // A program that does not read its input closes it.
    let writer = thread::spawn(move || _ = stdin.write_all(&input));
    let output = child.wait_with_output().expect("it can be waited for");
    writer.join().expect("the writer ends");
    output
}

fn spawn_for(patience: Duration, command: &mut Command) -> Child {
    deadline::begin();
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap_or_else(|error| panic!("{command:?} cannot be started: {error}"));
    kill_after(patience, &child, format!("{command:?}"));
    child
}

/// Kills the program at its deadline, with a message, as its test only sees the kill.
fn kill_after(patience: Duration, child: &Child, name: String) {
    // Unlike a process id, this handle never refers to another process.
    let process = pidfd_open(Pid::from_child(child), PidfdFlags::empty()).expect("the process has not been waited for");
    let patience = Timespec::try_from(patience).expect("a time that a kernel knows");
    thread::spawn(move || {
        // The handle becomes readable once the process has ended.
        let mut ended = [PollFd::new(&process, PollFlags::IN)];
        let ended = loop {
            match poll(&mut ended, Some(&patience)) {
                Err(Errno::INTR) => {}
                other => break other.expect("a process can be waited for"),
            }
        };
        if ended == 0 {
            eprintln!("killed, as it ran for longer than {} s: {name}", patience.tv_sec);
            // The process can have ended at this moment.
            _ = pidfd_send_signal(&process, Signal::KILL);
        }
    });
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Returns the output of a program that succeeded.
#[track_caller]
pub fn printed(output: &Output) -> String {
    assert!(output.status.success(), "{:?}: {}", output.status, text(&output.stderr));
    text(&output.stdout)
}

/// Returns the same output without the newline at its end, as a script reads it.
#[track_caller]
pub fn worked(output: &Output) -> String {
    printed(output).trim_end().to_owned()
}

/// Returns the error message of a program that failed.
#[track_caller]
pub fn failed(output: &Output) -> String {
    assert!(!output.status.success(), "{}", text(&output.stdout));
    text(&output.stderr)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;

    #[test]
    fn program_beyond_its_deadline_is_killed() {
        let mut slow = Command::new("sleep");
        let output = piped_for(Duration::from_millis(50), slow.arg("1000"), Vec::new());
        assert_eq!(output.status.signal(), Some(Signal::KILL.as_raw()));
        let output = piped_for(PATIENCE, Command::new("cat").arg("-"), b"whole".to_vec());
        assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(0), "whole"));
    }
}
