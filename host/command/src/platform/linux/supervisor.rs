//! The supervisor: a process of this program that runs one command.
//!
//! It has a session of its own, without a terminal, and gains no privileges. It gets a job from the server on its stdin,
//! a socket. When the socket closes it kills the command, so that nothing outlives a server that was killed.

use super::{
    cgroup, confine, descendants,
    transfer::{receive, report},
};
use crate::message::{Final, Job, Report, Status};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    process::{
        Pid, PidfdFlags, Resource, Rlimit, Signal, getpid, getrlimit, kill_process_group, pidfd_open,
        set_child_subreaper, setrlimit, setsid,
    },
    thread::set_no_new_privs,
};
use std::{
    io,
    io::Read,
    os::{
        fd::{AsFd, OwnedFd},
        unix::{
            net::UnixStream,
            process::{CommandExt, ExitStatusExt},
        },
    },
    process::{Child, Command, ExitCode},
    thread,
    time::{Duration, Instant},
};
use wait4::ResUse;

/// The time between SIGTERM and SIGKILL when a command has used up its time.
const AFTER_TERM: Duration = Duration::from_secs(2);
/// The time between two looks for ended processes that lost their parent.
const LOOK: Duration = Duration::from_secs(10);
/// The number of open files that a command starts with. Programs that need more raise it themselves.
const FILES: u64 = 1024;

/// Runs the supervisor.
pub fn work() -> ExitCode {
    match supervise() {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn supervise() -> io::Result<()> {
    // Descriptors that the server was started with, such as a listening socket, end here.
    close_fds::set_fds_cloexec(3, &[]);
    // Fails only if this process leads a session already.
    _ = setsid();
    set_no_new_privs(true)?;
    set_child_subreaper(Some(getpid()))?;
    let socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let (job, streams) = receive(&socket)?;
    let begun = Instant::now();
    let child = match spawn(&job, streams) {
        Ok(child) => child,
        Err(why) => return report(&Report::Failed(why), &socket),
    };
    let leader = Pid::from_child(&child);
    let watched = report(&Report::Started(leader.as_raw_nonzero().get()), &socket)
        .and_then(|()| watch(&socket, leader, begun + job.timeout));
    let ResUse { status, rusage } = descendants::end_all(child, job.cgroup.as_deref())?;
    let ended = Final {
        status: match status.signal() {
            Some(signal) => Status::Signalled(signal as u8),
            None => Status::Exited(status.code().unwrap_or_default() as u8),
        },
        timed_out: watched?,
        // The second one includes processes that the program did not wait for.
        cpu: (rusage.utime + rusage.stime).max(descendants::cpu()),
        memory: rusage.maxrss,
    };
    report(&Report::Ended(ended), &socket)
}

fn spawn(job: &Job, [stdin, stdout, stderr]: [OwnedFd; 3]) -> Result<Child, String> {
    let mut command = Command::new(&job.program);
    command
        .arg0(&job.name)
        .args(&job.arguments)
        .env_clear()
        .envs(job.env.iter().map(|(name, value)| (name, value)))
        .current_dir(&job.directory)
        .process_group(0)
        .stdin(stdin)
        .stdout(stdout)
        .stderr(stderr);
    limit(job).map_err(|error| format!("cannot set its limits: {error}"))?;
    let outside = job.cgroup.as_deref().and_then(|group| group.parent());
    if let Some(group) = &job.cgroup {
        cgroup::join(group).map_err(|error| format!("cannot use a control group: {error}"))?;
    }
    let paths = job.paths.clone();
    // Landlock binds the thread that asks for it, and its children: the supervisor itself must stay free.
    let confined = thread::spawn(move || {
        if let Some(paths) = paths {
            confine::confine(&paths)?;
        }
        command.spawn().map_err(|error| error.to_string())
    });
    let child = confined.join().map_err(|_| "its supervisor panicked".to_owned())?;
    if let Some(outside) = outside {
        cgroup::join(outside).map_err(|error| format!("cannot leave its control group: {error}"))?;
    }
    child
}

/// Sets the kernel's limits, which the command inherits.
fn limit(job: &Job) -> io::Result<()> {
    let limits = &job.limits;
    for (resource, most) in [
        (Resource::Core, Some(0)),
        (Resource::Data, limits.memory),
        (Resource::Cpu, limits.cpu),
        (Resource::Nofile, limits.files),
    ] {
        let Some(most) = most else { continue };
        let maximum = getrlimit(resource).maximum.map_or(most, |maximum| maximum.min(most));
        setrlimit(resource, Rlimit { current: Some(maximum), maximum: Some(maximum) })?;
    }
    // The server raises its own limit to the maximum, where old programs with `select` fail.
    let files = getrlimit(Resource::Nofile);
    let current = files.current.map_or(FILES, |current| current.min(FILES));
    setrlimit(Resource::Nofile, Rlimit { current: Some(current), ..files })?;
    Ok(())
}

/// Waits until the command ends, its time is over, or the server wants its end. Returns whether its time was over.
fn watch(socket: &UnixStream, leader: Pid, deadline: Instant) -> io::Result<bool> {
    let ended = pidfd_open(leader, PidfdFlags::empty())?;
    let mut kill_at = None;
    loop {
        let due = kill_at.unwrap_or(deadline);
        let wait = due.saturating_duration_since(Instant::now()).min(LOOK);
        let wait = Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: wait.subsec_nanos().into() };
        let mut ready = [PollFd::new(socket, PollFlags::IN), PollFd::new(&ended, PollFlags::IN)];
        match poll(&mut ready, Some(&wait)) {
            Ok(0) => descendants::reap_orphans(leader),
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let [asked, is_over] = ready.map(|ready| !ready.revents().is_empty());
        if is_over || (asked && !obey(socket, leader)) {
            return Ok(kill_at.is_some());
        }
        if Instant::now() < due {
            continue;
        }
        if kill_at.is_some() {
            return Ok(true);
        }
        _ = kill_process_group(leader, Signal::TERM);
        kill_at = Some(Instant::now() + AFTER_TERM);
    }
}

/// Sends the signals that the server asks for. Returns whether the command continues.
fn obey(mut socket: &UnixStream, leader: Pid) -> bool {
    let mut orders = [0; 64];
    match socket.read(&mut orders) {
        Ok(0) => false,
        Ok(count) => {
            for signal in orders[..count].iter().filter_map(|order| Signal::from_named_raw((*order).into())) {
                _ = kill_process_group(leader, signal);
            }
            true
        }
        Err(error) => error.kind() == io::ErrorKind::Interrupted,
    }
}
