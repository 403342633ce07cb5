//! Reads settings from the file and the environment, section by section and key by key.
//!
//! A reader asks for each key that it knows. The requested keys are the allowed ones, so there is no second list to
//! keep in step. This module knows the meaning of no key.

use super::{
    form::{Formed, not, shown},
    yaml::{self, Position, Spot, Step, Value},
};
use distillery_core::one_line::OneLine;
use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::Path,
};

/// The prefix of the configuration's environment variables.
pub(super) const PREFIX: &str = "DISTILLERY_";

/// The maximum length of a place in an error.
const PLACE: usize = 4 << 10;
const KEY: usize = 200;
const WHAT: usize = 1 << 10;

/// The error in a configuration: one line with place, key, and the allowed values.
#[derive(Debug, PartialEq, Eq)]
pub struct ConfigError {
    place: String,
    key: String,
    what: String,
}

impl ConfigError {
    pub(super) fn new(place: impl fmt::Display, what: impl Into<String>) -> Self {
        Self { place: place.to_string(), key: String::new(), what: what.into() }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A key comes verbatim from the file, and a line break in it must not split the error.
        let parts = [(&self.place, PLACE), (&self.key, KEY), (&self.what, WHAT)];
        let parts = parts.into_iter().filter(|(part, _)| !part.is_empty());
        for (at, (text, most)) in parts.enumerate() {
            write!(f, "{}{}", if at > 0 { ": " } else { "" }, OneLine { text, most })?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

/// The text of the file, and the variables that override it.
pub(super) struct Source<'a> {
    file: &'a Path,
    text: &'a str,
    variables: &'a Variables,
    asked: RefCell<BTreeSet<String>>,
}

/// The environment variables that belong to the configuration.
#[derive(Debug, Default)]
pub(super) struct Variables {
    /// By name in capitals without the prefix: the name as written, and the value.
    named: BTreeMap<String, (String, String)>,
}

impl Variables {
    /// Keeps the variables that begin with [`PREFIX`], in any case.
    pub(super) fn new(environment: impl IntoIterator<Item = (String, String)>) -> Result<Self, ConfigError> {
        let mut named: BTreeMap<String, (String, String)> = BTreeMap::new();
        for (name, value) in environment {
            let upper = name.to_ascii_uppercase();
            let Some(key) = upper.strip_prefix(PREFIX) else { continue };
            // A name without `__` can be foreign: orchestrators set DISTILLERY_PORT for a service of that name.
            if let Some((other, _)) = named.insert(key.to_owned(), (name.clone(), value)) {
                return Err(ConfigError::new(&name, format!("{other} names the same key: set only one of them")));
            }
        }
        Ok(Self { named })
    }

    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.named.get(key).map(|(_, value)| value.as_str())
    }

    /// Returns the variable of a key, as written, and its value. No variable sets a key below a free name.
    fn of(&self, key: &str) -> Option<(&str, &str)> {
        if key.contains(FREE) {
            return None;
        }
        self.named.get(&variable(key)).map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

impl<'a> Source<'a> {
    pub(super) fn new(file: &'a Path, text: &'a str, variables: &'a Variables) -> Self {
        Self { file, text, variables, asked: RefCell::default() }
    }

    /// Returns the top level, as the section without a key.
    pub(super) fn root(&self) -> Result<Section<'_>, ConfigError> {
        let value = yaml::parse(self.text)
            .map_err(|fault| ConfigError::new(self.at(fault.position), format!("not YAML: {}", fault.what)))?;
        Node { source: self, path: Vec::new(), pattern: String::new(), variable: None, value }.section()
    }

    /// Returns every key that was requested, with `*` for a free key or an index.
    #[cfg(test)]
    pub(super) fn asked(&self) -> BTreeSet<String> {
        self.asked.borrow().clone()
    }

    /// Refuses a variable that names no key. Call this after all keys were read.
    pub(super) fn finish(&self) -> Result<(), ConfigError> {
        let asked = self.asked.borrow();
        let known: BTreeSet<String> = asked.iter().filter(|key| !key.contains(FREE)).map(|key| variable(key)).collect();
        for (key, (name, _)) in &self.variables.named {
            if known.contains(key) || !key.contains("__") {
                continue;
            }
            let error = |what| ConfigError { place: name.clone(), key: key.to_lowercase().replace("__", "."), what };
            if let Some(whole) = known.iter().find(|whole| key.starts_with(&format!("{whole}__"))) {
                return Err(error(format!("unknown key: set the whole of it in {PREFIX}{whole}")));
            }
            let section = key.rsplit_once("__").map_or("", |(section, _)| section);
            let siblings = known.iter().filter(|key| key.rsplit_once("__").is_some_and(|(its, _)| its == section));
            let siblings: Vec<_> = siblings.map(|key| format!("{PREFIX}{key}")).collect();
            if siblings.is_empty() {
                let all: Vec<_> = known.iter().map(|key| format!("{PREFIX}{key}")).collect();
                return Err(error(match nearest(&format!("{PREFIX}{key}"), &all) {
                    Some(meant) => format!("unknown key: did you mean {meant}?"),
                    None => "unknown key: use the keys of distillery.yaml, with __ between section and key".into(),
                }));
            }
            return Err(error(unknown(&format!("{PREFIX}{key}"), &siblings)));
        }
        Ok(())
    }

    fn at(&self, position: Option<Position>) -> String {
        match position {
            Some(Position { line, column }) => format!("{}:{line}:{column}", self.file.display()),
            None => self.file.display().to_string(),
        }
    }
}

/// A value, and the path to it.
pub(super) struct Node<'a> {
    source: &'a Source<'a>,
    path: Vec<Step>,
    /// The same path in dots, with [`FREE`] for each step that is not a fixed key.
    pattern: String,
    /// The variable that it comes from; `None` if it comes from the file.
    variable: Option<&'a str>,
    value: Value,
}

impl<'a> Node<'a> {
    pub(super) fn read<T>(&self, form: impl FnOnce(&Value) -> Formed<T>) -> Result<T, ConfigError> {
        form(&self.value).map_err(|what| self.refuse(what))
    }

    /// Returns the keys below this value.
    pub(super) fn section(self) -> Result<Section<'a>, ConfigError> {
        let entries = match self.value {
            Value::Map(ref entries) => entries.clone(),
            Value::Nothing => Vec::new(),
            ref other => return Err(self.refuse(format!("{} is not a section: write its keys below it", shown(other)))),
        };
        let mut seen = BTreeSet::new();
        if let Some((twice, _)) = entries.iter().find(|(key, _)| !seen.insert(key.as_str())) {
            let what = "written twice: leave one of them out".to_owned();
            return Err(self.error(&[Step::Key(twice.clone())], Spot::SecondKey, what));
        }
        Ok(Section { node: Node { value: Value::Nothing, ..self }, entries, asked: Vec::new() })
    }

    /// Returns the values in this list.
    pub(super) fn list(self) -> Result<Vec<Node<'a>>, ConfigError> {
        let items = match self.value {
            Value::List(ref items) => items.clone(),
            Value::Nothing => Vec::new(),
            ref other => {
                return Err(self.refuse(not(
                    other,
                    "a list",
                    "[a, b], or each value on a line of its own after a dash",
                )));
            }
        };
        Ok(items.into_iter().enumerate().map(|(index, value)| self.inner(Step::Item(index), FREE, value)).collect())
    }

    pub(super) fn refuse(&self, what: String) -> ConfigError {
        self.error(&[], Spot::Value, what)
    }

    fn inner(&self, step: Step, pattern: &str, value: Value) -> Node<'a> {
        let path = [&self.path[..], &[step]].concat();
        Node { source: self.source, path, pattern: self.pattern_of(pattern), variable: self.variable, value }
    }

    fn pattern_of(&self, key: &str) -> String {
        if self.pattern.is_empty() { key.to_owned() } else { format!("{}.{key}", self.pattern) }
    }

    fn error(&self, below: &[Step], spot: Spot, what: String) -> ConfigError {
        let path = [&self.path[..], below].concat();
        let place = match self.variable {
            Some(variable) => variable.to_owned(),
            None => self.source.at(yaml::place(self.source.text, &path, spot)),
        };
        ConfigError { place, key: dotted(&path), what }
    }
}

/// A mapping whose keys are requested one by one. Keys that were never requested are refused at the end.
pub(super) struct Section<'a> {
    node: Node<'a>,
    entries: Vec<(String, Value)>,
    asked: Vec<&'static str>,
}

impl<'a> Section<'a> {
    /// Returns the value of `key`, from the environment or else from the file.
    pub(super) fn node(&mut self, key: &'static str) -> Result<Option<Node<'a>>, ConfigError> {
        let node = self.ask(key);
        self.node.source.asked.borrow_mut().insert(self.node.pattern_of(key));
        let Some((name, text)) = self.overruled(key) else { return Ok(node) };
        match yaml::parse(text) {
            Ok(value) => {
                let node = self.node.inner(Step::Key(key.to_owned()), key, value);
                Ok(Some(Node { variable: Some(name), ..node }))
            }
            Err(fault) => {
                let what = format!("not YAML: {}: put it in quotes", fault.what);
                Err(ConfigError { place: name.to_owned(), key: self.node.pattern_of(key), what })
            }
        }
    }

    /// Returns the value of `key`, if it is set.
    pub(super) fn get<T>(
        &mut self,
        key: &'static str,
        form: impl FnOnce(&Value) -> Formed<T>,
    ) -> Result<Option<T>, ConfigError> {
        self.node(key)?.map(|node| node.read(form)).transpose()
    }

    /// Returns the value of `key`, or `default`.
    pub(super) fn get_or<T>(
        &mut self,
        key: &'static str,
        default: T,
        form: impl FnOnce(&Value) -> Formed<T>,
    ) -> Result<T, ConfigError> {
        Ok(self.get(key, form)?.unwrap_or(default))
    }

    /// Returns the value of `key`, which has no default.
    pub(super) fn need<T>(
        &mut self,
        key: &'static str,
        form: impl FnOnce(&Value) -> Formed<T>,
    ) -> Result<T, ConfigError> {
        match self.get(key, form)? {
            Some(value) => Ok(value),
            None => Err(self.node.refuse(format!("{key} is missing: it has no default"))),
        }
    }

    /// Returns the values of the list `key`, all of one form; empty if it is not set.
    pub(super) fn list_of<T>(
        &mut self,
        key: &'static str,
        form: impl Fn(&Value) -> Formed<T>,
    ) -> Result<Vec<T>, ConfigError> {
        let Some(node) = self.node(key)? else { return Ok(Vec::new()) };
        node.list()?.iter().map(|item| item.read(&form)).collect()
    }

    /// Returns the section `key`, empty if it is not set. The environment sets its keys, never the section itself.
    pub(super) fn section(&mut self, key: &'static str) -> Result<Section<'a>, ConfigError> {
        let node = self.ask(key);
        if let Some((name, _)) = self.overruled(key) {
            let pattern = self.node.pattern_of(key);
            let what =
                format!("a section cannot be set whole: set one of its keys in {PREFIX}{}__…", variable(&pattern));
            return Err(ConfigError { place: name.to_owned(), key: pattern, what });
        }
        node.unwrap_or_else(|| self.node.inner(Step::Key(key.to_owned()), key, Value::Nothing)).section()
    }

    /// Reads each entry of a mapping with free keys.
    pub(super) fn each(
        mut self,
        mut read: impl FnMut(&Self, &str, Node<'a>) -> Result<(), ConfigError>,
    ) -> Result<(), ConfigError> {
        for (key, value) in std::mem::take(&mut self.entries) {
            let node = self.node.inner(Step::Key(key.clone()), FREE, value);
            read(&self, &key, node)?;
        }
        Ok(())
    }

    /// Returns the error for a free key.
    pub(super) fn refuse_key(&self, key: &str, what: String) -> ConfigError {
        self.node.error(&[Step::Key(key.to_owned())], Spot::Key, what)
    }

    /// Returns the error for values that conflict; it names the first of `keys` that is set.
    pub(super) fn refuse(&self, keys: &[&str], what: String) -> ConfigError {
        for key in keys {
            let below = [Step::Key((*key).to_owned())];
            if let Some((name, _)) = self.overruled(key) {
                return ConfigError { place: name.to_owned(), key: self.node.pattern_of(key), what };
            }
            if self.entries.iter().any(|(it, _)| it == key) {
                return self.node.error(&below, Spot::Value, what);
            }
        }
        self.node.refuse(what)
    }

    /// Refuses the keys that were never requested.
    pub(super) fn finish(self) -> Result<(), ConfigError> {
        let Some((key, _)) = self.entries.iter().find(|(key, _)| !self.asked.contains(&key.as_str())) else {
            return Ok(());
        };
        Err(self.refuse_key(key, unknown(key, &self.asked)))
    }

    /// Returns the file's value of `key`.
    fn ask(&mut self, key: &'static str) -> Option<Node<'a>> {
        self.asked.push(key);
        let (_, value) = self.entries.iter().find(|(it, _)| it == key)?;
        Some(self.node.inner(Step::Key(key.to_owned()), key, value.clone()))
    }

    /// Returns the variable that overrides `key`, if it is set.
    fn overruled(&self, key: &str) -> Option<(&'a str, &'a str)> {
        self.node.source.variables.of(&self.node.pattern_of(key))
    }
}

/// Stands for a free key or an index in a pattern.
const FREE: &str = "*";

/// Returns the variable's name of a key, without the prefix.
fn variable(key: &str) -> String {
    key.to_ascii_uppercase().replace('.', "__")
}

/// Formats a path as in `systems[0].slug`.
fn dotted(path: &[Step]) -> String {
    let mut text = String::new();
    for step in path {
        match step {
            Step::Key(key) if text.is_empty() => text += key,
            Step::Key(key) => text = text + "." + key,
            Step::Item(index) => text += &format!("[{index}]"),
        }
    }
    text
}

fn unknown<S: AsRef<str>>(key: &str, allowed: &[S]) -> String {
    let list = allowed.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(", ");
    match (nearest(key, allowed), allowed.is_empty()) {
        (Some(meant), _) => format!("unknown key: did you mean {meant}? (allowed: {list})"),
        (None, false) => format!("unknown key (allowed: {list})"),
        (None, true) => "unknown key: this section has no keys yet".to_owned(),
    }
}

/// Returns the most similar of the `allowed` keys.
fn nearest<'n, S: AsRef<str>>(key: &str, allowed: &'n [S]) -> Option<&'n str> {
    let key = key.to_lowercase();
    let distance = |it: &str| strsim::osa_distance(&key, &it.to_lowercase());
    let (distance, best) = allowed.iter().map(|it| (distance(it.as_ref()), it.as_ref())).min()?;
    (distance <= 2.max(best.len() / 4).min(3)).then_some(best)
}

/// Reads a mapping with keys of the operator's choice.
pub(super) fn named<'a, T>(
    section: Section<'a>,
    name_form: impl Fn(&str) -> Formed<()>,
    read: impl Fn(Node<'a>) -> Result<T, ConfigError>,
) -> Result<BTreeMap<String, T>, ConfigError> {
    let mut all = BTreeMap::new();
    section.each(|section, name, node| {
        name_form(name).map_err(|what| section.refuse_key(name, what))?;
        all.insert(name.to_owned(), read(node)?);
        Ok(())
    })?;
    Ok(all)
}
