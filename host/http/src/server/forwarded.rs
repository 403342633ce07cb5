//! The headers of proxies: `X-Forwarded-…`, or the header `Forwarded` (RFC 7239) if there are none of these. This
//! module does not know which proxies are trusted.

use crate::extensions::ForwardedUser;
use axum::http::{
    HeaderMap, HeaderName,
    header::{Entry, FORWARDED},
};

const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const USER: HeaderName = HeaderName::from_static("x-forwarded-user");

/// The forwarding headers of one request.
#[derive(Debug, Default)]
pub struct Forwarded {
    /// The addresses of clients: each proxy appends the address of its own client.
    pub clients: Vec<String>,
    /// The scheme that the nearest proxy names.
    pub proto: Option<String>,
    pub host: Option<String>,
    pub user: Option<ForwardedUser>,
}

impl Forwarded {
    /// Removes the headers of proxies, so that no later code trusts them by mistake.
    pub fn take(headers: &mut HeaderMap) -> Self {
        // A proxy that uses one form leaves the other form in place, which then comes from the client.
        let customary = [FOR, PROTO, HOST, USER].iter().any(|name| headers.contains_key(name));
        let taken = if customary { Self::customary(headers) } else { Self::standard(headers) };
        for name in [FOR, PROTO, HOST, USER, FORWARDED] {
            if let Entry::Occupied(entry) = headers.entry(name) {
                entry.remove_entry_mult();
            }
        }
        taken
    }

    fn customary(headers: &HeaderMap) -> Self {
        let clients = lines(headers, &FOR).flat_map(|line| line.split(',')).map(|hop| hop.trim().to_owned()).collect();
        let last = |name| {
            let line = lines(headers, name).last()?;
            Some(line.rsplit(',').next().unwrap_or_default().trim().to_owned()).filter(|it| !it.is_empty())
        };
        Self { clients, proto: last(&PROTO), host: last(&HOST), user: user(headers) }
    }

    fn standard(headers: &HeaderMap) -> Self {
        let mut taken = Self::default();
        for element in lines(headers, &FORWARDED).flat_map(|line| parts(line, ',')) {
            (taken.proto, taken.host) = (None, None);
            let mut client = String::new();
            for pair in parts(element, ';') {
                let Some((name, value)) = pair.split_once('=') else { continue };
                let value = unquoted(value.trim());
                match name.trim().to_ascii_lowercase().as_str() {
                    "for" => client = value,
                    "proto" => taken.proto = Some(value),
                    "host" => taken.host = Some(value),
                    _ => {}
                }
            }
            // An empty address is unknown, like `unknown`.
            taken.clients.push(client);
        }
        taken
    }
}

/// Returns the lines of a header. A line that is not text counts as empty: its content is unknown.
fn lines<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    headers.get_all(name).iter().map(|line| line.to_str().unwrap_or_default())
}

/// Splits a line at separators outside of quotes.
fn parts(line: &str, separator: char) -> Vec<&str> {
    let (mut quoted, mut escaped) = (false, false);
    let found = line.split(move |c: char| {
        let at = c == separator && !quoted;
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ => {}
        }
        at
    });
    found.map(str::trim).filter(|part| !part.is_empty()).collect()
}

fn unquoted(value: &str) -> String {
    match value.strip_prefix('"').and_then(|value| value.strip_suffix('"')) {
        Some(inner) => inner.replace("\\\"", "\"").replace("\\\\", "\\"),
        None => value.to_owned(),
    }
}

/// Returns the named user. If there are two, one of them can come from the client.
fn user(headers: &HeaderMap) -> Option<ForwardedUser> {
    let mut users = headers.get_all(USER).iter();
    let user = users.next()?.to_str().ok().filter(|_| users.next().is_none()).map(|it| it.trim().to_owned());
    // An empty name means an anonymous user.
    if user.as_deref() == Some("") { None } else { Some(ForwardedUser(user)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(headers: &[(&'static str, &str)]) -> Forwarded {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        let taken = Forwarded::take(&mut map);
        assert!(map.is_empty(), "{map:?}");
        taken
    }

    #[test]
    fn nearest_proxy_has_the_last_word() {
        let said = taken(&[
            ("x-forwarded-for", "192.0.2.1, 10.0.0.1"),
            ("x-forwarded-for", "10.0.0.2"),
            ("x-forwarded-host", "made-up.example, calls.example"),
            ("x-forwarded-proto", "https"),
        ]);
        assert_eq!(said.clients, ["192.0.2.1", "10.0.0.1", "10.0.0.2"]);
        assert_eq!((said.host.as_deref(), said.proto.as_deref()), (Some("calls.example"), Some("https")));
    }

    #[test]
    fn forwarded_is_equivalent_in_one_header() {
        let said = taken(&[
            ("forwarded", "for=\"[2001:db8::1]:4711\";host=\"a,b;c\""),
            ("forwarded", "For=192.0.2.60; Proto=https ;host=calls.example, by=10.0.0.1;for=10.0.0.2"),
        ]);
        assert_eq!(said.clients, ["[2001:db8::1]:4711", "192.0.2.60", "10.0.0.2"]);
        assert_eq!((said.host, said.proto), (None, None), "the last proxy says neither");
        let said = taken(&[("forwarded", "for=192.0.2.60;proto=https;host=\"calls.example:8443\"")]);
        assert_eq!((said.host.as_deref(), said.proto.as_deref()), (Some("calls.example:8443"), Some("https")));
    }

    #[test]
    fn forwarded_is_ignored_beside_the_customary_headers() {
        let said = taken(&[("forwarded", "for=192.0.2.60;host=made-up.example"), ("x-forwarded-for", "192.0.2.1")]);
        assert_eq!((said.clients, said.host), (vec!["192.0.2.1".to_owned()], None));
    }

    #[test]
    fn user_that_is_named_twice_is_invalid() {
        assert_eq!(taken(&[("x-forwarded-user", "ada"), ("x-forwarded-user", "bob")]).user.unwrap().0, None);
        assert!(taken(&[("x-forwarded-user", "")]).user.is_none());
    }
}
