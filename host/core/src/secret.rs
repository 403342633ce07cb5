//! A value that only a guest gets: a secret, or a value that could be one.

use std::fmt;

/// Text that never appears in a log, an error or a response by accident.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(value: String) -> Self {
        Self(value)
    }

    /// Returns the value itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secret_is_never_shown() {
        let shown = format!("{:?}", Some(("API_KEY", Secret::new("swordfish".to_owned()))));
        assert_eq!(shown, r#"Some(("API_KEY", ***))"#);
    }
}
