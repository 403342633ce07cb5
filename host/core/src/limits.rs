//! All limits of processes, with their names, units and defaults.
//!
//! The operator sets them in `distillery.yaml`. A plugin can lower them for its own calls, never raise them.

use crate::size::Size;
use std::{fmt, time::Duration};

/// The bounds of one process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// All linear memories of the process together.
    pub memory: Size,
    /// Time from the start of the process to its end.
    pub time: Duration,
    /// CPU time, measured by the clock of the thread that runs the guest.
    pub cpu: Duration,
    /// Total bytes written to stdout. `None` if only back-pressure bounds them.
    pub output: Option<Size>,
    /// Bytes that wait in stdin while the guest does not read.
    pub input: Size,
    /// Time without a read, while stdin is full, after which the guest counts as one that does not read its input.
    pub input_idle: Duration,
    /// One line of output, which is assembled in memory before it is sent.
    pub line: Size,
    /// Number of parameters of a call.
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
    /// Number of processes of one plugin that run at once. `None` if only the server's limit applies.
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

/// The limits that a plugin lowers. `None` keeps the operator's limit.
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

/// A limit of a plugin that exceeds the operator's.
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
    /// Returns these limits with those that `wish` lowers.
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

    /// Returns the names of limits that are higher than those of `other`.
    pub fn above(&self, other: &Self) -> Vec<&'static str> {
        macro_rules! above {
            ($($name:ident)*; $($open:ident)*) => {
                [$((stringify!($name), self.$name > other.$name),)*
                 // `None` means unlimited.
                 $((stringify!($open), match (self.$open, other.$open) {
                     (Some(own), Some(other)) => own > other,
                     (own, other) => own.is_none() && other.is_some(),
                 }),)*]
            };
        }
        let all =
            above!(memory time cpu input line params params_size tables instances stack resources; output processes);
        all.into_iter().filter(|(_, above)| *above).map(|(name, _)| name).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plugin_can_lower_a_limit_and_never_raise_it() {
        let operator = Limits { output: Some(Size::mib(4)), ..Limits::default() };
        let wish = Lowered { memory: Some(Size::mib(16)), processes: Some(4), ..Lowered::default() };
        let limits = operator.lowered(&wish).unwrap();
        assert_eq!((limits.memory, limits.processes, limits.output), (Size::mib(16), Some(4), Some(Size::mib(4))));

        assert_eq!(operator.above(&limits), ["memory", "processes"]);
        assert_eq!(Limits::default().above(&operator), ["output"]);
        assert!(limits.above(&operator).is_empty());

        let wish = Lowered { output: Some(Size::mib(5)), ..Lowered::default() };
        assert_eq!(
            operator.lowered(&wish).unwrap_err().to_string(),
            "limits.output asks for 5MiB, more than the 4MiB that distillery.yaml allows: lower it, or raise \
             limits.output there"
        );
    }
}
