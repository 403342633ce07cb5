//! `echo [lines]`: echoes its input, in pieces as large as they arrive. It only looks for the ends of lines if it has
//! to count them.

use std::process::ExitCode;
use wasip2::{
    cli::{stdin::get_stdin, stdout::get_stdout},
    io::streams::{OutputStream, StreamError},
};

/// Largest read.
const PIECE: u64 = 64 * 1024;

fn main() -> ExitCode {
    let lines = match std::env::args().nth(1).map(|lines| lines.parse()) {
        None => None,
        Some(Ok(lines)) => Some(lines),
        Some(Err(_)) => {
            eprintln!("lines must be a number");
            return ExitCode::FAILURE;
        }
    };
    match echo(lines) {
        // The end of the input is a cancel, and a closed output has no reader: both end the call.
        Ok(()) | Err(StreamError::Closed) => ExitCode::SUCCESS,
        Err(StreamError::LastOperationFailed(why)) => {
            eprintln!("{}", why.to_debug_string());
            ExitCode::FAILURE
        }
    }
}

fn echo(mut lines: Option<usize>) -> Result<(), StreamError> {
    let (input, output) = (get_stdin(), get_stdout());
    while lines != Some(0) {
        let mut piece = input.blocking_read(PIECE)?;
        if let Some(left) = &mut lines {
            let (end, found) = end_of_lines(&piece, *left);
            piece.truncate(end);
            *left -= found;
        }
        send(&output, &piece)?;
    }
    output.blocking_flush()
}

/// Returns the end of the first `wanted` lines of `piece`, and their number.
fn end_of_lines(piece: &[u8], wanted: usize) -> (usize, usize) {
    let ends = piece.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1);
    let (found, last) = ends.take(wanted).fold((0, 0), |(found, _), end| (found + 1, end));
    (if found == wanted { last } else { piece.len() }, found)
}

/// Writes all of `bytes`, and waits for a slow reader.
fn send(output: &OutputStream, mut bytes: &[u8]) -> Result<(), StreamError> {
    while !bytes.is_empty() {
        let room = output.check_write()?;
        if room == 0 {
            output.subscribe().block();
            continue;
        }
        let (now, later) = bytes.split_at(bytes.len().min(room as usize));
        output.write(now)?;
        bytes = later;
    }
    output.flush()
}
