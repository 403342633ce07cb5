//! The templates of `distillery new`, built with the toolchains of the Makefile. It knows the locations of the
//! toolchains and the needs of each language, and nothing about the behaviour of the programs.

use crate::{
    program::{output, output_of_tool, printed, program},
    server::COMPILED,
};
use std::{
    collections::BTreeMap,
    env, fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};
use tempfile::TempDir;

/// A plugin made and built as the README describes. Its call has the name of its language.
#[derive(Clone, Debug)]
pub struct Language {
    pub name: &'static str,
    /// The interpreter, if it is a script.
    pub interpreter: Option<&'static str>,
    /// Description of its toolchain.
    pub toolchain: &'static str,
    pub directory: PathBuf,
}

const RUST: &str = "rustc, `wasm32-wasip2`";
const ZIG: &str = "Zig 0.17.1";
const COMPONENTIZE_JS: &str = "componentize-js 0.23.0 (StarlingMonkey)";

/// The toolchain of each language, and its place in the directory of toolchains.
const ALL: [(&str, &str, &str); 10] = [
    ("rust", RUST, ""),
    ("c", ZIG, "python/bin/python-zig"),
    ("cpp", ZIG, "python/bin/python-zig"),
    ("zig", ZIG, "python/bin/python-zig"),
    ("go", "Go 1.27.3", "python/bin/go"),
    ("python", "componentize-py 0.25.1 (CPython 3.14)", "python/bin/componentize-py"),
    ("javascript", COMPONENTIZE_JS, "node/node_modules/.bin/componentize-js"),
    ("typescript", COMPONENTIZE_JS, "node/node_modules/.bin/tsc"),
    ("assemblyscript", "AssemblyScript 0.28.20", "node/node_modules/.bin/asc"),
    ("micropython", "MicroPython 1.27, a script", "node/node_modules/.bin/wasm-merge"),
];

/// The interpreters of the templates of scripts.
const SCRIPTS: [(&str, &str); 5] = [
    ("python-script", "CPython 3.12"),
    ("javascript-script", "QuickJS-ng 0.14"),
    ("ruby-script", "CRuby 4.0"),
    ("lua-script", "Lua 5.4"),
    ("perl-script", "Perl 5.42"),
];

/// Settings of the cargo that runs the tests for its compilers, which the template's build must not see.
const MEANT_FOR_THE_HOST: [&str; 4] =
    ["CARGO_ENCODED_RUSTFLAGS", "RUSTC_WORKSPACE_WRAPPER", "RUSTDOCFLAGS", "RUSTFLAGS"];

/// The same directory for each cargo build, and kept between runs.
const TARGET: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target");

impl Language {
    /// Returns every installed language. Others are skipped by name, and CI skips none.
    pub fn all() -> &'static [Self] {
        static BUILT: OnceLock<Vec<Language>> = OnceLock::new();
        BUILT.get_or_init(|| {
            let mut built = Vec::new();
            let compiled = ALL.map(|(name, toolchain, needs)| (name, toolchain, None, toolchains().join(needs)));
            let scripts = SCRIPTS.map(|(name, toolchain)| {
                let interpreter = name.strip_suffix("-script").expect("a script");
                (name, toolchain, Some(interpreter), interpreters().join(interpreter).join("interpreter.yaml"))
            });
            for (name, toolchain, interpreter, needs) in compiled.into_iter().chain(scripts) {
                if needs.exists() {
                    built.push(Self::build(name, toolchain, interpreter));
                    continue;
                }
                let make = if interpreter.is_some() { "interpreters" } else { "toolchains" };
                assert!(env::var("CI").as_deref() != Ok("true"), "nothing to make {name} with: run `make {make}`");
                eprintln!("SKIPPED: the conversation with {name}, for want of its tools: run `make {make}`");
            }
            built
        })
    }

    /// Returns the file that the program is compiled to, or the script.
    pub fn program(&self) -> PathBuf {
        match self.interpreter {
            None => self.directory.join("call.wasm"),
            Some(_) => {
                let files = fs::read_dir(self.directory.join("files")).expect("files of a script");
                files.map(|file| file.expect("a file").path()).next().expect("a script")
            }
        }
    }

    /// Returns the path of the program within the plugin.
    pub fn program_of_plugin(&self) -> PathBuf {
        self.program().strip_prefix(&self.directory).expect("it is in the plugin").to_owned()
    }

    /// Returns this language's program with one changed line.
    pub fn changed_program(&self) -> Vec<u8> {
        let changed = Self { directory: self.directory.with_extension("changed"), ..self.clone() };
        let _ = fs::remove_dir_all(&changed.directory);
        for (file, text) in texts(&self.directory) {
            let path = changed.directory.join(&file);
            fs::create_dir_all(path.parent().expect("it is in a directory")).expect("a directory");
            let is_text = std::str::from_utf8(&text).is_ok_and(|text| text.contains("goodbye"));
            let text =
                if is_text { String::from_utf8_lossy(&text).replace("goodbye", "farewell").into_bytes() } else { text };
            fs::write(path, text).expect("a file of the plugin");
        }
        if self.interpreter.is_none() {
            symlink(toolchains().join("node/node_modules"), changed.directory.join("node_modules")).expect("a link");
            let done = output_of_tool(&mut changed.distillery("build"));
            assert!(done.status.success(), "{}: {done:?}", self.name);
        }
        fs::read(changed.program()).expect("a changed program")
    }

    pub fn manifest(&self) -> String {
        fs::read_to_string(self.directory.join("plugin.yaml")).expect("a manifest")
    }

    /// Makes the plugin, and builds it unless an earlier build had the same text.
    fn build(name: &'static str, toolchain: &'static str, interpreter: Option<&'static str>) -> Self {
        let made = TempDir::with_prefix("distillery-test-").expect("a directory for what is made");
        printed(&output(Command::new(program()).args(["new", "--public", name, name]).current_dir(made.path())));
        let (made, kept) = (made.path().join(name), Path::new(TARGET).join("languages").join(name));
        let language = Self { name, interpreter, toolchain, directory: kept };
        let text = texts(&made);
        let as_before =
            text.iter().all(|(file, text)| fs::read(language.directory.join(file)).is_ok_and(|before| before == *text));
        let command = if as_before && language.is_built() { "check" } else { "build" };
        if command == "build" {
            if language.directory.exists() {
                fs::remove_dir_all(&language.directory).expect("the last build can be removed");
            }
            for (file, text) in &text {
                let path = language.directory.join(file);
                fs::create_dir_all(path.parent().expect("it is in a directory")).expect("a directory");
                fs::write(path, text).expect("a file of the plugin");
            }
            if interpreter.is_none() {
                symlink(toolchains().join("node/node_modules"), language.directory.join("node_modules"))
                    .expect("a link to what npm has installed");
            }
        }
        let command = if interpreter.is_some() { "check" } else { command };
        // Both compile the plugin for the servers of the tests, which need not wait for the compilation then.
        fs::create_dir_all(COMPILED).expect("a directory for compiled code");
        let done = output_of_tool(language.distillery(command).env("DISTILLERY_CACHE", COMPILED));
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(done.status.success(), "{name}: {}{}", said(&done.stdout), said(&done.stderr));
        language
    }

    fn is_built(&self) -> bool {
        self.interpreter.is_some() || self.program().is_file()
    }

    /// Builds a command of distillery about this plugin, with the toolchains on its path.
    pub fn distillery(&self, command: &str) -> Command {
        let path = env::join_paths(
            [toolchains().join("python/bin")]
                .into_iter()
                .chain(env::split_paths(&env::var_os("PATH").unwrap_or_default())),
        );
        let cache = |name: &str| toolchains().join(name);
        let mut distillery = Command::new(program());
        distillery
            .arg(command)
            .arg(&self.directory)
            .current_dir(&self.directory)
            .env("PATH", path.expect("no directory of toolchains has a colon"))
            .env("ZIG_GLOBAL_CACHE_DIR", cache("zig-cache"))
            .env("ZIG_LOCAL_CACHE_DIR", cache("zig-cache"))
            .env("GOCACHE", cache("go-cache"))
            .env("GOTOOLCHAIN", "local")
            .env("DISTILLERY_PLUGINS__INTERPRETERS", interpreters());
        for variable in MEANT_FOR_THE_HOST {
            distillery.env_remove(variable);
        }
        distillery
    }
}

/// Returns the directory in which the Makefile keeps the toolchains.
pub fn toolchains() -> PathBuf {
    fs::canonicalize(TARGET).expect("cargo has a target directory").join("toolchains")
}

/// Returns the directory in which the Makefile keeps interpreters.
pub fn interpreters() -> PathBuf {
    fs::canonicalize(TARGET).expect("cargo has a target directory").join("interpreters")
}

/// Returns the files below `directory`, by their paths in it. Directories of tools are left out.
fn texts(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut texts = BTreeMap::new();
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        let name = PathBuf::from(path.file_name().expect("a name"));
        if ["target", "node_modules"].iter().any(|tool| name.ends_with(tool)) {
            continue;
        }
        if path.is_dir() {
            texts.extend(self::texts(&path).into_iter().map(|(file, text)| (name.join(file), text)));
        } else {
            texts.insert(name, fs::read(path).expect("a file"));
        }
    }
    texts
}
