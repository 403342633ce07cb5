//! Describes traps in words for callers.

use wasmtime::Trap;

/// The trap of a guest that aborts by itself: a panic, a failed assertion, an abort.
pub const UNREACHABLE: &str = "unreachable";

/// Describes a trap briefly, without the prefix "wasm trap:".
pub fn words(trap: Trap) -> &'static str {
    match trap {
        Trap::StackOverflow => "call stack exhausted",
        Trap::MemoryOutOfBounds => "out of bounds memory access",
        Trap::TableOutOfBounds => "out of bounds table access",
        Trap::IndirectCallToNull => "call to an uninitialized element",
        Trap::BadSignature => "indirect call type mismatch",
        Trap::IntegerOverflow => "integer overflow",
        Trap::IntegerDivisionByZero => "integer divide by zero",
        Trap::BadConversionToInteger => "invalid conversion to integer",
        Trap::UnreachableCodeReached => UNREACHABLE,
        Trap::Interrupt => "interrupted",
        Trap::NullReference => "null reference",
        Trap::ArrayOutOfBounds => "out of bounds array access",
        Trap::AllocationTooLarge => "allocation size too large",
        Trap::CastFailure => "cast failure",
        Trap::AsyncDeadlock => "deadlock: everything that it waits for is over",
        Trap::CannotEnterComponent => "cannot enter component instance",
        Trap::CannotLeaveComponent => "cannot leave component instance",
        Trap::NoAsyncResult => "it ended without a result",
        Trap::InvalidChar => "invalid character",
        Trap::InvalidDiscriminant => "invalid discriminant",
        Trap::StringOutOfBounds => "out of bounds string",
        Trap::ListOutOfBounds => "out of bounds list",
        Trap::UnalignedPointer => "unaligned pointer",
        Trap::UncaughtException => "unhandled exception",
        _ => "invalid use of the component model",
    }
}
