//! The hosts that a server answers for.
//!
//! With DNS rebinding, a page makes its own name mean this machine, and sends requests with that name in `Host`. A
//! request for a host that is not known here gets no answer.

use crate::origin::Origin;
use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
    str::FromStr,
    sync::Arc,
};

/// The form of a host in `http.hosts`.
pub const HOST_FORM: &str = "the name or address of a host without its port, such as calls.example.org, 192.0.2.7 or \
                             \"*.example.org\"";

/// A host pattern from `http.hosts`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostPattern {
    /// All hosts.
    Any,
    /// One name or address, in lower case and without brackets.
    Exact(String),
    /// All names below this domain.
    Below(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadHost;

impl fmt::Display for BadHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "write {HOST_FORM}")
    }
}

impl FromStr for HostPattern {
    type Err = BadHost;

    fn from_str(text: &str) -> Result<Self, BadHost> {
        if text == "*" {
            return Ok(Self::Any);
        }
        let bare = text.strip_prefix('[').and_then(|it| it.strip_suffix(']')).unwrap_or(text);
        if let Ok(address) = bare.parse::<Ipv6Addr>() {
            return Ok(Self::Exact(address.to_string()));
        }
        let (below, name) = text.strip_prefix("*.").map_or((false, text), |name| (true, name));
        // A name with a port would differ from its host.
        let origin = Origin::of_host(false, name).filter(|origin| origin.host().eq_ignore_ascii_case(name));
        let name = plain(origin.ok_or(BadHost)?.host()).to_owned();
        if name.is_empty() {
            return Err(BadHost);
        }
        Ok(if below { Self::Below(name) } else { Self::Exact(name) })
    }
}

impl HostPattern {
    fn matches(&self, host: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(own) => own == host,
            Self::Below(domain) => {
                host.strip_suffix(domain.as_str()).is_some_and(|sub| sub.len() > 1 && sub.ends_with('.'))
            }
        }
    }
}

/// Returns a name without a trailing dot, which stands for the root of all names.
fn plain(host: &str) -> &str {
    host.strip_suffix('.').unwrap_or(host)
}

/// The hosts that one listener answers for.
#[derive(Clone, Debug)]
pub struct Hosts {
    /// The address of the listener; the wildcard address stands for none.
    listen: IpAddr,
    listed: Arc<[HostPattern]>,
}

impl Hosts {
    pub fn new(listen: IpAddr, listed: impl Into<Arc<[HostPattern]>>) -> Self {
        Self { listen: listen.to_canonical(), listed: listed.into() }
    }

    /// Returns whether a request for `target` that came to the address `local` is answered.
    ///
    /// The hosts are: the names and addresses of this machine, the address of the listener, the address that the client
    /// connected to, and the listed ones.
    pub fn answer_for(&self, target: &Origin, local: IpAddr) -> bool {
        let host = plain(target.host());
        let own = match host.parse::<IpAddr>() {
            Ok(address) => {
                let address = address.to_canonical();
                address.is_loopback() || address == self.listen || address == local.to_canonical()
            }
            Err(_) => host == "localhost" || host.ends_with(".localhost"),
        };
        own || self.listed.iter().any(|pattern| pattern.matches(host))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(listen: &str, listed: &[&str], local: &str, host: &str) -> bool {
        let listed: Vec<HostPattern> = listed.iter().map(|it| it.parse().unwrap()).collect();
        let target = Origin::of_host(false, host).unwrap();
        Hosts::new(listen.parse().unwrap(), listed).answer_for(&target, local.parse().unwrap())
    }

    #[test]
    fn server_answers_for_itself_and_for_listed_hosts() {
        for (listen, listed, local, host, expected) in [
            ("127.0.0.1", &[][..], "127.0.0.1", "localhost:8080", true),
            ("127.0.0.1", &[], "127.0.0.1", "LOCALHOST.", true),
            ("127.0.0.1", &[], "127.0.0.1", "a.localhost", true),
            ("127.0.0.1", &[], "127.0.0.1", "127.9.9.9:1", true),
            ("127.0.0.1", &[], "127.0.0.1", "[::1]:8080", true),
            ("127.0.0.1", &[], "127.0.0.1", "[::ffff:127.0.0.1]", true),
            ("127.0.0.1", &[], "127.0.0.1", "evil.example", false),
            ("127.0.0.1", &[], "127.0.0.1", "localhost.evil.example", false),
            ("127.0.0.1", &[], "127.0.0.1", "notlocalhost", false),
            ("127.0.0.1", &[], "127.0.0.1", "192.0.2.7", false),
            ("127.0.0.1", &[], "127.0.0.1", "2130706433", false),
            ("127.0.0.1", &[], "127.0.0.1", "0.0.0.0", false),
            ("192.0.2.7", &[], "192.0.2.7", "192.0.2.7:8080", true),
            ("0.0.0.0", &[], "192.0.2.7", "192.0.2.7", true),
            ("0.0.0.0", &[], "192.0.2.7", "192.0.2.8", false),
            ("0.0.0.0", &[], "192.0.2.7", "machine", false),
            ("::", &[], "::ffff:192.0.2.7", "192.0.2.7", true),
            ("::", &[], "2001:db8::1", "[2001:DB8::1]", true),
            ("127.0.0.1", &["Calls.Example"], "127.0.0.1", "calls.example:8443", true),
            ("127.0.0.1", &["calls.example"], "127.0.0.1", "calls.example.", true),
            ("127.0.0.1", &["calls.example"], "127.0.0.1", "a.calls.example", false),
            ("127.0.0.1", &["*.example"], "127.0.0.1", "a.b.example", true),
            ("127.0.0.1", &["*.example"], "127.0.0.1", "example", false),
            ("127.0.0.1", &["*.example"], "127.0.0.1", "notexample", false),
            ("127.0.0.1", &["192.0.2.7", "2001:db8::1"], "127.0.0.1", "[2001:db8::1]", true),
            ("127.0.0.1", &["*"], "127.0.0.1", "evil.example", true),
        ] {
            assert_eq!(answers(listen, listed, local, host), expected, "{host} at {listen} with {listed:?}");
        }
    }

    #[test]
    fn listed_host_has_no_scheme_and_no_port() {
        for text in ["", ".", "*.", "https://a.example", "a.example:80", "a b", "a.*", "u@a.example", "[a]", "a/b"] {
            assert_eq!(text.parse::<HostPattern>(), Err(BadHost), "{text}");
        }
        assert_eq!("[::1]".parse(), Ok(HostPattern::Exact("::1".into())));
    }
}
