//! Facts that the kernel knows about the machine and its processes.

use anyhow::{Context, Result};
use rustix::{
    process::{Resource, Rlimit, getrlimit, setrlimit},
    time::{ClockId, clock_gettime},
};
use std::{fs, time::Duration};

/// The machine on which the figures were measured.
#[derive(serde::Serialize, serde::Deserialize)]
pub struct Machine {
    pub cores: usize,
    pub cpu: String,
    pub kernel: String,
    pub memory_kib: u64,
    pub load_before: String,
}

impl Machine {
    pub fn look() -> Self {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        Self {
            cores: cores(),
            cpu: field(&cpuinfo, "model name").unwrap_or_else(|| "unknown".into()),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().into(),
            memory_kib: kib(&meminfo, "MemTotal").unwrap_or(0),
            load_before: fs::read_to_string("/proc/loadavg").unwrap_or_default().trim().into(),
        }
    }
}

pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, |it| it.get())
}

/// Raises the limit of open files to the maximum, for this process and its children.
pub fn raise_open_files() -> Result<()> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).context("cannot raise the limit of open files")
}

/// Returns the CPU time of all threads of this process.
pub fn own_cpu() -> Duration {
    clock(ClockId::ProcessCPUTime)
}

/// Returns the CPU time of the calling thread.
pub fn thread_cpu() -> Duration {
    clock(ClockId::ThreadCPUTime)
}

fn clock(id: ClockId) -> Duration {
    clock_gettime(id).try_into().unwrap_or_default()
}

/// Unit of the CPU times of other processes, whatever the kernel's own tick is.
const TICK: Duration = Duration::from_millis(10);

/// Returns the CPU time of a process and of its reaped children.
pub fn cpu_of(pid: u32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("the server is gone")?;
    // The name is in parentheses and can contain anything; the fields after it are numbers.
    let (_, fields) = stat.rsplit_once(')').context("/proc/PID/stat has no name")?;
    let ticks: u32 = fields.split_whitespace().skip(11).take(4).filter_map(|it| it.parse::<u32>().ok()).sum();
    Ok(ticks * TICK)
}

/// Resources that a process occupies.
#[derive(Clone, Copy, Debug, serde::Serialize, serde::Deserialize)]
pub struct Occupied {
    pub rss_kib: u64,
    pub mappings: usize,
    pub threads: u64,
    pub open_files: usize,
}

pub fn occupied(pid: u32) -> Result<Occupied> {
    let read = |file| fs::read_to_string(format!("/proc/{pid}/{file}")).context("the server is gone");
    let status = read("status")?;
    Ok(Occupied {
        rss_kib: kib(&status, "VmRSS").context("/proc/PID/status has no VmRSS")?,
        mappings: read("maps")?.lines().count(),
        threads: kib(&status, "Threads").unwrap_or(0),
        open_files: fs::read_dir(format!("/proc/{pid}/fd")).context("the server is gone")?.count(),
    })
}

/// Memory of a process.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// Resident: a page counts at each place where it is mapped.
    pub rss_kib: u64,
    /// Proportional: a page counts once, shared among the places where it is mapped.
    pub pss_kib: u64,
}

pub fn memory(pid: u32) -> Result<Memory> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).context("the server is gone")?;
    let of = |name| kib(&rollup, name).with_context(|| format!("/proc/PID/smaps_rollup has no {name}"));
    Ok(Memory { rss_kib: of("Rss:")?, pss_kib: of("Pss:")? })
}

fn field(text: &str, name: &str) -> Option<String> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn kib(text: &str, name: &str) -> Option<u64> {
    field(text, name)?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_process_can_be_measured() {
        let pid = std::process::id();
        let occupied = occupied(pid).unwrap();
        let memory = memory(pid).unwrap();
        assert!(memory.pss_kib > 0 && memory.rss_kib >= memory.pss_kib);
        assert!(occupied.rss_kib > 0 && occupied.mappings > 1 && occupied.threads > 0);
        let begun = cpu_of(pid).unwrap();
        while own_cpu() < Duration::from_millis(30) {}
        assert!(cpu_of(pid).unwrap() >= begun.max(Duration::from_millis(20)));
    }
}
