use super::{known::*, *};
use crate::{Kind, testing::runtime};
use distillery_core::limits::Limits;

const PLAIN: Linking = Linking { unknown: UnknownImports::Refuse, invoke: None };

fn refused_with(code: &str, linking: &Linking) -> String {
    let refused = Inspection::of(code.as_bytes()).unwrap().check(linking).unwrap_err().to_string();
    assert!(!refused.contains('\n'), "{refused:?}");
    refused
}

fn refused(code: &str) -> String {
    refused_with(code, &PLAIN)
}

fn invoke(name: &str) -> Linking {
    Linking { invoke: Some(name.to_owned()), ..PLAIN }
}

/// Returns a command that imports these functions.
fn importing(imports: &[(&str, &str)]) -> String {
    let imports = imports.iter().map(|(module, name)| format!("(import \"{module}\" \"{name}\" (func))"));
    format!("(module {} (memory (export \"memory\") 1) (func (export \"_start\")))", imports.collect::<String>())
}

/// Returns a module with a section in front of its exports, and with the code of its only function `_start`.
fn binary(section: &[u8], code: &[u8]) -> Vec<u8> {
    let mut module = b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x03\x02\x01\0".to_vec();
    module.extend(section);
    module.extend(b"\x07\x0a\x01\x06_start\0\0");
    // The size of the section, one function, its size, and no variables.
    module.extend([0x0a, code.len() as u8 + 3, 1, code.len() as u8 + 1, 0]);
    module.extend(code);
    module
}

#[test]
fn all_missing_imports_are_named_with_meaning_and_cure() {
    let refused = refused(&importing(&[
        ("env", "emscripten_resize_heap"),
        ("env", "invoke_vii"),
        ("extism:host/env", "input_length"),
        ("wasix_32v1", "proc_fork"),
        ("wasi", "thread-spawn"),
        ("wasi_snapshot_preview1", "sock_connect"),
        ("wbg", "__wbg_log"),
        ("gojs", "runtime.wasmExit"),
        ("env", "abort"),
        ("distillery_call", "later"),
        ("env", "launch_missiles"),
    ]));
    for named in [
        "env::emscripten_resize_heap, env::invoke_vii (Emscripten's JavaScript: build with `emcc -sSTANDALONE_WASM`",
        "extism:host/env::input_length (Extism's host: read stdin and write stdout",
        "wasix_32v1::proc_fork (WASIX",
        "wasi::thread-spawn (threads",
        "wasi_snapshot_preview1::sock_connect (an extension of preview 1",
        "wbg::__wbg_log (wasm-bindgen's JavaScript",
        "gojs::runtime.wasmExit (Go's JavaScript: build with `GOOS=wasip1",
        "env::abort (AssemblyScript's JavaScript: compile with @assemblyscript/wasi-shim",
        "distillery_call::later (unknown to this version",
        "env::launch_missiles (no part of WASI",
        "imports: trap in plugin.yaml",
    ] {
        assert!(refused.contains(named), "{named} / {refused}");
    }
}

#[test]
fn list_of_missing_imports_is_bounded_and_escaped() {
    let names: Vec<_> = (0..1000).map(|number| format!("f{number}")).collect();
    let imports: Vec<_> = names.iter().map(|name| ("env", name.as_str())).collect();
    let refused = refused(&importing(&imports));
    assert!(refused.contains("env::f59, and 940 more (no part") && refused.len() < 4096, "{refused}");
    let escaped = refused_with(r#"(module (import "env" "a\1b[2Jb" (func)) (func (export "_start")))"#, &PLAIN);
    assert!(!escaped.contains('\u{1b}'), "{escaped:?}");
}

#[test]
fn entry_point_is_a_function_without_values() {
    let reactor = r#"(module (func (export "_initialize")) (func (export "work")) (func (export "add") (param i32)))"#;
    let told = refused(reactor);
    assert!(told.starts_with("it is a reactor") && told.ends_with("in plugin.yaml (it exports work)"), "{told}");
    assert!(Inspection::of(reactor.as_bytes()).unwrap().check(&invoke("work")).is_ok());
    let told = refused_with(reactor, &invoke("missing"));
    assert_eq!(
        told,
        "invoke: it exports no function \"missing\": name one without parameters and results (it exports work)"
    );
    assert!(refused_with(reactor, &invoke("add")).starts_with("`add` takes parameters or returns results"));
    for (module, why) in [
        (r#"(module (func (export "_start") (result i32) (i32.const 1)))"#, "`_start` takes parameters or returns"),
        (r#"(module (func (export "_start") (param i32)))"#, "`_start` takes parameters or returns"),
        (r#"(module (memory (export "_start") 1))"#, "`_start` is not a function"),
        (r#"(module (func (export "_start")) (func (export "_initialize") (param i32)))"#, "`_initialize` takes"),
        (r#"(module (func (export "compute") (result i32) (i32.const 1)))"#, "it has nothing to run"),
    ] {
        assert!(refused(module).starts_with(why), "{}", refused(module));
    }
}

#[test]
fn module_without_memory_cannot_use_preview1() {
    let module = |memory: &str| {
        format!(
            r#"(module (import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32)))
                {memory} (func (export "_start")))"#
        )
    };
    assert!(
        refused(&module("")).starts_with("it exports no memory named `memory`, through which fd_write passes data")
    );
    assert!(refused(&module("(memory (export \"other\") 1)")).starts_with("it exports no memory"));
    let check = |code: &str| Inspection::of(code.as_bytes()).unwrap().check(&PLAIN);
    assert!(check(&module("(memory (export \"memory\") 1)")).is_ok());
    let exits = r#"(module (import "wasi_snapshot_preview1" "proc_exit" (func (param i32))) (func (export "_start")))"#;
    assert!(check(exits).is_ok());
}

#[test]
fn threads_and_legacy_exceptions_name_the_flag() {
    let threads = r#"(module (memory (export "memory") 1 2 shared) (func (export "_start")))"#;
    assert!(refused(threads).starts_with("it shares memory between threads"));
    let imported = r#"(module (import "env" "memory" (memory 1 2 shared)) (func (export "_start")))"#;
    let told = refused(imported);
    assert!(told.starts_with("it shares memory") && told.contains("env::memory (no part of WASI"), "{told}");
    // A tag, and `try throw 0 catch 0 end`, which the text format does not have any more.
    let legacy = binary(&[0x0d, 3, 1, 0, 0], &[0x06, 0x40, 0x08, 0, 0x07, 0, 0x0b, 0x0b]);
    let told = Inspection::of(&legacy).unwrap().check(&PLAIN).unwrap_err().to_string();
    assert!(told.contains("-wasm-use-legacy-eh=false") && told.contains("wasm-opt --translate-to-exnref"), "{told}");
    let standard = r#"(module (tag $t)
        (func (export "_start") (block $b (try_table (catch $t $b) (throw $t)))))"#;
    let inspection = Inspection::of(standard.as_bytes()).unwrap();
    assert!(inspection.check(&PLAIN).is_ok());
    assert!(inspection.findings().contains(&"features: exceptions".to_owned()), "{:?}", inspection.findings());
}

#[test]
fn core_module_of_a_component_is_recognised() {
    for module in [
        r#"(module (import "wasi:cli/environment@0.2.0" "get-arguments" (func (param i32))) (func (export "wasi:cli/run@0.2.0#run") (result i32) (i32.const 0)))"#,
        r#"(module (func (export "wasi:cli/run@0.2.0#run") (result i32) (i32.const 0)))"#,
    ] {
        let told = refused(module);
        assert!(told.contains("`wasm-tools component new IN.wasm -o OUT.wasm`"), "{told}");
        assert!(!told.contains("nothing to run"), "{told}");
    }
}

/// Returns a component that exports an interface with one function.
fn exporting(interface: &str, function: &str, imports: &str) -> String {
    format!(
        r#"(component {imports}
            (core module $m (func (export "run") (result i32) (i32.const 0)))
            (core instance $i (instantiate $m))
            (func $run (result (result)) (canon lift (core func $i "run")))
            (instance (export "{interface}") (export "{function}" (func $run))))"#
    )
}

#[test]
fn components_are_told_what_they_lack() {
    let proxy = refused(&exporting("wasi:http/incoming-handler@0.2.0", "handle", ""));
    assert!(proxy.starts_with("it answers HTTP requests (wasi:http/incoming-handler@0.2.0)"), "{proxy}");
    assert!(proxy.contains("`wasmtime serve`"));
    let candidate = refused(&exporting("wasi:cli/run@0.2.0-rc-2023-11-10", "run", ""));
    assert!(candidate.starts_with("it is made for a release candidate of WASI (wasi:cli/run@0.2.0-rc-2023-11-10)"));
    assert!(refused(&exporting("my:own/api@1.0.0", "run", "")).starts_with("it has nothing to run"));
    let command = |imports: &str| exporting("wasi:cli/run@0.2.0", "run", imports);
    let imports = r#"
        (import "wasi:cli/environment@0.2.0-rc-2023-12-05" (instance (export "get" (func))))
        (import "wasi:keyvalue/store@0.2.0" (instance (export "open" (func))))
        (import "my:own/log@1.0.0" (instance (export "log" (func))))"#;
    let told = refused(&command(imports));
    for named in [
        "wasi:cli/environment@0.2.0-rc-2023-12-05 (a release candidate of WASI",
        "wasi:keyvalue/store@0.2.0 (WASI's stores",
        "my:own/log@1.0.0 (no part of WASI",
    ] {
        assert!(told.contains(named), "{named} / {told}");
    }
    assert!(Inspection::of(command("").as_bytes()).unwrap().check(&PLAIN).is_ok());
    assert!(refused_with(&command(""), &invoke("run")).starts_with("invoke: a component has no core exports"));
}

#[test]
fn interface_of_types_only_is_not_missing() {
    let types =
        r#"(import "my:own/types@1.0.0" (instance (type $t (record (field "x" u8))) (export "t" (type (eq $t)))))"#;
    let component = exporting("wasi:cli/run@0.2.0", "run", types);
    let program = runtime().compile(component.as_bytes(), &PLAIN, &Limits::default()).unwrap();
    assert_eq!(program.kind(), Kind::Component2);
}

#[test]
fn unknown_imports_can_be_linked_to_traps() {
    let trap = Linking { unknown: UnknownImports::Trap, ..PLAIN };
    let module = importing(&[("env", "launch_missiles")]);
    assert!(Inspection::of(module.as_bytes()).unwrap().check(&trap).is_ok());
    runtime().compile(module.as_bytes(), &trap, &Limits::default()).unwrap();
    let imports = r#"(import "my:own/log@1.0.0" (instance (export "log" (func))))"#;
    let component = exporting("wasi:cli/run@0.2.0", "run", imports);
    runtime().compile(component.as_bytes(), &trap, &Limits::default()).unwrap();
}

#[test]
fn known_interfaces_are_those_that_are_linked() {
    let all = WASI_2.iter().chain(&WASI_2_SOCKETS).map(|name| format!("{name}@0.2.0"));
    let all = all.chain(WASI_3.iter().map(|name| format!("{name}@0.3.0")));
    for name in all.chain(OWN_INTERFACES.iter().map(|name| format!("{name}@0.1.0"))) {
        // A function that no interface has: the refusal tells an unknown interface from an unknown function.
        let import = format!(r#"(import "{name}" (instance (export "no-such-function" (func))))"#);
        let component = exporting("wasi:cli/run@0.2.0", "run", &import);
        assert!(Inspection::of(component.as_bytes()).unwrap().check(&PLAIN).is_ok(), "{name}");
        let refused = runtime().compile(component.as_bytes(), &PLAIN, &Limits::default()).unwrap_err().to_string();
        assert!(refused.contains("no-such-function"), "{name}: {refused}");
    }
}

#[test]
fn every_interface_of_the_server_is_known() {
    let wit = include_str!("../../../../wit/call.wit");
    let interfaces = wit.lines().filter_map(|line| line.strip_prefix("interface ")?.strip_suffix(" {"));
    // An interface of types needs nothing from the server.
    let interfaces: Vec<_> = interfaces.filter(|name| !name.ends_with("types")).collect();
    assert!(interfaces.contains(&"commands"), "{interfaces:?}");
    for name in &interfaces {
        assert!(has_interface(&format!("distillery:call/{name}@0.1.0")), "{name}");
    }
    assert_eq!(interfaces.len(), OWN_INTERFACES.len());
}

#[test]
fn every_documented_function_of_the_server_is_known() {
    let page = include_str!("../../../../docs/reference/preview1.md");
    let functions: Vec<_> = page.split("IMPORT(").skip(1).filter_map(|it| it.split(')').next()).collect();
    let functions: Vec<_> = functions.into_iter().filter(|name| name.starts_with("command_")).collect();
    assert!(functions.len() >= 10, "{functions:?}");
    for name in functions {
        assert!(has_function(OWN_MODULE, name), "{name}");
    }
}

#[test]
fn known_functions_are_those_that_are_linked() {
    let modules = PREVIEW1_MODULES.iter().flat_map(|module| PREVIEW1.map(|(name, _)| (*module, name)));
    for (module, name) in modules.chain(OWN.map(|(name, _)| (OWN_MODULE, name))) {
        if (module, name) == ("wasi_unstable", "sock_accept") {
            continue;
        }
        // Of a type that no function has: the refusal tells an unknown function from a wrong type.
        let code = format!(
            r#"(module (import "{module}" "{name}" (func (param v128))) (memory (export "memory") 1)
                (func (export "_start")))"#
        );
        let refused = runtime().compile(code.as_bytes(), &PLAIN, &Limits::default()).unwrap_err().to_string();
        assert!(refused.contains("incompatible import type"), "{module}.{name}: {refused}");
    }
}

#[test]
fn inspection_reads_no_code_of_plain_modules() {
    // 0xff is no instruction.
    let module = binary(&[], &[0xff, 0x0b]);
    assert!(Inspection::of(&module).unwrap().check(&PLAIN).is_ok());
    let refused = runtime().compile(&module, &PLAIN, &Limits::default()).unwrap_err().to_string();
    assert!(refused.contains("0xff"), "{refused}");
}

#[test]
fn findings_name_imports_exports_and_memory() {
    let inspection = Inspection::of(
        br#"(module (import "wasi_snapshot_preview1" "proc_exit" (func (param i32)))
            (memory (export "memory") 2 16) (func (export "_start")))"#,
    );
    let findings = inspection.unwrap().findings();
    let expected = ["imports: wasi_snapshot_preview1 (1)", "exports: memory, _start", "memory: 128KiB, at most 1MiB"];
    assert_eq!(findings, expected);
}
