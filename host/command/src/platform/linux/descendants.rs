//! Everything that a command has started: its process group, and the processes that left the group.
//!
//! The supervisor is a subreaper: a process that loses its parent becomes a child of the supervisor. So a process that
//! left its group or session is found as a child at the latest when the processes above it are dead.

use super::cgroup;
use rustix::{
    io::Errno,
    param::clock_ticks_per_second,
    process::{Pid, Signal, WaitOptions, getpid, kill_process, kill_process_group, wait, waitpid},
};
use std::{fs, io, path::Path, process::Child, thread, time::Duration};
use wait4::{ResUse, Wait4};

/// The time between two looks for processes that still live. Killing takes longer than this only for large ones.
const LOOK: Duration = Duration::from_millis(1);

/// Kills the command with the process group of `leader` and everything that it started, and waits until all are gone.
/// Returns the end of the leader, which must not have been waited for.
pub fn end_all(leader: Child, group: Option<&Path>) -> io::Result<ResUse> {
    if let Some(group) = group {
        cgroup::kill(group);
    }
    // All processes of the group at once: none of them can start another one meanwhile.
    _ = kill_process_group(Pid::from_child(&leader), Signal::KILL);
    let ended = leader.wait4()?;
    loop {
        // Unlike `waitpid`, for children of all process groups.
        match wait(WaitOptions::NOHANG) {
            Ok(Some(_)) | Err(Errno::INTR) => {}
            Ok(None) => {
                for child in children() {
                    _ = kill_process(child, Signal::KILL);
                }
                thread::sleep(LOOK);
            }
            // There are no children any more.
            Err(_) => return Ok(ended),
        }
    }
}

/// Waits for the ended processes that lost their parent, except `leader`.
pub fn reap_orphans(leader: Pid) {
    for child in children().into_iter().filter(|child| *child != leader) {
        _ = waitpid(Some(child), WaitOptions::NOHANG);
    }
}

/// Returns the processor time of all processes that this one has waited for, directly or through others. The kernel tells
/// it in hundredths of a second.
pub fn cpu() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after = stat.rsplit_once(')').map_or("", |(_, after)| after);
    let ticks: u64 = after.split_whitespace().skip(13).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 1000 / clock_ticks_per_second().max(1))
}

/// Returns the children of this process.
fn children() -> Vec<Pid> {
    let own = getpid();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?));
    pids.filter(|pid| parent(*pid) == Some(own)).collect()
}

fn parent(pid: Pid) -> Option<Pid> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    // The name of the program, in parentheses, can contain anything.
    let (_, after) = stat.rsplit_once(')')?;
    Pid::from_raw(after.split_whitespace().nth(1)?.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn child_is_found_by_its_parent() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = Pid::from_child(&child);
        assert!(children().contains(&pid));
        assert_eq!(parent(pid), Some(getpid()));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!children().contains(&pid));
    }
}
