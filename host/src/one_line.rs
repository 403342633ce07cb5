//! Text from outside, made fit for a message: one line, not longer than its place allows.

use crate::harmless::is_harmful;
use std::fmt::{self, Write};

/// Shows `text` with the characters escaped that would do something to a terminal, and cut after about `most` bytes: what
/// someone sent or wrote must neither break a line of the log in two nor fill it.
pub struct OneLine<'a> {
    pub text: &'a str,
    pub most: usize,
}

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut written = 0;
        for c in self.text.chars() {
            if written >= self.most {
                return f.write_char('…');
            }
            if is_harmful(c) {
                let escaped = c.escape_default();
                written += escaped.len();
                write!(f, "{escaped}")?;
            } else {
                written += c.len_utf8();
                f.write_char(c)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_becomes_one_line_that_ends() {
        let shown = |text, most| OneLine { text, most }.to_string();
        assert_eq!(shown("as it is, ☃", 100), "as it is, ☃");
        assert_eq!(shown("two\nlines\u{7}", 100), "two\\nlines\\u{7}");
        assert_eq!(shown("right\u{202e}left", 100), "right\\u{202e}left");
        assert_eq!(shown("ääää", 4), "ää…");
        assert_eq!(shown("ab", 2), "ab");
    }
}
