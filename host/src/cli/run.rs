//! `distillery run`: one call at the terminal, with the sandbox and the limits of the server, and without a server.
//!
//! Bytes go in and out as they are: lines and prompts are what a terminal, or whatever is piped, makes of them.

use super::{output, signals::Signals, status};
use crate::{
    alarm::poll_due,
    auth::{Caller, Scope},
    call::{CancelReason, Outcome},
    config::{Config, Log},
    control::Control,
    dispatch::{Admitted, Dispatcher},
    plugin::{Catalog, Plugin, Snapshot, source::Source},
    process::{
        Process,
        admission::{Admission, Bounds},
        compute::ComputeThreads,
    },
    stream::{Output, Room},
    telemetry,
    wire::CallMessage,
};
use anyhow::{Context as _, anyhow, bail};
use clap::Args;
use std::{
    collections::BTreeMap,
    ffi::OsString,
    future::poll_fn,
    io::{self, ErrorKind, Read, Write},
    path::Path,
    pin::pin,
    process::ExitCode,
    sync::Arc,
    task::{Context, Poll, Waker},
    thread,
    time::{Duration, Instant},
};
use tokio::{
    runtime::{Builder, Handle},
    sync::oneshot,
};
use tokio_util::sync::CancellationToken;

/// What is read from stdin, or from what is piped into it, at a time.
const READ: usize = 64 << 10;

#[derive(Args)]
#[command(after_help = status::HELP)]
pub struct Arguments {
    /// The call to run, where the plugin has several [default: the one named like the plugin]
    #[arg(long, value_name = "NAME")]
    call: Option<String>,
    /// The directory of a plugin, or a module alone, and the parameters of the call: whatever stands behind it
    // One argument of many values, as with `distillery call`: behind the first one nothing is an option of this command.
    #[arg(value_names = ["DIR|FILE", "PARAMS"], required = true, num_args = 1.., trailing_var_arg = true)]
    plugin: Vec<OsString>,
}

pub fn run(config: &Config, arguments: Arguments) -> anyhow::Result<ExitCode> {
    // The terminal belongs to the guest: what the host does is only of interest where it fails.
    let _telemetry = telemetry::start(&Log { level: "error".into(), ..config.log.clone() })?;
    let runtime = Builder::new_current_thread().enable_all().build().context("cannot start a runtime")?;
    let (process, dispatcher) = match start(config, arguments) {
        Ok(started) => started,
        Err(error) => {
            output::error(format_args!("{error:#}"));
            return Ok(ExitCode::from(status::NOT_STARTED));
        }
    };
    let code = runtime.block_on(converse(process));
    drop(dispatcher);
    code.map(ExitCode::from)
}

fn start(config: &Config, arguments: Arguments) -> anyhow::Result<(Process, Dispatcher)> {
    let loader = super::loader_of_one(config)?;
    let mut words = arguments.plugin.into_iter();
    let plugin = words.next().context("name the directory of a plugin, or a module")?;
    let text =
        |word: OsString| word.into_string().map_err(|word| anyhow!("{word:?} is not UTF-8 text, as parameters are"));
    let params = words.map(text).collect::<Result<_, _>>()?;
    let source = Source::at(Path::new(&plugin), loader.max_module)?;
    let plugin = Arc::new(loader.make(&source)?);
    let call = choose(&plugin, arguments.call)?;
    let found = BTreeMap::from([(plugin.name.clone(), Ok(plugin))]);
    let dispatcher = Dispatcher {
        catalog: Arc::new(Catalog::new(Snapshot::default().next(&found))),
        admission: Admission::new(Bounds { processes: 1, per_caller: None, queue: 0, queue_time: Duration::ZERO }),
        compute: Arc::new(ComputeThreads::start(1).context("cannot start the thread that guests compute on")?),
        grace: config.cancel.grace,
        cleanup_time: config.cancel.cleanup_time,
        history: None,
        shelf: None,
        metrics: Arc::default(),
        tracer: None,
    };
    // Who may start a program at this terminal may run every call of it.
    let caller = Caller { scopes: vec![Scope("*".into())], ..Caller::nobody() };
    match dispatcher.admit(&caller, CallMessage { call, params }) {
        Ok(Admitted::Now(process)) => Ok((process, dispatcher)),
        Ok(Admitted::Later(_)) => bail!("there is no place for the call"),
        Err(refusal) => bail!("{refusal}"),
    }
}

/// The name of the call that is meant.
fn choose(plugin: &Plugin, named: Option<String>) -> anyhow::Result<String> {
    let calls = &plugin.manifest.calls;
    let only = || calls.keys().next().filter(|_| calls.len() == 1).map(ToString::to_string);
    let chosen = named.or_else(only).unwrap_or_else(|| plugin.name.clone());
    if calls.contains_key(chosen.as_str()) {
        return Ok(chosen);
    }
    let all: Vec<_> = calls.keys().map(|call| call.as_str()).collect();
    bail!("it has no call {chosen:?}: name one of {} with --call", all.join(", "))
}

/// Talks to the process until it has ended, and gives the exit status.
async fn converse(process: Process) -> anyhow::Result<u8> {
    let mut signals = Signals::listen()?;
    let control = process.control().clone();
    control.output.be_plain();
    control.stderr.give_whole();
    let ended = CancellationToken::new();
    let stdout = write_out(&control, ended.clone(), io::stdout(), |control| Some(&control.output));
    let stderr = write_out(&control, ended.clone(), io::stderr(), |control| control.stderr.whole());
    read_in(control.clone());

    let outcome = drive(process, &mut signals).await;
    ended.cancel();
    let written = tokio::select! {
        written = async { (stdout.await, stderr.await).0 } => written.unwrap_or(Ok(())),
        // Nobody wants to wait for whoever reads.
        _ = poll_fn(|cx| signals.poll_next(cx)) => Ok(()),
    };
    Ok(match written {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => status::NO_READER,
        Err(error) => {
            output::error(format_args!("cannot write to stdout: {error}"));
            status::LIMIT
        }
        Ok(()) => report(&outcome),
    })
}

/// Runs the process to its end. The first signal tells it to stop, and the next ends its grace.
async fn drive(mut process: Process, signals: &mut Signals) -> Outcome {
    let mut timer = pin!(tokio::time::sleep(Duration::ZERO));
    poll_fn(move |cx| {
        while let Poll::Ready(reason) = signals.poll_next(cx) {
            if process.control().cancelled().is_some() {
                process.control().force();
            }
            process.control().cancel(reason);
        }
        loop {
            if let Poll::Ready(outcome) = process.poll(Instant::now(), cx) {
                return Poll::Ready(outcome);
            }
            let Some(due) = process.deadline() else { return Poll::Pending };
            if poll_due(timer.as_mut(), due, cx).is_pending() {
                return Poll::Pending;
            }
        }
    })
    .await
}

/// Says on stderr why it failed, and gives the exit status that means the same.
fn report(outcome: &Outcome) -> u8 {
    let status = match outcome {
        Outcome::Exited { status: 0, .. } => return 0,
        // A status that does not fit must not become a success.
        Outcome::Exited { status, .. } => u8::try_from(*status).unwrap_or(u8::MAX),
        Outcome::Trapped { limit: None, .. } => status::TRAP,
        Outcome::Trapped { limit: Some(_), .. } | Outcome::HostFailed { .. } => status::LIMIT,
        Outcome::Cancelled { reason, .. } => match reason {
            CancelReason::Client => status::INTERRUPTED,
            CancelReason::Shutdown => status::TERMINATED,
            CancelReason::TimeLimit(_) | CancelReason::CpuLimit(_) => status::TIME,
            CancelReason::Disconnected => status::NO_READER,
            _ => status::LIMIT,
        },
    };
    let failure = match outcome {
        // The guest's last words stand on the terminal already.
        Outcome::Exited { last_words: Some(_), .. } => None,
        outcome => outcome.failure(),
    };
    if let Some(failure) = failure {
        output::error(failure);
    }
    status
}

/// Writes what the guest wrote, on a thread of its own: whoever reads it may take its time. A guest whose stdout nobody
/// reads any more is told to stop.
fn write_out(
    control: &Arc<Control>,
    ended: CancellationToken,
    mut to: impl Write + Send + 'static,
    stream: fn(&Control) -> Option<&Output>,
) -> oneshot::Receiver<io::Result<()>> {
    let (done, wait) = oneshot::channel();
    let (control, handle) = (control.clone(), Handle::current());
    thread::spawn(move || {
        let Some(output) = stream(&control) else { return };
        let written = loop {
            let last = ended.is_cancelled();
            handle.block_on(something_to_take(output, &ended));
            let bytes = output.take();
            if bytes.is_empty() && last {
                break Ok(());
            }
            if let Err(error) = to.write_all(&bytes).and_then(|()| to.flush()) {
                break Err(error);
            }
        };
        if written.is_err() {
            control.cancel(CancelReason::Disconnected);
            // Its last words must not block it.
            while !ended.is_cancelled() {
                handle.block_on(something_to_take(output, &ended));
                output.take();
            }
        }
        // Nobody waits for it any more after a second signal.
        let _ = done.send(written);
    });
    wait
}

async fn something_to_take(output: &Output, ended: &CancellationToken) {
    tokio::select! {
        () = poll_fn(|cx| output.poll_lines(cx)) => {}
        () = ended.cancelled() => {}
    }
}

/// Gives the guest what comes from stdin, as fast as it reads, on a thread of its own: it ends with the program, in
/// whatever read it hangs.
fn read_in(control: Arc<Control>) {
    let handle = Handle::current();
    thread::spawn(move || {
        let mut buffer = vec![0; READ];
        loop {
            handle.block_on(poll_fn(|cx| match control.input.room(Instant::now(), cx) {
                Room::Now => Poll::Ready(()),
                Room::Later(_) | Room::Full(_) => Poll::Pending,
            }));
            match io::stdin().lock().read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => {
                    let running = Context::from_waker(Waker::noop());
                    control.input.push(&buffer[..read], Instant::now(), &running);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    output::error(format_args!("cannot read stdin: {error}"));
                    break;
                }
            }
        }
        control.input.finish();
    });
}
