//! Guest lines for messages: without terminal sequences, and without the directories of a build.

use std::borrow::Cow;

/// Extensions of source files.
const SOURCES: [&str; 22] = [
    "rs", "go", "py", "c", "cc", "cpp", "cxx", "h", "hpp", "zig", "js", "mjs", "cjs", "ts", "wat", "java", "kt", "cs",
    "swift", "rb", "php", "lua",
];

/// Returns the visible text of `line` on a terminal: without colours, and without text that a carriage return
/// overwrote.
pub(super) fn clean(line: &[u8]) -> Cow<'_, str> {
    let text = String::from_utf8_lossy(line);
    if !text.contains(|c: char| c.is_control() && c != '\t') {
        return text;
    }
    let seen = text.rsplit('\r').find(|part| !part.trim().is_empty()).unwrap_or_default();
    let mut shown = String::with_capacity(seen.len());
    let mut chars = seen.chars().peekable();
    while let Some(c) = chars.next() {
        match (c, chars.peek()) {
            ('\u{1b}', Some('[')) => {
                chars.next();
                chars.by_ref().find(|c| ('@'..='~').contains(c));
            }
            ('\u{1b}', Some(']')) => drop(chars.by_ref().find(|c| matches!(c, '\u{7}' | '\\'))),
            ('\u{1b}', _) => drop(chars.next()),
            ('\t', _) => shown.push(c),
            _ if c.is_control() => {}
            _ => shown.push(c),
        }
    }
    Cow::Owned(shown)
}

/// Returns `words` with each absolute path of a source file cut to its file name. The directories are those of the
/// machine that built the guest.
pub(super) fn without_directories(words: &str) -> Cow<'_, str> {
    const AROUND: [char; 11] = ['"', '\'', '`', '(', ')', '<', '>', '[', ']', ',', ';'];
    let is_around = |c: char| c.is_whitespace() || AROUND.contains(&c);
    let mut cut: Vec<(usize, usize)> = Vec::new();
    let mut start = 0;
    for part in words.split(is_around) {
        if let Some(directories) = directories(part) {
            cut.push((start, start + directories));
        }
        let end = start + part.len();
        start = end + words[end..].chars().next().map_or(0, char::len_utf8);
    }
    if cut.is_empty() {
        return Cow::Borrowed(words);
    }
    let mut shown = String::with_capacity(words.len());
    let mut from = 0;
    for (begin, end) in cut {
        shown += &words[from..begin];
        from = end;
    }
    Cow::Owned(shown + &words[from..])
}

/// Returns the length of the directories, if `part` is the absolute path of a source file.
fn directories(part: &str) -> Option<usize> {
    let drive = part.as_bytes().get(1) == Some(&b':') && matches!(part.as_bytes().get(2), Some(b'\\' | b'/'));
    if !part.starts_with('/') && !drive {
        return None;
    }
    // The colon of a drive does not end a path.
    let root = if drive { 2 } else { 1 };
    let path_end = part[root..].find(':').map_or(part.len(), |at| at + root);
    let path = &part[..path_end];
    let name = path.rfind(['/', '\\'])? + 1;
    let ending = path[name..].rsplit_once('.')?.1;
    SOURCES.contains(&ending).then_some(name)
}
