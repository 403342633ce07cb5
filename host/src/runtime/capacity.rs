//! How many processes this machine carries, and what stops it from carrying more; and for whom the file descriptors are.

use rustix::process::{Resource, getrlimit, setrlimit};
use std::fmt;

/// The most processes that are planned for when the operator names no number.
const DEFAULT: u32 = 10_000;
/// Memory mappings of one process: two of its stack, four of a linear memory that starts from an image.
const MAPPINGS: u64 = 6;
/// Mappings kept for the server itself: libraries, threads, code, allocations.
const OWN_MAPPINGS: u64 = 2_500;
/// Address space of one process: its linear memory with guards, tables and a stack.
const ADDRESSES: u64 = (4 << 30) + (256 << 20);
/// What of the address space may go to processes.
const USABLE_ADDRESSES: u64 = 96 << 40;
/// Descriptors kept for the server itself: the database, the log, plugins, listeners.
const OWN_FILES: u64 = 256;
/// The part of the others that guests may hold, for files and requests. The rest is for sockets.
const GUEST_PART: u64 = 4;

/// How many processes run at once, and why not more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capacity {
    pub processes: u32,
    /// How many descriptors there are for sockets, one of which each process with a client needs.
    pub sockets: u64,
    /// How many descriptors guests may hold together.
    pub guest_files: u64,
    /// What lowered the number that was wanted.
    pub lowered: Option<Lowered>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lowered {
    pub wanted: u32,
    pub by: &'static str,
    pub raise: &'static str,
}

impl fmt::Display for Lowered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "fewer processes than the {} wanted fit: {} is too low; {}", self.wanted, self.by, self.raise)
    }
}

/// The kernel's limits that matter here.
#[derive(Clone, Copy, Debug)]
struct Kernel {
    mappings: u64,
    addresses: u64,
    files: u64,
}

impl Capacity {
    /// Reads the kernel's limits, raising the soft limit of open files as far as it may be raised.
    pub fn find(wanted: Option<u32>) -> Self {
        Self::within(wanted, Kernel::read())
    }

    /// For so many processes, whatever the kernel says.
    pub fn of(processes: u32) -> Self {
        Self { processes, sockets: processes.into(), guest_files: 1024, lowered: None }
    }

    fn within(wanted: Option<u32>, kernel: Kernel) -> Self {
        let wanted = wanted.unwrap_or(DEFAULT).max(1);
        let files = kernel.files.saturating_sub(OWN_FILES);
        let guest_files = files / GUEST_PART;
        let sockets = files - guest_files;
        let bounds = [
            (
                kernel.mappings.saturating_sub(OWN_MAPPINGS) / MAPPINGS,
                "vm.max_map_count",
                "raise it with sysctl, six for each process",
            ),
            (
                kernel.addresses.min(USABLE_ADDRESSES) / ADDRESSES,
                "the address space of this process",
                "raise its limit (ulimit -v), 4.25 GiB for each process",
            ),
            (
                sockets,
                "the limit of open files",
                "raise it (ulimit -n, or LimitNOFILE= of the service), four for each three processes",
            ),
        ];
        let (most, by, raise) = bounds.into_iter().min_by_key(|(most, ..)| *most).expect("three bounds");
        if most >= u64::from(wanted) {
            return Self { processes: wanted, sockets, guest_files, lowered: None };
        }
        let lowered = Some(Lowered { wanted, by, raise });
        Self { processes: (most as u32).max(1), sockets, guest_files, lowered }
    }
}

impl Kernel {
    fn read() -> Self {
        let mappings = std::fs::read_to_string("/proc/sys/vm/max_map_count")
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .unwrap_or(u64::MAX);
        let mut files = getrlimit(Resource::Nofile);
        let raised = rustix::process::Rlimit { current: files.maximum, maximum: files.maximum };
        if files.current != files.maximum && setrlimit(Resource::Nofile, raised).is_ok() {
            files = raised;
        }
        let addresses = getrlimit(Resource::As).current.unwrap_or(u64::MAX);
        Self { mappings, addresses, files: files.current.unwrap_or(u64::MAX) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOMY: Kernel = Kernel { mappings: 65_530, addresses: u64::MAX, files: 1 << 20 };

    #[test]
    fn the_default_of_the_kernel_carries_ten_thousand() {
        let capacity = Capacity::within(None, ROOMY);
        assert_eq!((capacity.processes, capacity.lowered), (10_000, None));
    }

    #[test]
    fn guests_get_a_quarter_of_the_descriptors() {
        let capacity = Capacity::within(Some(1000), Kernel { files: 4096, ..ROOMY });
        assert_eq!((capacity.guest_files, capacity.sockets), (960, 2880));
    }

    #[test]
    fn what_is_too_low_is_named() {
        let few_files = Kernel { files: 1024, ..ROOMY };
        let capacity = Capacity::within(None, few_files);
        assert_eq!(capacity.processes, 576);
        assert_eq!(
            capacity.lowered.unwrap().to_string(),
            "fewer processes than the 10000 wanted fit: the limit of open files is too low; raise it (ulimit -n, or \
             LimitNOFILE= of the service), four for each three processes"
        );
        let capacity = Capacity::within(Some(50_000), ROOMY);
        assert_eq!((capacity.processes, capacity.lowered.unwrap().by), (10_505, "vm.max_map_count"));
    }
}
