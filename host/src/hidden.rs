//! A value that is handed to a guest and shown to nobody else: a secret, or what may be one.

use std::fmt;

/// Text that no log, error or answer can show by accident.
#[derive(Clone, PartialEq, Eq)]
pub struct Hidden(String);

impl Hidden {
    pub fn new(value: String) -> Self {
        Self(value)
    }

    /// The value itself, for whom it is meant.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_shows_nothing_of_itself() {
        let shown = format!("{:?}", Some(("API_KEY", Hidden::new("swordfish".to_owned()))));
        assert_eq!(shown, r#"Some(("API_KEY", ***))"#);
    }
}
