//! Builds the guests of the tests and the example plugins. It knows where their sources are, nothing of what they do.
//!
//! Guests and plugins have target directories of their own, because this cargo holds the lock of the outer one. The
//! Makefile uses the same two, and clippy, which runs this script a second time, finds everything built.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

/// What the outer cargo says to its own compilers and these must not hear: clippy's wrapper, flags for the host.
const MEANT_FOR_THE_HOST: [&str; 6] = [
    "CARGO_BUILD_TARGET",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_TARGET_DIR",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTDOCFLAGS",
    "RUSTFLAGS",
];

fn main() {
    let package = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));

    // OUT_DIR is <target>/<profile>/build/<package>/out.
    let target = out.ancestors().nth(4).expect("cargo keeps OUT_DIR below its target directory");

    let guests = package.join("guests");
    let built = target.join("guests");
    println!("cargo::rustc-env=BUILT_GUESTS={}", built.display());
    build(&guests, &built, "wasm32-wasip1", &["--package", "commands"]);
    build(&guests, &built, "wasm32-wasip2", &["--workspace"]);
    for source in [
        "Cargo.toml",
        "Cargo.lock",
        "commands",
        "conversation-p3",
        "granted",
        "granted-p3",
        "hostile-p2",
        "hostile-p3",
        "told",
        "told-p3",
        "touches-p3",
        "waits-p3",
    ] {
        watch(&guests.join(source));
    }

    // Bindings are made from these.
    watch(&package.join("../wit"));

    let plugins = package.join("../plugins");
    let built = target.join("plugins");
    println!("cargo::rustc-env=BUILT_PLUGINS={}", built.display());
    build(&plugins, &built, "wasm32-wasip2", &["--workspace"]);
    for source in [
        "Cargo.toml",
        "Cargo.lock",
        "ask/src",
        "assemble/src",
        "countdown/src",
        "echo/src",
        "grind/src",
        "instance_log/src",
        "instances/src",
        "instances/template",
    ] {
        watch(&plugins.join(source));
    }
}

fn watch(path: &Path) {
    println!("cargo::rerun-if-changed={}", path.display());
}

fn build(workspace: &Path, target_dir: &Path, target: &str, packages: &[&str]) {
    let mut cargo = Command::new(env::var_os("CARGO").expect("cargo sets it"));
    cargo.current_dir(workspace).args(["build", "--quiet", "--release", "--locked", "--target", target]);
    cargo.arg("--target-dir").arg(target_dir).args(packages);
    for variable in MEANT_FOR_THE_HOST {
        cargo.env_remove(variable);
    }
    let status = cargo.status().expect("cargo is running this");
    assert!(
        status.success(),
        "the guests in {} were not built: if the target is missing, run `rustup target add {target}`",
        workspace.display()
    );
}
