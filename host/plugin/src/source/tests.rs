use super::*;
use crate::discover::tests::root;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use std::os::unix::fs::symlink;

const MAX: Bounds = Bounds { module: Size::mib(1), files: FileLimits { count: 100, size: Size::kib(64) } };

fn refused(root: &tempfile::TempDir, name: &str) -> String {
    let error = Source::read(&root.path().join(name), &MAX, &Interpreters::default()).unwrap_err().to_string();
    error.replace(&format!("{}/", root.path().display()), "")
}

#[test]
fn plugin_is_read_completely() {
    let root = root(&[("echo/echo.wat", "(module)"), ("two/a.wat", "a"), ("two/b.wat", "b")]);
    fs::write(root.path().join("two/plugin.yaml"), "component: b.wat").unwrap();
    let echo = Source::read(&root.path().join("echo"), &MAX, &Interpreters::default()).unwrap();
    assert_eq!((echo.name.as_str(), echo.module_bytes.as_slice()), ("echo", b"(module)".as_slice()));
    assert!(echo.manifest.calls.contains_key("echo"));
    assert_eq!(Source::read(&root.path().join("two"), &MAX, &Interpreters::default()).unwrap().module_bytes, b"b");
}

#[test]
fn digest_changes_with_manifest_and_module() {
    let root = root(&[("echo/echo.wat", "a")]);
    let digest = || Source::read(&root.path().join("echo"), &MAX, &Interpreters::default()).unwrap().digest;
    let first = digest();
    assert!(first.len() == 64 && first == digest());
    fs::write(root.path().join("echo/echo.wat"), "b").unwrap();
    let second = digest();
    fs::write(root.path().join("echo/plugin.yaml"), "description: b").unwrap();
    assert!(first != second && second != digest());
}

#[test]
fn digest_of_a_plugin_without_files_is_unchanged() {
    // As signed by versions that knew no files: the length of the manifest, the manifest, the module.
    let signed = hex(&Sha256::digest(b"\x02\0\0\0\0\0\0\0{}(module)"));
    let root = root(&[("echo/echo.wat", "(module)"), ("echo/plugin.yaml", "{}")]);
    let digest = || Source::read(&root.path().join("echo"), &MAX, &Interpreters::default()).unwrap().digest;
    assert_eq!(digest(), signed);
    fs::create_dir(root.path().join("echo/files")).unwrap();
    assert_eq!(digest(), signed, "an empty directory is none");
    fs::write(root.path().join("echo/files/a"), "1").unwrap();
    let with_files = digest();
    fs::write(root.path().join("echo/files/a"), "2").unwrap();
    assert!(digest() != signed && digest() != with_files);
}

#[test]
fn files_are_wanted_as_the_manifest_says() {
    let root = root(&[("echo/echo.wat", "a"), ("echo/files/a", "1"), ("echo/lib/b", "1")]);
    let directory = root.path().join("echo");
    let files = |manifest: &str| {
        fs::write(directory.join("plugin.yaml"), manifest).unwrap();
        Source::read(&directory, &MAX, &Interpreters::default()).map(|source| source.files.map(|tree| tree.count()))
    };
    assert_eq!(files("{}").unwrap(), Some(1));
    assert_eq!(files("files: false").unwrap(), None);
    assert_eq!(files("files: lib").unwrap(), Some(1));
    let missing = files("files: none").unwrap_err().to_string();
    assert!(missing.ends_with("echo/none: no such directory: make it, or change files: in plugin.yaml"), "{missing}");
    let twice = files("capabilities: {mounts: [{name: a, at: /plugin}]}").unwrap_err().to_string();
    assert!(twice.contains("plugin.yaml: two things are at /plugin"), "{twice}");
    fs::remove_dir_all(directory.join("files")).unwrap();
    assert_eq!(files("{}").unwrap(), None);
    fs::write(directory.join("files"), "not a directory").unwrap();
    assert_eq!(files("{}").unwrap(), None);
    assert!(files("files: true").is_err());
}

#[test]
fn load_error_says_what_to_do() {
    let root = root(&[
        ("empty/plugin.yaml", "{}"),
        ("unbuilt/plugin.yaml", "build: make it"),
        ("missing/plugin.yaml", "component: x.wasm"),
        ("many/a.wasm", ""),
        ("many/b.wat", ""),
        ("bad/plugin.yaml", "calls: 1"),
        ("folder/plugin.yaml", "component: x.wasm"),
        ("folder/x.wasm/y", ""),
    ]);
    assert_eq!(
        refused(&root, "empty"),
        "empty: no module: put a .wasm or .wat file there, or name it with component: in plugin.yaml"
    );
    assert_eq!(refused(&root, "unbuilt"), "unbuilt: no such module: build it with: make it");
    assert_eq!(
        refused(&root, "missing"),
        "missing/x.wasm: no such module: put it there, or name another with component:"
    );
    assert_eq!(
        refused(&root, "many"),
        "many: several modules (a.wasm, b.wat): name one with component: in plugin.yaml"
    );
    assert!(refused(&root, "bad").starts_with("bad/plugin.yaml:1:1: calls: "), "{}", refused(&root, "bad"));
    assert_eq!(refused(&root, "folder"), "folder/x.wasm: not a regular file: put the file itself there");
}

#[test]
fn module_above_the_size_limit_is_not_read() {
    let root = root(&[("big/big.wat", "12345")]);
    let directory = root.path().join("big");
    let within =
        |bytes| Source::read(&directory, &Bounds { module: Size::bytes(bytes), ..MAX }, &Interpreters::default());
    assert!(within(5).is_ok());
    let error = within(4).unwrap_err().to_string();
    assert!(
        error.ends_with("big.wat: larger than 4B: make it smaller, or raise limits.module in distillery.yaml"),
        "{error}"
    );
}

#[test]
fn unreadable_manifest_is_an_error() {
    let root = root(&[
        ("empty/plugin.yaml", ""),
        ("comments/plugin.yaml", "# calls: {}\n"),
        ("cut/plugin.yaml", "calls:\n"),
        ("yml/plugin.yml", "{}"),
        ("case/Plugin.yaml", "{}"),
        ("both/plugin.yaml", "{}"),
        ("both/PLUGIN.YML", "{}"),
        ("binary/plugin.yaml", "\0\0\0\0"),
        ("directory/plugin.yaml/x", ""),
        ("bare/README.md", ""),
    ]);
    let at = |name: &str| root.path().join(name);
    for name in ["dangling", "pipe", "large"] {
        fs::create_dir(at(name)).unwrap();
    }
    symlink("nowhere.yaml", at("dangling/plugin.yaml")).unwrap();
    mknodat(CWD, at("pipe/plugin.yaml"), FileType::Fifo, Mode::RWXU, 0).unwrap();
    fs::write(at("large/plugin.yaml"), "#".repeat(manifest::MAX_SIZE.as_usize() + 1)).unwrap();
    for entry in fs::read_dir(root.path()).unwrap() {
        fs::write(entry.unwrap().path().join("x.wasm"), "").unwrap();
    }
    for (name, told) in [
        ("empty", "plugin.yaml:1:1: it is empty: put its content back"),
        ("comments", "plugin.yaml:1:1: it is empty: put its content back"),
        ("cut", "plugin.yaml:1:1: calls: it has no value"),
        ("yml", "plugin.yml: nothing reads a file of this name: rename it to plugin.yaml, or remove it"),
        ("case", "Plugin.yaml: nothing reads a file of this name: rename it to plugin.yaml, or remove it"),
        ("both", "PLUGIN.YML: nothing reads a file of this name: rename it to plugin.yaml, or remove it"),
        ("binary", "plugin.yaml:1: UTF-16 or UTF-32 text, or no text at all: save the file as UTF-8"),
        ("directory", "plugin.yaml: not a regular file"),
        ("dangling", "plugin.yaml: a link to a file that does not exist: put that file back, or remove the link"),
        ("pipe", "plugin.yaml: not a regular file"),
        ("large", "plugin.yaml: larger than 64KiB: this is no manifest"),
    ] {
        let refused = refused(&root, name);
        assert!(refused.starts_with(&format!("{name}/{told}")), "{refused}");
    }
    assert!(Source::read(&at("bare"), &MAX, &Interpreters::default()).is_ok());
}

#[test]
fn fingerprint_tells_an_empty_manifest_from_none() {
    let root = root(&[("echo/echo.wat", "a")]);
    let source = || Source::read(&root.path().join("echo"), &MAX, &Interpreters::default()).unwrap();
    let prints: Vec<_> = [None, Some(("plugin.yaml", "{}")), Some((signature::FILE, ""))]
        .map(|file| {
            file.into_iter().for_each(|(name, text)| fs::write(root.path().join("echo").join(name), text).unwrap());
            source().fingerprint()
        })
        .into();
    assert!(prints[0] != prints[1] && prints[1] != prints[2] && prints[2] == source().fingerprint());
}
