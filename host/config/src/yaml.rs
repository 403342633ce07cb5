//! Parses YAML into a plain tree, and finds the position of a part in the text.
//!
//! Only this file of the configuration uses `serde_yaml`. It knows the meaning of no key.
//!
//! `serde_yaml` returns a position only together with an error. So the tree is parsed without positions. To report an
//! error in a part, the text is parsed again, and that parse fails at the part.

use distillery_core::yaml::encoding::is_blank;
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use std::fmt;

/// A YAML value. A mapping keeps the order of its keys, and duplicates.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Nothing,
    Bool(bool),
    Whole(i128),
    Fraction(f64),
    Text(String),
    List(Vec<Value>),
    Map(Vec<(String, Value)>),
}

/// A step from a value to one inside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Key(String),
    Item(usize),
}

/// The part of a path's last step to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spot {
    Value,
    Key,
    /// The second occurrence of the key.
    SecondKey,
}

/// A line and a column, both counted from one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) line: usize,
    pub(super) column: usize,
}

/// The reason why a text is not YAML.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) position: Option<Position>,
    pub(super) what: String,
}

/// Parses `text`; an empty text is null.
pub(super) fn parse(text: &str) -> Result<Value, Fault> {
    if is_blank(text) {
        return Ok(Value::Nothing);
    }
    distillery_core::yaml::bounded(text)
        .and_then(|()| Tree.deserialize(serde_yaml::Deserializer::from_str(text)))
        .map_err(|error| {
            let position = position(&error);
            let place = position.map(|Position { line, column }| (line, column));
            Fault {
                position,
                what: distillery_core::yaml::not_yaml(&without_position(&error.to_string()), text, place),
            }
        })
}

/// Returns the position in `text` of the value at the end of `path`, or of its key.
pub(super) fn place(text: &str, path: &[Step], spot: Spot) -> Option<Position> {
    let seek = Seek { path, spot };
    position(&seek.deserialize(serde_yaml::Deserializer::from_str(text)).err()?)
}

fn position(error: &serde_yaml::Error) -> Option<Position> {
    error.location().map(|at| Position { line: at.line(), column: at.column() })
}

/// Removes the first ` at line 2 column 3` from the parser's message: the position is shown in front.
fn without_position(message: &str) -> String {
    let Some((before, after)) = message.split_once(" at line ") else { return message.to_owned() };
    let after = after.trim_start_matches(|c: char| c.is_ascii_digit());
    let after = after.strip_prefix(" column ").unwrap_or(after).trim_start_matches(|c: char| c.is_ascii_digit());
    format!("{before}{after}")
}

struct Tree;

impl<'de> DeserializeSeed<'de> for Tree {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Tree {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Nothing)
    }

    fn visit_bool<E>(self, it: bool) -> Result<Value, E> {
        Ok(Value::Bool(it))
    }

    fn visit_i64<E>(self, it: i64) -> Result<Value, E> {
        Ok(Value::Whole(it.into()))
    }

    fn visit_u64<E>(self, it: u64) -> Result<Value, E> {
        Ok(Value::Whole(it.into()))
    }

    fn visit_i128<E>(self, it: i128) -> Result<Value, E> {
        Ok(Value::Whole(it))
    }

    fn visit_u128<E>(self, it: u128) -> Result<Value, E> {
        Ok(i128::try_from(it).map_or(Value::Fraction(it as f64), Value::Whole))
    }

    fn visit_f64<E>(self, it: f64) -> Result<Value, E> {
        Ok(Value::Fraction(it))
    }

    fn visit_str<E>(self, it: &str) -> Result<Value, E> {
        Ok(Value::Text(it.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(Tree)? {
            list.push(item);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Vec::new();
        while let Some(key) = entries.next_key_seed(Key)? {
            map.push((key, entries.next_value_seed(Tree)?));
        }
        Ok(Value::Map(map))
    }

    fn visit_enum<A: de::EnumAccess<'de>>(self, _: A) -> Result<Value, A::Error> {
        Err(de::Error::custom("tags have no meaning here: leave out the word that begins with an exclamation mark"))
    }
}

/// The key of a mapping, as text even if YAML sees a number.
struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        match deserializer.deserialize_any(Tree)? {
            Value::Text(key) => Ok(key),
            Value::Whole(key) => Ok(key.to_string()),
            Value::Fraction(key) => Ok(key.to_string()),
            Value::Bool(key) => Ok(key.to_string()),
            Value::Nothing => Ok("~".to_owned()),
            Value::List(_) | Value::Map(_) => Err(de::Error::custom("a key must be text, not a list or a mapping")),
        }
    }
}

/// Follows a path and fails at its end.
#[derive(Clone, Copy)]
struct Seek<'p> {
    path: &'p [Step],
    spot: Spot,
}

impl Seek<'_> {
    fn arrived<E: de::Error>(self) -> Result<(), E> {
        if self.path.is_empty() { Err(E::custom("found")) } else { Ok(()) }
    }
}

impl<'de> DeserializeSeed<'de> for Seek<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seek<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        self.arrived()
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<(), E> {
        self.arrived()
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<(), E> {
        self.arrived()
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<(), E> {
        self.arrived()
    }

    fn visit_i128<E: de::Error>(self, _: i128) -> Result<(), E> {
        self.arrived()
    }

    fn visit_u128<E: de::Error>(self, _: u128) -> Result<(), E> {
        self.arrived()
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<(), E> {
        self.arrived()
    }

    fn visit_str<E: de::Error>(self, _: &str) -> Result<(), E> {
        self.arrived()
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        self.arrived()?;
        let mut index = 0;
        loop {
            let wanted = self.path[0] == Step::Item(index);
            let there = match wanted {
                true => items.next_element_seed(Seek { path: &self.path[1..], ..self })?,
                false => items.next_element::<de::IgnoredAny>()?.map(drop),
            };
            if there.is_none() {
                return Ok(());
            }
            index += 1;
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        self.arrived()?;
        let mut seen = 0;
        let last = self.path.len() == 1;
        loop {
            let stop_at = match self.spot {
                Spot::Key if last => Some(1),
                Spot::SecondKey if last => Some(2),
                _ => None,
            };
            let seek = SeekKey { key: &self.path[0], stop: stop_at == Some(seen + 1) };
            let Some(matches) = entries.next_key_seed(seek)? else { return Ok(()) };
            if matches {
                seen += 1;
            }
            if matches && stop_at.is_none() {
                entries.next_value_seed(Seek { path: &self.path[1..], ..self })?;
            } else {
                entries.next_value::<de::IgnoredAny>()?;
            }
        }
    }
}

/// Compares a key with the wanted one, and fails at it if that is the target.
struct SeekKey<'p> {
    key: &'p Step,
    stop: bool,
}

impl<'de> DeserializeSeed<'de> for SeekKey<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for SeekKey<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: de::Error>(self, key: &str) -> Result<bool, E> {
        let matches = matches!(self.key, Step::Key(wanted) if wanted == key);
        if matches && self.stop { Err(E::custom("found")) } else { Ok(matches) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Step {
        Step::Key(name.to_owned())
    }

    fn at(text: &str, path: &[Step], spot: Spot) -> Option<(usize, usize)> {
        place(text, path, spot).map(|at| (at.line, at.column))
    }

    #[test]
    fn keys_and_values_are_found_in_every_style() {
        let text = "# a comment\nhttp:\n  \"listen\": here\n  other: {origins: [a, b], \"x: y\": 1}\nlast: &anchor\n- one\n- two: 2\n";
        let origins = [key("http"), key("other"), key("origins")];
        assert_eq!(at(text, &[key("http")], Spot::Key), Some((2, 1)));
        assert_eq!(at(text, &[key("http"), key("listen")], Spot::Key), Some((3, 3)));
        assert_eq!(at(text, &[key("http"), key("listen")], Spot::Value), Some((3, 13)));
        assert_eq!(at(text, &origins, Spot::Key), Some((4, 11)));
        assert_eq!(at(text, &[&origins[..], &[Step::Item(1)]].concat(), Spot::Value), Some((4, 24)));
        assert_eq!(at(text, &[key("http"), key("other"), key("x: y")], Spot::Value), Some((4, 36)));
        assert_eq!(at(text, &[key("last"), Step::Item(1), key("two")], Spot::Value), Some((7, 8)));
        assert_eq!(at(text, &[key("nowhere")], Spot::Value), None);
        assert_eq!(at(text, &[key("last"), Step::Item(5)], Spot::Value), None);
        assert_eq!(at(text, &[key("http"), key("listen"), key("deeper")], Spot::Value), None);
    }

    #[test]
    fn duplicate_key_is_found_the_second_time() {
        let text = "http:\n  api: true\n  max: 1\n  api: false\n";
        assert_eq!(at(text, &[key("http"), key("api")], Spot::Key), Some((2, 3)));
        assert_eq!(at(text, &[key("http"), key("api")], Spot::SecondKey), Some((4, 3)));
        assert_eq!(at(text, &[key("http"), key("max")], Spot::SecondKey), None);
    }

    #[test]
    fn syntax_error_has_a_position() {
        let fault = parse("http:\n  listen: a: b\n").unwrap_err();
        assert_eq!(fault.position, Some(Position { line: 2, column: 12 }));
        assert_eq!(fault.what, "mapping values are not allowed in this context");

        let fault = parse("http:\n  listen: !secret x\n").unwrap_err();
        assert_eq!(fault.position.map(|at| at.line), Some(2));
        assert_eq!(
            fault.what,
            "http.listen: tags have no meaning here: leave out the word that begins with an exclamation mark"
        );
    }

    #[test]
    fn file_of_comments_is_empty() {
        for text in ["", "\n\n", "# only this\n\n  # and this", "---\n", "# this\r\n\r\n", "\u{feff}# this"] {
            assert_eq!(parse(text), Ok(Value::Nothing), "{text:?}");
        }
    }

    #[test]
    fn numbers_keep_their_kind() {
        let list = parse("[1, -2, 1.5, 0x10, 99999999999999999999, yes, true, ~, \"3\"]").unwrap();
        let expected = vec![
            Value::Whole(1),
            Value::Whole(-2),
            Value::Fraction(1.5),
            Value::Whole(16),
            Value::Whole(99_999_999_999_999_999_999),
            Value::Text("yes".into()),
            Value::Bool(true),
            Value::Nothing,
            Value::Text("3".into()),
        ];
        assert_eq!(list, Value::List(expected));
    }
}
