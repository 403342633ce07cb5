//! The output of every command to its user: all of stdout and stderr except the bytes of a call.
//!
//! This module never panics. A reader that goes away ends the output but not the work, and the exit status is still
//! that of the work. A stdout that cannot be written makes the command fail. All text is made harmless for terminals
//! here, because it can come from servers, plugins and files.

use distillery_core::harmless::{Entry, Json};
use parking_lot::Mutex;
use serde_json::Value;
use std::{
    fmt::Display,
    io::{self, ErrorKind, Stdout, Write},
    process::ExitCode,
};

/// The exit status for wrong arguments or a wrong configuration.
pub const WRONG: u8 = 2;

/// A stream, and its first failure.
struct Output<W> {
    to: W,
    failed: Option<io::Error>,
}

impl<W: Write> Output<W> {
    /// Writes all bytes immediately, unless the stream has failed before.
    fn put(&mut self, bytes: &[u8]) {
        if self.failed.is_none() {
            self.failed = self.to.write_all(bytes).and_then(|()| self.to.flush()).err();
        }
    }

    /// Returns the reason why a command must fail. A closed reader is no reason.
    fn failure(&mut self) -> Option<io::Error> {
        self.failed.take().filter(|error| error.kind() != ErrorKind::BrokenPipe)
    }
}

static STDOUT: Mutex<Option<Output<Stdout>>> = Mutex::new(None);

fn put(bytes: &[u8]) {
    STDOUT.lock().get_or_insert_with(|| Output { to: io::stdout(), failed: None }).put(bytes);
}

/// Prints an entry: a line, with any further lines indented.
pub fn line(text: impl Display) {
    put(format!("{}\n", Entry(&text.to_string())).as_bytes());
}

/// Prints each line of `table` as an entry.
pub fn lines(table: &str) {
    table.lines().for_each(line);
}

/// Prints a JSON document in one line.
pub fn json(value: &Value) {
    put(json_line(value).as_bytes());
}

/// Formats a JSON document in one line.
pub fn json_line(value: &Value) -> String {
    format!("{}\n", Json(&value.to_string()))
}

/// Prints trusted text of the program verbatim.
pub fn whole(text: impl AsRef<[u8]>) {
    put(text.as_ref());
}

/// Prints text that cannot be shown again, and reports a failure to write it.
pub fn once(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout();
    writeln!(stdout, "{text}").and_then(|()| stdout.flush())
}

/// Prints a note on stderr. A failure is ignored.
pub fn note(text: impl Display) {
    let _ = io::stderr().write_all(format!("{}\n", Entry(&text.to_string())).as_bytes());
}

/// Prints an error on stderr.
pub fn error(text: impl Display) {
    note(format_args!("distillery: {text}"));
}

/// Returns the exit status of a command that ended with `code`.
pub fn finish(code: ExitCode) -> ExitCode {
    match STDOUT.lock().as_mut().and_then(Output::failure) {
        Some(failure) => {
            error(format_args!("cannot write to stdout: {failure}"));
            ExitCode::FAILURE
        }
        None => code,
    }
}

/// Prints a message of clap: help, the version, or an error in the arguments.
pub fn clap(said: &clap::Error) -> ExitCode {
    let printed = said.print().and_then(|()| io::stdout().flush());
    let code = ExitCode::from(u8::try_from(said.exit_code()).unwrap_or(WRONG));
    match printed {
        Err(failure) if !said.use_stderr() && failure.kind() != ErrorKind::BrokenPipe => {
            error(format_args!("cannot write to stdout: {failure}"));
            ExitCode::FAILURE
        }
        _ => code,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stream that accepts this many writes.
    struct Ends(usize, ErrorKind);

    impl Write for Ends {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 = self.0.checked_sub(1).ok_or(self.1)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn full_disk_is_a_failure_but_a_closed_pipe_is_not() {
        for (kind, fails) in [(ErrorKind::StorageFull, true), (ErrorKind::BrokenPipe, false)] {
            let mut output = Output { to: Ends(1, kind), failed: None };
            output.put(b"one");
            assert!(output.failed.is_none());
            output.put(b"two");
            output.put(b"three");
            assert_eq!(output.failure().is_some(), fails, "{kind:?}");
        }
    }
}
