//! Reads what a module or component is made of, in milliseconds and without compiling: imports, exports, memories and
//! the features that it needs. Names everything that keeps it from running, with a remedy.
//!
//! Invalid code is no finding: the compiler describes it better.

mod component;
mod known;
mod meaning;
mod module;

use super::{
    linking::{INITIALIZE, Linking, START, UnknownImports},
    text::first_line,
};
use component::Component;
use distillery_core::{one_line::OneLine, size::Size};
use meaning::Meaning;
use module::Module;
use std::{collections::BTreeMap, fmt};
use wasmparser::{Encoding, Operator, Parser, Payload};

/// The maximum length of a name in a message.
const NAME: usize = 100;
/// The maximum number of names in a message for one reason.
const NAMES: usize = 60;

/// The parts of a module or component.
#[derive(Debug)]
pub struct Inspection {
    form: Form,
    features: Features,
}

#[derive(Debug)]
enum Form {
    Module(Module),
    Component(Component),
}

/// The features in use that matter here, in all core modules.
#[derive(Debug, Default)]
struct Features {
    /// Whether a memory is shared between threads.
    threads: bool,
    exceptions: bool,
    legacy_exceptions: bool,
    /// The features that the compiler has written down.
    named: Vec<String>,
}

/// The reason why code cannot be inspected.
#[derive(Debug)]
pub enum Unreadable {
    /// It is neither a module nor a component.
    NotWasm(String),
    Invalid(String),
}

/// The reasons why code cannot run as a call.
#[derive(Debug, PartialEq, Eq)]
pub struct Unsuited(Vec<Problem>);

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum Problem {
    #[error(
        "it uses the legacy form of exceptions: compile with `-mllvm -wasm-use-legacy-eh=false` (clang, wasi-sdk) or \
         `-sWASM_LEGACY_EXCEPTIONS=0` (emcc), or convert it with `wasm-opt --translate-to-exnref`"
    )]
    LegacyExceptions,
    #[error("it shares memory between threads, which calls do not have: build it for one thread, without -pthread")]
    Threads,
    #[error(
        "it is a reactor: its only entry point `{INITIALIZE}` prepares it and does nothing else: build it as a command, \
         with `{START}`, or name the function to run with invoke: in plugin.yaml{}", candidates(.0)
    )]
    Reactor(Vec<String>),
    #[error(
        "it has nothing to run: build it as a command, with a `{START}` export (a WASI preview 1 module) or with \
         wasi:cli/run of 0.2 or 0.3 (a component){}", candidates(.0)
    )]
    NothingToRun(Vec<String>),
    #[error("invoke: it exports no function {name:?}: name one without parameters and results{}", candidates(.others))]
    NoSuchExport { name: String, others: Vec<String> },
    #[error("invoke: a component has no core exports: remove invoke:, and export wasi:cli/run")]
    InvokeOfComponent,
    #[error("`{0}` is not a function: it must be one without parameters and results")]
    NotAFunction(String),
    #[error("`{0}` takes parameters or returns results: the entry point must have neither, as in a WASI command")]
    EntryWithValues(String),
    #[error(
        "it is the core module of a component: make a component of it with `wasm-tools component new IN.wasm -o OUT.wasm` \
         (with `--adapt wasi_snapshot_preview1.command.wasm` if it also imports preview 1)"
    )]
    CoreOfComponent,
    #[error(
        "it answers HTTP requests ({0}), and calls are commands: export wasi:cli/run instead, or run it with a server for \
         HTTP components, such as `wasmtime serve`"
    )]
    Proxy(String),
    #[error("it is made for a release candidate of WASI ({0}): build it with tools for WASI 0.2 or 0.3")]
    CandidateOfRun(String),
    #[error(
        "it exports no memory named `memory`, through which {0} passes data: export it (`--export-memory` of the linker)"
    )]
    NoMemory(String),
    #[error("it imports what the server does not have: {}; or let each function trap when it is called: imports: trap in plugin.yaml", missing(.0))]
    Missing(BTreeMap<Meaning, Vec<String>>),
}

impl fmt::Display for Unsuited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, problem) in self.0.iter().enumerate() {
            let between = if at > 0 { "; " } else { "" };
            write!(f, "{between}{problem}")?;
        }
        Ok(())
    }
}

fn candidates(functions: &[String]) -> String {
    if functions.is_empty() { String::new() } else { format!(" (it exports {})", names(functions)) }
}

/// Lists names from a module, which can contain any character.
fn names(names: &[String]) -> String {
    let mut list: Vec<_> =
        names.iter().take(NAMES).map(|name| OneLine { text: name, most: NAME }.to_string()).collect();
    if names.len() > NAMES {
        list.push(format!("and {} more", names.len() - NAMES));
    }
    list.join(", ")
}

fn missing(missing: &BTreeMap<Meaning, Vec<String>>) -> String {
    let groups = missing.iter().map(|(meaning, imports)| format!("{} ({meaning})", names(imports)));
    groups.collect::<Vec<_>>().join("; ")
}

impl Inspection {
    /// Inspects a module or component, in binary or text form.
    pub fn of(code: &[u8]) -> Result<Self, Unreadable> {
        let binary = wat::parse_bytes(code).map_err(|error| Unreadable::NotWasm(first_line(error)))?;
        Self::of_binary(&binary).map_err(|error| Unreadable::Invalid(first_line(error)))
    }

    fn of_binary(binary: &[u8]) -> wasmparser::Result<Self> {
        let features = Features::of(binary)?;
        let form = if Parser::is_component(binary) {
            Form::Component(Component::read(binary)?)
        } else {
            Form::Module(Module::read(binary)?)
        };
        Ok(Self { form, features })
    }

    /// Checks whether the code can run as a call, and names all problems.
    pub fn check(&self, linking: &Linking) -> Result<(), Unsuited> {
        let mut problems = Vec::new();
        if self.features.legacy_exceptions {
            problems.push(Problem::LegacyExceptions);
        }
        if self.features.threads {
            problems.push(Problem::Threads);
        }
        let missing = match &self.form {
            Form::Module(module) => {
                problems.extend(module.entry(linking.invoke.as_deref()));
                problems.extend(module.without_memory());
                module.missing()
            }
            Form::Component(component) => {
                problems.extend(component.entry(linking.invoke.as_deref()));
                component.missing()
            }
        };
        if missing.contains_key(&Meaning::CoreOfComponent) && !problems.contains(&Problem::CoreOfComponent) {
            problems.retain(|problem| !matches!(problem, Problem::NothingToRun(_) | Problem::Reactor(_)));
            problems.push(Problem::CoreOfComponent);
        }
        if !missing.is_empty() && linking.unknown == UnknownImports::Refuse {
            problems.push(Problem::Missing(missing));
        }
        if problems.is_empty() { Ok(()) } else { Err(Unsuited(problems)) }
    }

    /// Describes the imports, exports, memories and features, each in one line.
    pub fn findings(&self) -> Vec<String> {
        let mut findings = match &self.form {
            Form::Module(module) => module.findings(),
            Form::Component(component) => component.findings(),
        };
        let Features { threads, exceptions, legacy_exceptions, named } = &self.features;
        let own = [(*threads, "threads"), (*exceptions, "exceptions"), (*legacy_exceptions, "legacy exceptions")];
        let own = own.iter().filter(|(used, _)| *used).map(|(_, name)| (*name).to_owned());
        let all: Vec<_> = own.chain(named.iter().cloned()).collect();
        if !all.is_empty() {
            findings.push(format!("features: {}", names(&all)));
        }
        findings
    }
}

impl Features {
    fn of(binary: &[u8]) -> wasmparser::Result<Self> {
        let mut features = Self::default();
        // Code is read only if there can be exceptions in it, and up to the first one.
        let mut looks_for_exceptions = false;
        for payload in Parser::new(0).parse_all(binary) {
            match payload? {
                Payload::Version { encoding: Encoding::Module, .. } => looks_for_exceptions = false,
                Payload::ImportSection(imports) => {
                    for import in imports.into_imports() {
                        match import?.ty {
                            wasmparser::TypeRef::Memory(memory) => features.threads |= memory.shared,
                            wasmparser::TypeRef::Tag(_) => looks_for_exceptions = true,
                            _ => {}
                        }
                    }
                }
                Payload::MemorySection(memories) => {
                    for memory in memories {
                        features.threads |= memory?.shared;
                    }
                }
                Payload::TagSection(tags) => looks_for_exceptions |= tags.count() > 0,
                Payload::CodeSectionEntry(body) if looks_for_exceptions => {
                    looks_for_exceptions = !features.note_exceptions(&body)?;
                }
                Payload::CustomSection(section) if section.name() == "target_features" => {
                    features.note_names(section.data());
                }
                _ => {}
            }
        }
        Ok(features)
    }

    /// Returns whether the function has an exception of either form.
    fn note_exceptions(&mut self, body: &wasmparser::FunctionBody<'_>) -> wasmparser::Result<bool> {
        for operator in body.get_operators_reader()? {
            match operator? {
                Operator::Try { .. }
                | Operator::Catch { .. }
                | Operator::CatchAll
                | Operator::Delegate { .. }
                | Operator::Rethrow { .. } => self.legacy_exceptions = true,
                Operator::TryTable { .. } | Operator::ThrowRef => self.exceptions = true,
                _ => continue,
            }
            return Ok(true);
        }
        Ok(false)
    }

    /// Reads the list of features that LLVM writes: for each one `+` and its name.
    fn note_names(&mut self, data: &[u8]) {
        let mut reader = wasmparser::BinaryReader::new(data, 0);
        let Ok(count) = reader.read_var_u32() else { return };
        for _ in 0..count.min(64) {
            let (Ok(prefix), Ok(name)) = (reader.read_u8(), reader.read_string()) else { return };
            if prefix == b'+' && !self.named.iter().any(|known| known == name) {
                self.named.push(name.to_owned());
            }
        }
    }
}

/// Shows the pages of a memory as a size.
fn pages(pages: u64) -> Size {
    Size::bytes(pages.saturating_mul(64 << 10))
}

#[cfg(test)]
mod tests;
