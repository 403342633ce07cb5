//! The meaning of imports that the server does not have, with a remedy for each.

use super::known::{OWN_MODULE, PREVIEW1_MODULES};
use std::fmt;

/// The origin of a missing import.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Meaning {
    Emscripten,
    Extism,
    Wasix,
    Threads,
    Candidate,
    CoreOfComponent,
    GoForBrowsers,
    WasmBindgen,
    AssemblyScript,
    WasmEdge,
    Spin,
    State,
    Network,
    Own,
    Unknown,
}

impl fmt::Display for Meaning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Emscripten => {
                "Emscripten's JavaScript: build with `emcc -sSTANDALONE_WASM`, or with wasi-sdk, which needs none"
            }
            Self::Extism => "Extism's host: read stdin and write stdout with WASI instead of Extism's kit",
            Self::Wasix => "WASIX, which only Wasmer has: build with a WASI toolchain, for wasm32-wasip1",
            Self::Threads => "threads, which calls do not have: build for one thread, without -pthread",
            Self::Candidate => "a release candidate of WASI: build with tools for WASI 0.2 or 0.3",
            Self::CoreOfComponent => "interfaces of components, which a module cannot import",
            Self::GoForBrowsers => "Go's JavaScript: build with `GOOS=wasip1 GOARCH=wasm`",
            Self::WasmBindgen => {
                "wasm-bindgen's JavaScript: build for wasm32-wasip1 or wasm32-wasip2, without wasm-bindgen"
            }
            Self::AssemblyScript => "AssemblyScript's JavaScript: compile with @assemblyscript/wasi-shim",
            Self::WasmEdge => "an extension of preview 1 that other runtimes have: build for WASI preview 1 alone",
            Self::Spin => "a host for web applications: use stdin, stdout and wasi:http instead",
            Self::State => "WASI's stores and messages, which this server does not have: use a mount or scratch space",
            Self::Network => "the network beyond wasi:http, of another version: build with tools for WASI 0.2",
            Self::Own => "unknown to this version of the server: compare with wit/call.wit",
            Self::Unknown => "no part of WASI: build it for WASI preview 1, 0.2 or 0.3, without imports of its own",
        })
    }
}

/// The beginnings of the names of Emscripten's functions.
const EMSCRIPTEN: [&str; 14] = [
    "emscripten_",
    "_emscripten_",
    "invoke_",
    "__syscall_",
    "__cxa_",
    "_embind_",
    "_emval_",
    "_mmap_js",
    "_munmap_js",
    "_tzset_js",
    "_localtime_js",
    "_gmtime_js",
    "_abort_js",
    "__assert_fail",
];

impl Meaning {
    /// Returns the meaning of the import of a module.
    pub(crate) fn of_function(module: &str, name: &str) -> Self {
        let begins = |beginnings: &[&str]| beginnings.iter().any(|it| name.starts_with(it));
        match module {
            // Emscripten shortens the names of optimized builds to a letter.
            "a" => Self::Emscripten,
            "env" if begins(&EMSCRIPTEN) => Self::Emscripten,
            "env" if begins(&["extism_"]) => Self::Extism,
            "env" if ["abort", "trace", "seed"].contains(&name) => Self::AssemblyScript,
            "wasi" if name == "thread-spawn" => Self::Threads,
            "go" | "gojs" => Self::GoForBrowsers,
            "wbg" | "__wbindgen_placeholder__" | "__wbindgen_externref_xform__" => Self::WasmBindgen,
            OWN_MODULE => Self::Own,
            module if module.starts_with("extism:") => Self::Extism,
            module if module.starts_with("wasix_") => Self::Wasix,
            module if module.ends_with("_bg.js") => Self::WasmBindgen,
            module if PREVIEW1_MODULES.contains(&module) => Self::WasmEdge,
            module if module.contains("-rc") && module.starts_with("wasi:") => Self::Candidate,
            module if module == "$root" || module.starts_with("[export]") => Self::CoreOfComponent,
            module if module.contains(':') && module.contains('/') => Self::CoreOfComponent,
            _ => Self::Unknown,
        }
    }

    /// Returns the meaning of the import of a component.
    pub(crate) fn of_interface(name: &str) -> Self {
        let begins = |beginnings: &[&str]| beginnings.iter().any(|it| name.starts_with(it));
        if name.starts_with("wasi:") && name.contains("-rc") {
            Self::Candidate
        } else if begins(&["wasi:keyvalue/", "wasi:blobstore/", "wasi:messaging/", "wasi:config/", "wasi:logging/"]) {
            Self::State
        } else if begins(&["wasi:sockets/", "wasi:tls/"]) {
            Self::Network
        } else if begins(&["fermyon:", "spin:", "wasmcloud:"]) {
            Self::Spin
        } else if name.starts_with("distillery:") {
            Self::Own
        } else {
            Self::Unknown
        }
    }
}
