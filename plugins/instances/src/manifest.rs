//! The manifest of a snapshot, `manifest.json` at its end: every entry, with sizes and checksums.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

pub const FILE: &str = "manifest.json";
pub const VERSION: u32 = 2;

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Manifest {
    pub version: u32,
    pub slug: String,
    pub flavor: String,
    pub taken: String,
    pub files: BTreeMap<String, Content>,
    pub directories: Vec<String>,
    /// Targets of symbolic links.
    pub links: BTreeMap<String, String>,
    /// Entries that are left out, and why.
    #[serde(default)]
    pub left_out: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Content {
    pub size: u64,
    pub sha256: String,
}

impl Manifest {
    pub fn size(&self) -> u64 {
        self.files.values().map(|content| content.size).sum()
    }
}

/// Tells whether `path` stays within its directory: plain names only.
pub fn is_inside(path: &str) -> bool {
    let plain = |name: &str| !matches!(name, "" | "." | "..") && !name.contains('\0');
    path.split('/').all(plain)
}

/// Tells whether a link at `path` stays within the directory of `path`. Every `..` must come first: after another link
/// it could lead anywhere.
pub fn leads_inside(path: &str, target: &str) -> bool {
    let mut up = 0;
    let mut rest = target;
    while rest == ".." || rest.starts_with("../") {
        up += 1;
        rest = rest.get(3..).unwrap_or_default();
    }
    up <= path.matches('/').count() && (rest.is_empty() && up > 0 || is_inside(rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_links_that_lead_out_are_refused() {
        for path in ["a", "a/b", ".env", "a/..b"] {
            assert!(is_inside(path), "{path}");
        }
        for path in ["", "/a", "a/", "a//b", "..", "a/../b", "./a", "a/.", "a\0"] {
            assert!(!is_inside(path), "{path:?}");
        }
        for (path, target) in [("a", "b"), ("a/b", "../c"), ("a/b", ".."), ("a/b/c", "../../d/e"), ("a", ".b")] {
            assert!(leads_inside(path, target), "{path} {target}");
        }
        for (path, target) in
            [("a", ".."), ("a", "/etc"), ("a", "../b"), ("a/b", "../../c"), ("a/b", "c/../.."), ("a", ""), ("a", "./b")]
        {
            assert!(!leads_inside(path, target), "{path} {target}");
        }
    }
}
