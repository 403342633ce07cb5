//! `distillery new` and `distillery build`, except for the languages themselves: see languages.rs.

use distillery_tests::program::{output_of_tool, program};
use std::{
    fs,
    path::Path,
    process::{Command, Output},
};
use tempfile::TempDir;

fn distillery(directory: &Path, arguments: &[&str]) -> Output {
    output_of_tool(Command::new(program()).args(arguments).current_dir(directory))
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn directory() -> TempDir {
    TempDir::with_prefix("distillery-test-").expect("a directory")
}

#[test]
fn new_plugin_is_created_in_the_plugin_directory() {
    let here = directory();
    assert!(distillery(here.path(), &["new", "c", "hello"]).status.success());
    assert!(here.path().join("hello/call.c").is_file());

    fs::create_dir(here.path().join("plugins")).expect("a directory for plugins");
    let made = distillery(here.path(), &["new", "c", "hello"]);
    assert!(stdout(&made).contains("distillery build plugins/hello\n"), "{}", stdout(&made));
    let manifest = fs::read_to_string(here.path().join("plugins/hello/plugin.yaml")).expect("a manifest");
    assert!(manifest.contains("\n  hello:\n"), "{manifest}");
}

#[test]
fn new_call_is_private_and_names_the_setting_that_opens_it() {
    let here = directory();
    let (private, public) = ("\n    #access: public ", "\n    access: public ");
    let made = distillery(here.path(), &["new", "c", "hello"]);
    assert!(stdout(&made).contains("only callers with the scope call:hello; `access: public`"), "{made:?}");
    let manifest = fs::read_to_string(here.path().join("hello/plugin.yaml")).expect("a manifest");
    assert!(manifest.contains(private) && !manifest.contains(public), "{manifest}");
    let made = distillery(here.path(), &["new", "--public", "c", "open"]);
    assert!(stdout(&made).contains("access: public"), "{made:?}");
    let manifest = fs::read_to_string(here.path().join("open/plugin.yaml")).expect("a manifest");
    assert!(manifest.contains(public) && !manifest.contains(private), "{manifest}");
}

#[test]
fn new_overwrites_no_existing_file() {
    let here = directory();
    fs::create_dir(here.path().join("hello")).expect("a directory");
    let refused = distillery(here.path(), &["new", "rust", "hello"]);
    assert!(!refused.status.success());
    assert_eq!(stderr(&refused), "distillery: hello exists already: choose another name\n");
    assert_eq!(fs::read_dir(here.path().join("hello")).expect("it is there").count(), 0);
}

#[test]
fn unknown_language_and_invalid_name_are_explained() {
    let here = directory();
    let refused = distillery(here.path(), &["new", "cobol", "hello"]);
    assert!(!refused.status.success());
    for language in
        ["assemblyscript", "c", "cpp", "go", "javascript", "micropython", "python", "rust", "typescript", "zig"]
    {
        assert!(stderr(&refused).contains(language), "{}", stderr(&refused));
    }
    let refused = distillery(here.path(), &["new", "rust", "../hello"]);
    assert!(stderr(&refused).contains("is not a name for a call: use "), "{}", stderr(&refused));
    assert_eq!(fs::read_dir(here.path()).expect("it is there").count(), 0);
}

/// Returns a plugin that `build` builds.
fn plugin(build: &str) -> TempDir {
    let here = directory();
    fs::create_dir(here.path().join("greet")).expect("a directory for the plugin");
    fs::write(here.path().join("greet/plugin.yaml"), format!("build: {build}\n")).expect("a manifest");
    fs::write(here.path().join("greet/source"), "(module (memory 1) (func (export \"_start\")))").expect("a source");
    here
}

#[test]
fn build_runs_in_the_plugin_directory_and_is_checked() {
    let here = plugin("echo made && cp source greet.wat");
    let built = distillery(here.path(), &["build", "greet"]);
    assert!(built.status.success(), "{}", stderr(&built));
    let said = stdout(&built);
    for part in ["\nmade\n", "  kind: WASI preview 1 module\n", "  memory: 64KiB at first"] {
        assert!(said.contains(part), "{part:?} is not in: {said}");
    }
}

#[test]
fn failed_or_invalid_build_is_a_failure() {
    let failed = distillery(plugin("exit 7").path(), &["build", "greet"]);
    assert_eq!(failed.status.code(), Some(1));
    assert!(stderr(&failed).contains("greet: the build failed (exit status: 7)"), "{}", stderr(&failed));

    let bad = distillery(plugin("echo nonsense > greet.wasm").path(), &["build", "greet"]);
    assert_eq!(bad.status.code(), Some(1));
    assert!(stdout(&bad).contains("problem: ") && stdout(&bad).ends_with("1 problem\n"), "{}", stdout(&bad));

    let here = plugin("");
    fs::write(here.path().join("greet/plugin.yaml"), "description: nothing to build\n").expect("a manifest");
    let none = distillery(here.path(), &["build", "greet"]);
    assert_eq!(none.status.code(), Some(1));
    assert!(stderr(&none).contains("add `build: COMMAND`"), "{}", stderr(&none));
}
