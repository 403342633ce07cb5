//! Checks the dependencies against deny.toml: licences, sources, and packages that must have a single version. Works
//! without a network, from the lockfiles and the packages that cargo has fetched for the build.

use distillery_tests::program::output_of_tool;
use serde::Deserialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    process::Command,
};

#[derive(Deserialize)]
struct Allowed {
    licenses: Licenses,
    sources: Sources,
    bans: Bans,
}

#[derive(Deserialize)]
struct Licenses {
    allow: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Sources {
    allow_registry: Vec<String>,
}

#[derive(Deserialize)]
struct Bans {
    deny: Vec<Ban>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Ban {
    #[serde(rename = "crate")]
    name: String,
    #[serde(default)]
    deny_multiple_versions: bool,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    license: Option<String>,
    /// `None` for a package of this repository.
    source: Option<String>,
}

const REPOSITORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

fn allowed() -> Allowed {
    let text = std::fs::read_to_string(Path::new(REPOSITORY).join("deny.toml")).expect("deny.toml can be read");
    toml::from_str(&text).expect("deny.toml is well-formed")
}

/// Returns every workspace of the repository: each has a lockfile of its own.
fn workspaces() -> Vec<PathBuf> {
    let places = [
        "",
        "plugins",
        "examples/interpreters/sources",
        "tests/guests",
        "tests/bench/guests/once",
        "tests/bench/guests/served",
    ];
    let found: Vec<_> = places
        .into_iter()
        .map(|place| Path::new(REPOSITORY).join(place))
        .filter(|place| place.join("Cargo.lock").is_file())
        .collect();
    assert_eq!(found.len(), places.len(), "every workspace has a committed lockfile: {found:?}");
    found
}

/// Returns the packages of a workspace that are built on this kind of machine or for wasm.
fn packages(workspace: &Path) -> Vec<Package> {
    let is_host = workspace == Path::new(REPOSITORY).join("");
    let target = if is_host { "x86_64-unknown-linux-gnu" } else { "wasm32-wasip2" };
    let mut metadata = Command::new(env!("CARGO"));
    metadata.args(["metadata", "--format-version=1", "--locked", "--offline", "--filter-platform"]);
    let output = output_of_tool(metadata.arg(target).current_dir(workspace));
    assert!(output.status.success(), "{}: {}", workspace.display(), String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice::<Metadata>(&output.stdout).expect("cargo writes metadata").packages
}

/// Returns all external packages of all workspaces.
fn foreign() -> Vec<Package> {
    let all = workspaces().into_iter().flat_map(|workspace| packages(&workspace));
    all.filter(|package| package.source.is_some()).collect()
}

#[test]
fn every_licence_is_allowed() {
    let allowed = allowed().licenses.allow;
    let allowed: Vec<_> = allowed.iter().map(|it| spdx::Licensee::parse(it).expect("an SPDX licence")).collect();
    let mut refused = BTreeMap::new();
    for package in foreign() {
        let licence = package.license.unwrap_or_default();
        let fits = spdx::Expression::parse_mode(&licence, spdx::ParseMode::LAX).is_ok_and(|expression| {
            expression.evaluate(|asked| allowed.iter().any(|licensee| licensee.satisfies(asked)))
        });
        if !fits {
            refused.insert(format!("{} {}", package.name, package.version), licence);
        }
    }
    assert!(refused.is_empty(), "not allowed by deny.toml: {refused:#?}");
}

#[test]
fn everything_comes_from_an_allowed_registry() {
    let allowed = allowed().sources.allow_registry;
    for package in foreign() {
        let source = package.source.unwrap_or_default();
        let registry = source.strip_prefix("registry+").unwrap_or(&source);
        assert!(allowed.iter().any(|it| it == registry), "{} {} comes from {source}", package.name, package.version);
    }
}

#[test]
fn single_version_packages_are_unique_and_bans_hold() {
    let mut versions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for package in packages(&Path::new(REPOSITORY).join("")) {
        versions.entry(package.name).or_default().insert(package.version);
    }
    for ban in allowed().bans.deny {
        let found = versions.get(&ban.name).map_or(0, BTreeSet::len);
        let most = usize::from(ban.deny_multiple_versions);
        assert!(found <= most, "{}: {:?}", ban.name, versions[&ban.name]);
    }
    assert!(versions.contains_key("wasmtime"), "the metadata is that of the server");
}
