//! `distillery run`: runs one call at the terminal, with the sandbox and the limits of the server, and without a
//! server.
//!
//! Input and output are unchanged bytes: the terminal, or the other end of a pipe, makes lines of them.

use super::{output, setup, signals::Signals, status};
use anyhow::{Context as _, anyhow, bail};
use clap::Args;
use distillery_config::{Config, Log};
use distillery_core::{
    auth::{Caller, Scope},
    call::{CancelReason, Outcome},
    control::Control,
    stream::{Output, Room},
    timer::poll_due,
};
use distillery_observe::telemetry;
use distillery_plugin::{Catalog, Plugin, Snapshot, source::Source};
use distillery_process::{
    Process,
    admission::{Admission, Bounds},
    compute::ComputeThreads,
    dispatch::{Admitted, Dispatcher, Request},
};
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

/// The size of a read from stdin.
const READ: usize = 64 << 10;

#[derive(Args)]
#[command(after_help = status::HELP)]
pub struct Arguments {
    /// The call to run, if the plugin has several [default: the one with the name of the plugin]
    #[arg(long, value_name = "NAME")]
    call: Option<String>,
    /// The directory of a plugin, or a single module, followed by the parameters of the call
    // One argument with many values, as in `distillery call`: no options of this command can follow the first value.
    #[arg(value_names = ["DIR|FILE", "PARAMS"], required = true, num_args = 1.., trailing_var_arg = true)]
    plugin: Vec<OsString>,
}

pub fn run(config: &Config, arguments: Arguments) -> anyhow::Result<ExitCode> {
    // The terminal belongs to the guest, so only errors of the host are shown.
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
    let loader = setup::loader_of_one(config)?;
    let mut words = arguments.plugin.into_iter();
    let plugin = words.next().context("name the directory of a plugin, or a module")?;
    let text =
        |word: OsString| word.into_string().map_err(|word| anyhow!("{word:?} is not UTF-8 text, as parameters are"));
    let params = words.map(text).collect::<Result<Vec<_>, _>>()?;
    let source = Source::at(Path::new(&plugin), &loader.bounds, &loader.interpreters)?;
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
        registry: None,
        metrics: Arc::default(),
        tracer: None,
    };
    // A user of this terminal is allowed to run every call.
    let caller = Caller { scopes: vec![Scope("*".into())], ..Caller::nobody() };
    match dispatcher.admit(&caller, Request { call, params: params.into() }) {
        Ok(Admitted::Now(process)) => Ok((process, dispatcher)),
        Ok(Admitted::Later(_)) => bail!("there is no free slot for the call"),
        Err(refusal) => bail!("{refusal}"),
    }
}

/// Returns the name of the call to run.
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

/// Serves the process until its end, and returns the exit status.
async fn converse(process: Process) -> anyhow::Result<u8> {
    let mut signals = Signals::listen()?;
    let control = process.control().clone();
    control.output.raw_output();
    control.stderr.give_whole();
    let ended = CancellationToken::new();
    let stdout = write_out(&control, ended.clone(), io::stdout(), |control| Some(&control.output));
    let stderr = write_out(&control, ended.clone(), io::stderr(), |control| control.stderr.whole());
    read_in(control.clone());

    let outcome = drive(process, &mut signals).await;
    ended.cancel();
    let written = tokio::select! {
        written = async { (stdout.await, stderr.await).0 } => written.unwrap_or(Ok(())),
        // After a signal the reader is not waited for.
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

/// Runs the process to its end. The first signal tells it to stop, and the next ends its grace period.
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

/// Prints the reason of a failure on stderr, and returns the exit status.
fn report(outcome: &Outcome) -> u8 {
    let status = match outcome {
        Outcome::Exited { status: 0, .. } => return 0,
        // An exit status out of range must not become a success.
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
        // The guest's last words are already on the terminal.
        Outcome::Exited { last_words: Some(_), .. } => None,
        outcome => outcome.failure(),
    };
    if let Some(failure) = failure {
        output::error(failure);
    }
    status
}

/// Writes the guest's output on a thread of its own, because the reader can be slow. A guest whose stdout has no reader
/// is told to stop.
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
            // The guest's last words must not block the guest.
            while !ended.is_cancelled() {
                handle.block_on(something_to_take(output, &ended));
                output.take();
            }
        }
        // After a second signal, the result is not needed.
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

/// Sends stdin to the guest, as fast as the guest reads. Uses a thread of its own, because a blocked read can only end
/// with the program.
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
