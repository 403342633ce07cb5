//! The script of the page of the documents: several modules of JavaScript, joined into one.
//!
//! The page is a single response, so that its modules cannot import each other. It knows lines of text, not JavaScript:
//! every import and every export begins a line.

use std::sync::LazyLock;

/// The modules, each behind those that it imports.
const MODULES: [&str; 4] = [
    include_str!("../../../console/element.js"),
    include_str!("../../../pages/docs/schema.js"),
    include_str!("../../../pages/docs/try_it.js"),
    include_str!("../../../pages/docs/page.js"),
];

/// The joined script.
pub static SCRIPT: LazyLock<String> = LazyLock::new(|| join(&MODULES));

/// Joins modules into one: without imports, exports and doc comments.
fn join(modules: &[&str]) -> String {
    let mut script = String::new();
    let mut skipped_until = None;
    for line in modules.iter().flat_map(|module| module.lines()) {
        let text = line.trim_start();
        skipped_until = skipped_until.or_else(|| match text {
            _ if text.starts_with("/**") => Some("*/"),
            _ if line.starts_with("import ") => Some(";"),
            _ => None,
        });
        match skipped_until {
            Some(end) if line.ends_with(end) => skipped_until = None,
            Some(_) => {}
            None => {
                script.push_str(line.strip_prefix("export ").unwrap_or(line));
                script.push('\n');
            }
        }
    }
    script
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn joined_modules_lose_imports_exports_and_docs() {
        let first = "// Kept.\n/** Gone. */\nexport function one() {\n  /**\n   * Gone.\n   */\n  return 1;\n}\n";
        let second = "import { one } from \"./one.js\";\nimport {\n  two,\n} from \"./two.js\";\none();\n";
        assert_eq!(join(&[first, second]), "// Kept.\nfunction one() {\n  return 1;\n}\none();\n");
    }

    #[test]
    fn joined_script_declares_each_name_once() {
        let mut names = HashSet::new();
        for line in SCRIPT.lines() {
            assert!(
                !line.starts_with("import ") && !line.starts_with("export ") && !line.contains("@import"),
                "{line}"
            );
            let mut words = line.split(|c: char| !c.is_alphanumeric() && c != '_');
            let mut next = words.next();
            if next == Some("async") {
                next = words.next();
            }
            if matches!(next, Some("function" | "const" | "let" | "class")) {
                let name = words.next().unwrap_or_default();
                assert!(names.insert(name), "{name} is declared by two modules");
            }
        }
        assert!(names.contains("h") && names.contains("tryForm"), "{names:?}");
    }
}
