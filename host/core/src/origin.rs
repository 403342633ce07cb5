//! An origin: the scheme, host and port of a request, in one spelling, so that two can be compared.

use http::{Uri, uri::Authority};
use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
    str::FromStr,
};

/// The destination of a request. Two are equal if they mean the same, in whatever spelling.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    secure: bool,
    /// In lower case; an IPv6 address in brackets.
    host: String,
    port: u16,
}

/// A text that is not an origin.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("not an origin: write scheme, host and perhaps port, such as https://api.example.org")]
pub struct NotAnOrigin;

impl Origin {
    /// Returns the origin of a request. `None` if it is not HTTP, has no host, or names a user.
    pub fn of(uri: &Uri) -> Option<Self> {
        let secure = match uri.scheme_str()? {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        Self::at(secure, uri.authority()?)
    }

    /// Returns the origin of a host as requests name it, with or without a port: the value of `Host` or `:authority`.
    pub fn of_host(secure: bool, host: &str) -> Option<Self> {
        Self::at(secure, &host.parse().ok()?)
    }

    fn at(secure: bool, authority: &Authority) -> Option<Self> {
        let host = authority.host().to_ascii_lowercase();
        // Anything beside the host must be a port. Otherwise two parsers could find two hosts in the same text.
        let port = match authority.as_str().get(host.len()..)? {
            "" if secure => 443,
            "" => 80,
            rest => {
                let digits = rest.strip_prefix(':').filter(|port| port.bytes().all(|byte| byte.is_ascii_digit()))?;
                digits.parse().ok().filter(|port| *port > 0)?
            }
        };
        if let Some(address) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            // One spelling for each address. A zone belongs to one machine and is not part of an origin.
            let address: Ipv6Addr = address.parse().ok()?;
            return Some(Self { secure, host: format!("[{address}]"), port });
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        (!host.is_empty() && host.chars().all(plain)).then_some(Self { secure, host, port })
    }

    pub fn is_secure(&self) -> bool {
        self.secure
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the host as a name for resolvers and certificates: an IPv6 address has no brackets.
    pub fn host(&self) -> &str {
        self.host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(&self.host)
    }

    /// Returns the address. `None` if the host is a name.
    pub fn address(&self) -> Option<IpAddr> {
        self.host().parse().ok()
    }

    /// Returns whether the host is `localhost`, the one name for this machine.
    pub fn is_localhost(&self) -> bool {
        self.host == "localhost"
    }
}

impl FromStr for Origin {
    type Err = NotAnOrigin;

    fn from_str(text: &str) -> Result<Self, NotAnOrigin> {
        let (scheme, rest) = text.split_once("://").ok_or(NotAnOrigin)?;
        let secure = match scheme {
            "https" => true,
            "http" => false,
            _ => return Err(NotAnOrigin),
        };
        let authority: Authority = rest.parse().map_err(|_| NotAnOrigin)?;
        Self::at(secure, &authority).ok_or(NotAnOrigin)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, own_port) = if self.secure { ("https", 443) } else { ("http", 80) };
        write!(f, "{scheme}://{}", self.host)?;
        if self.port == own_port { Ok(()) } else { write!(f, ":{}", self.port) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(text: &str) -> Origin {
        text.parse().unwrap()
    }

    #[test]
    fn equivalent_origins_are_equal() {
        assert_eq!(origin("https://A.Example"), origin("https://a.example:443"));
        assert_eq!(origin("http://a.example:80").to_string(), "http://a.example");
        assert_eq!(Origin::of(&"http://[::1]:81/x?y".parse().unwrap()), Some(origin("http://[::1]:81")));
        assert_eq!(origin("http://[0:0:0:0:0:0:0:1]"), origin("http://[::1]"));
        assert_eq!(Origin::of_host(true, "A.Example:443"), Some(origin("https://a.example")));
        for (one, other) in [
            ("http://a.example", "https://a.example"),
            ("http://a.example", "http://a.example:8080"),
            ("http://a.example", "http://a.example."),
            ("http://a.example", "http://b.a.example"),
        ] {
            assert_ne!(origin(one), origin(other));
        }
    }

    #[test]
    fn ambiguous_text_is_not_an_origin() {
        for text in [
            "a.example",
            "ftp://a.example",
            "http://",
            "http://a.example/",
            "http://u@a.example",
            "http://a.example:",
            "http://a.example:0",
            "http://a.example:65536",
            "http://a.example:+80",
            "http://a%2eb",
            "http://[::1",
            "http://[a.example]",
            "http://[fe80::1%25eth0]",
        ] {
            assert!(text.parse::<Origin>().is_err(), "{text}");
        }
        assert_eq!(Origin::of(&"http://a.example@b.example/".parse().unwrap()), None);
        assert_eq!(Origin::of(&"/only/a/path".parse().unwrap()), None);
    }

    #[test]
    fn addresses_are_distinguished_from_names() {
        assert_eq!(origin("http://[::1]").address(), Some("::1".parse().unwrap()));
        assert_eq!(origin("http://10.0.0.5:9000").address(), Some("10.0.0.5".parse().unwrap()));
        assert_eq!(origin("http://2130706433").address(), None);
        assert!(origin("http://LOCALHOST").is_localhost() && !origin("http://localhost.example").is_localhost());
    }
}
