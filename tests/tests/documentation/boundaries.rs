//! Compares the order of the packages and modules in ARCHITECTURE.md and `lib.rs` with what the code names.

use super::{read, repository};
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Returns the first word in backticks of each row of the table below `heading`.
fn rows<'a>(page: &'a str, heading: &str) -> Vec<&'a str> {
    let section = page.split(heading).nth(1).and_then(|it| it.split("\n## ").next()).expect("the section exists");
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.filter_map(|row| row.split('`').next()).collect()
}

/// Returns the packages of this repository that the package in `host/name` depends on.
fn packages_named(name: &str) -> Vec<String> {
    let manifest: toml::Table = read(&format!("host/{name}/Cargo.toml")).parse().expect("a manifest");
    let dependencies = manifest["dependencies"].as_table().expect("a table");
    dependencies.keys().filter_map(|it| it.strip_prefix("distillery-")).map(str::to_owned).collect()
}

#[test]
fn packages_name_only_those_above_them() {
    let page = read("ARCHITECTURE.md");
    let order = rows(&page, "\n## Packages\n");
    let folders = fs::read_dir(repository("host")).expect("a directory");
    let folders = folders.map(Result::unwrap).filter(|it| it.path().is_dir());
    let folders: BTreeSet<_> = folders.map(|it| it.file_name().into_string().unwrap()).collect();
    assert_eq!(order.iter().map(|it| (*it).to_owned()).collect::<BTreeSet<_>>(), folders);
    for (at, package) in order.iter().enumerate() {
        for named in packages_named(package) {
            let is_above = order[..at].contains(&named.as_str());
            assert!(is_above, "{package} names {named}, which is below it in ARCHITECTURE.md");
        }
    }
    assert_eq!(packages_named("client"), Vec::<String>::new());
}

/// Returns all Rust files below `directory`.
pub fn rust_files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(rust_files(&path));
        } else if path.extension().is_some_and(|it| it == "rs") {
            found.push(path);
        }
    }
    found
}

/// Returns the top-level modules that `code` names as `crate::module` or in `use crate::{…}`.
fn modules_named(code: &str) -> BTreeSet<&str> {
    let mut named = BTreeSet::new();
    let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    let mut depth = 0_usize;
    for line in lines {
        let mut rest = line;
        // Inside a group of several lines, each name at its first level stands at the start of a line.
        if depth > 0 {
            if depth == 1 {
                named.insert(first_word(line));
            }
            depth = (depth + line.matches('{').count()).saturating_sub(line.matches('}').count());
            continue;
        }
        while let Some((_, after)) = rest.split_once("crate::") {
            rest = after;
            if let Some(group) = after.strip_prefix('{') {
                let mut level = 1_usize;
                let mut start = 0;
                for (at, c) in group.char_indices() {
                    match c {
                        '{' => level += 1,
                        '}' => level -= 1,
                        _ => {}
                    }
                    if level == 0 || (level == 1 && c == ',') {
                        named.insert(first_word(&group[start..at]));
                        start = at + 1;
                    }
                    if level == 0 {
                        break;
                    }
                }
                depth = level;
            } else {
                named.insert(first_word(after));
            }
        }
    }
    named.remove("");
    named
}

fn first_word(text: &str) -> &str {
    text.trim_start().split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default()
}

#[test]
fn modules_of_http_name_only_those_before_them() {
    let sources = repository("host/http/src");
    let header = read("host/http/src/lib.rs");
    let header: String = header.lines().take_while(|line| line.starts_with("//!")).collect();
    let order: Vec<_> = header.split("[`").skip(1).filter_map(|it| it.split("`]").next()).collect();
    assert!(order.len() > 5, "{order:?}");
    for file in rust_files(&sources) {
        let inner = file.strip_prefix(&sources).unwrap().with_extension("");
        let module = inner.components().next().unwrap().as_os_str().to_str().unwrap().to_owned();
        if module == "lib" {
            continue;
        }
        let at = order.iter().position(|it| *it == module).unwrap_or_else(|| panic!("lib.rs does not list {module}"));
        let code = fs::read_to_string(&file).unwrap();
        for named in modules_named(&code).into_iter().filter(|named| *named != module) {
            let is_before = order[..at].contains(&named);
            assert!(is_before, "{} names {named}, which is not before {module} in lib.rs", file.display());
        }
    }
}

/// What only compiles on Linux, or means something else on another system.
const LINUX_ONLY: [&str; 13] = [
    "target_os",
    "linux::net",
    "OFlags::PATH",
    "RawDir",
    "pwritev2",
    "memfd",
    "parent_process_death",
    "setpriority",
    "peercred",
    "cmsg",
    "from_abstract_name",
    "RDHUP",
    "/proc/self",
];

#[test]
fn linux_is_named_only_behind_its_doors() {
    let files = rust_files(&repository("host"));
    let (doors, rest): (Vec<_>, Vec<_>) = files.iter().partition(|file| {
        let names = file.components().map(|it| it.as_os_str().to_string_lossy());
        names.into_iter().any(|name| name == "platform" || name == "platform.rs")
    });
    for name in LINUX_ONLY {
        let naming = |files: &[&PathBuf]| -> Vec<PathBuf> {
            let names = |file: &&&PathBuf| fs::read_to_string(file).unwrap().contains(name);
            files.iter().filter(names).map(|file| file.to_path_buf()).collect()
        };
        assert_eq!(naming(&rest), Vec::<PathBuf>::new(), "{name} belongs into `platform`, with a replacement");
        assert!(!naming(&doors).is_empty(), "{name} is named nowhere any more");
    }
}

#[test]
fn names_of_modules_are_found_in_code() {
    let code = "use crate::{\n    api::{self, auth},\n    socket::Frame,\n};\nuse crate::answer::X;\n\
                // crate::comment::Y\nlet x = crate::wire::Z; use crate::{a::b, c::{d, e}};\n";
    assert_eq!(modules_named(code), BTreeSet::from(["a", "answer", "api", "c", "socket", "wire"]));
}
