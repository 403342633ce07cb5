//! A value of `.env` from outside: the only text in the files of an instance that a client chooses freely.
//!
//! Every character with a meaning in `.env` is refused here, so that no other code has to escape it.

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};
use std::str::FromStr;

const LONGEST: usize = 4096;
/// Characters with a meaning between double quotes.
const SPECIAL: [char; 4] = ['"', '\\', '$', '`'];

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String")]
pub struct Value(String);

impl Value {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Value {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        if text.len() > LONGEST {
            bail!("is longer than {LONGEST} bytes: shorten it");
        }
        let plain = |c: char| (c == ' ' || c.is_ascii_graphic()) && !SPECIAL.contains(&c);
        match text.chars().find(|c| !plain(*c)) {
            Some(c) => bail!("contains {c:?}, which is not allowed: remove it"),
            None => Ok(Self(text.to_owned())),
        }
    }
}

impl TryFrom<String> for Value {
    type Error = anyhow::Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn value_has_no_characters_with_a_meaning_in_dotenv() {
        for text in ["", "default-src 'self'; img-src * data:", "script-src 'sha256-ab+/='; # no comment"] {
            assert_eq!(text.parse::<Value>().unwrap().as_str(), text);
        }
        for text in ["a\nROOT=1", "a\rb", "a\"b", "a\\", "${HOME}", "$(id)", "`id`", "\0", "ä", "\u{2028}", "\x7f"] {
            assert!(text.parse::<Value>().is_err(), "{text:?}");
        }
        assert!("x".repeat(4097).parse::<Value>().is_err());
    }
}
