//! The public list of systems.

use super::{
    listing::{Listing, Told},
    moments::rfc3339_or_null,
};
use arc_swap::ArcSwap;
use bytes::Bytes;
use distillery_config as config;
use schemars::JsonSchema;
use serde::Serialize;
use std::sync::Arc;
use time::OffsetDateTime;

/// A public system, in JSON with the names that clients of the directory read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct System {
    #[serde(rename = "Slug")]
    pub slug: String,
    #[serde(rename = "URL")]
    pub url: String,
    #[serde(rename = "Tagline")]
    pub tagline: String,
    #[serde(rename = "EntityCount")]
    pub entity_count: u64,
    #[serde(rename = "BundleCount")]
    pub bundle_count: u64,
    /// `None` if it was never edited.
    #[serde(rename = "LastEdit", serialize_with = "rfc3339_or_null")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub last_edit: Option<OffsetDateTime>,
}

impl From<&config::System> for System {
    fn from(configured: &config::System) -> Self {
        Self {
            slug: configured.slug.as_str().to_owned(),
            url: configured.url.clone(),
            tagline: configured.tagline.clone(),
            entity_count: configured.entity_count,
            bundle_count: configured.bundle_count,
            last_edit: configured.last_edit,
        }
    }
}

/// All public systems.
#[derive(Debug, Default)]
pub struct Systems {
    current: ArcSwap<Listing<System>>,
}

impl Systems {
    /// Replaces the systems. Fails only for a moment that RFC 3339 cannot express, before the year 0; the previous
    /// systems then stay.
    pub fn replace(&self, mut systems: Vec<System>) -> Result<(), serde_json::Error> {
        systems.sort_by(|a, b| a.slug.cmp(&b.slug));
        self.current.store(Arc::new(Listing::new(systems)?));
        Ok(())
    }

    /// Returns all systems, by slug.
    pub fn list(&self) -> Vec<System> {
        self.current.load().items.clone()
    }

    /// Returns the JSON of all systems.
    pub fn json(&self) -> Bytes {
        self.told().body
    }

    /// Returns the JSON of all systems, with its ETag.
    pub fn told(&self) -> Told {
        self.current.load().told.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    fn system(slug: &str, last_edit: OffsetDateTime) -> System {
        System {
            slug: slug.into(),
            url: format!("https://{slug}.example.org"),
            tagline: "Coins & medals".into(),
            entity_count: 12,
            bundle_count: 3,
            last_edit: Some(last_edit),
        }
    }

    #[test]
    fn system_has_the_names_that_directory_clients_read() {
        let systems = Systems::default();
        assert_eq!(systems.json(), "[]");
        systems.replace(vec![system("coins", datetime!(2024-05-01 14:30 +2))]).unwrap();
        assert_eq!(
            systems.json(),
            r#"[{"Slug":"coins","URL":"https://coins.example.org","Tagline":"Coins & medals","EntityCount":12,"BundleCount":3,"LastEdit":"2024-05-01T12:30:00Z"}]"#
        );
    }

    #[test]
    fn systems_are_sorted_by_slug_and_a_bad_list_is_refused() {
        let systems = Systems::default();
        let moment = datetime!(2024-05-01 0:00 UTC);
        systems.replace(vec![system("b", moment), system("a", moment)]).unwrap();
        assert!(systems.replace(vec![system("c", datetime!(-1-01-01 0:00 UTC))]).is_err());
        assert_eq!(systems.list().iter().map(|it| it.slug.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    }
}
