//! The parameters of a request, by position or by name, and their order in the manifest.
//!
//! The rules for their values are in [`crate::params`].

use crate::params::{CallSpec, ParamSpec};

/// The parameters that a caller gives.
#[derive(Clone, PartialEq, Eq)]
pub enum Arguments {
    /// In the order of the manifest.
    Ordered(Vec<String>),
    /// By the names of the manifest. The values of a parameter that takes the rest are in order.
    Named(Vec<(String, String)>),
}

impl From<Vec<String>> for Arguments {
    fn from(ordered: Vec<String>) -> Self {
        Self::Ordered(ordered)
    }
}

/// Shows only the number of values: some are secret.
impl std::fmt::Debug for Arguments {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ordered(values) => write!(f, "Ordered({} values)", values.len()),
            Self::Named(values) => write!(f, "Named({} values)", values.len()),
        }
    }
}

/// The error if named parameters have no order, worded for the caller. It never repeats a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadArgument {
    #[error("{call:?} does not name its parameters: give them by position, each as params=VALUE")]
    Unnamed { call: String },
    #[error("{call:?} has no parameter {name:?}: it takes {known}")]
    Unknown { call: String, name: String, known: String },
    #[error("parameter {name:?} is given twice")]
    Twice { name: String },
    #[error("parameter {name:?} is missing")]
    Missing { name: String },
    #[error("parameter {name:?} is missing: {later:?} follows it, so give both or neither")]
    Gap { name: String, later: String },
}

impl CallSpec {
    /// Returns the given parameters in the order of the manifest, with the defaults of those that come before a given
    /// one. Their values are not checked.
    pub fn arrange(&self, given: Arguments) -> Result<Vec<String>, BadArgument> {
        let named = match given {
            Arguments::Ordered(ordered) => return Ok(ordered),
            Arguments::Named(named) if named.is_empty() => return Ok(Vec::new()),
            Arguments::Named(named) => named,
        };
        let Some(specs) = &self.params else {
            return Err(BadArgument::Unnamed { call: self.name.to_string() });
        };
        let mut values: Vec<Vec<String>> = vec![Vec::new(); specs.len()];
        for (name, value) in named {
            let Some(at) = specs.iter().position(|spec| spec.name == name) else {
                return Err(BadArgument::Unknown { call: self.name.to_string(), name, known: listed(specs) });
            };
            if !values[at].is_empty() && !specs[at].rest {
                return Err(BadArgument::Twice { name });
            }
            values[at].push(value);
        }
        let last = values.iter().rposition(|values| !values.is_empty()).unwrap_or_default();
        let mut ordered = Vec::new();
        for (spec, values) in specs.iter().zip(&mut values).take(last + 1) {
            match (&spec.default, values.is_empty()) {
                (_, false) => ordered.append(values),
                (Some(default), true) => ordered.push(default.clone()),
                (None, true) if spec.required => return Err(BadArgument::Missing { name: spec.name.clone() }),
                (None, true) => {
                    return Err(BadArgument::Gap { name: spec.name.clone(), later: specs[last].name.clone() });
                }
            }
        }
        Ok(ordered)
    }
}

fn listed(specs: &[ParamSpec]) -> String {
    if specs.is_empty() {
        return "none".to_owned();
    }
    specs.iter().map(|spec| spec.name.as_str()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::ParamList;
    use serde_json::{Value, json};

    fn arrange(params: Value, named: &[(&str, &str)]) -> Result<Vec<String>, String> {
        let ParamList(params) = serde_json::from_value(params).unwrap();
        let spec = CallSpec { params: Some(params), ..CallSpec::any("x".parse().unwrap()) };
        let named = named.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        spec.arrange(Arguments::Named(named)).map_err(|bad| bad.to_string())
    }

    #[test]
    fn named_parameters_get_the_order_of_the_manifest() {
        let params =
            || json!([{"name": "slug"}, {"name": "flavor", "default": "ten"}, {"name": "note", "required": false}]);
        let arrange = |named: &[(&str, &str)]| arrange(params(), named);
        assert_eq!(arrange(&[("flavor", "b"), ("slug", "a")]).unwrap(), ["a", "b"]);
        assert_eq!(arrange(&[("note", "c"), ("slug", "a")]).unwrap(), ["a", "ten", "c"]);
        assert_eq!(arrange(&[("slug", "a")]).unwrap(), ["a"]);
        assert_eq!(arrange(&[]).unwrap(), [""; 0]);
        assert_eq!(arrange(&[("flavor", "b")]).unwrap_err(), r#"parameter "slug" is missing"#);
        assert_eq!(arrange(&[("slug", "a"), ("slug", "secret")]).unwrap_err(), r#"parameter "slug" is given twice"#);
        let unknown = r#""x" has no parameter "size": it takes slug, flavor, note"#;
        assert_eq!(arrange(&[("size", "secret")]).unwrap_err(), unknown);
    }

    #[test]
    fn named_parameter_takes_the_rest_in_order() {
        let params = || json!([{"name": "slug"}, {"name": "tag", "rest": true, "required": false}]);
        assert_eq!(arrange(params(), &[("tag", "1"), ("slug", "a"), ("tag", "2")]).unwrap(), ["a", "1", "2"]);
    }

    #[test]
    fn gap_between_optional_parameters_is_refused() {
        let params = json!([{"name": "a", "required": false}, {"name": "b", "required": false}]);
        let gap = r#"parameter "a" is missing: "b" follows it, so give both or neither"#;
        assert_eq!(arrange(params, &[("b", "1")]).unwrap_err(), gap);
    }

    #[test]
    fn call_without_names_takes_parameters_by_position() {
        let any = CallSpec::any("x".parse().unwrap());
        assert_eq!(any.arrange(vec!["a".to_owned()].into()).unwrap(), ["a"]);
        assert_eq!(any.arrange(Arguments::Named(Vec::new())).unwrap(), [""; 0]);
        let named = Arguments::Named(vec![("a".into(), "swordfish".into())]);
        assert_eq!(format!("{named:?}"), "Named(1 values)");
        assert_eq!(any.arrange(named).unwrap_err(), BadArgument::Unnamed { call: "x".into() });
    }
}
