//! The rules for one parameter, and their check against a value. Calls and granted commands have the same.
//!
//! This module knows neither the caller nor the use of the value.

use crate::size::Size;
use regex::{Regex, RegexBuilder};
use serde::Deserialize;
use std::fmt;

/// The rules for one parameter, always consistent because they are checked when made.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "WrittenParam")]
pub struct ParamSpec {
    pub name: String,
    pub description: String,
    pub pattern: Option<Pattern>,
    /// The allowed values; empty allows any.
    pub choices: Vec<String>,
    /// The value if the caller gives none.
    pub default: Option<String>,
    pub required: bool,
    /// Never displayed, logged or kept in the history.
    pub secret: bool,
    /// Takes all remaining values; allowed for the last parameter only.
    pub rest: bool,
}

/// A regular expression that must match a whole value.
#[derive(Clone, Debug)]
pub struct Pattern {
    source: String,
    whole: Regex,
}

/// The maximum memory of a compiled pattern. Patterns are short; one that needs more is a mistake such as
/// `(x{1000}){1000}`.
const PATTERN_SIZE: Size = Size::kib(512);

impl Pattern {
    fn new(source: String) -> Result<Self, String> {
        let compile = |pattern: &str| {
            RegexBuilder::new(pattern)
                .size_limit(PATTERN_SIZE.as_usize())
                .dfa_size_limit(PATTERN_SIZE.as_usize())
                .build()
                .map_err(|error| match error {
                    regex::Error::CompiledTooBig(_) => {
                        format!(
                            "pattern {source} takes more than {PATTERN_SIZE} when compiled: use smaller repetitions"
                        )
                    }
                    error => format!(
                        "pattern {source} is not a regular expression: {}",
                        error.to_string().lines().last().unwrap_or_default().trim_start_matches("error: ")
                    ),
                })
        };
        // Compiled without anchors first: `a)|(b` would otherwise close the anchoring group.
        compile(&source)?;
        let whole = compile(&format!(r"\A(?:{source})\z"))?;
        Ok(Self { source, whole })
    }

    pub fn as_str(&self) -> &str {
        &self.source
    }

    pub fn matches(&self, value: &str) -> bool {
        self.whole.is_match(value)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl Eq for Pattern {}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)
    }
}

/// A parameter, as written in a file.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WrittenParam {
    pub name: String,
    #[serde(default)]
    pub description: String,
    pub pattern: Option<String>,
    pub choices: Option<Vec<String>>,
    pub default: Option<String>,
    pub required: Option<bool>,
    #[serde(default)]
    pub secret: bool,
    #[serde(default)]
    pub rest: bool,
}

impl TryFrom<WrittenParam> for ParamSpec {
    type Error = String;

    fn try_from(written: WrittenParam) -> Result<Self, String> {
        let WrittenParam { name, description, pattern, choices, default, required, secret, rest } = written;
        if name.is_empty() || name.chars().any(char::is_control) {
            return Err("name must be a word that callers recognise".to_owned());
        }
        if choices.as_ref().is_some_and(Vec::is_empty) {
            return Err("choices is empty: list the values, or leave it out to allow any".to_owned());
        }
        if secret && choices.is_some() {
            return Err("choices are shown to callers: a secret parameter cannot have them".to_owned());
        }
        if required == Some(true) && default.is_some() {
            return Err("a parameter with a default is never missing: remove required or default".to_owned());
        }
        let spec = Self {
            name,
            description,
            pattern: pattern.map(Pattern::new).transpose()?,
            choices: choices.unwrap_or_default(),
            required: required.unwrap_or(default.is_none()),
            default,
            secret,
            rest,
        };
        for (at, choice) in spec.choices.iter().enumerate() {
            if spec.choices[..at].contains(choice) {
                return Err(format!("choices has {choice:?} twice: remove one"));
            }
            spec.check(choice).map_err(|broken| format!("choices has {choice:?}, but {broken}"))?;
        }
        if let Some(default) = &spec.default {
            spec.check(default).map_err(|broken| format!("default breaks its own rule: {broken}"))?;
        }
        Ok(spec)
    }
}

impl ParamSpec {
    /// Checks `value` against the rules. An error never repeats the value, which can be a secret.
    pub fn check(&self, value: &str) -> Result<(), BadParam> {
        let name = || self.name.clone();
        if value.contains('\0') {
            return Err(BadParam::Nul { param: format!("{:?}", self.name) });
        }
        if let Some(pattern) = self.pattern.as_ref().filter(|pattern| !pattern.matches(value)) {
            return Err(BadParam::Pattern { param: name(), pattern: pattern.to_string() });
        }
        if !self.choices.is_empty() && !self.choices.iter().any(|choice| choice == value) {
            return Err(BadParam::Choice { param: name(), choices: self.choices.join(", ") });
        }
        Ok(())
    }
}

/// The error if the caller's parameters break a rule, worded for the caller.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadParam {
    #[error("parameter {param:?} is missing")]
    Missing { param: String },
    #[error("parameter {param:?} does not match {pattern}")]
    Pattern { param: String, pattern: String },
    #[error("parameter {param:?} must be one of {choices}")]
    Choice { param: String, choices: String },
    #[error("parameter {param} contains a NUL character, which no argument can hold")]
    Nul { param: String },
    #[error("too many parameters: {call:?} takes {}", at_most(*.takes))]
    Surplus { call: String, takes: usize },
    #[error("too many parameters: a call can have at most {limit}")]
    TooMany { limit: usize },
    #[error("parameters too large: they can have at most {limit} in all")]
    TooLarge { limit: Size },
}

fn at_most(takes: usize) -> String {
    if takes == 0 { "none".to_owned() } else { format!("at most {takes}") }
}
