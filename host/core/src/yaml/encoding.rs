//! From the bytes of a file that people wrote to its text.

/// What stands at the beginning of a file that some editors save.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// Why bytes are no text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotText {
    #[error("UTF-16 or UTF-32 text, or no text at all: save the file as UTF-8")]
    Wide,
    #[error("not UTF-8: save the file in this encoding")]
    Line(usize),
}

impl NotText {
    /// The line that is not text, from 1.
    pub fn line(self) -> usize {
        match self {
            Self::Wide => 1,
            Self::Line(line) => line,
        }
    }
}

/// The text that `bytes` encode.
pub fn decode(bytes: Vec<u8>) -> Result<String, NotText> {
    // In UTF-16 and UTF-32 every other byte of ASCII is zero, and in UTF-8 text no byte is.
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) || bytes.contains(&0) {
        return Err(NotText::Wide);
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        NotText::Line(good.iter().filter(|byte| **byte == b'\n').count() + 1)
    })
}

/// The text without the mark of its encoding.
pub fn without_mark(text: &str) -> &str {
    text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text)
}

/// Whether `text` says nothing: it is empty, or all comments. A line ends wherever YAML ends it.
pub fn is_blank(text: &str) -> bool {
    let mut lines = without_mark(text).split(['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}']);
    lines.all(|line| {
        let line = line.trim();
        line.is_empty() || line.starts_with('#')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_encodings_are_named() {
        let utf16 =
            |mark: &[u8], text: &str| [mark, &text.bytes().flat_map(|byte| [byte, 0]).collect::<Vec<_>>()].concat();
        assert_eq!(decode(utf16(&[0xff, 0xfe], "a: b")), Err(NotText::Wide));
        assert_eq!(decode(utf16(&[], "a: b")), Err(NotText::Wide));
        assert_eq!(decode(b"\xfe\xff\0a".to_vec()), Err(NotText::Wide));
        assert_eq!(decode(b"a\nb\xff".to_vec()), Err(NotText::Line(2)));
        assert_eq!(decode("\u{feff}a".into()).as_deref(), Ok("\u{feff}a"));
    }

    #[test]
    fn comments_are_blank_however_lines_end() {
        for text in ["", "\u{feff}", "\u{feff}# a\r\n\t# b\r\n", "# a\r# b", " \n\n"] {
            assert!(is_blank(text), "{text:?}");
        }
        for text in ["# a\ra: b", "\u{feff}a: b", "# a\u{2028}a: b", "\u{85}a: b"] {
            assert!(!is_blank(text), "{text:?}");
        }
    }
}
