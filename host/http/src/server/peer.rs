//! The client and the host of a request: from its connection and target, or, behind a trusted proxy, from the proxy's
//! headers.
//!
//! Later code sees no forwarding headers: trusted values become extensions of the request, and the headers are removed.

use super::{
    authority::{self, Target},
    forwarded::Forwarded,
};
use crate::{
    answer::ApiError,
    extensions::{ClientAddress, Secure},
};
use axum::http::{Request, StatusCode};
use distillery_core::{hosts::Hosts, network::Network, origin::Origin};
use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

/// The trusted proxies.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    pub proxies: Arc<[Network]>,
    /// Whether the proxies can name the user.
    pub users: bool,
}

/// The other end of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    pub address: IpAddr,
    /// The local address of the connection.
    pub local: IpAddr,
    /// Whether it uses TLS.
    pub tls: bool,
}

impl Trust {
    pub fn trusts(&self, address: IpAddr) -> bool {
        self.proxies.iter().any(|network| network.contains(address))
    }

    /// Determines the client and the host of `request`, which came from `peer`. The error answers a request without a
    /// host, with two, or with one that is not in `hosts`.
    pub fn introduce<B>(&self, peer: Peer, hosts: &Hosts, request: &mut Request<B>) -> Result<(), ApiError> {
        let said = Forwarded::take(request.headers_mut());
        let said = if self.trusts(peer.address) { said } else { Forwarded::default() };
        let secure = said
            .proto
            .map_or(peer.tls, |proto| proto.eq_ignore_ascii_case("https") || proto.eq_ignore_ascii_case("wss"));
        let asked = authority::take(request, secure)?;
        let target = match &said.host {
            Some(host) => Some(Origin::of_host(secure, host).ok_or_else(|| malformed(host))?),
            None => asked.map(|asked| allowed(hosts, asked, peer.local)).transpose()?,
        };
        let extensions = request.extensions_mut();
        if let Some(target) = target {
            extensions.insert(Target(target));
        }
        extensions.insert(ClientAddress(self.client(peer.address, &said.clients)));
        extensions.insert(Secure(secure));
        if let Some(user) = said.user.filter(|_| self.users) {
            extensions.insert(user);
        }
        Ok(())
    }

    /// Returns the client's address: the last hop that is not a trusted proxy. Earlier entries can be forged by the
    /// client.
    fn client(&self, peer: IpAddr, hops: &[String]) -> IpAddr {
        let mut client = peer;
        for hop in hops.iter().rev() {
            let Some(address) = address(hop) else { return client };
            client = address;
            if !self.trusts(address) {
                return client;
            }
        }
        client
    }
}

/// Checks the host. Another host name can belong to a page that uses DNS rebinding.
pub fn allowed(hosts: &Hosts, target: Origin, local: IpAddr) -> Result<Origin, ApiError> {
    if hosts.answer_for(&target, local) {
        return Ok(target);
    }
    let host = target.host();
    tracing::debug!(host, "refused a request for another host: list it in http.hosts to answer it");
    let what = format!(
        "this server does not answer for {host}: list it in http.hosts, or let a proxy of http.trusted_proxies say it in \
         X-Forwarded-Host"
    );
    Err(ApiError::new(StatusCode::MISDIRECTED_REQUEST, what))
}

fn malformed(host: &str) -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, format!("the proxy's host is not well-formed: {host:?}"))
}

/// Parses an address from a proxy, with or without a port.
fn address(hop: &str) -> Option<IpAddr> {
    let bare = hop.strip_prefix('[').and_then(|it| it.strip_suffix(']')).unwrap_or(hop);
    let address = bare.parse().ok().or_else(|| hop.parse::<SocketAddr>().ok().map(|it| it.ip()))?;
    Some(IpAddr::to_canonical(&address))
}

#[cfg(test)]
mod tests {
    use super::{super::super::extensions::ForwardedUser, *};

    fn trust() -> Trust {
        let proxies = ["10.0.0.0/8", "::1"].map(|it| it.parse().unwrap());
        Trust { proxies: Arc::new(proxies), users: true }
    }

    fn try_introduce(peer: &str, headers: &[(&str, &str)]) -> Result<Request<()>, ApiError> {
        let mut request = Request::builder().uri("/");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(()).unwrap();
        let local = IpAddr::from([127, 0, 0, 1]);
        let hosts = Hosts::new(local, ["own".parse().unwrap()]);
        trust().introduce(Peer { address: peer.parse().unwrap(), local, tls: false }, &hosts, &mut request)?;
        Ok(request)
    }

    fn introduced(peer: &str, headers: &[(&str, &str)]) -> Request<()> {
        let request = try_introduce(peer, &[headers, &[("host", "own")]].concat()).unwrap();
        assert!(request.headers().keys().all(|name| !name.as_str().starts_with("x-forwarded")), "{request:?}");
        request
    }

    fn client(peer: &str, forwarded: &[&str]) -> String {
        let headers: Vec<_> = forwarded.iter().map(|it| ("x-forwarded-for", *it)).collect();
        introduced(peer, &headers).extensions().get::<ClientAddress>().unwrap().0.to_string()
    }

    #[test]
    fn client_is_the_last_untrusted_address() {
        for (peer, forwarded, expected) in [
            ("10.0.0.1", &["192.0.2.7"][..], "192.0.2.7"),
            ("10.0.0.1", &["1.1.1.1, 192.0.2.7, 10.1.1.1"], "192.0.2.7"),
            ("10.0.0.1", &["1.1.1.1", "192.0.2.7,10.1.1.1"], "192.0.2.7"),
            ("10.0.0.1", &["10.2.2.2, 10.1.1.1"], "10.2.2.2"),
            ("10.0.0.1", &["1.1.1.1, unknown"], "10.0.0.1"),
            ("10.0.0.1", &["1.1.1.1, nonsense, 10.1.1.1"], "10.1.1.1"),
            ("10.0.0.1", &["192.0.2.7:4711"], "192.0.2.7"),
            ("::1", &["[2001:db8::1]:443"], "2001:db8::1"),
            ("::ffff:10.0.0.1", &["::ffff:192.0.2.7"], "192.0.2.7"),
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &[""], "10.0.0.1"),
        ] {
            assert_eq!(client(peer, forwarded), expected, "{peer} {forwarded:?}");
        }
    }

    #[test]
    fn headers_of_an_untrusted_peer_are_ignored() {
        let all = [
            ("x-forwarded-for", "1.1.1.1"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "other"),
            ("x-forwarded-user", "ada"),
        ];
        let request = introduced("192.0.2.7", &all);
        assert_eq!(request.extensions().get::<ClientAddress>().unwrap().0.to_string(), "192.0.2.7");
        assert!(!request.extensions().get::<Secure>().unwrap().0);
        assert!(request.extensions().get::<ForwardedUser>().is_none());
        assert_eq!(request.extensions().get(), Some(&Target("http://own".parse().unwrap())));
        let request = introduced("10.0.0.1", &all);
        assert!(request.extensions().get::<Secure>().unwrap().0);
        assert_eq!(request.extensions().get::<ForwardedUser>().unwrap().0.as_deref(), Some("ada"));
        assert_eq!(request.extensions().get(), Some(&Target("https://other".parse().unwrap())));
    }

    #[test]
    fn foreign_host_is_refused_unless_a_trusted_proxy_names_it() {
        let status = |peer, headers: &[(&str, &str)]| try_introduce(peer, headers).err().map(|it| it.status.as_u16());
        assert_eq!(status("192.0.2.7", &[("host", "evil.example")]), Some(421));
        assert_eq!(status("192.0.2.7", &[("host", "evil.example"), ("x-forwarded-host", "own")]), Some(421));
        assert_eq!(status("192.0.2.7", &[("host", "evil.example"), ("forwarded", "host=own")]), Some(421));
        assert_eq!(status("192.0.2.7", &[("host", "localhost")]), None);
        assert_eq!(status("192.0.2.7", &[]), Some(400));
        assert_eq!(status("10.0.0.1", &[("host", "evil.example")]), Some(421));
        assert_eq!(status("10.0.0.1", &[("host", "evil.example"), ("x-forwarded-host", "calls.example")]), None);
        assert_eq!(status("10.0.0.1", &[("host", "evil.example"), ("forwarded", "host=calls.example")]), None);
        assert_eq!(status("10.0.0.1", &[("host", "own"), ("x-forwarded-host", "u@calls.example")]), Some(400));
    }
}
