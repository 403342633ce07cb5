//! Software of an instance.

use crate::slug::shown;
use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};
use std::str::FromStr;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub enum Flavor {
    #[serde(rename = "drupal-10")]
    Drupal10,
    #[default]
    #[serde(rename = "drupal-11")]
    Drupal11,
}

const ALL: [Flavor; 2] = [Flavor::Drupal10, Flavor::Drupal11];

impl Flavor {
    pub fn name(self) -> &'static str {
        match self {
            Self::Drupal10 => "drupal-10",
            Self::Drupal11 => "drupal-11",
        }
    }

    /// Returns the name for people.
    pub fn title(self) -> &'static str {
        match self {
            Self::Drupal10 => "Drupal 10",
            Self::Drupal11 => "Drupal 11",
        }
    }

    pub fn image(self) -> &'static str {
        match self {
            Self::Drupal10 => "docker.io/library/drupal:10-apache",
            Self::Drupal11 => "docker.io/library/drupal:11-apache",
        }
    }
}

/// Reads the name or the title, which forms of clients send. Without either, the default.
impl FromStr for Flavor {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        match ALL.into_iter().find(|flavor| text == flavor.name() || text == flavor.title()) {
            Some(flavor) => Ok(flavor),
            None => bail!("unknown Flavor {}: choose one of {}", shown(text), ALL.map(Self::title).join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flavor_is_read_from_its_name_or_title() {
        for flavor in ALL {
            assert_eq!(flavor.name().parse::<Flavor>().unwrap(), flavor);
            assert_eq!(flavor.title().parse::<Flavor>().unwrap(), flavor);
            assert_eq!(serde_json::to_value(flavor).unwrap(), flavor.name());
        }
        assert_eq!("".parse::<Flavor>().unwrap(), Flavor::Drupal11);
        let error = "Drupal 6".parse::<Flavor>().unwrap_err().to_string();
        assert_eq!(error, "unknown Flavor \"Drupal 6\": choose one of Drupal 10, Drupal 11");
    }
}
