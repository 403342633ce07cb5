//! `distillery call` and `distillery attach`: run a call on a server, at a terminal or in a pipe.
//!
//! Input and output are unchanged bytes. stdin and stdout each have a thread, so that neither delays a signal.

use super::{
    output,
    peer::{Server, process_key},
    signals::Signals,
    status,
};
use anyhow::Context as _;
use bytes::Bytes;
use clap::Args;
use distillery_client::conversation::{self, Event, From, Listener, Speaker, Told, Wanted};
use distillery_config::Config;
use distillery_core::call::CancelReason;
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

/// The size of a read from stdin, and of a frame. Every server accepts this size unless its operator has lowered
/// `http.max_frame` further.
const READ: usize = 32 << 10;
/// The number of pieces of output that wait for the reader of stdout.
const WAITING: usize = 4;

#[derive(Args)]
#[command(after_help = status::HELP)]
pub struct Call {
    #[command(flatten)]
    server: Server,
    /// Prints each event as a line of JSON
    #[arg(long)]
    json: bool,
    /// Leaves the process running without a client, and prints its id: see `distillery attach`
    #[arg(long)]
    detach: bool,
    /// Does not read stdin: the call gets no input and no end of input
    #[arg(long, conflicts_with = "detach")]
    no_stdin: bool,
    /// The call and its parameters: all arguments after the name belong to the call
    #[arg(value_names = ["NAME", "PARAMS"], required = true, num_args = 1.., trailing_var_arg = true)]
    call: Vec<String>,
}

#[derive(Args)]
#[command(after_help = status::HELP)]
pub struct Attach {
    #[command(flatten)]
    server: Server,
    /// Prints each event as a line of JSON
    #[arg(long)]
    json: bool,
    /// Connects stdin to the process, and lets Ctrl-C cancel it; otherwise Ctrl-C leaves the process running
    #[arg(long, short)]
    interactive: bool,
    /// The id of the process, as `distillery call --detach` or `distillery ps` prints it. Its key, after the colon, can
    /// be given in $DISTILLERY_PROCESS_KEY instead, to hide it from other users of the machine
    id: String,
}

/// The mode of a conversation at the terminal.
struct Manner {
    json: bool,
    /// The source of the call's input.
    input: Input,
    /// Whether Ctrl-C cancels the call.
    cancels: bool,
    /// Whether the process is only started.
    detach: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Input {
    Stdin,
    /// Another client provides the input.
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
    // Blocked reads and writes must not delay the exit.
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
    // The protocol of lines has no stderr, and other protocols forward it only if the plugin asks for that.
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
                // If stderr is closed, further errors are dropped.
                errors.close();
                continue;
            }
            // Events are read only if they can be written: a slow reader of stdout slows the call down.
            event = async {
                output.room().await;
                errors.room().await;
                listener.next().await
            } => event?,
        };
        match event {
            // Output is left to clients that attach.
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
                    // A process without a known id and key could never be found. A failure to print them cancels the
                    // process.
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
        // After a signal the reader is not waited for.
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
    // The last words are already on the terminal.
    if let Some(message) = end.message.as_ref().filter(|_| !(stderr_seen && end.kind == "exited")) {
        output::error(message);
    }
    Ok(match (end.success, end.kind.as_str(), end.reason.as_deref()) {
        (true, ..) => 0,
        (false, "exited", _) => {
            // An exit status out of range must not become a success.
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

/// Prints a server message for people.
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

/// Formats data as text if it is valid UTF-8.
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

/// Sends stdin to the call, as fast as the server accepts it.
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

/// stdout or stderr, written by a thread, so that its reader can be slow.
struct Output {
    /// `None` once the stream has no reader.
    pieces: Option<mpsc::Sender<Piece>>,
    failed: CancellationToken,
    done: oneshot::Receiver<io::Result<()>>,
}

enum Piece {
    Bytes(Bytes),
    /// Answered when all earlier pieces are written.
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
                    // After a signal, the client does not wait for the answer.
                    Some(Piece::Mark(written)) => _ = written.send(()),
                    Some(Piece::Bytes(bytes)) => {
                        if let Err(error) = to.write_all(&bytes).and_then(|()| to.flush()) {
                            fails.cancel();
                            break Err(error);
                        }
                    }
                }
            };
            // After a second signal, the result is not needed.
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

    /// Waits until one more piece fits, or the stream has no reader.
    async fn room(&self) {
        if let Some(pieces) = &self.pieces {
            let _ = pieces.reserve().await;
        }
    }

    /// Queues a piece. Call after [`Self::room`].
    fn give(&self, bytes: Bytes) {
        if let Some(pieces) = &self.pieces
            && let Err(mpsc::error::TrySendError::Full(_)) = pieces.try_send(Piece::Bytes(bytes))
        {
            unreachable!("an event is only taken when there is room");
        }
    }

    /// Waits until all pieces are written, and returns whether they were.
    async fn written(&self) -> bool {
        let Some(pieces) = &self.pieces else { return false };
        let (mark, written) = oneshot::channel();
        pieces.send(Piece::Mark(mark)).await.is_ok() && written.await.is_ok()
    }

    /// Waits until all pieces are written.
    async fn finish(mut self) -> io::Result<()> {
        self.pieces = None;
        self.done.await.unwrap_or(Ok(()))
    }
}
