//! The names that guests can import. Tests compare them with the linkers.

/// The functions of preview 1, and whether each one reads or writes the memory of its module.
pub const PREVIEW1: [(&str, bool); 46] = [
    ("args_get", true),
    ("args_sizes_get", true),
    ("clock_res_get", true),
    ("clock_time_get", true),
    ("environ_get", true),
    ("environ_sizes_get", true),
    ("fd_advise", false),
    ("fd_allocate", false),
    ("fd_close", false),
    ("fd_datasync", false),
    ("fd_fdstat_get", true),
    ("fd_fdstat_set_flags", false),
    ("fd_fdstat_set_rights", false),
    ("fd_filestat_get", true),
    ("fd_filestat_set_size", false),
    ("fd_filestat_set_times", false),
    ("fd_pread", true),
    ("fd_prestat_dir_name", true),
    ("fd_prestat_get", true),
    ("fd_pwrite", true),
    ("fd_read", true),
    ("fd_readdir", true),
    ("fd_renumber", false),
    ("fd_seek", true),
    ("fd_sync", false),
    ("fd_tell", true),
    ("fd_write", true),
    ("path_create_directory", true),
    ("path_filestat_get", true),
    ("path_filestat_set_times", true),
    ("path_link", true),
    ("path_open", true),
    ("path_readlink", true),
    ("path_remove_directory", true),
    ("path_rename", true),
    ("path_symlink", true),
    ("path_unlink_file", true),
    ("poll_oneoff", true),
    ("proc_exit", false),
    ("proc_raise", false),
    ("random_get", true),
    ("sched_yield", false),
    ("sock_accept", true),
    ("sock_recv", true),
    ("sock_send", true),
    ("sock_shutdown", false),
];

/// The modules of preview 1, in its two versions. The older one has no `sock_accept`.
pub const PREVIEW1_MODULES: [&str; 2] = ["wasi_snapshot_preview1", "wasi_unstable"];

/// The functions of the server for preview 1.
pub const OWN: [(&str, bool); 12] = [
    ("cancelled", false),
    ("command_bound", false),
    ("command_close", false),
    ("command_drop", false),
    ("command_error", true),
    ("command_poll", false),
    ("command_read", true),
    ("command_signal", false),
    ("command_start", true),
    ("command_status", false),
    ("command_write", true),
    ("set_value", true),
];
pub const OWN_MODULE: &str = "distillery_call";

/// The interfaces of WASI 0.2.
pub const WASI_2: [&str; 27] = [
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stderr",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stderr",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:clocks/monotonic-clock",
    "wasi:clocks/wall-clock",
    "wasi:filesystem/preopens",
    "wasi:filesystem/types",
    "wasi:http/outgoing-handler",
    "wasi:http/types",
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
    "wasi:random/random",
    "wasi:sockets/instance-network",
    "wasi:sockets/ip-name-lookup",
    "wasi:sockets/network",
    "wasi:sockets/tcp",
    "wasi:sockets/udp",
];

/// More interfaces of WASI 0.2, which only create sockets.
pub const WASI_2_SOCKETS: [&str; 2] = ["wasi:sockets/tcp-create-socket", "wasi:sockets/udp-create-socket"];

/// The interfaces of WASI 0.3.
pub const WASI_3: [&str; 21] = [
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stderr",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stderr",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:clocks/monotonic-clock",
    "wasi:clocks/system-clock",
    "wasi:filesystem/preopens",
    "wasi:filesystem/types",
    "wasi:http/client",
    "wasi:http/types",
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
    "wasi:random/random",
    "wasi:sockets/ip-name-lookup",
    "wasi:sockets/types",
];

/// The interfaces of `distillery:call` 0.1.
pub const OWN_INTERFACES: [&str; 6] = [
    "distillery:call/cancellation",
    "distillery:call/cancellation-async",
    "distillery:call/commands",
    "distillery:call/commands-async",
    "distillery:call/outcome",
    "distillery:call/systems",
];

/// Returns whether preview 1, or the server, has this function for modules.
pub fn has_function(module: &str, name: &str) -> bool {
    uses_memory(module, name).is_some()
}

/// Returns whether a known function uses the memory of its module; `None` if it is unknown.
pub fn uses_memory(module: &str, name: &str) -> Option<bool> {
    let functions: &[(&str, bool)] = match module {
        OWN_MODULE => &OWN,
        "wasi_unstable" if name == "sock_accept" => return None,
        module if PREVIEW1_MODULES.contains(&module) => &PREVIEW1,
        _ => return None,
    };
    functions.iter().find(|(known, _)| *known == name).map(|(_, memory)| *memory)
}

/// Returns whether the server has an interface of this name and version for components.
pub fn has_interface(name: &str) -> bool {
    let (interface, version) = name.split_once('@').unwrap_or((name, ""));
    if version.contains('-') {
        return false;
    }
    if version.starts_with("0.2.") {
        WASI_2.contains(&interface) || WASI_2_SOCKETS.contains(&interface)
    } else if version.starts_with("0.3.") {
        WASI_3.contains(&interface)
    } else {
        version.starts_with("0.1.") && OWN_INTERFACES.contains(&interface)
    }
}
