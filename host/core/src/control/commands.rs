//! The usage of granted commands by one process.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// The sum over all commands of a process that have ended. They count apart from the guest, which has limits of its own.
#[derive(Debug, Default)]
pub struct CommandUsage {
    count: AtomicU64,
    time_us: AtomicU64,
    cpu_us: AtomicU64,
    memory_peak: AtomicU64,
}

impl CommandUsage {
    /// Adds a command that has ended.
    pub fn add(&self, time: Duration, cpu: Duration, memory: u64) {
        self.count.fetch_add(1, Relaxed);
        self.time_us.fetch_add(time.as_micros() as u64, Relaxed);
        self.cpu_us.fetch_add(cpu.as_micros() as u64, Relaxed);
        self.memory_peak.fetch_max(memory, Relaxed);
    }

    /// Returns the number of commands.
    pub fn count(&self) -> u64 {
        self.count.load(Relaxed)
    }

    /// Returns the time that they ran, also side by side.
    pub fn time(&self) -> Duration {
        Duration::from_micros(self.time_us.load(Relaxed))
    }

    /// Returns the processor time of all their processes.
    pub fn cpu(&self) -> Duration {
        Duration::from_micros(self.cpu_us.load(Relaxed))
    }

    /// Returns the peak memory in bytes of the largest of their processes.
    pub fn memory_peak(&self) -> u64 {
        self.memory_peak.load(Relaxed)
    }
}
