use super::*;
use crate::{Operator, Plugin, source::Source};
use distillery_runtime::testing::runtime;

const BOUNDS: Bounds = Bounds { module: Size::mib(1), files: FileLimits { count: 100, size: Size::kib(64) } };
const MODULE: &str = r#"(module (memory 1) (func (export "_start")) (func (export "of_interpreters")))"#;

fn write(root: &Path, file: &str, text: &str) {
    let path = root.join(file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// Creates an installed interpreter `sh`, and two plugins with a script each.
fn world() -> (tempfile::TempDir, Interpreters) {
    let root = tempfile::tempdir().unwrap();
    let at = root.path();
    write(at, "interpreters/sh/interpreter.yaml", "{arguments: [-x, '{script}'], env: {A: '1', B: '2'}, dev: true}");
    write(at, "interpreters/sh/sh.wat", MODULE);
    write(at, "interpreters/sh/files/lib.sh", "library");
    let manifest = "{interpreter: sh, script: a.sh, arguments: [-y], env: {B: '3'}, calls: {x: {}, y: {script: b/c.sh, arguments: [-z]}}}";
    for plugin in ["one", "two"] {
        write(at, &format!("plugins/{plugin}/plugin.yaml"), manifest);
        write(at, &format!("plugins/{plugin}/files/a.sh"), plugin);
        write(at, &format!("plugins/{plugin}/files/b/c.sh"), "c");
    }
    let interpreters = Interpreters::of(at.join("interpreters"));
    (root, interpreters)
}

fn source(root: &Path, interpreters: &Interpreters, plugin: &str) -> Result<Source, String> {
    Source::read(&root.join("plugins").join(plugin), &BOUNDS, interpreters).map_err(|error| error.to_string())
}

#[test]
fn script_gets_the_arguments_of_its_interpreter() {
    let (root, interpreters) = world();
    let source = source(root.path(), &interpreters, "one").unwrap();
    let manifest = &source.manifest;
    assert!(manifest.arguments.is_empty());
    assert_eq!(manifest.calls["x"].arguments, ["-x", "/plugin/a.sh", "-y"]);
    assert_eq!(manifest.calls["y"].arguments, ["-x", "/plugin/b/c.sh", "-y", "-z"]);
    let env: Vec<_> = manifest.env.iter().map(|(name, value)| format!("{}={value}", name.as_str())).collect();
    assert_eq!(env, ["A=1", "B=3"]);
    assert!(manifest.dev);
}

#[test]
fn plugins_with_one_interpreter_share_one_program() {
    let (root, interpreters) = world();
    let load = |plugin: &str| {
        let source = source(root.path(), &interpreters, plugin).unwrap();
        let interpreter = source.interpreter.clone().unwrap();
        Plugin::new(&source, &Operator::default(), 1, |limits| interpreter.program(runtime(), limits)).unwrap()
    };
    let (one, two) = (load("one"), load("two"));
    assert!(one.program.is_same(&two.program));
    // A changed script is a new version, and needs neither the module nor a compilation.
    fs::write(root.path().join("plugins/one/files/a.sh"), "changed").unwrap();
    let interpreter = interpreters.get(&"sh".parse().unwrap(), &BOUNDS).unwrap();
    let changed = source(root.path(), &interpreters, "one").unwrap();
    assert_ne!(changed.digest, one.digest);
    assert!(Arc::ptr_eq(changed.interpreter.as_ref().unwrap(), &interpreter), "it is read once");
    assert!(load("one").program.is_same(&two.program));
    // So does a plugin that brings the same module along.
    let module = runtime().compile(MODULE.as_bytes(), &interpreter.manifest.linking, &Limits::default()).unwrap();
    assert!(module.is_same(&two.program));
}

#[test]
fn changed_interpreter_changes_its_plugins() {
    let (root, interpreters) = world();
    let digest = || source(root.path(), &interpreters, "one").unwrap().digest;
    let mut digests = vec![digest()];
    for (file, text) in [
        ("sh.wat", "(module (memory 1) (func (export \"_start\")))"),
        ("files/lib.sh", "other"),
        ("interpreter.yaml", "{}"),
    ] {
        fs::write(root.path().join("interpreters/sh").join(file), text).unwrap();
        digests.push(digest());
    }
    digests.dedup();
    assert_eq!(digests.len(), 4);
}

#[test]
fn error_about_an_interpreter_names_the_next_step() {
    let (root, interpreters) = world();
    let at = root.path();
    let refused = |manifest: &str| {
        write(at, "plugins/one/plugin.yaml", manifest);
        source(at, &interpreters, "one").unwrap_err()
    };
    let error = refused("{interpreter: python, script: a.sh}");
    assert!(
        error.ends_with(
            "the interpreter \"python\" is not installed (sh is): install it with `distillery interpreter add \
             DIRECTORY`, or put it into plugins.interpreters"
        ),
        "{error}"
    );
    for (manifest, expected) in [
        ("{interpreter: sh}", "the call one has no script: write script: FILE, which is below files/"),
        ("{interpreter: sh, script: no.sh}", "the script \"no.sh\" of the call one is not in files/: put it there"),
        ("{script: a.sh}", "script: needs an interpreter: name one with interpreter:"),
        ("{interpreter: sh, script: a.sh, component: x.wasm}", "interpreter: is what runs: remove component"),
        ("{interpreter: sh, script: a.sh, imports: trap}", "says how it is linked: remove imports"),
        ("{interpreter: sh, script: a.sh, files: {at: /interpreter}}", "two things are at /interpreter"),
    ] {
        let error = refused(manifest);
        assert!(error.contains(expected), "{manifest}: {error}");
    }
    fs::remove_file(at.join("interpreters/sh/sh.wat")).unwrap();
    let error = refused("{interpreter: sh, script: a.sh}");
    assert!(
        error.contains("interpreters/sh") && error.contains("no module: put one .wasm or .wat file there"),
        "{error}"
    );
    fs::remove_file(at.join("interpreters/sh/interpreter.yaml")).unwrap();
    let error = refused("{interpreter: sh, script: a.sh}");
    assert!(error.contains("interpreter.yaml: no such file"), "{error}");
}

#[test]
fn archived_version_keeps_its_interpreter() {
    let (root, interpreters) = world();
    let archive = crate::archive::Archive::of(&root.path().join("data"));
    let store = Arc::new(crate::files::store::FileStore::of(root.path().join("data").join(crate::archive::DIRECTORY)));
    let grants = crate::granted::OperatorGrants { files: store, ..Default::default() };
    let operator = Operator { grants, ..Operator::default() };
    let source = source(root.path(), &interpreters, "one").unwrap();
    let interpreter = source.interpreter.clone().unwrap();
    let plugin = Plugin::new(&source, &operator, 1, |limits| interpreter.program(runtime(), limits)).unwrap();
    archive.keep(&source).unwrap();
    fs::remove_dir_all(root.path().join("interpreters")).unwrap();
    fs::remove_dir_all(root.path().join("plugins/one")).unwrap();
    // Unused files are removed, those of an archived version are not.
    drop(plugin);
    operator.grants.files.collect().unwrap();
    let copy = archive.source(&root.path().join("plugins/one"), &source.digest, &BOUNDS).unwrap();
    assert_eq!(copy.manifest.calls["x"].arguments, ["-x", "/plugin/a.sh", "-y"]);
    let interpreter = copy.interpreter.clone().unwrap();
    Plugin::new(&copy, &operator, 2, |limits| interpreter.program(runtime(), limits)).unwrap();
}
