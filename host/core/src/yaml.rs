//! Reads YAML files. An error names the file, line, column and key, and the allowed values.
//!
//! It does not know what the files are for.

mod content;

pub mod encoding;

use crate::one_line::OneLine;
pub use content::bounded;
use content::{NO_VALUE, TOO_MUCH, Valued};
use encoding::{is_blank, without_mark};
use serde::de::{
    Deserialize, DeserializeOwned, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde_path_to_error::Segment;
use std::{
    collections::BTreeMap,
    fmt,
    marker::PhantomData,
    path::{Path, PathBuf},
};

/// An error in a file, in one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    pub file: PathBuf,
    /// Line and column, from 1. Both are 1 if the error concerns the whole text.
    pub place: (usize, usize),
    /// Path of the key, such as `calls.echo.access`; empty for the top of the file.
    pub key: String,
    pub message: String,
}

impl std::error::Error for Error {}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (line, column) = self.place;
        write!(f, "{}:{line}:{column}:", self.file.display())?;
        if !self.key.is_empty() {
            write!(f, " {}:", OneLine { text: &self.key, most: KEY })?;
        }
        write!(f, " {}", OneLine { text: &self.message, most: MESSAGE })
    }
}

/// Bytes of a key and of a message that an error shows. Both can repeat text of the file, however long it is.
const KEY: usize = 200;
const MESSAGE: usize = 1 << 10;

/// Reads `text`, which was found in `file`. A key without a value is an error, and so is a text without a key: where a
/// file was cut off or emptied, the default would be taken for what its author wrote. `{}` says that there is none.
pub fn read<T: DeserializeOwned>(text: &str, file: &Path) -> Result<T, Error> {
    let text = if is_blank(text) { "~" } else { without_mark(text) };
    // Apart from what it means, the text must be YAML at all: the place of such a fault is where the parser stopped.
    serde_yaml::from_str::<IgnoredAny>(text).and_then(|_| bounded(text)).map_err(|error| Error {
        file: file.to_owned(),
        place: place(&error).unwrap_or(TOP),
        key: String::new(),
        message: not_yaml(&bare_message(&error, &[]), text, place(&error)),
    })?;
    let whole = serde_path_to_error::deserialize::<_, Valued>(serde_yaml::Deserializer::from_str(text));
    let read = whole.and_then(|_| serde_path_to_error::deserialize(serde_yaml::Deserializer::from_str(text)));
    read.map_err(|error| {
        let mut steps = steps(error.path());
        let error = error.into_inner();
        let message = bare_message(&error, &steps);
        if let Some(key) = message.strip_prefix(TWICE).and_then(|rest| rest.strip_suffix('`')) {
            steps.push(Step::Key(key.to_owned()));
        }
        Error {
            file: file.to_owned(),
            place: locate(text, &steps).or_else(|| place(&error)).unwrap_or(TOP),
            key: way(&steps),
            message: if steps.is_empty() && message == NO_VALUE { EMPTY.to_owned() } else { in_words(&message) },
        }
    })
}

/// The message for a file without a key.
const EMPTY: &str = "it is empty: put its content back, or write {} if there is nothing to say";

/// Place of an error that concerns the whole text.
const TOP: (usize, usize) = (1, 1);

/// Start of serde's message for a duplicate key. The message names the mapping, not the key.
const TWICE: &str = "duplicate field `";

/// Reads a mapping with arbitrary keys. A duplicate key is an error; YAML would silently keep the last entry.
pub fn distinct<'de, D, K, V>(deserializer: D) -> Result<BTreeMap<K, V>, D::Error>
where
    D: Deserializer<'de>,
    K: Deserialize<'de> + Ord + fmt::Display,
    V: Deserialize<'de>,
{
    struct Distinct<K, V>(PhantomData<(K, V)>);

    impl<'de, K: Deserialize<'de> + Ord + fmt::Display, V: Deserialize<'de>> Visitor<'de> for Distinct<K, V> {
        type Value = BTreeMap<K, V>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a mapping")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
            let mut entries = BTreeMap::new();
            while let Some((key, value)) = access.next_entry::<K, V>()? {
                if entries.contains_key(&key) {
                    return Err(serde::de::Error::custom(format_args!("{TWICE}{key}`")));
                }
                entries.insert(key, value);
            }
            Ok(entries)
        }
    }

    deserializer.deserialize_map(Distinct(PhantomData))
}

/// A step on the path from the top of a file to a value.
#[derive(Debug, PartialEq)]
enum Step {
    Key(String),
    Index(usize),
}

fn steps(path: &serde_path_to_error::Path) -> Vec<Step> {
    path.iter()
        .map_while(|segment| match segment {
            Segment::Map { key } => Some(Step::Key(key.clone())),
            Segment::Seq { index } => Some(Step::Index(*index)),
            Segment::Enum { .. } | Segment::Unknown => None,
        })
        .collect()
}

fn way(steps: &[Step]) -> String {
    steps.iter().fold(String::new(), |way, step| match step {
        Step::Key(key) if way.is_empty() => key.clone(),
        Step::Key(key) => format!("{way}.{key}"),
        Step::Index(index) => format!("{way}[{index}]"),
    })
}

fn place(error: &serde_yaml::Error) -> Option<(usize, usize)> {
    error.location().map(|it| (it.line(), it.column()))
}

/// Finds the key or the item at the end of `steps`. The parser reports places only in errors, so this walks there and
/// fails on purpose.
fn locate(text: &str, steps: &[Step]) -> Option<(usize, usize)> {
    let walked = Walk(steps).deserialize(serde_yaml::Deserializer::from_str(text));
    walked.err().as_ref().and_then(place)
}

struct Walk<'a>(&'a [Step]);

const HERE: &str = "the end of the way";

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

/// The default methods of a visitor refuse everything else, which also ends the walk.
impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HERE)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        if let Some((Step::Key(wanted), rest)) = self.0.split_first() {
            let at = if rest.is_empty() { Some(wanted.as_str()) } else { None };
            while let Some(key) = map.next_key_seed(Key { at })? {
                if key == *wanted {
                    return map.next_value_seed(Walk(rest));
                }
                map.next_value::<IgnoredAny>()?;
            }
        }
        Err(serde::de::Error::custom(HERE))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        if let Some((Step::Index(wanted), rest)) = self.0.split_first() {
            for _ in 0..*wanted {
                seq.next_element::<IgnoredAny>()?;
            }
            seq.next_element_seed(Walk(rest))?;
        }
        Err(serde::de::Error::custom(HERE))
    }
}

/// Reads the keys of a mapping, and fails at the key called `at`.
struct Key<'a> {
    at: Option<&'a str>,
}

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: serde::de::Error>(self, key: &str) -> Result<String, E> {
        if self.at == Some(key) { Err(E::custom(HERE)) } else { Ok(key.to_owned()) }
    }
}

/// Returns the message without the key and the place that the parser adds: both are shown separately.
fn bare_message(error: &serde_yaml::Error, steps: &[Step]) -> String {
    let text = error.to_string();
    let mut text = text.as_str();
    if let Some((line, column)) = place(error) {
        text = text.strip_suffix(&format!(" at line {line} column {column}")).unwrap_or(text);
    }
    // The parser names the mapping or its key, depending on what it was reading.
    let said = (1..=steps.len()).find_map(|n| text.strip_prefix(way(&steps[..n]).as_str())?.strip_prefix(": "));
    text = said.unwrap_or(text);
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Says why `text` is not YAML at `place`, where the parser stopped with `message`.
pub fn not_yaml(message: &str, text: &str, place: Option<(usize, usize)>) -> String {
    let stopped =
        place.and_then(|(line, column)| text.lines().nth(line.checked_sub(1)?)?.chars().nth(column.checked_sub(1)?));
    match stopped {
        Some('\t') if message.contains("cannot start any token") => "a tab cannot indent: use spaces".to_owned(),
        _ => in_words(message),
    }
}

/// Rewrites a message of serde in the terms of the file.
fn in_words(message: &str) -> String {
    match message {
        "repetition limit exceeded" => return TOO_MUCH.to_owned(),
        "recursion limit exceeded" => return "it is nested too deeply: more than 128 levels".to_owned(),
        _ => {}
    }
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    let allowed = quoted.get(1..).unwrap_or_default();
    match quoted.first() {
        Some(key) if message.starts_with("unknown field `") => format!("unknown key: {}", choice(key, allowed)),
        Some(value) if message.starts_with("unknown variant `") => {
            format!("{value:?} is not allowed: {}", choice(value, allowed))
        }
        Some(key) if message.starts_with("missing field `") => format!("the key {key} is missing"),
        Some(_) if message.starts_with(TWICE) => "this key is there twice: remove one".to_owned(),
        _ => match message.strip_prefix("invalid type: ").and_then(|rest| rest.split_once(", expected ")) {
            Some((found, expected)) => format!("found {}, expected {}", kind(found), kind(expected)),
            None => message.to_owned(),
        },
    }
}

/// Names a kind of value in the terms of YAML.
fn kind(serdes: &str) -> &str {
    match serdes {
        "map" | "a map" => "a mapping",
        "sequence" | "a sequence" => "a list",
        "unit value" => "nothing",
        "a boolean" => "true or false",
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number",
        other if other.starts_with("struct ") => "a mapping",
        other => other,
    }
}

fn choice(found: &str, allowed: &[&str]) -> String {
    let list = if allowed.is_empty() { "nothing".to_owned() } else { allowed.join(", ") };
    match allowed.iter().map(|word| (distance(found, word), word)).min() {
        Some((distance, word)) if distance <= 1 + word.len() / 4 => format!("did you mean {word}? (allowed: {list})"),
        _ => format!("allowed: {list}"),
    }
}

/// Returns the number of letters to insert, delete or change to turn one word into the other.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in to.iter().enumerate() {
            let changed = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests;
