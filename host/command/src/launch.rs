//! Starts a command below a supervisor, and waits for both on a thread of their own.

use super::{
    Command,
    message::{Final, Job, Report, Status},
    platform::{self, Supervisor},
    running::{Running, State},
    slots::{Full, Slot},
    stream::{Stdin, Stdout},
};
use distillery_core::{command::BadArgument, control::Control};
use rustix::process::{Pid, Signal, kill_process_group};
use std::{
    io::{self, BufRead, BufReader},
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::PathBuf,
    sync::Arc,
    thread,
    time::Instant,
};
use tokio::sync::oneshot;

/// The reason if a supervisor ends without one.
const GONE: &str = "its supervisor ended";

/// A started command with its streams.
#[derive(Debug)]
pub struct Begun {
    pub running: Running,
    pub stdin: Stdin,
    pub stdout: Stdout,
    pub stderr: Stdout,
}

/// The reason why a command was not started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Argument(#[from] BadArgument),
    #[error("{0}")]
    Busy(String),
    #[error("{name} cannot be run: {why}")]
    Failed { name: String, why: String },
}

/// Starts `command` with these parameters for the process of `control`.
pub async fn start(
    command: &Arc<Command>,
    given: &[(String, String)],
    control: &Arc<Control>,
) -> Result<Begun, StartError> {
    let arguments = command.line.fill(given)?;
    // A command that starts after the cancel is a part of the call's cleanup, and is not told to stop.
    let told_already = control.reason().is_some();
    let slot = command.slots.take(&command.plugin, &command.name, command.concurrent).map_err(|full| {
        StartError::Busy(match full {
            Full::Command => format!("{} runs as often as it may at once: try again later", command.name),
            Full::Server => "the server runs as many commands as it may at once: try again later".to_owned(),
        })
    })?;
    let failed = |why: String| StartError::Failed { name: command.name.clone(), why };
    let begun = begin(command, arguments, control, slot, command.shown(given));
    let (mut begun, started) = begun.map_err(|error| failed(error.to_string()))?;
    match started.await {
        Ok(Ok(())) => {
            if !told_already {
                begun.running.stop_with(control);
            }
            Ok(begun)
        }
        Ok(Err(why)) => Err(failed(why)),
        Err(_) => Err(failed(GONE.to_owned())),
    }
}

type Started = oneshot::Receiver<Result<(), String>>;

fn begin(
    command: &Arc<Command>,
    arguments: Vec<String>,
    control: &Arc<Control>,
    slot: Slot,
    shown: String,
) -> io::Result<(Begun, Started)> {
    let (stdin, input) = io::pipe()?;
    let (output, stdout) = io::pipe()?;
    let (errors, stderr) = io::pipe()?;
    let (ours, theirs) = UnixStream::pair()?;
    let state = Arc::new(State::new(command.clone(), ours.try_clone()?));
    let begun = Begun {
        stdin: Stdin::new(input.into())?,
        stdout: Stdout::new(output.into(), state.clone())?,
        stderr: Stdout::new(errors.into(), state.clone())?,
        running: Running::new(state.clone()),
    };
    let (tell, started) = oneshot::channel();
    let attendant = Attendant { state, control: control.clone(), shown, begun: Instant::now(), pid: None, _slot: slot };
    let streams = [stdin.into(), stdout.into(), stderr.into()];
    thread::Builder::new()
        .name("command".into())
        .spawn(move || attendant.attend(&ours, theirs, arguments, streams, tell))?;
    Ok((begun, started))
}

/// The thread that waits for a supervisor.
struct Attendant {
    state: Arc<State>,
    control: Arc<Control>,
    /// The parameters, for the log.
    shown: String,
    begun: Instant,
    /// The process group of the command.
    pid: Option<Pid>,
    /// Held until the supervisor is gone.
    _slot: Slot,
}

impl Attendant {
    fn attend(
        mut self,
        ours: &UnixStream,
        theirs: UnixStream,
        arguments: Vec<String>,
        streams: [OwnedFd; 3],
        tell: oneshot::Sender<Result<(), String>>,
    ) {
        let mut tell = Some(tell);
        // The receiver is gone if the guest was killed; then the socket is closed too.
        let mut answer = |answer| _ = tell.take().map(|tell| tell.send(answer));
        let done = self.supervise(ours, theirs, arguments, streams, &mut answer);
        let ended = match done {
            Ok(Some(ended)) => ended,
            Ok(None) => return,
            Err(error) => {
                answer(Err(error.to_string()));
                let Some(leader) = self.pid else { return };
                tracing::warn!(process = %self.control.id, command = self.state.command.name, %error, "supervisor failed");
                _ = kill_process_group(leader, Signal::KILL);
                Final { status: Status::Signalled(9), timed_out: false, cpu: Default::default(), memory: 0 }
            }
        };
        self.end(ended);
    }

    /// Runs the supervisor to its end. Returns `None` if the command was not started.
    fn supervise(
        &mut self,
        ours: &UnixStream,
        theirs: UnixStream,
        arguments: Vec<String>,
        streams: [OwnedFd; 3],
        answer: &mut impl FnMut(Result<(), String>),
    ) -> io::Result<Option<Final>> {
        let supervisor = Supervisor::start(theirs)?;
        let reports = platform::send(&self.job(arguments, supervisor.cgroup()), ours, streams);
        let ended = reports.and_then(|()| self.reports(ours, answer));
        // A supervisor that has not reported the end must not wait for more.
        self.state.kill();
        supervisor.wait()?;
        ended
    }

    fn job(&self, arguments: Vec<String>, cgroup: Option<PathBuf>) -> Job {
        let command = &self.state.command;
        Job {
            program: command.program.clone(),
            name: command.line.program().to_owned(),
            arguments,
            env: command.env.iter().map(|(name, value)| (name.clone(), value.reveal().to_owned())).collect(),
            directory: command.directory.clone(),
            timeout: command.timeout,
            limits: command.limits,
            paths: command.paths.clone(),
            cgroup,
        }
    }

    /// Reads the reports of the supervisor.
    fn reports(&mut self, ours: &UnixStream, answer: &mut impl FnMut(Result<(), String>)) -> io::Result<Option<Final>> {
        for line in BufReader::new(ours).lines() {
            match serde_json::from_str(&line?)? {
                Report::Started(pid) => {
                    self.pid = Pid::from_raw(pid);
                    let (command, params) = (&self.state.command.name, &self.shown);
                    tracing::info!(process = %self.control.id, command, params, pid, "command started");
                    answer(Ok(()));
                }
                Report::Failed(why) => {
                    tracing::info!(process = %self.control.id, command = self.state.command.name, why, "command not started");
                    answer(Err(why));
                    return Ok(None);
                }
                Report::Ended(ended) => return Ok(Some(ended)),
            }
        }
        Err(io::Error::new(io::ErrorKind::UnexpectedEof, GONE))
    }

    /// Records the end: in the log, in the usage of the process, and for the guest.
    fn end(&self, Final { status, timed_out, cpu, memory }: Final) {
        let time = self.begun.elapsed();
        self.control.commands.add(time, cpu, memory);
        let ended = self.state.end(status, timed_out);
        let (exit, signal) = match ended.status {
            Status::Exited(status) => (Some(status), None),
            Status::Signalled(signal) => (None, Some(signal)),
        };
        tracing::info!(
            process = %self.control.id,
            command = self.state.command.name,
            params = self.shown,
            status = exit,
            signal,
            bound = ended.bound.map(|bound| bound.name()),
            ms = time.as_millis() as u64,
            cpu_ms = cpu.as_millis() as u64,
            memory,
            bytes_out = self.state.written(),
            "command ended"
        );
    }
}
