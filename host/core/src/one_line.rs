//! Text from outside, made safe for a message: one line of bounded length.

use crate::harmless::is_harmful;
use std::fmt::{self, Write};

/// Shows `text` with the characters escaped that act on a terminal, and cut after about `most` bytes: text from outside must
/// not break a line of the log, or fill it.
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
    fn text_becomes_one_bounded_line() {
        let shown = |text, most| OneLine { text, most }.to_string();
        assert_eq!(shown("as it is, ☃", 100), "as it is, ☃");
        assert_eq!(shown("two\nlines\u{7}", 100), "two\\nlines\\u{7}");
        assert_eq!(shown("right\u{202e}left", 100), "right\\u{202e}left");
        assert_eq!(shown("ääää", 4), "ää…");
        assert_eq!(shown("ab", 2), "ab");
    }
}
