//! The news: Markdown files in one directory, turned into HTML that is safe to show.
//!
//! A file begins with a header between two lines of `---`:
//!
//! ```text
//! ---
//! title: A new home
//! date: 2024-05-01
//! ---
//! The text, in *Markdown*.
//! ```

use super::{
    listing::{Listing, Told},
    moments::rfc3339,
};
use arc_swap::ArcSwap;
use bytes::Bytes;
use pulldown_cmark::{Options, Parser, html};
use schemars::JsonSchema;
use serde::Serialize;
use std::{
    fmt,
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
};
use time::{Date, OffsetDateTime, format_description::well_known::Rfc3339, macros::format_description};

/// A news item, in JSON with the names that clients read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct NewsItem {
    #[serde(rename = "ID")]
    pub id: String,
    #[serde(rename = "Date", serialize_with = "rfc3339")]
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub date: OffsetDateTime,
    #[serde(rename = "Title")]
    pub title: String,
    /// Sanitized HTML, without scripts.
    #[serde(rename = "Content")]
    pub content: String,
}

/// All news, newest first.
#[derive(Debug, Default)]
pub struct News {
    current: ArcSwap<Listing<NewsItem>>,
}

/// The reason why a file is not among the news.
#[derive(Debug)]
pub struct Problem {
    pub file: PathBuf,
    pub line: Option<usize>,
    pub what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, "{line}:")?;
        }
        write!(f, " {}", self.what)
    }
}

/// Maximum size of a file: people read an item in one go, and the server reads it into memory.
const FILE_SIZE: u64 = 1 << 20;

impl News {
    /// Reads all `*.md` files in `directory`. Invalid files are left out, each with the reason. A missing directory has
    /// no news.
    pub fn read(directory: &Path) -> (Self, Vec<Problem>) {
        let (items, mut problems) = read_all(directory);
        let listing = Listing::new(items).unwrap_or_else(|error| {
            problems.push(Problem { file: directory.to_owned(), line: None, what: error.to_string() });
            Listing::default()
        });
        (Self { current: ArcSwap::from_pointee(listing) }, problems)
    }

    /// Replaces the news. Fails only for a moment that RFC 3339 cannot express; the previous news then stays.
    pub(super) fn set(&self, mut items: Vec<NewsItem>) -> Result<(), serde_json::Error> {
        sort(&mut items);
        self.current.store(Arc::new(Listing::new(items)?));
        Ok(())
    }

    /// Returns all news, newest first.
    pub fn list(&self) -> Vec<NewsItem> {
        self.current.load().items.clone()
    }

    /// Returns the JSON of all news.
    pub fn json(&self) -> Bytes {
        self.told().body
    }

    /// Returns the JSON of all news, with its ETag.
    pub fn told(&self) -> Told {
        self.current.load().told.clone()
    }
}

fn read_all(directory: &Path) -> (Vec<NewsItem>, Vec<Problem>) {
    let mut problems = Vec::new();
    let files = match markdown_files(directory) {
        Ok(files) => files,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => {
            problems.push(Problem { file: directory.to_owned(), line: None, what: error.to_string() });
            Vec::new()
        }
    };
    let mut items: Vec<NewsItem> = Vec::new();
    for file in files {
        let item = read_text(&file).and_then(|text| item(&text, &file)).and_then(|(item, line)| {
            if items.iter().any(|other| other.id == item.id) {
                Err(Fault { line, what: format!("the id {:?} is taken by another file: change one", item.id) })
            } else {
                Ok(item)
            }
        });
        match item {
            Ok(item) => items.push(item),
            Err(Fault { line, what }) => problems.push(Problem { file, line, what }),
        }
    }
    sort(&mut items);
    (items, problems)
}

/// Sorts news, newest first.
fn sort(items: &mut [NewsItem]) {
    items.sort_by(|a, b| b.date.cmp(&a.date).then_with(|| a.id.cmp(&b.id)));
}

fn markdown_files(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden && path.extension().is_some_and(|it| it == "md") && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// A fault of a file, and its line.
struct Fault {
    line: Option<usize>,
    what: String,
}

fn fault(line: usize, what: impl Into<String>) -> Fault {
    Fault { line: Some(line), what: what.into() }
}

fn read_text(file: &Path) -> Result<String, Fault> {
    let mut bytes = Vec::new();
    let read = File::open(file).and_then(|file| file.take(FILE_SIZE + 1).read_to_end(&mut bytes));
    read.map_err(|error| Fault { line: None, what: error.to_string() })?;
    if bytes.len() as u64 > FILE_SIZE {
        return Err(Fault { line: None, what: "larger than 1MiB: make it shorter".to_owned() });
    }
    String::from_utf8(bytes).map_err(|error| {
        let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = 1 + before.iter().filter(|&&byte| byte == b'\n').count();
        fault(line, "not UTF-8 text: save it as such")
    })
}

/// The header between the two lines of `---`, with the line number of each value.
#[derive(Default)]
struct Head<'a> {
    title: Option<(usize, &'a str)>,
    date: Option<(usize, &'a str)>,
    id: Option<(usize, &'a str)>,
}

/// Returns the news item in `text`, and the line with its id, if there is one.
fn item(text: &str, file: &Path) -> Result<(NewsItem, Option<usize>), Fault> {
    let (head, body) = split(text)?;
    let missing = |key| fault(1, format!("{key} is missing: write it between the lines of ---"));
    let (title_line, title) = head.title.ok_or_else(|| missing("title"))?;
    if title.is_empty() {
        return Err(fault(title_line, "title is empty: write one"));
    }
    let (date_line, date) = head.date.ok_or_else(|| missing("date"))?;
    let date = moment(date).ok_or_else(|| {
        fault(date_line, format!("{date:?} is not a date: write it as 2024-05-01 or 2024-05-01T12:00:00Z"))
    })?;
    let id = match head.id {
        Some((line, "")) => return Err(fault(line, "id is empty: write one, or leave it out to take the file's name")),
        Some((_, id)) => id.to_owned(),
        None => file.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
    };
    let item = NewsItem { id, date, title: title.to_owned(), content: safe_html(body) };
    Ok((item, head.id.map(|(line, _)| line)))
}

/// Splits a file into its header and its text. Unknown keys are ignored: they are for other programs.
fn split(text: &str) -> Result<(Head<'_>, &str), Fault> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut lines = text.split_inclusive('\n');
    let mut read = lines.next().unwrap_or_default().len();
    if text[..read].trim_end() != "---" {
        return Err(fault(1, "title and date are missing: begin the file with a line of --- and write them after it"));
    }
    let mut head = Head::default();
    for (line, number) in lines.zip(2..) {
        read += line.len();
        if line.trim_end() == "---" {
            return Ok((head, &text[read..]));
        }
        let Some((key, value)) = line.split_once(':') else { continue };
        let slot = match key {
            "title" => &mut head.title,
            "date" => &mut head.date,
            "id" => &mut head.id,
            _ => continue,
        };
        if slot.replace((number, unquoted(value.trim()))).is_some() {
            return Err(fault(number, format!("{key} is there twice: remove one")));
        }
    }
    Err(fault(1, "the second line of --- is missing: write it where the text begins"))
}

fn unquoted(value: &str) -> &str {
    let within = |quote| value.strip_prefix(quote)?.strip_suffix(quote);
    within('"').or_else(|| within('\'')).unwrap_or(value)
}

/// Parses a date, or a moment in RFC 3339.
pub fn moment(text: &str) -> Option<OffsetDateTime> {
    let day = Date::parse(text, format_description!("[year]-[month]-[day]")).map(|day| day.midnight().assume_utc());
    day.or_else(|_| OffsetDateTime::parse(text, &Rfc3339)).ok().filter(|moment| moment.year() >= 0)
}

/// Renders Markdown to sanitized HTML. Authors can write HTML in it, but nothing that runs, loads or restyles the
/// reader's page.
pub(super) fn safe_html(markdown: &str) -> String {
    let mut unsafe_html = String::new();
    html::push_html(
        &mut unsafe_html,
        Parser::new_ext(markdown, Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH),
    );
    ammonia::clean(&unsafe_html)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn news(files: &[(&str, &[u8])]) -> (News, Vec<String>) {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(directory.path().join(name), text).unwrap();
        }
        let (news, problems) = News::read(directory.path());
        let root = format!("{}/", directory.path().display());
        (news, problems.iter().map(|problem| problem.to_string().replace(&root, "")).collect())
    }

    #[test]
    fn news_is_html_and_the_newest_comes_first() {
        let (news, problems) = news(&[
            ("old.md", b"---\ntitle: Old\ndate: 2023-01-02\n---\nText"),
            ("new.md", b"---\r\ntitle: \"New: *home*\"\r\ndate: 2024-05-01T14:00:00+02:00\r\nid: home\r\ntags: [a]\r\n---\r\n# Hi\r\n"),
            ("other.md", b"---\ntitle: Other\ndate: 2023-01-02\n---\n"),
            ("notes.txt", b"no news"),
            (".draft.md", b"no news either"),
        ]);
        assert_eq!(problems, [""; 0]);
        assert_eq!(
            news.json(),
            concat!(
                r#"[{"ID":"home","Date":"2024-05-01T12:00:00Z","Title":"New: *home*","Content":"<h1>Hi</h1>\n"},"#,
                r#"{"ID":"old","Date":"2023-01-02T00:00:00Z","Title":"Old","Content":"<p>Text</p>\n"},"#,
                r#"{"ID":"other","Date":"2023-01-02T00:00:00Z","Title":"Other","Content":""}]"#
            )
        );
    }

    #[test]
    fn news_cannot_run_scripts() {
        let content = safe_html(
            "<script>alert(1)</script>\n\n<b onclick=x>bold</b>\n\n[x](javascript:alert(1)) ![i](data:text/html,x)\n\n\
             <style>*{}</style>",
        );
        assert!(content.contains("<b>bold</b>"), "{content}");
        for bad in ["script", "onclick", "style", "data:"] {
            assert!(!content.contains(bad), "{content}");
        }
    }

    #[test]
    fn invalid_file_is_reported_and_the_others_are_read() {
        let (news, problems) = news(&[
            ("a.md", b"no head"),
            ("b.md", b"---\ntitle: B\n---\n"),
            ("c.md", b"---\ntitle: C\ndate: yesterday\n---\n"),
            ("d.md", b"---\ntitle: D\ndate: 2024-01-01\n"),
            ("e.md", b"---\ndate: 2024-01-01\n---\n"),
            ("f.md", b"---\ntitle: F\ndate: 2024-01-01\n---\nok\n\xff"),
            ("good.md", b"---\ntitle: G\ndate: 2024-01-01\n---\nok"),
            ("h.md", b"---\ntitle: H\ndate: 2024-01-01\nid: good\n---\n"),
            ("i.md", b"---\ntitle: I\ntitle: J\n---\n"),
            ("j.md", b"---\ntitle:\ndate: 2024-01-01\n---\n"),
            ("k.md", b""),
        ]);
        assert_eq!(news.list().iter().map(|item| item.id.as_str()).collect::<Vec<_>>(), ["good"]);
        assert_eq!(
            problems,
            [
                "a.md:1: title and date are missing: begin the file with a line of --- and write them after it",
                "b.md:1: date is missing: write it between the lines of ---",
                "c.md:3: \"yesterday\" is not a date: write it as 2024-05-01 or 2024-05-01T12:00:00Z",
                "d.md:1: the second line of --- is missing: write it where the text begins",
                "e.md:1: title is missing: write it between the lines of ---",
                "f.md:6: not UTF-8 text: save it as such",
                "h.md:4: the id \"good\" is taken by another file: change one",
                "i.md:3: title is there twice: remove one",
                "j.md:2: title is empty: write one",
                "k.md:1: title and date are missing: begin the file with a line of --- and write them after it",
            ]
        );
    }

    #[test]
    fn missing_directory_has_no_news() {
        let (news, problems) = News::read(Path::new("/nowhere/news"));
        assert!(problems.is_empty());
        assert_eq!(news.json(), "[]");
    }
}
