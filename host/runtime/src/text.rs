//! Texts of errors that a module or a guest controls, bounded and without control characters.

use distillery_core::one_line::OneLine;
use std::fmt;

/// Formats an error with its causes and the guest's backtrace for the log, up to 4 KiB. The guest controls the names in
/// a backtrace, so line breaks and escape sequences are removed. The host's backtrace is omitted: guests could request
/// its costly symbolization at will.
pub fn one_line(error: &wasmtime::Error) -> String {
    let text = format!("{error:#}");
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let mut line = lines.collect::<Vec<_>>().join("; ").replace(char::is_control, "?");
    line.truncate(line.floor_char_boundary(4 << 10));
    line
}

/// Formats a text from a module as one line, as it can contain any character.
pub fn first_line(text: impl fmt::Display) -> String {
    let text = text.to_string();
    let line = text.lines().next().unwrap_or_default();
    OneLine { text: line.trim_end(), most: 300 }.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_text_is_one_bounded_line() {
        assert_eq!(first_line("export name `a\u{4}b` is bad \nat offset 7"), "export name `a\\u{4}b` is bad");
        assert!(first_line("x".repeat(1000)).len() < 310);
    }
}
