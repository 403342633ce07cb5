//! Headers that tell a page of this server from one of another site.

use crate::{hunt::hunt, target};
use axum::http::{HeaderMap, HeaderValue, header};
use distillery::api::cross_origin;
use proptest::{collection::vec, prelude::*, sample::select};

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
        let allowed = cross_origin::allowed(&headers, &listed);
        let Some(origin) = headers.get(header::ORIGIN) else { return assert!(allowed, "not a browser") };
        let origin = String::from_utf8_lossy(origin.as_bytes()).to_lowercase();
        let host = headers.get(header::HOST).map(|host| String::from_utf8_lossy(host.as_bytes()).to_lowercase());
        let own = host.is_some_and(|host| origin.split_once("://").is_some_and(|(_, page)| page == host));
        let known = listed.iter().any(|it| it == "*" || *it == origin);
        if allowed {
            assert!(own || known, "{origin:?} got in");
        } else if origin.is_ascii() {
            assert!(!own && !known, "{origin:?} was refused");
        }
    });
}
