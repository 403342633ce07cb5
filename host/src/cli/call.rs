//! `distillery call` and `distillery attach`: a call of a server, at the terminal or in a pipe.
//!
//! Bytes go in and out as they are. stdin and stdout each have a thread, so that neither holds up a signal.

use super::{
    output,
    peer::{Server, process_key},
    signals::Signals,
    status,
};
use crate::{
    call::CancelReason,
    client::conversation::{self, Event, From, Listener, Speaker, Told, Wanted},
    config::Config,
};
use anyhow::Context as _;
use bytes::Bytes;
use clap::Args;
use serde_json::{Value, json};
use std::{
    future::poll_fn,
    io::{self, ErrorKind, IsTerminal, Read, Write},
    process::ExitCode,
    thread,
};
use tokio::{
    runtime::Builder,
    sync::{mpsc, oneshot},
};
use tokio_util::sync::CancellationToken;

/// What is read from stdin at a time, which becomes one frame: every server takes one of this size, unless its operator
/// has lowered `http.max_frame` to less.
const READ: usize = 32 << 10;
/// How many pieces wait for whoever reads stdout.
const WAITING: usize = 4;

#[derive(Args)]
#[command(after_help = status::HELP)]
pub struct Call {
    #[command(flatten)]
    server: Server,
    /// Prints everything that happens as a line of JSON
    #[arg(long)]
    json: bool,
    /// Lets the process go on without a client, and prints its id: see `distillery attach`
    #[arg(long)]
    detach: bool,
    /// Does not read stdin: the call gets no input, and does not find its end either
    #[arg(long, conflicts_with = "detach")]
    no_stdin: bool,
    /// The call, and its parameters: whatever stands behind the name
    #[arg(value_names = ["NAME", "PARAMS"], required = true, num_args = 1.., trailing_var_arg = true)]
    call: Vec<String>,
}

#[derive(Args)]
#[command(after_help = status::HELP)]
pub struct Attach {
    #[command(flatten)]
    server: Server,
    /// Prints everything that happens as a line of JSON
    #[arg(long)]
    json: bool,
    /// Gives stdin to the process, and lets Ctrl-C cancel it; otherwise Ctrl-C leaves it running
    #[arg(long, short)]
    interactive: bool,
    /// The process, as `distillery call --detach` or `distillery ps` names it. Its key, behind the colon, can come in
    /// $DISTILLERY_PROCESS_KEY instead, where other users of the machine do not see it
    id: String,
}

/// How a terminal is spoken to.
struct Manner {
    json: bool,
    /// Whether stdin is the call's.
    input: Input,
    /// Whether Ctrl-C cancels.
    cancels: bool,
    /// Only to be started.
    detach: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Input {
    Stdin,
    /// What the process gets is none of this command's business.
    Theirs,
}

pub fn call(config: &Config, call: Call) -> anyhow::Result<ExitCode> {
    let mut words = call.call.into_iter();
    let name = words.next().context("name a call")?;
    let wanted = Wanted::Call { name, params: words.collect(), detached: call.detach };
    let input = if call.detach || call.no_stdin { Input::Theirs } else { Input::Stdin };
    run(config, &call.server, &wanted, &Manner { json: call.json, input, cancels: true, detach: call.detach })
}

pub fn attach(config: &Config, attach: Attach) -> anyhow::Result<ExitCode> {
    let (id, key) = match attach.id.split_once(':') {
        Some((id, key)) => (id.to_owned(), Some(key.to_owned())),
        None => (attach.id, process_key()),
    };
    let input = if attach.interactive { Input::Stdin } else { Input::Theirs };
    let manner = Manner { json: attach.json, input, cancels: attach.interactive, detach: false };
    run(config, &attach.server, &Wanted::Attach { id, key }, &manner)
}

fn run(config: &Config, server: &Server, wanted: &Wanted, manner: &Manner) -> anyhow::Result<ExitCode> {
    let runtime = Builder::new_current_thread().enable_all().build().context("cannot start a runtime")?;
    let ended = runtime.block_on(async {
        let not_started = |error| (status::NOT_STARTED, error);
        let mut signals = Signals::listen().map_err(not_started)?;
        let peer = server.peer(config).map_err(not_started)?;
        let begun = tokio::select! {
            begun = conversation::begin(&peer, wanted, |what| output::error(what)) => begun.map_err(not_started)?,
            reason = poll_fn(|cx| signals.poll_next(cx)) => return Ok(of_signal(&reason)),
        };
        converse(begun, &mut signals, manner).await.map_err(|error| (status::LIMIT, error))
    });
    // Threads that read or write may hang for ever: they end with the program.
    runtime.shutdown_background();
    Ok(ExitCode::from(ended.unwrap_or_else(|(status, error)| {
        output::error(format_args!("{error:#}"));
        status
    })))
}

async fn converse(
    (speaker, mut listener): (Speaker, Listener),
    signals: &mut Signals,
    manner: &Manner,
) -> anyhow::Result<u8> {
    let canceller = speaker.canceller();
    feed(speaker, manner.input);
    let (mut output, mut errors) = (Output::start(io::stdout()), Output::start(io::stderr()));
    let mut cancelled: Option<CancelReason> = None;
    let mut times = 0;
    // The protocol of lines knows no stderr, and otherwise it comes only where the plugin says so.
    let mut stderr_seen = false;
    let end = loop {
        let event = tokio::select! {
            biased;
            reason = poll_fn(|cx| signals.poll_next(cx)) => {
                times += 1;
                if !manner.cancels || times > 2 {
                    return Ok(of_signal(&reason));
                }
                cancelled.get_or_insert(reason);
                canceller.cancel();
                continue;
            }
            () = output.failed.cancelled(), if !output.is_closed() => {
                if !manner.cancels {
                    return Ok(status::NO_READER);
                }
                output.close();
                canceller.cancel();
                continue;
            }
            () = errors.failed.cancelled(), if !errors.is_closed() => {
                // Who has closed it does not want to know.
                errors.close();
                continue;
            }
            // Nothing is read that could not be written: a slow reader of stdout slows down the call.
            event = async {
                output.room().await;
                errors.room().await;
                listener.next().await
            } => event?,
        };
        match event {
            // What it says is for who attaches to it.
            Event::Data(..) if manner.detach => {}
            Event::Data(From::Stderr, _, bytes) if !manner.json => {
                stderr_seen = true;
                errors.give(bytes);
            }
            Event::Data(from, offset, bytes) => {
                output.give(if manner.json { output::json_line(&data(from, offset, &bytes)).into() } else { bytes });
            }
            Event::Told(told, value) => {
                if manner.json {
                    output.give(output::json_line(&value).into());
                } else {
                    tell(&told);
                }
                if let (true, Told::Started { id, key }) = (manner.detach, told) {
                    if !manner.json {
                        let key = key.map(|key| format!(":{key}")).unwrap_or_default();
                        output.give(format!("{id}{key}\n").into());
                    }
                    // A process whose id and key were not shown could be found by nobody. The failure cancels it.
                    let written = tokio::select! {
                        written = output.written() => written,
                        reason = poll_fn(|cx| signals.poll_next(cx)) => {
                            cancelled.get_or_insert(reason);
                            canceller.cancel();
                            false
                        }
                    };
                    if written {
                        canceller.detach();
                    }
                }
            }
            Event::Ended(end, value) => {
                if manner.json {
                    output.give(output::json_line(&value).into());
                }
                break Some(end);
            }
            Event::Detached => break None,
        }
    };
    let written = tokio::select! {
        written = async { (output.finish().await, errors.finish().await).0 } => written,
        // Nobody wants to wait for whoever reads.
        _ = poll_fn(|cx| signals.poll_next(cx)) => Ok(()),
    };
    match written {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(status::NO_READER),
        Err(error) => {
            output::error(format_args!("cannot write to stdout: {error}"));
            return Ok(status::LIMIT);
        }
        Ok(()) => {}
    }
    let Some(end) = end else { return Ok(0) };
    // Its last words stand on the terminal already.
    if let Some(message) = end.message.as_ref().filter(|_| !(stderr_seen && end.kind == "exited")) {
        output::error(message);
    }
    Ok(match (end.success, end.kind.as_str(), end.reason.as_deref()) {
        (true, ..) => 0,
        (false, "exited", _) => {
            // A status that does not fit must not become a success.
            end.status.map_or(1, |status| u8::try_from(status).unwrap_or(u8::MAX)).max(1)
        }
        (false, "refused", _) => status::NOT_STARTED,
        (false, "trapped", _) if end.message.is_some_and(|it| it.contains("limit of")) => status::LIMIT,
        (false, "trapped", _) => status::TRAP,
        (false, _, Some("client")) => cancelled.as_ref().map_or(status::INTERRUPTED, of_signal),
        (false, _, Some("shutdown")) => status::TERMINATED,
        (false, _, Some("time limit" | "cpu limit")) => status::TIME,
        (false, ..) => status::LIMIT,
    })
}

fn of_signal(reason: &CancelReason) -> u8 {
    match reason {
        CancelReason::Shutdown => status::TERMINATED,
        _ => status::INTERRUPTED,
    }
}

/// What people are told on the way.
fn tell(told: &Told) {
    match told {
        Told::Queued { position } if io::stderr().is_terminal() => {
            output::error(format_args!("waits for a place, number {position} in the queue"));
        }
        Told::Lost { stream, from, to } => {
            output::error(format_args!("{} bytes of {stream} are not kept any more", to.saturating_sub(*from)));
        }
        _ => {}
    }
}

/// Text where it is text.
fn data(from: From, offset: u64, bytes: &[u8]) -> Value {
    let kind = match from {
        From::Stdout => "stdout",
        From::Stderr => "stderr",
    };
    match std::str::from_utf8(bytes) {
        Ok(text) => json!({"type": kind, "offset": offset, "text": text}),
        Err(_) => {
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            json!({"type": kind, "offset": offset, "hex": hex})
        }
    }
}

/// Gives the call what comes from stdin, as fast as it is taken.
fn feed(mut speaker: Speaker, input: Input) {
    if input == Input::Theirs {
        return;
    }
    let (pieces, mut waiting) = mpsc::channel::<Bytes>(1);
    thread::spawn(move || read(&pieces));
    tokio::spawn(async move {
        while let Some(piece) = waiting.recv().await {
            speaker.give(piece).await;
        }
        speaker.end().await;
    });
}

fn read(pieces: &mpsc::Sender<Bytes>) {
    let mut buffer = vec![0; READ];
    loop {
        match io::stdin().lock().read(&mut buffer) {
            Ok(0) => return,
            Ok(read) => {
                if pieces.blocking_send(Bytes::copy_from_slice(&buffer[..read])).is_err() {
                    return;
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => {
                output::error(format_args!("cannot read stdin: {error}"));
                return;
            }
        }
    }
}

/// stdout or stderr, written by a thread: its reader can take its time.
struct Output {
    /// `None` once nothing reads it any more.
    pieces: Option<mpsc::Sender<Piece>>,
    failed: CancellationToken,
    done: oneshot::Receiver<io::Result<()>>,
}

enum Piece {
    Bytes(Bytes),
    /// Answered when everything before it is written.
    Mark(oneshot::Sender<()>),
}

impl Output {
    fn start(mut to: impl Write + Send + 'static) -> Self {
        let (pieces, mut waiting) = mpsc::channel::<Piece>(WAITING);
        let (done, wait) = oneshot::channel();
        let failed = CancellationToken::new();
        let fails = failed.clone();
        thread::spawn(move || {
            let written = loop {
                match waiting.blocking_recv() {
                    None => break Ok(()),
                    // A client that has a signal does not wait for it any more.
                    Some(Piece::Mark(written)) => _ = written.send(()),
                    Some(Piece::Bytes(bytes)) => {
                        if let Err(error) = to.write_all(&bytes).and_then(|()| to.flush()) {
                            fails.cancel();
                            break Err(error);
                        }
                    }
                }
            };
            // Nobody waits for it any more after a second signal.
            let _ = done.send(written);
        });
        Self { pieces: Some(pieces), failed, done: wait }
    }

    fn is_closed(&self) -> bool {
        self.pieces.is_none()
    }

    fn close(&mut self) {
        self.pieces = None;
    }

    /// Returns when one more piece can be taken, or nobody reads any more.
    async fn room(&self) {
        if let Some(pieces) = &self.pieces {
            let _ = pieces.reserve().await;
        }
    }

    /// Takes a piece. There is room for it, or nobody reads it.
    fn give(&self, bytes: Bytes) {
        if let Some(pieces) = &self.pieces
            && let Err(mpsc::error::TrySendError::Full(_)) = pieces.try_send(Piece::Bytes(bytes))
        {
            unreachable!("an event is only taken when there is room");
        }
    }

    /// Waits until all that was given is written, and says whether it is.
    async fn written(&self) -> bool {
        let Some(pieces) = &self.pieces else { return false };
        let (mark, written) = oneshot::channel();
        pieces.send(Piece::Mark(mark)).await.is_ok() && written.await.is_ok()
    }

    /// Waits until all of it is written.
    async fn finish(mut self) -> io::Result<()> {
        self.pieces = None;
        self.done.await.unwrap_or(Ok(()))
    }
}
