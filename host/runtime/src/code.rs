//! Code of guests: compiled, and measured against the limits of a process.

use super::{
    inspect::{Unreadable, Unsuited},
    text::first_line,
};
use distillery_core::{limits::Limits, size::Size};
use wasmtime::{Engine, Module, ResourcesRequired, component::Component};

/// The page size of linear memories.
pub const PAGE: u64 = 64 << 10;

/// The reason why code is no valid program. Each message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    #[error("it is neither a WASM module nor a component: {0}")]
    NotWasm(String),
    #[error("{0}")]
    Invalid(String),
    #[error(
        "it has nothing to run: build it as a command, with a `_start` export (a WASI preview 1 module) or with \
         wasi:cli/run of 0.2 or 0.3 (a component)"
    )]
    NothingToRun,
    #[error("{0}: build it for WASI preview 1, 0.2 or 0.3, without imports of its own")]
    MissingImport(String),
    #[error("{0}")]
    Unsuited(Unsuited),
    #[error("it never fits: {0}")]
    NeverFits(String),
    #[error("compiling takes longer than the {0} of limits.compile_time: make the module smaller, or raise the limit")]
    TooSlow(String),
    #[error(
        "compiling takes more memory than the {0} of limits.compile_memory: make the module smaller, or raise the limit"
    )]
    TooLarge(Size),
    #[error("the compiler does not survive it: {0}")]
    Crashed(String),
    #[error("{0}")]
    Engine(String),
    /// The module does not fit the pool, but can fit on demand.
    #[error("it does not fit the pool: {0}")]
    NotForPool(String),
}

impl From<Unsuited> for CompileError {
    fn from(unsuited: Unsuited) -> Self {
        Self::Unsuited(unsuited)
    }
}

impl From<Unreadable> for CompileError {
    fn from(error: Unreadable) -> Self {
        match error {
            Unreadable::NotWasm(why) => Self::NotWasm(why),
            Unreadable::Invalid(why) => Self::Invalid(why),
        }
    }
}

/// Compiled code of either form.
pub enum Compiled {
    Module(Module),
    Component(Component),
}

/// Compiles a module or component, in binary or text form.
pub fn compile(engine: &Engine, code: &[u8]) -> Result<Compiled, CompileError> {
    let binary = wat::parse_bytes(code).map_err(|error| CompileError::NotWasm(first_line(error)))?;
    match binary.get(4..8) {
        Some([1, 0, 0, 0]) => Module::new(engine, &binary).map(Compiled::Module).map_err(classify),
        Some([_, 0, 1, 0]) => Component::new(engine, &binary).map(Compiled::Component).map_err(classify),
        _ => Err(CompileError::NotWasm("its first eight bytes are not those of WASM".into())),
    }
}

fn classify(error: wasmtime::Error) -> CompileError {
    let text = format!("{error:#}");
    let pool = ["exceeds the limit", "exceeds the configured maximum", "pooling allocator", "larger than the"];
    if pool.iter().any(|words| text.contains(words)) {
        return CompileError::NotForPool(first_line(&text));
    }
    CompileError::Invalid(first_line(&text))
}

impl CompileError {
    /// Distinguishes a module that exceeds one of the operator's limits: it fits nowhere.
    pub(crate) fn of_size(self, limits: &Limits) -> Self {
        match self {
            Self::NotForPool(why) => setting_for(&why, limits).map_or(Self::NotForPool(why), Self::NeverFits),
            other => other,
        }
    }
}

/// Checks whether a process can begin within `limits`, which can be lower than the operator's.
pub fn fits(needed: Option<ResourcesRequired>, limits: &Limits, operator: &Limits) -> Result<(), CompileError> {
    let Some(needed) = needed else { return Ok(()) };
    let never = |what: String, setting: &str, now: String, lowered: bool| {
        let file = if lowered { "plugin.yaml" } else { "distillery.yaml" };
        Err(CompileError::NeverFits(format!("{what}; raise limits.{setting} in {file}, which is {now}")))
    };
    let memory = needed.max_initial_memory_size.map(|pages| Size::bytes(pages.saturating_mul(PAGE)));
    if let Some(memory) = memory.filter(|memory| *memory > limits.memory) {
        let what = format!("it begins with {memory} of memory");
        return never(what, "memory", limits.memory.to_string(), limits.memory < operator.memory);
    }
    if let Some(elements) = needed.max_initial_table_size.filter(|elements| *elements > limits.tables) {
        let what = format!("it begins with {elements} elements of a table");
        return never(what, "tables", limits.tables.to_string(), limits.tables < operator.tables);
    }
    Ok(())
}

pub fn missing_import(error: wasmtime::Error) -> CompileError {
    CompileError::MissingImport(first_line(format!("{error:#}")))
}

/// Returns the setting to change for a module that exceeds a size of the pool.
fn setting_for(why: &str, limits: &Limits) -> Option<String> {
    let never = |what: &str, setting: &str, now: String| {
        Some(format!("{what}; raise limits.{setting} in distillery.yaml, which is {now}"))
    };
    let lower = why.to_ascii_lowercase();
    if lower.contains("memory") && (lower.contains("minimum") || lower.contains("size")) {
        let memory: Size = limits.memory;
        never("it needs more memory than a process may have", "memory", memory.to_string())
    } else if lower.contains("table") {
        never("its tables have more elements than a process may have", "tables", limits.tables.to_string())
    } else if lower.contains("instances") {
        never("it is made of more core instances than a process may have", "instances", limits.instances.to_string())
    } else {
        None
    }
}
