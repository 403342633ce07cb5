//! Paths and URLs without the secrets in them. Traces and logs take them in this form only.
//!
//! A secret is known by its form and not by its route: a client can also send it to a path that does not exist.

use http::Uri;
use std::borrow::Cow;

/// The prefix of API tokens.
const TOKEN_PREFIX: &str = "dst_";
/// Number of consecutive hexadecimal digits that count as a secret. Keys have 32, sessions and tokens 64. The groups of
/// a process id have at most 12, and the digests in file names of the console 16.
const SECRET_DIGITS: usize = 20;
/// Maximum number of times that a segment is decoded. A segment that is encoded more often is redacted whole.
const DECODINGS: usize = 3;
/// Replaces a secret.
const REDACTED: &str = "***";

/// Returns `path` with each secret replaced by `***`, also where a secret is percent-encoded.
pub fn path(path: &str) -> Cow<'_, str> {
    if path.split('/').all(|part| segment(part) == part) {
        return Cow::Borrowed(path);
    }
    Cow::Owned(path.split('/').map(segment).collect::<Vec<_>>().join("/"))
}

/// Returns `url` without the password and the query, and with its path redacted.
pub fn url(url: &Uri) -> String {
    let scheme = url.scheme_str().map_or_else(String::new, |scheme| format!("{scheme}://"));
    format!("{scheme}{}{}", place(url), path(url.path()))
}

/// Returns the host and port of `url`, without the user and the password that can stand before them.
pub fn place(url: &Uri) -> &str {
    let authority = url.authority().map_or("", |authority| authority.as_str());
    authority.rsplit_once('@').map_or(authority, |(_, place)| place)
}

fn segment(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return plain(text);
    }
    let mut decoded = text.to_owned();
    for _ in 0..DECODINGS {
        let once = decode(&decoded);
        if once == decoded {
            return if matches!(plain(&decoded), Cow::Borrowed(_)) { text.into() } else { REDACTED.into() };
        }
        decoded = once;
    }
    REDACTED.into()
}

/// Redacts a segment that has no percent-encoding.
fn plain(text: &str) -> Cow<'_, str> {
    let mut shown = String::new();
    let mut rest = text;
    while let Some((start, end)) = secret(rest) {
        shown += &rest[..start];
        shown += REDACTED;
        rest = &rest[end..];
    }
    if shown.is_empty() { text.into() } else { (shown + rest).into() }
}

/// Returns where the first secret of `text` begins and ends.
fn secret(text: &str) -> Option<(usize, usize)> {
    let token = text.find(TOKEN_PREFIX).map(|start| {
        let from = start + TOKEN_PREFIX.len();
        (start, from + text[from..].find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(text.len() - from))
    });
    let mut start = 0;
    let digits = text.split(|c: char| !c.is_ascii_hexdigit()).find_map(|run| {
        let found = (start, start + run.len());
        // The run ends at a character that is not a digit, of any length in bytes.
        start = found.1 + text[found.1..].chars().next().map_or(0, char::len_utf8);
        (run.len() >= SECRET_DIGITS).then_some(found)
    });
    token.into_iter().chain(digits).min()
}

/// Decodes percent-encoding once. Returns text with an invalid encoding unchanged.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let code = after.get(..2).filter(|_| *first == b'%').and_then(|two| std::str::from_utf8(two).ok());
        match code.and_then(|two| u8::from_str_radix(two, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "019c1a2b-3c4d-7e5f-8a9b-0c1d2e3f4a5b";
    const KEY: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn secrets_in_a_path_are_replaced() {
        for (sent, shown) in [
            (format!("/api/v1/pow/status/{ID}.{KEY}"), format!("/api/v1/pow/status/{ID}.***")),
            (format!("/api/v1/pow/odd/{ID}:{KEY}/"), format!("/api/v1/pow/odd/{ID}:***/")),
            (format!("/{}/x", KEY.to_uppercase()), "/***/x".into()),
            (format!("/api/v1/dst_{KEY}{KEY}"), "/api/v1/***".into()),
            (format!("/a-dst_{KEY}-b.{KEY}"), "/a-***-b.***".into()),
            (format!("/☃{KEY}☃"), "/☃***☃".into()),
            (format!("/pow/status/{ID}%2E{KEY}"), "/pow/status/***".into()),
            (format!("/pow/status/{ID}.%30{}", &KEY[1..]), "/pow/status/***".into()),
            (format!("/pow/status/{ID}.%2530{}", &KEY[1..]), "/pow/status/***".into()),
            ("/%25252525252541".into(), "/***".into()),
        ] {
            assert_eq!(path(&sent), shown, "{sent}");
        }
    }

    #[test]
    fn urls_are_shown_without_passwords_and_queries() {
        let sent = format!("https://ada:{KEY}@a.example:4318/v1/{KEY}?key={KEY}").parse().unwrap();
        assert_eq!((url(&sent).as_str(), place(&sent)), ("https://a.example:4318/v1/***", "a.example:4318"));
        let plain = "http://[::1]:4318/v1/traces".parse().unwrap();
        assert_eq!(url(&plain), "http://[::1]:4318/v1/traces");
    }

    #[test]
    fn paths_without_secrets_stay_as_they_are() {
        for sent in ["/", "", "/api/v1/ws", "/api/v1/systems/a%20b", "/%", "/%zz", "/app-0123456789abcdef.js", "/☃.é"]
        {
            assert!(matches!(path(sent), Cow::Borrowed(it) if it == sent), "{sent}");
        }
        let process = format!("/api/v1/processes/{ID}");
        assert_eq!(path(&process), process);
    }
}
