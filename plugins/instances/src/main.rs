//! The calls on instances, on those of a mount. The name of the call selects one of them.
//!
//! After a forced end, a fresh instance of this program cleans up.

#[cfg(target_family = "wasm")]
mod calls;

#[cfg(target_family = "wasm")]
fn main() -> std::process::ExitCode {
    calls::main()
}

#[cfg(not(target_family = "wasm"))]
fn main() {
    eprintln!("this is a call: build it for wasm32-wasip2 and run it on a server");
}
