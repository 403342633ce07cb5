//! Tests of invalid programs: every truncation of a valid one, and random bytes. Each is refused with a message.

use super::{CompileError, Kind, Linking, Program, testing::runtime};
use distillery_core::limits::Limits;

/// A preview 1 command whose last section is its code, so that every truncation is invalid.
const MODULE: &str = r#"(module
    (import "wasi_snapshot_preview1" "proc_exit" (func (param i32)))
    (memory (export "memory") 1)
    (table 4 funcref)
    (global (mut i32) (i32.const 7))
    (func (export "_start") (loop (br_if 0 (i32.load (i32.const 16)))) (call 0 (global.get 0))))"#;

/// The same program as a component of WASI 0.2.
const COMPONENT: &str = r#"(component
    (import "wasi:random/random@0.2.0" (instance $random (export "get-random-u64" (func (result u64)))))
    (core func $random (canon lower (func $random "get-random-u64")))
    (core module $module
        (import "host" "random" (func $random (result i64)))
        (memory (export "memory") 1)
        (func (export "run") (result i32) (i32.wrap_i64 (i64.and (call $random) (i64.const 1)))))
    (core instance $instance (instantiate $module (with "host" (instance (export "random" (func $random))))))
    (func $run (result (result)) (canon lift (core func $instance "run")))
    (instance (export "wasi:cli/run@0.2.0") (export "run" (func $run))))"#;

fn compile(code: &[u8]) -> Result<Program, CompileError> {
    runtime().compile(code, &Linking::default(), &Limits::default())
}

/// Returns the refusal of invalid code, which must be one non-empty line.
fn refusal(code: &[u8], what: &str) -> String {
    let refused = compile(code).expect_err(what).to_string();
    assert!(!refused.trim().is_empty() && !refused.contains('\n'), "{what}: {refused:?}");
    refused
}

/// Generates the same pseudo-random bytes in every run.
fn noise(mut seed: u64) -> impl Iterator<Item = u8> {
    std::iter::from_fn(move || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        Some((seed >> 56) as u8)
    })
}

/// Returns the binary of `text` without the trailing section of names, which is optional.
fn binary(text: &str) -> Vec<u8> {
    let mut binary = wat::parse_str(text).expect("well-formed text");
    let mut section = 8;
    while binary.get(section).is_some_and(|id| *id != 0) {
        let (mut size, mut shift, mut at) = (0, 0, section + 1);
        loop {
            size |= usize::from(binary[at] & 0x7f) << shift;
            (shift, at) = (shift + 7, at + 1);
            if binary[at - 1] & 0x80 == 0 {
                break;
            }
        }
        section = at + size;
    }
    binary.truncate(section);
    binary
}

#[test]
fn truncated_module_is_refused() {
    let module = binary(MODULE);
    assert_eq!(compile(&module).expect("the whole of it").kind(), Kind::Preview1);
    for end in 0..module.len() {
        refusal(&module[..end], &format!("the first {end} of {} bytes", module.len()));
    }
}

#[test]
fn truncated_component_is_refused() {
    let component = binary(COMPONENT);
    assert_eq!(compile(&component).expect("the whole of it").kind(), Kind::Component2);
    for end in 0..component.len() {
        refusal(&component[..end], &format!("the first {end} of {} bytes", component.len()));
    }
}

#[test]
fn changed_byte_is_refused_or_harmless() {
    for text in [MODULE, COMPONENT] {
        let whole = binary(text);
        for (place, byte) in noise(7).take(400).enumerate() {
            let mut changed = whole.clone();
            let place = place * 31 % changed.len();
            changed[place] ^= byte | 1;
            if let Err(refused) = compile(&changed) {
                assert!(!refused.to_string().trim().is_empty(), "byte {place}");
            }
        }
    }
}

#[test]
fn garbage_is_refused() {
    let beginnings: [&[u8]; 7] =
        [b"", b"\0", b"\0asm", b"\0asm\x01\0\0\0", b"\0asm\x0d\0\x01\0", b"(module", b"\xff\xfe(module)"];
    for beginning in beginnings {
        for (seed, length) in [(1, 0), (2, 1), (3, 7), (4, 100), (5, 10_000)] {
            let garbage: Vec<u8> = beginning.iter().copied().chain(noise(seed).take(length)).collect();
            refusal(&garbage, &format!("{beginning:?} and {length} bytes of noise"));
        }
    }
}
