//! Headers that tell a page of this server from one of another site, and that name the requested host.

use crate::{hunt::hunt, target};
use axum::http::{HeaderMap, HeaderValue, Request, header};
use distillery_core::{hosts::Hosts, origin::Origin};
use distillery_http::{
    api::cross_origin::Origins,
    server::{
        authority::Target,
        peer::{Peer, Trust},
    },
};
use proptest::{collection::vec, prelude::*, sample::select};
use std::net::IpAddr;

/// Nearly equal headers, as an attacker would choose them.
fn value() -> impl Strategy<Value = Vec<u8>> {
    let parts = select(
        &[
            "https://",
            "http://",
            "a.example",
            "A.EXAMPLE",
            "evil",
            ".",
            ":8080",
            ":443",
            "@",
            "/",
            "null",
            "*",
            "localhost",
            " ",
            "\u{ff0e}",
            "?",
            "#",
            "a.example:8080",
            "://",
            "",
        ][..],
    );
    prop_oneof![
        8 => vec(parts, 0..4).prop_map(|parts| parts.concat().into_bytes()),
        1 => vec(any::<u8>(), 0..30),
    ]
}

#[test]
fn only_own_and_listed_origins_open_sockets() {
    let listed = vec(select(&["https://a.example", "http://localhost:8080", "*"][..]), 0..2);
    let headers = (proptest::option::of(value()), proptest::option::of(value()));
    hunt(target!("origins", 4000), (headers, listed), |((origin, host), listed)| {
        let mut headers = HeaderMap::new();
        for (name, value) in [(header::ORIGIN, &origin), (header::HOST, &host)] {
            // A value that is not a valid header does not get this far.
            if let Some(value) = value.as_ref().and_then(|value| HeaderValue::from_bytes(value).ok()) {
                headers.insert(name, value);
            }
        }
        let listed: Vec<String> = listed.iter().map(|it| (*it).to_owned()).collect();
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let target = host.and_then(|host| Origin::of_host(false, host));
        let allowed = Origins::new(&listed).allow(&headers, target.as_ref());
        let Some(origin) = headers.get(header::ORIGIN) else { return assert!(allowed, "not a browser") };
        let text = spelled(&String::from_utf8_lossy(origin.as_bytes()));
        let own = target.is_some() && host.is_some_and(|host| text == spelled(&format!("http://{host}")));
        let known = listed.iter().any(|it| it == "*" || *it == text);
        if allowed {
            assert!(own || known, "{origin:?} got in");
        } else if origin.to_str().is_ok_and(|origin| origin.parse::<Origin>().is_ok()) {
            assert!(!own && !known, "{origin:?} was refused");
        }
    });
}

/// An origin as browsers spell it: in lower case, and without the port that is the scheme's own.
fn spelled(origin: &str) -> String {
    let origin = origin.to_lowercase();
    let own_port = if origin.starts_with("https:") { ":443" } else { ":80" };
    origin.strip_suffix(own_port).unwrap_or(&origin).to_owned()
}

#[test]
fn no_request_is_for_a_host_that_is_not_known() {
    let names = select(&["host", "forwarded", "x-forwarded-host", "x-forwarded-for", "x-forwarded-proto"][..]);
    let target = select(&["/x", "*", "http://localhost/x", "http://evil.example/x", "http://u@localhost/"][..]);
    hunt(target!("hosts", 4000), (target, vec((names, value()), 0..4)), |(target, headers)| {
        let mut request = Request::builder().uri(target);
        for (name, value) in headers {
            if let Ok(value) = HeaderValue::from_bytes(&value) {
                request = request.header(name, value);
            }
        }
        let mut request = request.body(()).expect("a request");
        let address = IpAddr::from([192, 0, 2, 7]);
        let hosts = Hosts::new(address, ["a.example".parse().expect("a host")]);
        let peer = Peer { address, local: address, tls: false };
        let introduced = Trust::default().introduce(peer, &hosts, &mut request);
        assert!(!request.headers().keys().any(|name| name.as_str().contains("forwarded")), "{request:?}");
        if introduced.is_ok() {
            let Target(target) = request.extensions().get().expect("HTTP/1.1 has a host");
            let host = target.host().trim_end_matches('.');
            assert!(["a.example", "localhost"].contains(&host) || host.ends_with(".localhost"), "{target}");
        }
    });
}
