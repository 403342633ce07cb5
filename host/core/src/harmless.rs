//! Text from outside, made harmless for a terminal: no character of it moves the cursor, changes a colour, or turns the
//! direction of what follows.

use std::fmt::{self, Write};

/// Whether `c` does something to a terminal instead of being shown: a control character (the escape of ANSI sequences
/// among them), a line or paragraph separator, or a mark that changes the direction of text.
pub fn is_harmful(c: char) -> bool {
    let direction =
        matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    c.is_control() || direction || matches!(c, '\u{2028}' | '\u{2029}')
}

/// Shows text with its harmful characters escaped, but for line breaks: a further line is indented, so that nothing in
/// it can pass for a line of its own.
pub struct Entry<'a>(pub &'a str);

/// What stands before each further line of an entry.
const INDENT: &str = "\n    ";

impl fmt::Display for Entry<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, line) in self.0.trim_end_matches('\n').split('\n').enumerate() {
            if at > 0 {
                f.write_str(INDENT)?;
            }
            escaped(line.strip_suffix('\r').unwrap_or(line), f, |c| c.escape_default().to_string())?;
        }
        Ok(())
    }
}

/// Shows the text of a JSON document with its harmful characters escaped as JSON does. It stays the same document.
pub struct Json<'a>(pub &'a str);

impl fmt::Display for Json<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // All harmful characters are in the first plane, where one escape is enough.
        escaped(self.0, f, |c| format!("\\u{:04x}", u32::from(c)))
    }
}

fn escaped(text: &str, f: &mut fmt::Formatter<'_>, escape: impl Fn(char) -> String) -> fmt::Result {
    let mut rest = text;
    while let Some((at, c)) = rest.char_indices().find(|(_, c)| is_harmful(*c)) {
        f.write_str(&rest[..at])?;
        f.write_str(&escape(c))?;
        rest = &rest[at + c.len_utf8()..];
    }
    f.write_str(rest)
}

/// Collects what is formatted, harmful characters escaped and in one line.
#[derive(Debug)]
pub struct Escaping<W>(pub W);

impl<W: Write> Write for Escaping<W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            if is_harmful(c) { write!(self.0, "{}", c.escape_default())? } else { self.0.write_char(c)? }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminals_are_not_told_anything() {
        for harmful in ["\x1b[31m", "\x1b]0;title\x07", "\u{9b}31m", "a\rb", "\u{202e}txt", "a\u{2028}b", "\x7f", "\0"]
        {
            let shown = Entry(harmful).to_string();
            assert!(!shown.chars().any(is_harmful), "{shown:?}");
        }
        assert_eq!(Entry("ä ☃ 👩‍🔬").to_string(), "ä ☃ 👩‍🔬");
        assert_eq!(Entry("\x1b[31mred").to_string(), "\\u{1b}[31mred");
    }

    #[test]
    fn a_further_line_is_indented() {
        assert_eq!(Entry("one\r\ntwo\n").to_string(), "one\n    two");
        assert_eq!(Entry("").to_string(), "");
    }

    #[test]
    fn escaped_json_is_the_same_document() {
        let value = serde_json::json!({"name\u{9b}": "\u{7f}\u{202e}\x1b ☃"});
        let text = Json(&value.to_string()).to_string();
        assert!(text.is_ascii() || !text.chars().any(is_harmful), "{text:?}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
    }
}
