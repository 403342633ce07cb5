//! The parameters of a call: the rules of a manifest, and their check against a caller's values.
//!
//! This module knows neither the caller nor the use of the values.

use distillery_core::{
    auth::Access,
    call::{CallName, OnDisconnect},
    limits::Limits,
    size::Size,
};
use regex::{Regex, RegexBuilder};
use serde::Deserialize;
use std::fmt;

/// A call, as its plugin declares it.
#[derive(Clone, Debug)]
pub struct CallSpec {
    pub name: CallName,
    pub description: String,
    pub access: Access,
    /// Arguments behind those of the plugin, such as the script of this call.
    pub arguments: Vec<String>,
    /// `None` allows any number of any parameters.
    pub params: Option<Vec<ParamSpec>>,
    pub on_disconnect: OnDisconnect,
}

/// The rules for one parameter, always consistent because they are checked when made.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "Written")]
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

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)
    }
}

/// A parameter, as written in the manifest.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: String,
    #[serde(default)]
    description: String,
    pattern: Option<String>,
    choices: Option<Vec<String>>,
    default: Option<String>,
    required: Option<bool>,
    #[serde(default)]
    secret: bool,
    #[serde(default)]
    rest: bool,
}

impl TryFrom<Written> for ParamSpec {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let Written { name, description, pattern, choices, default, required, secret, rest } = written;
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
    fn check(&self, value: &str) -> Result<(), BadParam> {
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

/// The parameters of one call in order, with the rules that concern several of them.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Vec<ParamSpec>")]
pub(super) struct ParamList(pub Vec<ParamSpec>);

impl TryFrom<Vec<ParamSpec>> for ParamList {
    type Error = String;

    fn try_from(specs: Vec<ParamSpec>) -> Result<Self, String> {
        for (at, spec) in specs.iter().enumerate() {
            let (before, name) = (&specs[..at], &spec.name);
            if before.iter().any(|other| other.name == *name) {
                return Err(format!("two parameters are named {name:?}: rename one"));
            }
            if spec.rest && at + 1 < specs.len() {
                return Err(format!("{name:?} takes the rest: only the last parameter can"));
            }
            // Values are identified by position only, so no parameter can follow an optional one.
            if let Some(optional) = before.iter().rfind(|other| !other.required) {
                let optional_name = &optional.name;
                if spec.required {
                    return Err(format!(
                        "{name:?} is required, but follows the optional {optional_name:?}: put it before, or make it \
                         optional"
                    ));
                }
                if optional.default.is_none() && spec.default.is_some() {
                    return Err(format!(
                        "{name:?} has a default, but follows {optional_name:?}, which may be absent: give that one a \
                         default too"
                    ));
                }
            }
        }
        Ok(Self(specs))
    }
}

/// Parameters that obey the rules of their call, including defaults.
#[derive(Clone, PartialEq, Eq)]
pub struct Params(Vec<String>);

impl Params {
    pub fn as_slice(&self) -> &[String] {
        &self.0
    }

    pub fn into_inner(self) -> Vec<String> {
        self.0
    }
}

/// Shows only the number of values: some are secret.
impl fmt::Debug for Params {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Params({} values)", self.0.len())
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

impl CallSpec {
    /// Returns the call that a plugin without `calls` provides.
    pub fn any(name: CallName) -> Self {
        Self {
            name,
            description: String::new(),
            access: Access::default(),
            arguments: Vec::new(),
            params: None,
            on_disconnect: OnDisconnect::default(),
        }
    }

    /// Returns the parameters to run the call with, if `given` obeys its rules and the limits.
    pub fn check(&self, given: Vec<String>, limits: &Limits) -> Result<Params, BadParam> {
        if given.len() > limits.params {
            return Err(BadParam::TooMany { limit: limits.params });
        }
        if given.iter().map(String::len).sum::<usize>() > limits.params_size.as_usize() {
            return Err(BadParam::TooLarge { limit: limits.params_size });
        }
        let Some(specs) = &self.params else {
            return match given.iter().position(|value| value.contains('\0')) {
                Some(at) => Err(BadParam::Nul { param: (at + 1).to_string() }),
                None => Ok(Params(given)),
            };
        };
        let rest = specs.last().filter(|spec| spec.rest);
        if given.len() > specs.len() && rest.is_none() {
            return Err(BadParam::Surplus { call: self.name.to_string(), takes: specs.len() });
        }
        for (at, value) in given.iter().enumerate() {
            if let Some(spec) = specs.get(at).or(rest) {
                spec.check(value)?;
            }
        }
        let mut params = given;
        for spec in specs.iter().skip(params.len()) {
            match &spec.default {
                Some(default) => params.push(default.clone()),
                None if spec.required => return Err(BadParam::Missing { param: spec.name.clone() }),
                None => break,
            }
        }
        Ok(Params(params))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn call(params: Value) -> CallSpec {
        let ParamList(params) = serde_json::from_value(params).unwrap();
        CallSpec { params: Some(params), ..CallSpec::any("echo".parse().unwrap()) }
    }

    fn refused_rules(params: Value) -> String {
        serde_json::from_value::<ParamList>(params).unwrap_err().to_string()
    }

    fn check(call: &CallSpec, given: &[&str]) -> Result<Vec<String>, String> {
        let given = given.iter().map(|&value| value.to_owned()).collect();
        call.check(given, &Limits::default()).map(Params::into_inner).map_err(|bad| bad.to_string())
    }

    #[test]
    fn error_names_the_parameter_and_the_rule() {
        let call = call(json!([
            {"name": "slug", "pattern": "[a-z][a-z0-9-]{0,30}"},
            {"name": "flavor", "choices": ["drupal-10", "drupal-11"], "default": "drupal-11"},
        ]));
        assert_eq!(check(&call, &["x"]).unwrap(), ["x", "drupal-11"]);
        assert_eq!(check(&call, &["x", "drupal-10"]).unwrap(), ["x", "drupal-10"]);
        let refused = |given: &[&str]| check(&call, given).unwrap_err();
        assert_eq!(refused(&[]), r#"parameter "slug" is missing"#);
        assert_eq!(refused(&["X"]), r#"parameter "slug" does not match [a-z][a-z0-9-]{0,30}"#);
        assert_eq!(refused(&["x", "joomla"]), r#"parameter "flavor" must be one of drupal-10, drupal-11"#);
        assert_eq!(refused(&["x", "drupal-10", "y"]), r#"too many parameters: "echo" takes at most 2"#);
    }

    #[test]
    fn call_without_parameters_takes_none() {
        assert_eq!(check(&call(json!([])), &["x"]).unwrap_err(), r#"too many parameters: "echo" takes none"#);
    }

    #[test]
    fn pattern_must_match_the_whole_value() {
        let call = call(json!([{"name": "slug", "pattern": "a|bc"}]));
        for value in ["a", "bc"] {
            assert!(check(&call, &[value]).is_ok(), "{value:?}");
        }
        for value in ["ab", "abc", "xbc", "a\n", "\na", "", "bcx"] {
            assert!(check(&call, &[value]).is_err(), "{value:?}");
        }
        let multiline = self::call(json!([{"name": "slug", "pattern": "(?m)^a$"}]));
        assert!(check(&multiline, &["x\na"]).is_err());
    }

    #[test]
    fn pattern_cannot_escape_its_anchors() {
        assert!(refused_rules(json!([{"name": "a", "pattern": "a)|(b"}])).contains("not a regular expression"));
    }

    #[test]
    fn pattern_has_a_bounded_size() {
        assert_eq!(
            refused_rules(json!([{"name": "a", "pattern": "(x{1000}){1000}"}])),
            "pattern (x{1000}){1000} takes more than 512KiB when compiled: use smaller repetitions"
        );
    }

    #[test]
    fn last_parameter_can_take_the_rest() {
        let call = call(json!([{"name": "slug"}, {"name": "tag", "pattern": "[a-z]+", "rest": true}]));
        assert_eq!(check(&call, &["x", "a", "b", "c"]).unwrap().len(), 4);
        assert_eq!(check(&call, &["x", "a", "B"]).unwrap_err(), r#"parameter "tag" does not match [a-z]+"#);
        assert_eq!(check(&call, &["x"]).unwrap_err(), r#"parameter "tag" is missing"#);
        let optional = self::call(json!([{"name": "tag", "rest": true, "required": false}]));
        assert_eq!(check(&optional, &[]).unwrap(), [""; 0]);
    }

    #[test]
    fn absent_optional_parameter_is_not_passed() {
        let call = call(json!([{"name": "a", "default": "1"}, {"name": "b", "required": false}]));
        assert_eq!(check(&call, &[]).unwrap(), ["1"]);
        assert_eq!(check(&call, &["2", "3"]).unwrap(), ["2", "3"]);
    }

    #[test]
    fn error_never_repeats_the_value() {
        let call = call(json!([{"name": "password", "pattern": "[a-z]{8,}", "secret": true}]));
        for value in ["HUNTER2", "hunt\0er2"] {
            let refused = check(&call, &[value]).unwrap_err();
            assert!(refused.contains("password") && !refused.to_lowercase().contains("hunt"), "{refused}");
        }
        let broken = refused_rules(json!([{"name": "key", "pattern": "[a-z]+", "secret": true, "default": "HUNTER2"}]));
        assert_eq!(broken, r#"default breaks its own rule: parameter "key" does not match [a-z]+"#);
        assert_eq!(format!("{:?}", Params(vec!["hunter2".into()])), "Params(1 values)");
    }

    #[test]
    fn argument_with_a_nul_is_refused() {
        let any = CallSpec::any("echo".parse().unwrap());
        assert_eq!(
            check(&any, &["a", "b\0"]).unwrap_err(),
            "parameter 2 contains a NUL character, which no argument can hold"
        );
        assert_eq!(
            check(&call(json!([{"name": "slug"}])), &["b\0"]).unwrap_err(),
            r#"parameter "slug" contains a NUL character, which no argument can hold"#
        );
    }

    #[test]
    fn undeclared_parameters_are_bounded() {
        let any = CallSpec::any("echo".parse().unwrap());
        let limits = Limits { params: 2, params_size: Size::bytes(5), ..Limits::default() };
        let check = |given: &[&str]| any.check(given.iter().map(|&it| it.to_owned()).collect(), &limits);
        assert!(check(&["ab", "cde"]).is_ok());
        assert_eq!(check(&["", "", ""]).unwrap_err().to_string(), "too many parameters: a call can have at most 2");
        assert_eq!(
            check(&["abc", "def"]).unwrap_err().to_string(),
            "parameters too large: they can have at most 5B in all"
        );
    }

    #[test]
    fn contradictory_rules_are_refused_at_load() {
        for (params, why) in [
            (json!([{"name": "a", "default": "1"}, {"name": "b"}]), "required, but follows the optional \"a\""),
            (json!([{"name": "a", "required": false}, {"name": "b", "default": "1"}]), "which may be absent"),
            (json!([{"name": "a"}, {"name": "a"}]), "two parameters are named \"a\""),
            (json!([{"name": "a", "rest": true}, {"name": "b"}]), "only the last parameter"),
            (json!([{"name": "a", "choices": ["X"], "pattern": "[a-z]"}]), "does not match [a-z]"),
            (json!([{"name": "a", "choices": ["x"], "default": "y"}]), "must be one of x"),
            (json!([{"name": "a", "choices": ["x", "x"]}]), "twice"),
            (json!([{"name": "a", "choices": []}]), "choices is empty"),
            (json!([{"name": "a", "choices": ["x"], "secret": true}]), "secret"),
            (json!([{"name": "a", "default": "a\0"}]), "NUL"),
            (json!([{"name": "a", "default": "x", "required": true}]), "never missing"),
            (json!([{"name": ""}]), "name"),
            (json!([{"name": "a", "pattern": "["}]), "not a regular expression: unclosed character class"),
        ] {
            let refused = refused_rules(params);
            assert!(refused.contains(why), "{refused} / {why}");
        }
    }
}
