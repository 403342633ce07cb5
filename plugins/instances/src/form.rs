//! The form for a new instance: one JSON object. Clients send more than is needed.

use crate::slug::{Slug, shown};
use anyhow::{Context, Result, anyhow, bail};
use serde_json::{Map, Value};

/// The part of the form that the template understands.
pub type System = Map<String, Value>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Form {
    pub slug: Slug,
    pub flavor: Option<String>,
    pub system: System,
    /// Keys without a meaning here.
    pub ignored: Vec<String>,
}

impl Form {
    pub fn read(json: &str) -> Result<Self> {
        let mut form = object(json, "the form", "{\"Slug\": \"…\", \"Flavor\": \"…\"}")?;
        let slug = quoted(form.remove("Slug"), "Slug")?.context("Slug is missing: name the instance")?.parse()?;
        let flavor = quoted(form.remove("Flavor"), "Flavor")?;
        let system = match form.remove("System") {
            None | Some(Value::Null) => System::new(),
            Some(Value::Object(system)) => system,
            Some(_) => bail!("System is not an object: write {{…}}, or leave it out"),
        };
        Ok(Self { slug, flavor, system, ignored: form.into_iter().map(|(key, _)| key).collect() })
    }
}

/// Reads the form for a rebuild, which is the system part of the form.
pub fn system(json: &str) -> Result<System> {
    object(json, "the system", "{\"ContentSecurityPolicy\": \"…\"}")
}

fn object(json: &str, what: &str, form: &str) -> Result<System> {
    match serde_json::from_str(json) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => bail!("{what} is not an object: write {form}"),
        Err(error) => Err(anyhow!("{what} is not JSON: {error}: write {form}")),
    }
}

fn quoted(value: Option<Value>, key: &str) -> Result<Option<String>> {
    match value {
        Some(Value::Bool(_) | Value::Number(_)) => bail!("{key} is not a text: write it in quotes"),
        value => text(value, key),
    }
}

/// Reads a text, a number, or whether something is the case.
pub fn text(value: Option<Value>, key: &str) -> Result<Option<String>> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(value @ (Value::Bool(_) | Value::Number(_))) => Ok(Some(value.to_string())),
        Some(other) => bail!("{key} is not a text, but {}: write it in quotes", shown(&other.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn form_needs_a_slug_and_names_unknown_keys() {
        let form = Form::read(r#"{"Slug": "coins"}"#).unwrap();
        assert_eq!((form.slug.as_str(), form.flavor, form.ignored.len()), ("coins", None, 0));

        let long = "x".repeat(8000);
        let sent = format!(
            r#"{{"Slug": "coins", "Flavor": "Drupal 10", "Odd": ["{long}"], "System": {{"PHP": "Default (8.1)",
            "OpCacheDevelopment": false}}}}"#
        );
        let form = Form::read(&sent).unwrap();
        assert_eq!((form.flavor.as_deref(), form.system.len()), (Some("Drupal 10"), 2));
        assert_eq!(form.ignored, ["Odd"]);
    }

    #[test]
    fn invalid_form_names_the_error() {
        for (json, told) in [
            ("", "the form is not JSON: EOF"),
            ("{\"Slug\": \"coins\"", "the form is not JSON"),
            ("[\"coins\"]", "the form is not an object: write {\"Slug\""),
            ("{}", "Slug is missing: name the instance"),
            ("{\"slug\": \"coins\"}", "Slug is missing"),
            ("{\"Slug\": null}", "Slug is missing"),
            ("{\"Slug\": 7}", "Slug is not a text: write it in quotes"),
            ("{\"Slug\": \"Coins\"}", "\"Coins\" is not a slug: "),
            ("{\"Slug\": \"../coins\"}", "\"../coins\" is not a slug: "),
            ("{\"Slug\": \"coins\", \"Flavor\": []}", "Flavor is not a text"),
            ("{\"Slug\": \"coins\", \"System\": \"8.1\"}", "System is not an object"),
        ] {
            let error = Form::read(json).unwrap_err().to_string();
            assert!(error.starts_with(told), "{json}: {error}");
        }
    }
}
