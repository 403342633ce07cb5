//! Rules for every message, for any input.

/// Longest message about a frame, a file or a module: it is one line of the log.
const LONGEST: usize = 2 << 10;

/// Holds for a message to a client or an operator: one line, not empty, bounded, lowercase.
#[track_caller]
pub fn assert_sentence(message: &str) {
    assert_line(message);
    assert!(!message.starts_with(char::is_uppercase), "begins with a capital: {message:?}");
}

/// Holds for a text on one line of the log.
#[track_caller]
pub fn assert_line(message: &str) {
    assert!(!message.is_empty(), "says nothing");
    assert!(message.len() <= LONGEST, "{} bytes long: {:?}…", message.len(), message.get(..300));
    assert!(!message.contains(char::is_control), "control characters: {message:?}");
}
