//! `provision`, `purge`, `snapshot`, `backup`, `restore`, `start`, `stop`, `rebuild` and `update`, on the instances of a
//! mount. Which of them is meant is the name that the call was started by.
//!
//! After one that was forced to end, a fresh instance of this program cleans up.

#[cfg(target_family = "wasm")]
mod guest;

#[cfg(target_family = "wasm")]
fn main() -> std::process::ExitCode {
    guest::main()
}

#[cfg(not(target_family = "wasm"))]
fn main() {
    eprintln!("this is a call: build it for wasm32-wasip2, and let a distillery run it");
}
