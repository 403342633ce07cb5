//! The number of processes that this machine supports, its limiting factor, and the split of file descriptors.

use crate::platform;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fmt;

/// The default maximum of planned processes.
const DEFAULT: u32 = 10_000;
/// The memory mappings of one process: two of its stack, four of a linear memory with an initial image.
const MAPPINGS: u64 = 6;
/// The mappings reserved for the server itself: libraries, threads, code, allocations.
const OWN_MAPPINGS: u64 = 2_500;
/// The address space of one process: its linear memory with guards, tables and a stack.
const ADDRESSES: u64 = (4 << 30) + (256 << 20);
/// The address space available to processes, if the kernel has as much as on x86-64.
const USABLE_ADDRESSES: u64 = 96 << 40;
/// The address space on x86-64: 47 bits.
const ADDRESS_SPACE: u64 = 128 << 40;
/// The part of a smaller address space that is available: the program lies at two thirds of it, and the memories of all
/// processes need one piece.
const SMALL_PART: u64 = 3;
/// The descriptors reserved for the server itself: the database, the log, plugins, listeners.
const OWN_FILES: u64 = 256;
/// The fraction of the other descriptors for guests' files and requests. The rest is for sockets.
const GUEST_PART: u64 = 4;

/// The number of concurrent processes, and its limiting factor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capacity {
    pub processes: u32,
    /// The number of descriptors for sockets; each process with a client needs one.
    pub sockets: u64,
    /// The number of descriptors for all guests together.
    pub guest_files: u64,
    /// The limit that lowered the wanted number.
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

/// The relevant limits of the kernel.
#[derive(Clone, Copy, Debug)]
struct Kernel {
    mappings: u64,
    /// The limit of this process.
    addresses: u64,
    /// What the kernel has for any process.
    address_space: u64,
    files: u64,
}

impl Capacity {
    /// Reads the kernel's limits. Raises the soft limit of open files as far as allowed.
    pub fn find(wanted: Option<u32>) -> Self {
        Self::within(wanted, Kernel::read())
    }

    /// Returns a capacity for this many processes, regardless of the kernel.
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
                kernel.addresses / ADDRESSES,
                "the address space of this process",
                "raise its limit (ulimit -v), 4.25 GiB for each process",
            ),
            (
                kernel.usable_addresses() / ADDRESSES,
                "the address space of this kernel",
                "use a kernel with longer addresses, such as CONFIG_ARM64_VA_BITS_48",
            ),
            (
                sockets,
                "the limit of open files",
                "raise it (ulimit -n, or LimitNOFILE= of the service), four for each three processes",
            ),
        ];
        let (most, by, raise) = bounds.into_iter().min_by_key(|(most, ..)| *most).expect("four bounds");
        if most >= u64::from(wanted) {
            return Self { processes: wanted, sockets, guest_files, lowered: None };
        }
        let lowered = Some(Lowered { wanted, by, raise });
        Self { processes: (most as u32).max(1), sockets, guest_files, lowered }
    }
}

impl Kernel {
    fn usable_addresses(&self) -> u64 {
        if self.address_space < ADDRESS_SPACE { self.address_space / SMALL_PART } else { USABLE_ADDRESSES }
    }

    fn read() -> Self {
        let Rlimit { mut current, maximum } = getrlimit(Resource::Nofile);
        if current != maximum {
            let number = |limit: Option<u64>| limit.unwrap_or(u64::MAX);
            let raised = platform::limits_of_open_files(maximum)
                .filter(|files| number(*files) > number(current))
                .find(|files| setrlimit(Resource::Nofile, Rlimit { current: *files, maximum }).is_ok());
            current = raised.unwrap_or(current);
        }
        let addresses = getrlimit(Resource::As).current.unwrap_or(u64::MAX);
        let address_space = platform::address_space().unwrap_or(ADDRESS_SPACE);
        Self { mappings: platform::most_mappings(), addresses, address_space, files: current.unwrap_or(u64::MAX) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOMY: Kernel =
        Kernel { mappings: 65_530, addresses: u64::MAX, address_space: ADDRESS_SPACE, files: 1 << 20 };

    #[test]
    fn kernel_defaults_support_ten_thousand_processes() {
        let capacity = Capacity::within(None, ROOMY);
        assert_eq!((capacity.processes, capacity.lowered), (10_000, None));
    }

    #[test]
    fn guests_get_a_quarter_of_the_descriptors() {
        let capacity = Capacity::within(Some(1000), Kernel { files: 4096, ..ROOMY });
        assert_eq!((capacity.guest_files, capacity.sockets), (960, 2880));
    }

    #[test]
    fn limiting_kernel_setting_is_named() {
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
        let short_addresses = Kernel { address_space: 1 << 39, ..ROOMY };
        let capacity = Capacity::within(None, short_addresses);
        assert_eq!((capacity.processes, capacity.lowered.unwrap().by), (40, "the address space of this kernel"));
    }
}
