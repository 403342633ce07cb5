//! The last words of a guest: the line of its stderr that best explains its failure.
//!
//! Lines that only locate the failure are left out: stack frames, dumps of other threads, `note:` lines, prompts and
//! blank lines. It reads one line at a time and keeps only the best, so that a flood costs no memory. The forms are
//! those of the languages that compile to WebAssembly.

mod frame;
mod text;

use frame::{begins_goroutine, begins_trace, is_frame, is_remark};
use text::{clean, without_directories};

/// Maximum length of the stored text.
const MOST: usize = 1 << 10;
/// Prefixes of failure messages, in lower case, that language runtimes write before they trap or exit.
const PANICS: [&str; 7] =
    ["panic: ", "fatal error: ", "assertion failed", "abort: ", "aborted(", "libc++abi: ", "uncaught "];
/// Last characters of an unfinished line that is a prompt.
const PROMPTS: [char; 7] = [':', '?', '>', '$', '#', '%', ']'];

#[derive(Default)]
pub(super) struct LastWords {
    last: String,
    /// The last panic, with its place.
    panic: Option<String>,
    /// Whether `last` is the exception after a traceback.
    is_exception: bool,
    within: Within,
}

/// The context of the next line.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Within {
    #[default]
    Nothing,
    /// After the place of a panic; its message follows.
    PanicPlace,
    /// The message of a panic, which indented lines continue.
    Panic,
    /// After the place of a panic that an exception caused; its message does not explain more.
    Consequence,
    /// A stack trace: its indented lines are frames or source.
    Trace,
    /// A stack trace that an exception follows.
    Traceback,
    /// Frames of a goroutine, up to a blank line.
    Goroutine,
}

impl LastWords {
    /// Takes a whole line, without its terminator.
    pub fn line(&mut self, line: &[u8]) {
        let text = clean(line);
        let words = text.trim();
        if words.is_empty() {
            if self.within != Within::PanicPlace {
                self.within = Within::Nothing;
            }
            return;
        }
        let indented = text.starts_with(char::is_whitespace);
        if !self.continues(words, indented) {
            self.begin(words, indented);
        }
    }

    /// Takes the unterminated rest of stderr.
    pub fn unfinished(&mut self, line: &[u8]) {
        let text = clean(line);
        if !text.ends_with(char::is_whitespace) && !text.ends_with(PROMPTS) {
            self.line(line);
        }
    }

    /// Returns the best line. `None` if no line said why.
    pub fn words(&self) -> Option<String> {
        (!self.last.is_empty()).then(|| self.last.clone())
    }

    /// Returns the text of the last panic, or else the best line.
    pub fn panic(&self) -> Option<String> {
        self.panic.clone().or_else(|| self.words())
    }

    pub fn forget(&mut self) {
        *self = Self::default();
    }

    /// Handles a line that belongs to its context. Returns whether it does.
    fn continues(&mut self, words: &str, indented: bool) -> bool {
        match self.within {
            Within::Nothing => false,
            Within::Goroutine => true,
            Within::Trace => {
                let frame = indented || is_frame(words, indented);
                if !frame {
                    self.within = Within::Nothing;
                }
                frame
            }
            Within::Traceback => {
                if !indented {
                    self.within = Within::Nothing;
                    self.begin(words, indented);
                    self.is_exception = true;
                }
                true
            }
            Within::Consequence => {
                self.within = Within::Nothing;
                true
            }
            Within::PanicPlace => {
                let message = !is_remark(words) && !begins_trace(words);
                self.within = if message { Within::Panic } else { Within::Nothing };
                if message {
                    self.extend_panic(": ", words);
                }
                message
            }
            Within::Panic if indented && !is_frame(words, indented) => {
                self.extend_panic(" ", words);
                true
            }
            Within::Panic => {
                self.within = Within::Nothing;
                false
            }
        }
    }

    /// Handles a line without a context.
    fn begin(&mut self, words: &str, indented: bool) {
        if begins_goroutine(words) {
            self.within = Within::Goroutine;
            // The message can have several lines, and the first one says most.
            if let Some(panic) = &self.panic {
                self.last.clone_from(panic);
            }
        } else if begins_trace(words) || is_frame(words, indented) {
            let before_exception = starts_with(words, "traceback");
            self.within = if before_exception { Within::Traceback } else { Within::Trace };
        } else if is_remark(words) || !words.contains(char::is_alphanumeric) {
            // The line does not explain the failure.
        } else if let Some(place) = words.strip_prefix("thread ").and_then(|it| it.split_once(" panicked at ")) {
            if self.is_exception {
                // A language runtime written in Rust panics because of an exception in the program.
                self.panic = Some(self.last.clone());
                self.within = Within::Consequence;
                return;
            }
            // Rust: the place, and the message in the next line. Before 1.73, both are in one line.
            let (place, within) =
                place.1.strip_suffix(':').map_or((place.1, Within::Panic), |it| (it, Within::PanicPlace));
            self.set_panic(&format!("panicked at {place}"), within);
        } else if let Some((_, message)) = words.strip_prefix("thread ").and_then(|it| it.split_once(" panic: ")) {
            self.set_panic(&format!("panic: {message}"), Within::Panic);
        } else if PANICS.iter().any(|it| starts_with(words, it)) {
            self.set_panic(words, Within::Panic);
        } else {
            set(&mut self.last, &without_directories(without_number(words)));
            self.is_exception = false;
        }
    }

    fn set_panic(&mut self, words: &str, within: Within) {
        let mut panic = String::new();
        set(&mut panic, &without_directories(words));
        self.last.clone_from(&panic);
        self.panic = Some(panic);
        self.is_exception = false;
        self.within = within;
    }

    fn extend_panic(&mut self, between: &str, words: &str) {
        let panic = format!("{}{between}{}", self.panic.as_deref().unwrap_or_default(), without_directories(words));
        set(&mut self.last, &panic);
        self.panic = Some(self.last.clone());
    }
}

/// Puts `text` into `slot`, cut to the maximum length.
fn set(slot: &mut String, text: &str) {
    slot.clear();
    slot.push_str(&text[..text.floor_char_boundary(MOST)]);
}

/// Returns `words` without the number in a chain of causes.
fn without_number(words: &str) -> &str {
    match words.split_once(": ") {
        Some((number, cause)) if number.bytes().all(|byte| byte.is_ascii_digit()) => cause,
        _ => words,
    }
}

/// Returns whether `words` begin with `lower`, in any case.
fn starts_with(words: &str, lower: &str) -> bool {
    words.get(..lower.len()).is_some_and(|it| it.eq_ignore_ascii_case(lower))
}

#[cfg(test)]
mod tests;
