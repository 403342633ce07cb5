//! The reference of every key as a page of Markdown, made from the shipped file. Tests of `config` compare that file
//! with the code.

use std::fmt::Write;

/// The shipped file, with a comment for every key.
pub const SHIPPED: &str = include_str!("../../../distillery.yaml");

/// One part of the file, in order.
#[derive(Debug, PartialEq, Eq)]
enum Part {
    /// The comment about the whole file.
    Intro(String),
    Section {
        name: String,
        text: String,
    },
    Key(Key),
}

#[derive(Debug, PartialEq, Eq)]
struct Key {
    /// Includes the section, as in `http.listen`.
    path: String,
    /// The value in the file; empty for a section.
    value: String,
    /// Whether the key is set, or shows its default in a comment.
    set: bool,
    text: String,
    /// The verbatim lines below the key.
    example: String,
}

/// Returns the page.
pub fn markdown() -> String {
    let mut page = String::from("# Every key of distillery.yaml\n");
    for part in parts(SHIPPED) {
        match part {
            Part::Intro(text) => paragraph(&mut page, &text),
            Part::Section { name, text } => {
                let _ = write!(page, "\n## `{name}`\n");
                paragraph(&mut page, &text);
            }
            Part::Key(key) => {
                let (level, path) = (if key.path.contains('.') { "###" } else { "##" }, &key.path);
                let _ = write!(page, "\n{level} `{path}`\n\n");
                let _ = match (key.value.as_str(), key.set) {
                    ("", _) => write!(page, "Nothing by default; "),
                    (value, false) => write!(page, "Default `{value}`; "),
                    (value, true) => write!(page, "`{value}` in the shipped file; "),
                };
                let variable = path.to_uppercase().replace('.', "__");
                let _ = writeln!(page, "variable `DISTILLERY_{variable}`.");
                paragraph(&mut page, &key.text);
                if !key.example.is_empty() {
                    let _ = write!(page, "\n```yaml\n{}```\n", key.example);
                }
            }
        }
    }
    page
}

fn paragraph(page: &mut String, text: &str) {
    if !text.is_empty() {
        let _ = write!(page, "\n{text}\n");
    }
}

fn parts(file: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut said = String::new();
    let mut section: Option<String> = None;
    let mut lines = file.lines().peekable();
    while let Some(line) = lines.next() {
        let (indent, content) = indented(line);
        if content.is_empty() {
            // A comment without a following key is about the whole file.
            if !said.is_empty() {
                parts.push(Part::Intro(std::mem::take(&mut said)));
            }
            continue;
        }
        let Some((set, name, value)) = key(content) else {
            say(&mut said, content);
            continue;
        };
        let text = std::mem::take(&mut said);
        let begins_section = set && indent == 0 && value.is_empty() && !lines.peek().is_some_and(|it| is_item(it));
        if begins_section {
            section = Some(name.to_owned());
            parts.push(Part::Section { name: name.to_owned(), text });
            continue;
        }
        if indent == 0 {
            section = None;
        }
        let mut example = String::new();
        if value.is_empty() {
            let _ = writeln!(example, "{name}:");
            while let Some(line) =
                lines.next_if(|line| indented(line).0 > indent || line.trim_start().starts_with("- "))
            {
                let _ = writeln!(example, "{}", as_example(&line[indent..]));
            }
        }
        let path = section.as_ref().map_or(name.to_owned(), |section| format!("{section}.{name}"));
        parts.push(Part::Key(Key { path, value: value.to_owned(), set, text, example }));
    }
    parts
}

fn indented(line: &str) -> (usize, &str) {
    let content = line.trim_start();
    (line.len() - content.len(), content.trim_end())
}

fn is_item(line: &str) -> bool {
    line.trim_start().starts_with("- ")
}

/// Returns whether the key is set, its name, and its value.
fn key(content: &str) -> Option<(bool, &str, &str)> {
    let (set, rest) = match content.strip_prefix('#') {
        Some(rest) => (false, rest),
        None => (true, content),
    };
    let (name, value) = rest.split_once(':')?;
    let named = !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    (named && (value.is_empty() || value.starts_with(' '))).then(|| (set, name, value.trim()))
}

/// Adds a line of a comment; an empty line ends a paragraph.
fn say(said: &mut String, comment: &str) {
    let comment = comment.strip_prefix('#').unwrap_or(comment);
    let text = comment.strip_prefix(' ').unwrap_or(comment);
    if text.is_empty() {
        said.push_str("\n\n");
        return;
    }
    if !said.is_empty() && !said.ends_with('\n') {
        // Lines of a list are kept apart.
        said.push_str(if comment.starts_with("  ") { "\n" } else { " " });
    }
    said.push_str(text);
}

/// Removes the comment marks from the line of an example, except for real comments.
fn as_example(line: &str) -> String {
    let (indent, content) = indented(line);
    let content = content.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(content);
    format!("{:indent$}{content}", "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_belong_to_the_key_below_them() {
        let file = "# All of it.\n\n# The network.\nhttp:\n  # Where to\n  # listen.\n  listen: 1\n\n  #origins: []\n\n# Kept.\n#data: data\n";
        let key = |path: &str, value: &str, set, text: &str| {
            let (path, value, text) = (path.into(), value.into(), text.into());
            Part::Key(Key { path, value, set, text, example: String::new() })
        };
        assert_eq!(
            parts(file),
            [
                Part::Intro("All of it.".into()),
                Part::Section { name: "http".into(), text: "The network.".into() },
                key("http.listen", "1", true, "Where to listen."),
                key("http.origins", "[]", false, ""),
                key("data", "data", false, "Kept."),
            ]
        );
    }

    #[test]
    fn lines_below_a_key_are_its_example() {
        let file = "plugins:\n  # Given.\n  #grants:\n    # Whose.\n    #echo:\n      #env: [A]\n\nsystems:\n  - slug: a\n    url: b\n";
        let example = |part: &Part| match part {
            Part::Key(key) => key.example.clone(),
            other => panic!("{other:?}"),
        };
        let parts = parts(file);
        assert_eq!(example(&parts[1]), "grants:\n  # Whose.\n  echo:\n    env: [A]\n");
        assert_eq!(example(&parts[2]), "systems:\n  - slug: a\n    url: b\n");
    }

    #[test]
    fn page_shows_default_variable_and_meaning() {
        let page = markdown();
        let said = "### `http.call_timeout`\n\nDefault `5s`; variable `DISTILLERY_HTTP__CALL_TIMEOUT`.\n\nThe time that a \
                    socket can be open without a call.\n";
        assert!(page.contains(said), "{page}");
    }
}
