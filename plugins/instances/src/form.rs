//! The form for a new instance: one JSON object. Clients send more than is needed.

use crate::{
    flavor::Flavor,
    policy::Policy,
    slug::{Slug, shown},
};
use anyhow::{Context, Result, anyhow, bail};
use serde_json::{Map, Value};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Form {
    pub slug: Slug,
    pub flavor: Flavor,
    pub policy: Policy,
    /// Keys without a meaning here.
    pub ignored: Vec<String>,
}

impl Form {
    pub fn read(json: &str) -> Result<Self> {
        let mut form = object(json, "the form", "{\"Slug\": \"…\", \"Flavor\": \"…\"}")?;
        let slug = text(form.remove("Slug"), "Slug")?.context("Slug is missing: name the instance")?.parse()?;
        let flavor = text(form.remove("Flavor"), "Flavor")?.unwrap_or_default().parse()?;
        let mut ignored = Vec::new();
        let policy = match form.remove("System") {
            None | Some(Value::Null) => Policy::default(),
            Some(Value::Object(system)) => policy(system, &mut ignored)?,
            Some(_) => bail!("System is not an object: write {{…}}, or leave it out"),
        };
        ignored.extend(form.into_iter().map(|(key, _)| key));
        Ok(Self { slug, flavor, policy, ignored })
    }
}

/// Reads the form for a rebuild, which is the system part of the form. Returns the policy, and the ignored keys.
pub fn system(json: &str) -> Result<(Policy, Vec<String>)> {
    let mut ignored = Vec::new();
    let policy = policy(object(json, "the system", "{\"ContentSecurityPolicy\": \"…\"}")?, &mut ignored)?;
    Ok((policy, ignored))
}

fn policy(mut system: Map<String, Value>, ignored: &mut Vec<String>) -> Result<Policy> {
    let policy = text(system.remove("ContentSecurityPolicy"), "ContentSecurityPolicy")?.unwrap_or_default();
    ignored.extend(system.into_iter().map(|(key, _)| format!("System.{key}")));
    policy.parse()
}

fn object(json: &str, what: &str, form: &str) -> Result<Map<String, Value>> {
    match serde_json::from_str(json) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => bail!("{what} is not an object: write {form}"),
        Err(error) => Err(anyhow!("{what} is not JSON: {error}: write {form}")),
    }
}

fn text(value: Option<Value>, key: &str) -> Result<Option<String>> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) => bail!("{key} is not a text, but {}: write it in quotes", shown(&other.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn form_needs_a_slug_and_ignores_unknown_keys() {
        let form = Form::read(r#"{"Slug": "coins"}"#).unwrap();
        assert_eq!((form.slug.as_str(), form.flavor, form.ignored.len()), ("coins", Flavor::Drupal11, 0));

        let long = "x".repeat(8000);
        let sent = format!(
            r#"{{"Slug": "coins", "Flavor": "Drupal 10", "Odd": ["{long}"], "System": {{"PHP": "Default (8.1)",
            "OpCacheDevelopment": false, "ContentSecurityPolicy": "default-src 'self'"}}}}"#
        );
        let form = Form::read(&sent).unwrap();
        assert_eq!((form.flavor, form.policy.as_str()), (Flavor::Drupal10, "default-src 'self'"));
        assert_eq!(form.ignored, ["System.OpCacheDevelopment", "System.PHP", "Odd"]);
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
            ("{\"Slug\": 7}", "Slug is not a text, but \"7\": write it in quotes"),
            ("{\"Slug\": \"Coins\"}", "\"Coins\" is not a slug: "),
            ("{\"Slug\": \"../coins\"}", "\"../coins\" is not a slug: "),
            ("{\"Slug\": \"coins\", \"Flavor\": \"Joomla\"}", "unknown Flavor \"Joomla\""),
            ("{\"Slug\": \"coins\", \"Flavor\": []}", "Flavor is not a text"),
            ("{\"Slug\": \"coins\", \"System\": \"8.1\"}", "System is not an object"),
            (
                "{\"Slug\": \"coins\", \"System\": {\"ContentSecurityPolicy\": \"x\\nROOT=1\"}}",
                "ContentSecurityPolicy contains '\\n'",
            ),
        ] {
            let error = Form::read(json).unwrap_err().to_string();
            assert!(error.starts_with(told), "{json}: {error}");
        }
    }
}
