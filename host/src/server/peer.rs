//! For whom a request asks: the other end of its connection, or, where that is a proxy that the operator trusts, whom the
//! proxy names.
//!
//! Nobody behind this sees a header that forwards something: what is believed is said by extensions of the request, and
//! the headers are gone.

use super::connection::ClientAddress;
use crate::network::Network;
use axum::http::{
    HeaderMap, HeaderName, HeaderValue, Request, Uri,
    header::{Entry, HOST},
};
use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const USER: HeaderName = HeaderName::from_static("x-forwarded-user");

/// Whom to believe.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    pub proxies: Arc<[Network]>,
    /// Whether they are believed who the user is.
    pub users: bool,
}

/// The other end of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    pub address: IpAddr,
    /// Whether it speaks TLS.
    pub tls: bool,
}

/// Whether the client speaks TLS, be it with the server or with the proxy in front of it.
#[derive(Clone, Copy, Debug)]
pub struct Secure(pub bool);

/// The user that a trusted proxy names, as it is written there: nothing where it is written twice.
#[derive(Clone, Debug)]
pub struct ForwardedUser(pub Option<String>);

impl Trust {
    pub fn trusts(&self, address: IpAddr) -> bool {
        self.proxies.iter().any(|network| network.contains(address))
    }

    /// Says of `request`, which came from `peer`, for whom it asks.
    pub fn introduce<B>(&self, peer: Peer, request: &mut Request<B>) {
        let (mut address, mut secure, mut user) = (peer.address, peer.tls, None);
        complete(request);
        let headers = request.headers_mut();
        if self.trusts(peer.address) {
            address = self.client(peer.address, headers);
            if let Some(proto) = last(headers, &PROTO) {
                secure = proto.eq_ignore_ascii_case("https") || proto.eq_ignore_ascii_case("wss");
            }
            if let Some(host) = last(headers, &FORWARDED_HOST).and_then(|it| HeaderValue::from_str(it).ok()) {
                headers.insert(HOST, host);
            }
            user = self.users.then(|| user_of(headers)).flatten();
        }
        for header in [FOR, PROTO, FORWARDED_HOST, USER] {
            if let Entry::Occupied(entry) = headers.entry(header) {
                entry.remove_entry_mult();
            }
        }
        let extensions = request.extensions_mut();
        extensions.insert(ClientAddress(address));
        extensions.insert(Secure(secure));
        if let Some(user) = user {
            extensions.insert(user);
        }
    }

    /// Each proxy adds at the end who came to it. From there on back, the first that is no proxy of ours is the client;
    /// what stands before that is what the client itself may have made up.
    fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let lines: Vec<_> = headers.get_all(FOR).iter().collect();
        let mut client = peer;
        for line in lines.into_iter().rev() {
            let Ok(line) = line.to_str() else { return client };
            for hop in line.rsplit(',') {
                let Some(address) = address(hop.trim()) else { return client };
                client = address;
                if !self.trusts(address) {
                    return client;
                }
            }
        }
        client
    }
}

/// HTTP/2 has the name of the host elsewhere.
fn complete<B>(request: &mut Request<B>) {
    if !request.headers().contains_key(HOST)
        && let Some(host) = request.uri().authority().and_then(|it| HeaderValue::from_str(it.as_str()).ok())
    {
        request.headers_mut().insert(HOST, host);
        if let Some(path) = request.uri().path_and_query().cloned() {
            *request.uri_mut() = Uri::from(path);
        }
    }
}

/// An address as proxies write it: with a port or without.
fn address(hop: &str) -> Option<IpAddr> {
    let bare = hop.strip_prefix('[').and_then(|it| it.strip_suffix(']')).unwrap_or(hop);
    let address = bare.parse().ok().or_else(|| hop.parse::<SocketAddr>().ok().map(|it| it.ip()))?;
    Some(IpAddr::to_canonical(&address))
}

/// What the nearest proxy says.
fn last<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let line = headers.get_all(name).iter().next_back()?.to_str().ok()?;
    Some(line.rsplit(',').next().unwrap_or_default().trim()).filter(|it| !it.is_empty())
}

/// Written twice, one of the two may be the client's.
fn user_of(headers: &HeaderMap) -> Option<ForwardedUser> {
    let mut users = headers.get_all(USER).iter();
    let user = users.next()?.to_str().ok().filter(|_| users.next().is_none()).map(|it| it.trim().to_owned());
    // An empty one says that nobody is logged in there.
    if user.as_deref() == Some("") { None } else { Some(ForwardedUser(user)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trust() -> Trust {
        let proxies = ["10.0.0.0/8", "::1"].map(|it| it.parse().unwrap());
        Trust { proxies: Arc::new(proxies), users: true }
    }

    fn introduced(peer: &str, headers: &[(&str, &str)]) -> Request<()> {
        let mut request = Request::builder().uri("/").header("host", "own");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(()).unwrap();
        trust().introduce(Peer { address: peer.parse().unwrap(), tls: false }, &mut request);
        assert!(request.headers().keys().all(|name| !name.as_str().starts_with("x-forwarded")), "{request:?}");
        request
    }

    fn client(peer: &str, forwarded: &[&str]) -> String {
        let headers: Vec<_> = forwarded.iter().map(|it| ("x-forwarded-for", *it)).collect();
        introduced(peer, &headers).extensions().get::<ClientAddress>().unwrap().0.to_string()
    }

    #[test]
    fn the_client_is_the_last_that_is_no_proxy_of_ours() {
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
    fn who_is_no_proxy_of_ours_is_believed_nothing() {
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
        assert_eq!(request.headers()["host"], "own");
        let request = introduced("10.0.0.1", &all);
        assert!(request.extensions().get::<Secure>().unwrap().0);
        assert_eq!(request.extensions().get::<ForwardedUser>().unwrap().0.as_deref(), Some("ada"));
        assert_eq!(request.headers()["host"], "other");
    }

    #[test]
    fn a_user_that_is_named_twice_is_none() {
        let request = introduced("10.0.0.1", &[("x-forwarded-user", "ada"), ("x-forwarded-user", "bob")]);
        assert_eq!(request.extensions().get::<ForwardedUser>().unwrap().0, None);
        let request = introduced("10.0.0.1", &[("x-forwarded-user", "")]);
        assert!(request.extensions().get::<ForwardedUser>().is_none());
    }
}
