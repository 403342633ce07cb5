//! The parameters of a call: the rules of a manifest, and their check against a caller's values.
//!
//! This module knows neither the caller nor the use of the values.

pub use distillery_core::param::{BadParam, ParamSpec, Pattern};

use distillery_core::{
    auth::Access,
    call::{CallName, OnDisconnect},
    limits::Limits,
};
use serde::Deserialize;
use std::{fmt, path::PathBuf};

/// A call, as its plugin declares it.
#[derive(Clone, Debug)]
pub struct CallSpec {
    pub name: CallName,
    pub description: String,
    pub access: Access,
    /// The script of an interpreter, relative to the plugin's files.
    pub script: Option<PathBuf>,
    /// Arguments behind those of the plugin, such as the script of this call.
    pub arguments: Vec<String>,
    /// `None` allows any number of any parameters.
    pub params: Option<Vec<ParamSpec>>,
    pub on_disconnect: OnDisconnect,
    /// Whether the value is only for the client: neither the log nor the history has it.
    pub secret_value: bool,
    /// Whether the history keeps what its processes write.
    pub keeps_output: bool,
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

impl CallSpec {
    /// Returns the call that a plugin without `calls` provides.
    pub fn any(name: CallName) -> Self {
        Self {
            name,
            description: String::new(),
            access: Access::default(),
            script: None,
            arguments: Vec::new(),
            params: None,
            on_disconnect: OnDisconnect::default(),
            secret_value: false,
            keeps_output: true,
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
    use distillery_core::size::Size;
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
