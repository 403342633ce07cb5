//! The position of a request in a trace.

/// The position of a span: its trace, and its own id for the spans below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    pub trace: u128,
    pub span: u64,
}
