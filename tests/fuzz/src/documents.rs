//! YAML in several styles, and damaged YAML.

use proptest::{collection::vec, prelude::*, sample::select};
use std::fmt::Write;

/// A document whose meaning is known.
#[derive(Clone, Debug)]
pub enum Node {
    /// A plain word: a number, a switch, a size.
    Word(String),
    /// Any text, in quotes.
    Text(String),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

impl Node {
    pub fn word(word: impl ToString) -> Self {
        Self::Word(word.to_string())
    }

    pub fn text(text: impl ToString) -> Self {
        Self::Text(text.to_string())
    }

    pub fn texts<T: ToString>(texts: impl IntoIterator<Item = T>) -> Self {
        Self::List(texts.into_iter().map(Self::text).collect())
    }

    /// Writes the document in block style down to `depth` levels, and in flow style below.
    pub fn written(&self, depth: usize) -> String {
        let mut text = String::new();
        self.block(&mut text, 0, depth);
        text
    }

    fn block(&self, text: &mut String, indent: usize, depth: usize) {
        match self {
            Self::Map(members) if depth > 0 && !members.is_empty() => {
                for (key, value) in members {
                    write!(text, "{:indent$}{}:", "", quoted(key)).unwrap();
                    value.below(text, indent, depth);
                }
            }
            Self::List(items) if depth > 0 && !items.is_empty() => {
                for item in items {
                    write!(text, "{:indent$}-", "").unwrap();
                    item.below(text, indent, depth);
                }
            }
            flat => writeln!(text, "{}", flat.flow()).unwrap(),
        }
    }

    fn below(&self, text: &mut String, indent: usize, depth: usize) {
        let nested =
            matches!(self, Self::Map(all) if !all.is_empty()) || matches!(self, Self::List(all) if !all.is_empty());
        if nested && depth > 1 {
            text.push('\n');
            self.block(text, indent + 2, depth - 1);
        } else {
            writeln!(text, " {}", self.flow()).unwrap();
        }
    }

    fn flow(&self) -> String {
        match self {
            Self::Word(word) => word.clone(),
            Self::Text(text) => quoted(text),
            Self::List(items) => format!("[{}]", items.iter().map(Self::flow).collect::<Vec<_>>().join(", ")),
            Self::Map(members) => {
                let members = members.iter().map(|(key, value)| format!("{}: {}", quoted(key), value.flow()));
                format!("{{{}}}", members.collect::<Vec<_>>().join(", "))
            }
        }
    }
}

/// Returns `text` in double quotes, with escapes for everything that YAML would change.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            ' '..='~' | '\u{a0}'..='\u{2027}' | '\u{2030}'..='\u{d7ff}' | '\u{10000}'..='\u{1fffd}' => quoted.push(c),
            _ => write!(quoted, "\\U{:08x}", u32::from(c)).unwrap(),
        }
    }
    quoted + "\""
}

/// Text that gets into such files by mistake or on purpose.
pub const SLIPS: &[&str] = &[
    ": ",
    ":",
    "- ",
    "-",
    "\n",
    "\n  ",
    "\t",
    "  ",
    "&a ",
    "*a",
    "!x ",
    "!!binary ",
    "!!str ",
    "|\n",
    ">-\n",
    "{",
    "}",
    "[",
    "]",
    "\"",
    "'",
    "# ",
    "---\n",
    "...\n",
    "? ",
    "<<: ",
    "%YAML 1.1\n",
    "~",
    "null",
    "true",
    "-1",
    "0",
    "1e9",
    ".inf",
    "0x",
    "1_000",
    "99999999999999999999",
    "\u{feff}",
    "\u{85}",
    "\u{2028}",
    "\0",
    "\u{7}",
    "\\",
    "\"\\n\": ",
    "\"\\a\"",
    "\"\\xff\"",
    "☃",
    ", ",
    "*a : ",
    "&a [*a]",
    "{*a: *a}",
];

/// Documents that expand to far more than their size, or are nested too deeply.
pub fn bomb() -> impl Strategy<Value = String> {
    let doubling = (1..30usize, 1..12usize, 0..200usize).prop_map(|(levels, wide, size)| {
        let mut text = format!("a0: &a0 \"{}\"\n", "x".repeat(size));
        for level in 1..=levels {
            let inner = vec![format!("*a{}", level - 1); wide].join(", ");
            writeln!(text, "a{level}: &a{level} [{inner}]").unwrap();
        }
        text
    });
    let repeated =
        (1..20_000usize, 1..8_000usize, select(&["calls", "arguments", "description", "capabilities", "systems"][..]))
            .prop_map(|(size, many, key)| {
                format!("build: &a \"{}\"\n{key}: [{}]\n", "x".repeat(size), vec!["*a"; many].join(","))
            });
    let cyclic = select(&["&a [*a]", "&a {a: *a}", "a: &a\n  b: *a\n", "calls: &a {x: *a, y: *a}", "&a {*a : *a}"][..])
        .prop_map(str::to_owned);
    let deep = (
        select(&["[", "{a: ", "- ", "? ", "!x ", "&a ", "[{a: [", "- - - - ", "a:\n", "\"", "*a "][..]),
        1..30_000usize,
    )
        .prop_map(|(part, size)| part.repeat(size / part.len() + 1));
    let indented =
        (1..300usize).prop_map(|deep| (0..deep).fold(String::new(), |text, at| text + &" ".repeat(at) + "a:\n"));
    prop_oneof![3 => doubling, 3 => repeated, 1 => cyclic, 3 => deep, 1 => indented]
}

/// Characters with a meaning in YAML, in any order.
pub fn noise(words: &'static [&'static str]) -> impl Strategy<Value = String> {
    let part = prop_oneof![3 => select(SLIPS).prop_map(str::to_owned), 3 => select(words).prop_map(str::to_owned), 1 => any::<String>()];
    vec(part, 0..24).prop_map(|parts| parts.concat())
}
