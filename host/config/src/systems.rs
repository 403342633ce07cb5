//! The public systems in the configuration. Their display is decided elsewhere.

use super::{
    form::{self, Formed},
    source::{ConfigError, Node, Section},
    yaml::Value,
};
use regex::Regex;
use std::{collections::HashSet, fmt, str::FromStr, sync::LazyLock};
use time::OffsetDateTime;

/// A public system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct System {
    pub slug: Slug,
    pub url: String,
    pub tagline: String,
    pub entity_count: u64,
    pub bundle_count: u64,
    /// `None` if the system was never edited.
    pub last_edit: Option<OffsetDateTime>,
}

/// The parts of a system, unchecked.
#[derive(Clone, Copy, Debug)]
pub struct Parts<'a> {
    pub slug: &'a str,
    pub url: &'a str,
    pub tagline: &'a str,
    pub entity_count: u64,
    pub bundle_count: u64,
    pub last_edit: Option<&'a str>,
}

/// The short name of a system: 1 to 63 of `a-z 0-9 -`, beginning with a letter, as in a host name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slug(String);

/// The form of a slug, for programs and for people.
pub const SLUG_PATTERN: &str = "^[a-z][a-z0-9-]{0,62}$";
pub const SLUG_FORM: &str = "1 to 63 lowercase letters, digits or dashes, beginning with a letter";

#[derive(Debug, thiserror::Error)]
#[error("{slug:?} is not a slug: write {SLUG_FORM}")]
pub struct BadSlug {
    slug: String,
}

impl Slug {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Slug {
    type Err = BadSlug;

    fn from_str(slug: &str) -> Result<Self, BadSlug> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let begins = slug.starts_with(|c: char| c.is_ascii_lowercase());
        if begins && slug.len() <= 63 && slug.chars().all(plain) {
            Ok(Self(slug.to_owned()))
        } else {
            Err(BadSlug { slug: slug.to_owned() })
        }
    }
}

impl fmt::Display for Slug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl serde::Serialize for Slug {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// Reads the list of systems.
pub(super) fn read(node: Node<'_>) -> Result<Vec<System>, ConfigError> {
    let mut slugs = HashSet::new();
    let mut systems = Vec::new();
    for item in node.list()? {
        let mut section = item.section()?;
        let system = System::read(&mut section)?;
        if !slugs.insert(system.slug.clone()) {
            return Err(section.refuse(&["slug"], format!("{:?} is taken: write another", system.slug.as_str())));
        }
        section.finish()?;
        systems.push(system);
    }
    Ok(systems)
}

/// The maximum length of a tagline over the API.
pub const TAGLINE: usize = 1000;

/// The form of a system's address over the API, for programs.
pub const URL_PATTERN: &str =
    r"^https?://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?([/?][A-Za-z0-9/._~%!$&'()*+,;=:@?#-]*)?$";

static URL: LazyLock<Regex> = LazyLock::new(|| Regex::new(URL_PATTERN).expect("the pattern is well-formed"));

impl System {
    /// Makes a system of these parts if they follow the rules of the configuration.
    pub fn checked(parts: Parts<'_>) -> Result<Self, String> {
        let Parts { slug, url, tagline, entity_count, bundle_count, last_edit } = parts;
        let slug = slug.parse().map_err(|bad: BadSlug| bad.to_string())?;
        if tagline.chars().count() > TAGLINE || tagline.chars().any(char::is_control) {
            return Err(format!("a tagline is one line of at most {TAGLINE} characters"));
        }
        if entity_count.max(bundle_count) > i64::MAX as u64 {
            return Err(format!("so many there cannot be: write at most {}", i64::MAX));
        }
        if !URL.is_match(url) {
            return Err(format!("{url:?} is not an address: write one such as https://a.example/"));
        }
        let text = |it: &str| Value::Text(it.to_owned());
        Ok(Self {
            slug,
            url: form::url(&text(url))?,
            tagline: tagline.to_owned(),
            entity_count,
            bundle_count,
            last_edit: last_edit.map(|moment| form::moment(&text(moment))).transpose()?,
        })
    }

    fn read(section: &mut Section<'_>) -> Result<Self, ConfigError> {
        Ok(Self {
            slug: section.need("slug", slug)?,
            url: section.need("url", form::url)?,
            tagline: section.get_or("tagline", String::new(), form::text)?,
            entity_count: section.get_or("entity_count", 0, form::count(0..=i64::MAX as u64))?,
            bundle_count: section.get_or("bundle_count", 0, form::count(0..=i64::MAX as u64))?,
            last_edit: section.get("last_edit", form::moment)?,
        })
    }
}

fn slug(value: &Value) -> Formed<Slug> {
    match value {
        Value::Text(it) => it.parse().map_err(|bad: BadSlug| bad.to_string()),
        _ => Err(form::not(value, "a slug", SLUG_FORM)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slugs_follow_their_form() {
        for slug in ["a", "my-system-2", &"x".repeat(63)] {
            assert!(slug.parse::<Slug>().is_ok(), "{slug:?}");
        }
        for slug in ["", "2nd", "-a", "A", "a_b", "a.b", &"x".repeat(64)] {
            assert!(slug.parse::<Slug>().is_err(), "{slug:?}");
        }
    }
}
