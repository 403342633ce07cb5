//! Everything that has a bound, with its name, its unit and its default.
//!
//! The operator sets them in `distillery.yaml`; a plugin may lower them for its own calls, never raise them.

use crate::size::Size;
use std::{fmt, time::Duration};

/// The bounds of one process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// All linear memories of the process together.
    pub memory: Size,
    /// From the start of the process to its end.
    pub time: Duration,
    /// Time on a processor, measured by the clock of the thread that runs the guest.
    pub cpu: Duration,
    /// Bytes written to stdout in all; nothing means that only back-pressure bounds them.
    pub output: Option<Size>,
    /// Bytes that wait in stdin while the guest does not read.
    pub input: Size,
    /// Time without a read, while that much waits, after which a guest counts as one that does not read its input.
    pub input_idle: Duration,
    /// One line of output: it is put together in memory before it is sent.
    pub line: Size,
    /// How many parameters a call may have.
    pub params: usize,
    /// All parameters of a call together.
    pub params_size: Size,
    /// Elements of all tables of the process together.
    pub tables: u64,
    /// Core instances of one process.
    pub instances: u64,
    /// The stack of wasm code.
    pub stack: Size,
    /// Files, sockets, streams, pollables and other host resources open at once.
    pub resources: u64,
    /// How many processes of one plugin run at once; nothing means as many as the server runs.
    pub processes: Option<u32>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory: Size::mib(256),
            time: Duration::from_secs(24 * 3600),
            cpu: Duration::from_secs(600),
            output: None,
            input: Size::mib(16),
            input_idle: Duration::from_secs(60),
            line: Size::mib(1),
            params: 256,
            params_size: Size::mib(1),
            tables: 200_000,
            instances: 64,
            stack: Size::kib(512),
            resources: 1024,
            processes: None,
        }
    }
}

/// What a plugin asks for: a limit that is not named stays the operator's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lowered {
    pub memory: Option<Size>,
    pub time: Option<Duration>,
    pub cpu: Option<Duration>,
    pub output: Option<Size>,
    pub input: Option<Size>,
    pub line: Option<Size>,
    pub params: Option<usize>,
    pub params_size: Option<Size>,
    pub tables: Option<u64>,
    pub instances: Option<u64>,
    pub resources: Option<u64>,
    pub processes: Option<u32>,
}

/// A plugin asked for more than the operator allows.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "limits.{limit} asks for {asked}, more than the {allowed} that distillery.yaml allows: lower it, or raise limits.{limit} there"
)]
pub struct TooHigh {
    pub limit: &'static str,
    pub asked: String,
    pub allowed: String,
}

impl Limits {
    /// These limits with what `wish` lowers.
    pub fn lowered(&self, wish: &Lowered) -> Result<Self, TooHigh> {
        use crate::call::Span;
        fn lower<T: Ord + Copy, D: fmt::Display>(
            limit: &'static str,
            allowed: T,
            asked: Option<T>,
            shown: impl Fn(T) -> D,
        ) -> Result<T, TooHigh> {
            match asked {
                Some(asked) if asked > allowed => {
                    Err(TooHigh { limit, asked: shown(asked).to_string(), allowed: shown(allowed).to_string() })
                }
                Some(asked) => Ok(asked),
                None => Ok(allowed),
            }
        }
        fn lower_open<T: Ord + Copy, D: fmt::Display>(
            limit: &'static str,
            allowed: Option<T>,
            asked: Option<T>,
            shown: impl Fn(T) -> D,
        ) -> Result<Option<T>, TooHigh> {
            match allowed {
                Some(allowed) => lower(limit, allowed, asked, shown).map(Some),
                None => Ok(asked),
            }
        }
        Ok(Self {
            memory: lower("memory", self.memory, wish.memory, |it| it)?,
            time: lower("time", self.time, wish.time, Span)?,
            cpu: lower("cpu", self.cpu, wish.cpu, Span)?,
            output: lower_open("output", self.output, wish.output, |it| it)?,
            input: lower("input", self.input, wish.input, |it| it)?,
            input_idle: self.input_idle,
            line: lower("line", self.line, wish.line, |it| it)?,
            params: lower("params", self.params, wish.params, |it| it)?,
            params_size: lower("params_size", self.params_size, wish.params_size, |it| it)?,
            tables: lower("tables", self.tables, wish.tables, |it| it)?,
            instances: lower("instances", self.instances, wish.instances, |it| it)?,
            stack: self.stack,
            resources: lower("resources", self.resources, wish.resources, |it| it)?,
            processes: lower_open("processes", self.processes, wish.processes, |it| it)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_may_lower_a_limit_and_never_raise_it() {
        let operator = Limits { output: Some(Size::mib(4)), ..Limits::default() };
        let wish = Lowered { memory: Some(Size::mib(16)), processes: Some(4), ..Lowered::default() };
        let limits = operator.lowered(&wish).unwrap();
        assert_eq!((limits.memory, limits.processes, limits.output), (Size::mib(16), Some(4), Some(Size::mib(4))));

        let wish = Lowered { output: Some(Size::mib(5)), ..Lowered::default() };
        assert_eq!(
            operator.lowered(&wish).unwrap_err().to_string(),
            "limits.output asks for 5MiB, more than the 4MiB that distillery.yaml allows: lower it, or raise \
             limits.output there"
        );
    }
}
