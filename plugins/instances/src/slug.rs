//! The name of an instance: at once a directory, a label of a host name, and the slug of a public system.

use anyhow::{Result, bail};
use std::{fmt, str::FromStr};

/// Longest label of a host name.
const LONGEST: usize = 63;
/// Reserved names in the directory of instances.
const TAKEN: [&str; 1] = [crate::mount::SNAPSHOTS];

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slug(String);

impl Slug {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Slug {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let begins = text.starts_with(|c: char| c.is_ascii_lowercase());
        if !begins || text.ends_with('-') || text.len() > LONGEST || !text.chars().all(plain) {
            bail!(
                "{} is not a slug: write 1 to {LONGEST} lowercase letters, digits or dashes, beginning with a letter and \
                 not ending with a dash",
                shown(text)
            );
        }
        if TAKEN.contains(&text) {
            bail!("{text:?} is not free: choose another slug");
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Slug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Quotes text from outside in one short line.
pub fn shown(text: &str) -> String {
    const MOST: usize = 64;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slug_is_a_host_label_that_begins_with_a_letter() {
        let longest = "a".repeat(63);
        for slug in ["a", "coins", "coins-2", longest.as_str()] {
            assert_eq!(slug.parse::<Slug>().unwrap().as_str(), slug);
        }
        let too_long = "a".repeat(64);
        for text in [
            "",
            "-a",
            "a-",
            "2a",
            "A",
            "a.b",
            "a/b",
            "..",
            ".versions",
            "a b",
            "a\nb",
            "ä",
            "a'",
            "$(a)",
            "snapshots",
            too_long.as_str(),
        ] {
            assert!(text.parse::<Slug>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn invalid_slug_is_quoted_in_one_short_line() {
        let error = format!("x\n{}", "y".repeat(10_000)).parse::<Slug>().unwrap_err().to_string();
        assert!(error.starts_with("\"x\\nyyy") && error.len() < 300 && !error.contains('\n'), "{error}");
    }
}
