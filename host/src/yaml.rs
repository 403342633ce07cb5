//! Reads a YAML file that people wrote, and says where and how it is wrong: file, line, column, key, what is allowed.
//!
//! It knows nothing of what the files are for.

pub mod encoding;

use crate::one_line::OneLine;
use encoding::{is_blank, without_mark};
use serde::de::{
    Deserialize, DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, IgnoredAny, MapAccess, SeqAccess,
    VariantAccess, Visitor,
};
use serde_path_to_error::Segment;
use std::{
    cell::Cell,
    collections::BTreeMap,
    fmt,
    marker::PhantomData,
    path::{Path, PathBuf},
};

/// What is wrong with a file, in one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    pub file: PathBuf,
    /// Line and column, from 1; the first when the text as a whole is at fault.
    pub place: (usize, usize),
    /// The way to the key, such as `calls.echo.access`; empty for the top of the file.
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

/// How much of a key and of a message an error shows: both may repeat what the file says, however long that is.
const KEY: usize = 200;
const MESSAGE: usize = 1 << 10;

/// Reads `text`, which was found in `file`. A text of nothing but comments is an empty mapping.
pub fn read<T: DeserializeOwned>(text: &str, file: &Path) -> Result<T, Error> {
    let text = if is_blank(text) { "{}" } else { without_mark(text) };
    // Apart from what it means, the text must be YAML at all: the place of such a fault is where the parser stopped.
    serde_yaml::from_str::<IgnoredAny>(text).and_then(|_| bounded(text)).map_err(|error| Error {
        file: file.to_owned(),
        place: place(&error).unwrap_or(TOP),
        key: String::new(),
        message: not_yaml(&bare_message(&error, &[]), text, place(&error)),
    })?;
    serde_path_to_error::deserialize(serde_yaml::Deserializer::from_str(text)).map_err(|error| {
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
            message: in_words(&message),
        }
    })
}

/// The place of what concerns the whole text.
const TOP: (usize, usize) = (1, 1);

/// How serde begins to say that a mapping has a key twice. It says it of the mapping, not of the key.
const TWICE: &str = "duplicate field `";

const TOO_MUCH: &str = "its aliases stand for too much: write out what they repeat";

/// What aliases may add to a text, in bytes: a few lines of them can stand for more than any memory holds.
const REPEATED: usize = 1 << 20;

/// Whether `text`, with each alias replaced by what it stands for, is of a size that is worth reading.
pub(crate) fn bounded(text: &str) -> Result<(), serde_yaml::Error> {
    let left = Cell::new(REPEATED + 2 * text.len());
    Measure(&left).deserialize(serde_yaml::Deserializer::from_str(text))
}

/// Goes through everything and counts it down.
#[derive(Clone, Copy)]
struct Measure<'a>(&'a Cell<usize>);

impl Measure<'_> {
    fn count<E: serde::de::Error>(self, size: usize) -> Result<(), E> {
        let left = self.0.get().checked_sub(size);
        self.0.set(left.ok_or_else(|| E::custom(TOO_MUCH))?);
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Measure<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Measure<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        self.count(1)
    }

    fn visit_bool<E: serde::de::Error>(self, _: bool) -> Result<(), E> {
        self.count(1)
    }

    fn visit_i64<E: serde::de::Error>(self, _: i64) -> Result<(), E> {
        self.count(1)
    }

    fn visit_u64<E: serde::de::Error>(self, _: u64) -> Result<(), E> {
        self.count(1)
    }

    fn visit_i128<E: serde::de::Error>(self, _: i128) -> Result<(), E> {
        self.count(1)
    }

    fn visit_u128<E: serde::de::Error>(self, _: u128) -> Result<(), E> {
        self.count(1)
    }

    fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<(), E> {
        self.count(1)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<(), E> {
        self.count(1 + text.len())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        self.count(1)?;
        while seq.next_element_seed(self)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        self.count(1)?;
        while map.next_entry_seed(self, self)?.is_some() {}
        Ok(())
    }

    fn visit_enum<A: EnumAccess<'de>>(self, tagged: A) -> Result<(), A::Error> {
        let (_, content) = tagged.variant::<IgnoredAny>()?;
        content.newtype_variant_seed(self)
    }
}

/// Reads a mapping with keys of free choice. Of two entries with the same key YAML would silently keep the last; here
/// the second is an error.
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

/// One step on the way from the top of a file to a value.
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

/// Where the key or the item at the end of `steps` begins. The parser tells places only in errors, so this walks there
/// and fails on purpose.
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

/// Whatever is not visited here is refused by the default methods of a visitor, and that is the end of the way too.
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

/// Reads the key of a mapping, and fails at the one called `at`.
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

/// The message without the key and the place that the parser wraps around it: both are said apart.
fn bare_message(error: &serde_yaml::Error, steps: &[Step]) -> String {
    let text = error.to_string();
    let mut text = text.as_str();
    if let Some((line, column)) = place(error) {
        text = text.strip_suffix(&format!(" at line {line} column {column}")).unwrap_or(text);
    }
    // The parser names the mapping or the key in it, whichever it was reading.
    let said = (1..=steps.len()).find_map(|n| text.strip_prefix(way(&steps[..n]).as_str())?.strip_prefix(": "));
    text = said.unwrap_or(text);
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Says in the terms of the file what serde says in its own.
/// Says why `text` is not YAML at `place`, where the parser stopped with `message`.
pub(crate) fn not_yaml(message: &str, text: &str, place: Option<(usize, usize)>) -> String {
    let stopped =
        place.and_then(|(line, column)| text.lines().nth(line.checked_sub(1)?)?.chars().nth(column.checked_sub(1)?));
    match stopped {
        Some('\t') if message.contains("cannot start any token") => "a tab cannot indent: use spaces".to_owned(),
        _ => in_words(message),
    }
}

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

/// A kind of value, as people who write YAML call it.
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

/// How many letters must be put in, left out or changed to make one word of the other.
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
mod tests {
    use super::*;
    use crate::size::Size;
    use serde::Deserialize;

    #[derive(Debug, Default, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct File {
        name: String,
        limits: Limits,
        #[serde(deserialize_with = "distinct")]
        calls: BTreeMap<String, Call>,
    }

    #[derive(Debug, Default, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Limits {
        memory: Size,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Call {
        access: Access,
        #[serde(default)]
        params: Vec<u8>,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Access {
        Public,
        Scoped,
    }

    fn error(text: &str) -> String {
        read::<File>(text, Path::new("a/f.yaml")).unwrap_err().to_string()
    }

    #[test]
    fn an_error_says_file_line_column_key_and_what_is_allowed() {
        assert_eq!(
            error("name: x\ncalls:\n  echo:\n    acess: public\n"),
            "a/f.yaml:4:5: calls.echo.acess: unknown key: did you mean access? (allowed: access, params)"
        );
        assert_eq!(
            error("calls: {echo: {access: publick}}"),
            "a/f.yaml:1:16: calls.echo.access: \"publick\" is not allowed: did you mean public? (allowed: public, scoped)"
        );
        assert_eq!(error("zzz: 1"), "a/f.yaml:1:1: zzz: unknown key: allowed: name, limits, calls");
        assert_eq!(error("name: a\ncalls:\n  echo: {}\n"), "a/f.yaml:3:3: calls.echo: the key access is missing");
        assert_eq!(
            error("limits:\n  memory: 16MB\n"),
            "a/f.yaml:2:3: limits.memory: \"16MB\" is not a size: write a whole number of bytes, KiB, MiB, GiB or TiB, \
             such as 256MiB"
        );
        assert_eq!(
            error("calls:\n  echo:\n    access: public\n    params:\n      - 1\n      - [2]\n"),
            "a/f.yaml:6:9: calls.echo.params[1]: found a list, expected a whole number"
        );
    }

    #[test]
    fn an_error_is_one_line_that_ends_whatever_the_file_says() {
        let key = "x\n".repeat(300);
        let error = error(&format!("{key:?}: 1"));
        assert!(error.starts_with("a/f.yaml:1:1: x\\nx\\n") && !error.contains('\n') && error.len() < 2000, "{error}");
    }

    #[test]
    fn aliases_do_not_stand_for_more_than_a_server_holds() {
        let levels =
            (1..9).map(|level| format!("a{level}: &a{level} [{}]\n", vec![format!("*a{}", level - 1); 4].join(", ")));
        let laughs = "a0: &a0 ha\n".to_owned() + &levels.collect::<String>();
        let long = format!("a: &a {}\nb: [{}]\n", "x".repeat(5000), vec!["*a"; 5000].join(", "));
        for text in [laughs, long] {
            let error = error(&text);
            assert!(error.ends_with("its aliases stand for too much: write out what they repeat"), "{error}");
        }
        assert!(error(&("[".repeat(200) + &"]".repeat(200))).contains("nested too deeply"));
        assert_eq!(read::<Vec<String>>("[&a x, *a, *a]", Path::new("f.yaml")).unwrap(), ["x", "x", "x"]);
    }

    #[test]
    fn a_key_is_not_silently_read_twice() {
        assert_eq!(error("name: a\nname: b\n"), "a/f.yaml:1:1: name: this key is there twice: remove one");
        assert_eq!(
            error("calls:\n  a: {access: public}\n  a: {access: scoped}\n"),
            "a/f.yaml:2:3: calls.a: this key is there twice: remove one"
        );
    }

    #[test]
    fn what_is_no_yaml_or_no_mapping_is_one_line_too() {
        for (text, told) in [
            ("name: a\n  b: c\n", "2:4: mapping values are not allowed in this context"),
            ("name: *x", "1:7: unknown anchor"),
            ("- 1", "1:1: found a list, expected a mapping"),
            ("just words", "1:1: found string \"just words\", expected a mapping"),
            ("name: [", "2:1: did not find expected node content"),
            ("limits: []", "1:1: limits: found a list, expected a mapping"),
        ] {
            let error = error(text);
            assert!(error.starts_with(&format!("a/f.yaml:{told}")) && !error.contains('\n'), "{error}");
        }
        assert!(error("--- 1\n--- 2\n").contains("more than one document"));
    }

    #[test]
    fn a_file_of_comments_is_all_defaults() {
        for text in ["", "# nothing\n\n", "\u{feff}# nothing", "limits:\n"] {
            let file: File = read(text, Path::new("f.yaml")).unwrap();
            assert_eq!(
                (file.name.as_str(), file.limits.memory, file.calls.len()),
                ("", Size::default(), 0),
                "{text:?}"
            );
        }
    }

    #[test]
    fn what_is_right_is_read() {
        let file: File = read("calls: {a: {access: scoped, params: [1]}}", Path::new("f.yaml")).unwrap();
        assert_eq!((&file.calls["a"].access, file.calls["a"].params.as_slice()), (&Access::Scoped, [1].as_slice()));
    }
}
