//! `instance_log SLUG [LINES]`: prints the last lines of the log of an instance, and follows it until it is cancelled.
//! It also follows a log that is truncated or replaced.
//!
//! Containers write that log, so that it is not trusted: symbolic links in place of the log or its directory are not
//! followed, as they could lead to the secrets of another instance.

mod bindings {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "call",
        with: { "wasi:io/poll@0.2.0": wasip2::io::poll },
    });
}

use bindings::distillery::call::cancellation;
use std::{
    io::{self, Write},
    process::ExitCode,
};
use wasip2::{
    clocks::monotonic_clock::subscribe_duration,
    filesystem::{
        preopens::get_directories,
        types::{Descriptor, DescriptorFlags, DescriptorType, ErrorCode, MetadataHashValue, OpenFlags, PathFlags},
    },
    io::poll::poll,
};

const DIRECTORY: &str = "log";
const FILE: &str = "instance.log";
/// Interval of the checks for more.
const LOOK: u64 = 250_000_000;
/// Bytes of one read.
const PIECE: u64 = 64 << 10;
/// Bytes at the end that are searched for the last lines.
const END: u64 = 1 << 20;

/// The log that is followed.
struct Log {
    file: Descriptor,
    identity: (u64, u64),
    /// Bytes that were sent.
    sent: u64,
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let slug = arguments.next().unwrap_or_default();
    let lines = arguments.next().and_then(|lines| lines.parse().ok()).unwrap_or(100);
    match follow(&slug, lines) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

fn follow(slug: &str, lines: usize) -> Result<(), String> {
    let Some((mount, _)) = get_directories().into_iter().next() else {
        return Err("there is no directory of instances here".to_owned());
    };
    let mut log = open(&mount, slug)?;
    if let Some(log) = &mut log {
        log.sent = begin_of_last(&log.file, lines).map_err(unreadable)?;
    }
    loop {
        // Sends the rest of the old log before a newer one is opened, so that no line is lost.
        if let Some(log) = &mut log {
            send_rest(log)?;
        }
        if cancelled_within(LOOK) {
            return Ok(());
        }
        let now = open(&mount, slug)?;
        let is_same = |log: &Log| now.as_ref().is_some_and(|now| now.identity == log.identity);
        if now.is_some() && !log.as_ref().is_some_and(is_same) {
            if let Some(old) = &mut log {
                send_rest(old)?;
            }
            log = now;
        }
    }
}

/// Opens the current log, if there is one.
fn open(mount: &Descriptor, slug: &str) -> Result<Option<Log>, String> {
    let directory =
        |at: &Descriptor, path: &str, flags| at.open_at(flags, path, OpenFlags::DIRECTORY, DescriptorFlags::READ);
    // Only the instance itself can be a link, which the calls on instances make.
    let instance = directory(mount, slug, PathFlags::SYMLINK_FOLLOW).map_err(|error| match error {
        ErrorCode::NoEntry => format!("there is no instance {slug}"),
        error => unreadable(error),
    })?;
    let opened = directory(&instance, DIRECTORY, PathFlags::empty())
        .and_then(|log| log.open_at(PathFlags::empty(), FILE, OpenFlags::empty(), DescriptorFlags::READ));
    let file = match opened {
        Ok(file) => file,
        // The log can be in the middle of its replacement.
        Err(ErrorCode::NoEntry) => return Ok(None),
        Err(error) => return Err(unreadable(error)),
    };
    if file.get_type().map_err(unreadable)? != DescriptorType::RegularFile {
        return Err(format!("the log of {slug} is not a file"));
    }
    let MetadataHashValue { lower, upper } = file.metadata_hash().map_err(unreadable)?;
    Ok(Some(Log { file, identity: (lower, upper), sent: 0 }))
}

/// Returns the offset of the last lines of a file.
fn begin_of_last(file: &Descriptor, lines: usize) -> Result<u64, ErrorCode> {
    let size = file.stat()?.size;
    let begin = size.saturating_sub(END);
    let mut end = Vec::new();
    while begin + (end.len() as u64) < size {
        let (piece, is_end) = file.read(PIECE.min(size - begin - end.len() as u64), begin + end.len() as u64)?;
        end.extend_from_slice(&piece);
        if is_end || piece.is_empty() {
            break;
        }
    }
    // A newline at the very end does not start another line.
    let last = end.len().saturating_sub(usize::from(end.ends_with(b"\n")));
    let mut starts = end[..last].iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1);
    let at = match lines {
        0 => end.len(),
        lines => starts.nth(lines - 1).unwrap_or(0),
    };
    Ok(begin + at as u64)
}

/// Sends new content, or all content if the file was truncated.
fn send_rest(log: &mut Log) -> Result<(), String> {
    if log.file.stat().map_err(unreadable)?.size < log.sent {
        log.sent = 0;
    }
    loop {
        let (piece, is_end) = log.file.read(PIECE, log.sent).map_err(unreadable)?;
        log.sent += piece.len() as u64;
        let mut stdout = io::stdout();
        if stdout.write_all(&piece).and_then(|()| stdout.flush()).is_err() || cancellation::poll().is_some() {
            // The client is gone; the next check ends the loop.
            return Ok(());
        }
        if is_end || piece.is_empty() {
            return Ok(());
        }
    }
}

/// Waits for the clock and for a cancel at the same time.
fn cancelled_within(time: u64) -> bool {
    poll(&[&subscribe_duration(time), &cancellation::subscribe()]);
    cancellation::poll().is_some()
}

fn unreadable(error: ErrorCode) -> String {
    match error {
        ErrorCode::Loop => "the log cannot be read: it is a link, which is not followed".to_owned(),
        error => format!("the log cannot be read: {}", error.name()),
    }
}
