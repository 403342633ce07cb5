//! Formats of stack traces in the languages that guests are written in.

use super::starts_with;

/// Prefixes of a trace, in lower case.
const TRACES: [&str; 8] = [
    "stack backtrace:",
    "stack trace:",
    "stack traceback:",
    "stacktrace:",
    "stack:",
    "backtrace:",
    "location:",
    "traceback (most recent call last):",
];
/// Prefixes of lines about a failure that do not explain it, in lower case.
const REMARKS: [&str; 9] = [
    "note:",
    "[signal ",
    "unable to dump stack trace",
    "cannot print stack trace",
    "during handling of the above exception, another exception occurred",
    "the above exception was the direct cause of the following exception",
    "caused by:",
    "node.js v",
    "thrown in ",
];

/// Returns whether a trace follows this line.
pub(super) fn begins_trace(words: &str) -> bool {
    TRACES.iter().any(|trace| words.eq_ignore_ascii_case(trace))
        || words.to_ascii_lowercase().ends_with("exception group traceback (most recent call last):")
}

/// Returns whether the frames of a goroutine follow this line, as in `goroutine 1 [running]:`.
pub(super) fn begins_goroutine(words: &str) -> bool {
    let number = words.strip_prefix("goroutine ").and_then(|it| it.split_once(" ["));
    number.is_some_and(|(number, _)| is_number(number.split(' ').next().unwrap_or_default())) && words.ends_with("]:")
}

/// Returns whether this line is only a remark beside the failure.
pub(super) fn is_remark(words: &str) -> bool {
    // "Caused by: why" explains the failure.
    REMARKS.iter().any(|it| starts_with(words, it) && (*it != "caused by:" || words.len() == it.len()))
        || (words.starts_with("... ") && words.ends_with(" more"))
}

/// Returns whether this line is a frame of a stack trace.
pub(super) fn is_frame(words: &str, indented: bool) -> bool {
    if let Some(place) = words.strip_prefix("at ") {
        // A line such as "at least two" is not a frame.
        return has_position(words) || (indented && (place.contains('(') || place.starts_with('<')));
    }
    if words.starts_with("File \"") {
        return words.contains(", line ");
    }
    if words.starts_with("from ") {
        return words.contains(":in ");
    }
    if let Some(numbered) = words.strip_prefix('#') {
        return numbered.split_once(' ').is_some_and(|(number, _)| is_number(number));
    }
    // Zig: file:line:column: address in function (module)
    if words.contains(": 0x") && words.contains(" in ") {
        return true;
    }
    // SpiderMonkey: function@file:line:column
    words.contains('@') && !words.contains(char::is_whitespace) && has_position(words)
}

/// Returns whether the text ends with a line number, as in `call.js:3:9)`.
fn has_position(words: &str) -> bool {
    let words = words.trim_end_matches(')');
    words.rsplit_once(':').is_some_and(|(_, line)| is_number(line.trim_start_matches("line ")))
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}
