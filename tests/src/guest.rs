//! Locations of the guests that build.rs and the Makefile have built. It knows nothing about their behaviour.

use std::path::{Path, PathBuf};

/// A module or component, and the name of its call unless a test sets another.
#[derive(Clone, Debug)]
pub struct Guest {
    pub name: String,
    pub file: PathBuf,
}

const GUESTS: &str = env!("BUILT_GUESTS");
const PLUGINS: &str = env!("BUILT_PLUGINS");
const PACKAGE: &str = env!("CARGO_MANIFEST_DIR");

impl Guest {
    fn at(name: &str, file: PathBuf) -> Self {
        assert!(file.is_file(), "there is no guest {name:?}: looked for {}", file.display());
        Self { name: name.to_owned(), file }
    }

    /// Returns a program of `guests/commands` or `guests/hostile-p2` as a WASI 0.2 component.
    pub fn component(name: &str) -> Self {
        Self::at(name, Path::new(GUESTS).join(format!("wasm32-wasip2/release/{name}.wasm")))
    }

    /// Returns a program of `guests/commands` as a preview 1 module.
    pub fn module(name: &str) -> Self {
        Self::at(name, Path::new(GUESTS).join(format!("wasm32-wasip1/release/{name}.wasm")))
    }

    /// Returns a WASI 0.3 component: `conversation`, `hostile` or `waits`.
    pub fn component3(name: &str) -> Self {
        Self::at(name, Path::new(GUESTS).join(format!("wasm32-wasip2/release/{name}_p3.wasm")))
    }

    /// Returns a module of `guests/wat`, as text.
    pub fn wat(name: &str) -> Self {
        Self::at(name, Path::new(PACKAGE).join(format!("guests/wat/{name}.wat")))
    }

    /// Returns a module or component of `guests/hostile-wat`, as text.
    pub fn hostile(name: &str) -> Self {
        Self::at(name, Path::new(PACKAGE).join(format!("guests/hostile-wat/{name}.wat")))
    }

    /// Returns the module of an example plugin.
    pub fn example(name: &str) -> Self {
        Self::at(name, Path::new(PLUGINS).join(format!("wasm32-wasip2/release/{name}.wasm")))
    }

    /// Returns the conversation in Go, if the Makefile could get a toolchain. CI must have the toolchain.
    pub fn go() -> Option<Self> {
        Self::of_go("conversation")
    }

    /// Returns the guest in Go that runs granted commands, as [`Guest::go`] does.
    pub fn go_granted() -> Option<Self> {
        Self::of_go("granted")
    }

    fn of_go(name: &str) -> Option<Self> {
        let file = Path::new(PACKAGE).join(format!("../target/guests/{name}_go.wasm"));
        if file.is_file() {
            return Some(Self::at(name, file));
        }
        assert!(std::env::var("CI").as_deref() != Ok("true"), "there is no Go guest: run `make go-guest`");
        None
    }

    /// Returns the manifest of an example plugin, as it is shipped.
    pub fn example_manifest(name: &str) -> String {
        let file = Path::new(PACKAGE).join(format!("../plugins/{name}/plugin.yaml"));
        std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
    }
}
