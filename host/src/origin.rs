//! An origin: the scheme, host and port that a request goes to, in one spelling, so that two can be compared.

use axum::http::{Uri, uri::Authority};
use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
    str::FromStr,
};

/// Where a request goes to. Two are equal when they mean the same, however they were written.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    secure: bool,
    /// In lower case; an IPv6 address in brackets.
    host: String,
    port: u16,
}

/// The text was no origin.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("not an origin: write scheme, host and perhaps port, such as https://api.example.org")]
pub struct NotAnOrigin;

impl Origin {
    /// The origin of a request; nothing where it is not one of HTTP, has no host, or names a user.
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
        // What is left beside the host must be a port, or else two readers may see two hosts in the same text.
        let port = match authority.as_str().get(host.len()..)? {
            "" if secure => 443,
            "" => 80,
            rest => {
                let digits = rest.strip_prefix(':').filter(|port| port.bytes().all(|byte| byte.is_ascii_digit()))?;
                digits.parse().ok().filter(|port| *port > 0)?
            }
        };
        if let Some(address) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            // One spelling for each address; a zone belongs to one machine and is no part of an origin.
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

    /// The host as a name for resolvers and certificates: an IPv6 address is without brackets.
    pub fn host(&self) -> &str {
        self.host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(&self.host)
    }

    /// The address, where the host is written as one.
    pub fn address(&self) -> Option<IpAddr> {
        self.host().parse().ok()
    }

    /// Whether it is this machine, said so by its one name that means that.
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
    fn origins_that_mean_the_same_are_equal() {
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
    fn what_two_readers_could_understand_in_two_ways_is_no_origin() {
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
    fn an_address_is_known_from_a_name() {
        assert_eq!(origin("http://[::1]").address(), Some("::1".parse().unwrap()));
        assert_eq!(origin("http://10.0.0.5:9000").address(), Some("10.0.0.5".parse().unwrap()));
        assert_eq!(origin("http://2130706433").address(), None);
        assert!(origin("http://LOCALHOST").is_localhost() && !origin("http://localhost.example").is_localhost());
    }
}
