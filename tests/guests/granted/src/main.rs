//! Granted commands for a WASI 0.2 component: `granted ACTION NAME [PARAM=VALUE...]`.
//!
//! `run` gives the command its stdin and copies both outputs; `leave` reads nothing and waits for the cancel; `drop` drops
//! the command and goes on; `term` sends SIGTERM once the command writes something.

mod bindings {
    wit_bindgen::generate!({
        path: "../../../wit",
        world: "call-with-commands",
        with: {
            "wasi:io/error@0.2.0": wasip2::io::error,
            "wasi:io/poll@0.2.0": wasip2::io::poll,
            "wasi:io/streams@0.2.0": wasip2::io::streams,
        },
    });
}

use bindings::distillery::call::{
    cancellation,
    commands::{Running, Signal, start},
};
use std::io::{Write, stderr, stdout};
use wasip2::{
    cli::stdin::get_stdin,
    io::{
        poll::poll,
        streams::{InputStream, OutputStream, StreamError},
    },
};

/// The largest piece that is copied at once.
const PIECE: u64 = 4096;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let action = arguments.next().unwrap_or_default();
    let name = arguments.next().unwrap_or_default();
    let params: Vec<_> = arguments
        .filter_map(|it| it.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned())))
        .collect();
    let running = match start(&name, &params) {
        Ok(running) => running,
        Err(error) => {
            println!("{error:?}");
            return;
        }
    };
    match action.as_str() {
        "run" => run(running, Some(get_stdin())),
        "leave" => {
            println!("started");
            cancellation::subscribe().block();
            running.command.subscribe().block();
            println!("{:?}", running.command.poll());
        }
        "drop" => {
            println!("started");
            drop(running);
            println!("dropped");
            cancellation::subscribe().block();
        }
        "term" => {
            running.stdout.subscribe().block();
            running.command.signal(Signal::Terminate);
            run(running, None);
        }
        other => println!("no action {other:?}"),
    }
}

/// Copies all streams until the command and its outputs have ended. Without `input` its stdin ends at once.
fn run(running: Running, mut input: Option<InputStream>) {
    let Running { command, stdin, stdout: output, stderr: errors } = running;
    let mut stdin = input.is_some().then_some(stdin);
    let (mut output, mut errors) = (Some(output), Some(errors));
    while output.is_some() || errors.is_some() || command.poll().is_none() {
        let readable = [&output, &errors].into_iter().flatten().map(InputStream::subscribe);
        let mut ready: Vec<_> = readable.collect();
        match (&input, &stdin) {
            // Input is read only if the command can take it: so a client that sends much waits.
            (Some(input), Some(stdin)) if stdin.check_write().is_ok_and(|permit| permit > 0) => {
                ready.push(input.subscribe());
            }
            (Some(_), Some(stdin)) => ready.push(stdin.subscribe()),
            _ => {}
        }
        if output.is_none() && errors.is_none() {
            ready.push(command.subscribe());
        }
        poll(&ready.iter().collect::<Vec<_>>());
        drop(ready);
        copy(&mut output, &mut stdout());
        copy(&mut errors, &mut stderr());
        if !feed(&input, &stdin) {
            (input, stdin) = (None, None);
        }
    }
    println!("{:?}", command.poll().expect("it has ended"));
}

/// Copies what is there; `from` becomes `None` at its end.
fn copy(from: &mut Option<InputStream>, to: &mut dyn Write) {
    match from.as_ref().map(|it| it.read(PIECE)) {
        Some(Ok(bytes)) => to.write_all(&bytes).and_then(|()| to.flush()).expect("the client reads"),
        Some(Err(_)) => *from = None,
        None => {}
    }
}

/// Copies what is there to the command. Returns whether there can be more.
fn feed(input: &Option<InputStream>, stdin: &Option<OutputStream>) -> bool {
    let (Some(input), Some(stdin)) = (input, stdin) else { return false };
    let fed = stdin.check_write().and_then(|permit| match permit {
        0 => Ok(()),
        permit => stdin.write(&input.read(permit.min(PIECE))?),
    });
    !matches!(fed, Err(StreamError::Closed | StreamError::LastOperationFailed(_)))
}
