//! `distillery check DIR`: the server's verdict on one plugin.

use distillery_tests::{
    Guest,
    program::{output, program},
};
use std::{fs, process::Command};
use tempfile::TempDir;

/// Checks a plugin of these files: whether it is valid, and the output.
fn check(files: &[(&str, &[u8])]) -> (bool, String) {
    let root = TempDir::with_prefix("distillery-test-").expect("a directory");
    let directory = root.path().join("greet");
    fs::create_dir(&directory).expect("a directory for the plugin");
    for (name, content) in files {
        fs::write(directory.join(name), content).expect("a file of the plugin");
    }
    // Runs inside the directory, as the author of a plugin does.
    let output = output(Command::new(program()).args(["check", "."]).current_dir(&directory));
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(fs::read_dir(&directory).expect("it is there").count(), files.len(), "a check leaves nothing behind");
    (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn valid_plugin_is_described() {
    let guest = fs::read(Guest::component("conversation").file).expect("a guest");
    let manifest = "calls:\n  greet:\n    access: public\n    params: [{name: who, pattern: '[a-z]+', default: you}]\n";
    let (good, said) = check(&[("greet.wasm", &guest), ("plugin.yaml", manifest.as_bytes())]);
    assert!(good, "{said}");
    for part in [
        "plugin greet: /",
        "  module: greet.wasm, ",
        "  kind: WASI 0.2 component\n",
        "  compiled in: ",
        "  memory: 1088KiB at first, at most 256MiB\n",
        "  call: greet [who]: public\n",
        "    who: optional, matches [a-z]+, else \"you\"\n",
    ] {
        assert!(said.contains(part), "{part:?} is not in: {said}");
    }
}

#[test]
fn every_problem_is_one_line_with_a_remedy() {
    let module = b"(module (import \"env\" \"secret\" (func)) (func (export \"_start\")))";
    let manifest = "limits: {memory: 1TiB}\ncancel: {grace: 1h}\ncapabilities: {env: [LANG]}\n";
    let (good, said) = check(&[("greet.wat", module), ("plugin.yaml", manifest.as_bytes())]);
    assert!(!good, "{said}");
    let problems: Vec<_> = said.lines().filter(|line| line.starts_with("problem: ")).collect();
    for part in ["grant it in plugins.grants", "limits.memory asks for 1TiB", "cancel.grace asks for 1h", "env::secret"]
    {
        assert!(problems.iter().any(|problem| problem.contains(part)), "{part:?} is not in: {said}");
    }
    assert!(said.contains("  asks for: the environment variable LANG\n"), "{said}");
    assert!(said.ends_with("4 problems\n"), "{said}");
}

#[test]
fn unreadable_plugin_is_one_problem() {
    let (good, said) = check(&[("plugin.yaml", b"build: make it")]);
    assert!(!good);
    assert!(said.starts_with("problem: ") && said.contains("build it with: make it"), "{said}");
}
