//! The URL of a server.

use std::{fmt, net::IpAddr, str::FromStr};

/// A server's URL: `http://host:port/prefix`, or https.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    pub tls: bool,
    /// Without the brackets of IPv6.
    pub host: String,
    pub port: u16,
    /// Host and port as in the URL.
    pub authority: String,
    /// The prefix of the API's paths, without a trailing slash: the place of the server behind a proxy.
    pub prefix: String,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not the URL of a server: write http://host:port or https://host, with the path of a proxy if there is one"
)]
pub struct BadAddress(String);

impl Address {
    /// Returns whether the connection is protected from eavesdropping.
    pub fn is_private(&self) -> bool {
        let loopback = self.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        self.tls || loopback || self.host.eq_ignore_ascii_case("localhost")
    }
}

impl FromStr for Address {
    type Err = BadAddress;

    fn from_str(text: &str) -> Result<Self, BadAddress> {
        let bad = || BadAddress(text.to_owned());
        let uri: hyper::Uri = text.parse().map_err(|_| bad())?;
        let tls = match uri.scheme_str() {
            Some("http" | "ws") => false,
            Some("https" | "wss") => true,
            _ => return Err(bad()),
        };
        let authority = uri.authority().ok_or_else(bad)?;
        // A password in a URL would end in the history of a shell.
        if uri.query().is_some() || authority.as_str().contains('@') || authority.host().is_empty() {
            return Err(bad());
        }
        Ok(Self {
            tls,
            host: authority.host().trim_start_matches('[').trim_end_matches(']').to_owned(),
            port: authority.port_u16().unwrap_or(if tls { 443 } else { 80 }),
            authority: authority.to_string(),
            prefix: uri.path().trim_end_matches('/').to_owned(),
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", if self.tls { "https" } else { "http" }, self.authority, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn url_is_parsed() {
        let read = |text: &str| {
            let it: Address = text.parse().unwrap();
            (it.tls, it.host.clone(), it.port, it.prefix.clone(), it.to_string())
        };
        let expect = |tls, host: &str, port, prefix: &str, shown: &str| {
            (tls, host.to_owned(), port, prefix.to_owned(), shown.to_owned())
        };
        assert_eq!(read("http://127.0.0.1:8080"), expect(false, "127.0.0.1", 8080, "", "http://127.0.0.1:8080"));
        assert_eq!(read("https://a.example/"), expect(true, "a.example", 443, "", "https://a.example"));
        assert_eq!(read("http://[::1]:80/x/y/"), expect(false, "::1", 80, "/x/y", "http://[::1]:80/x/y"));
    }

    #[test]
    fn unencrypted_network_address_is_not_private() {
        let private = |text: &str| text.parse::<Address>().unwrap().is_private();
        for text in ["http://127.0.0.1:1", "http://[::1]:1", "http://localhost", "https://a.example"] {
            assert!(private(text), "{text}");
        }
        assert!(!private("http://10.0.0.1") && !private("http://a.example"));
    }

    #[test]
    fn invalid_server_url_is_refused() {
        for text in ["", "localhost:8080", "ftp://a.example", "http://", "http://a.example/?x", "http://a:b@c.example"]
        {
            assert!(text.parse::<Address>().is_err(), "{text:?}");
        }
    }
}
