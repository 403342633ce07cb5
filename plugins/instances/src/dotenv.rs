//! A `.env` file: one `KEY="value"` per line. Other lines stay unchanged.

use std::fmt;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dotenv {
    lines: Vec<String>,
}

impl Dotenv {
    pub fn read(text: &str) -> Self {
        Self { lines: text.lines().map(str::to_owned).collect() }
    }

    fn at(&self, key: &str) -> Option<usize> {
        self.lines.iter().position(|line| line.trim_start().strip_prefix(key).is_some_and(|rest| rest.starts_with('=')))
    }

    /// Returns the value of `key`, without quotes.
    pub fn get(&self, key: &str) -> Option<&str> {
        let (_, value) = self.lines[self.at(key)?].split_once('=')?;
        let value = value.trim();
        Some(value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value))
    }

    pub fn has(&self, key: &str) -> bool {
        self.at(key).is_some()
    }

    /// Sets a value, which must not contain characters with a meaning between double quotes.
    pub fn set(&mut self, key: &str, value: &str) {
        debug_assert!(!value.contains(['"', '\\', '$', '`', '\n', '\r']), "{key} would have to be escaped");
        let line = format!("{key}=\"{value}\"");
        match self.at(key) {
            Some(at) => self.lines[at] = line,
            None => self.lines.push(line),
        }
    }
}

impl fmt::Display for Dotenv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn value_is_set_and_other_lines_stay() {
        let mut dotenv = Dotenv::read("# mine\nA='old' # and why\nAB=2\n\nodd line\n");
        assert!(dotenv.has("A") && dotenv.has("AB") && !dotenv.has("B"));
        dotenv.set("A", "default-src 'self'");
        dotenv.set("B", "");
        assert_eq!((dotenv.get("A"), dotenv.get("AB"), dotenv.get("C")), (Some("default-src 'self'"), Some("2"), None));
        assert_eq!(dotenv.to_string(), "# mine\nA=\"default-src 'self'\"\nAB=2\n\nodd line\nB=\"\"\n");
    }
}
