//! The handshake of a websocket, over HTTP/1.1 (RFC 6455, section 4.2) or HTTP/2 (RFC 8441): detection and validation.

use crate::{answer::ApiError, extensions::OfferedTokens};
use axum::{
    extract::Request,
    http::{
        HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version,
        header::{
            CONNECTION, CONTENT_LENGTH, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION,
            TRANSFER_ENCODING, UPGRADE,
        },
        request::Parts,
    },
    response::{IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use distillery_core::secret::Secret;
use hyper::ext::Protocol;

/// The only version of the protocol.
const VERSION: HeaderValue = HeaderValue::from_static("13");
const WEBSOCKET: &str = "websocket";
/// The prefix of a token that is sent as a subprotocol, because a page cannot set `Authorization` on a websocket.
const TOKEN: &str = "distillery.token.";

/// The problem with a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadHandshake {
    #[error("this route is for websockets: ask for an upgrade to websocket")]
    NoUpgrade,
    #[error("this server speaks version 13 of websockets: send it in Sec-WebSocket-Version")]
    Version,
    #[error("Sec-WebSocket-Key is not one key: send the base64 of 16 random bytes")]
    Key,
    #[error("a request that opens a websocket has no body")]
    Body,
}

impl IntoResponse for BadHandshake {
    fn into_response(self) -> Response {
        let (status, headers): (_, &[(HeaderName, HeaderValue)]) = match self {
            Self::NoUpgrade => (
                StatusCode::UPGRADE_REQUIRED,
                &[(UPGRADE, HeaderValue::from_static(WEBSOCKET)), (CONNECTION, HeaderValue::from_static("upgrade"))],
            ),
            Self::Version => (StatusCode::UPGRADE_REQUIRED, &[(SEC_WEBSOCKET_VERSION, VERSION)]),
            Self::Key | Self::Body => (StatusCode::BAD_REQUEST, &[]),
        };
        let mut answer = ApiError::new(status, self.to_string()).into_response();
        for (name, value) in headers {
            answer.headers_mut().insert(name, value.clone());
        }
        answer
    }
}

/// Returns whether a client asks for a websocket. Only GET can ask: an upgrade with another method is ignored, as RFC
/// 9110 allows.
pub fn asks(request: &Request) -> bool {
    match request.version() {
        Version::HTTP_2 => is_extended_connect(request),
        Version::HTTP_11 => *request.method() == Method::GET && lists(request.headers(), &UPGRADE, WEBSOCKET),
        _ => false,
    }
}

/// Returns whether an HTTP/2 request asks for a websocket as in RFC 8441.
fn is_extended_connect(request: &Request) -> bool {
    let protocol = request.extensions().get::<Protocol>();
    *request.method() == Method::CONNECT && protocol.is_some_and(|it| it.as_str() == WEBSOCKET)
}

/// Checks a handshake.
pub fn check(parts: &mut Parts) -> Result<(), BadHandshake> {
    let headers = &parts.headers;
    let over_http2 = parts.version == Version::HTTP_2 && parts.method == Method::CONNECT;
    let is_upgrade = || {
        parts.version == Version::HTTP_11
            && parts.method == Method::GET
            && lists(headers, &UPGRADE, WEBSOCKET)
            && lists(headers, &CONNECTION, "upgrade")
    };
    if !over_http2 && !is_upgrade() {
        return Err(BadHandshake::NoUpgrade);
    }
    let has_length = headers.get(CONTENT_LENGTH).is_some_and(|length| length != "0");
    if has_length || headers.contains_key(TRANSFER_ENCODING) {
        return Err(BadHandshake::Body);
    }
    if only(headers, &SEC_WEBSOCKET_VERSION) != Some(&VERSION) {
        return Err(BadHandshake::Version);
    }
    if over_http2 {
        // Meaningless in HTTP/2, and would cause an answer in HTTP/1.1 form.
        parts.headers.remove(SEC_WEBSOCKET_KEY);
    } else {
        let key = only(headers, &SEC_WEBSOCKET_KEY).and_then(|key| BASE64.decode(key).ok());
        if key.is_none_or(|key| key.len() != 16) {
            return Err(BadHandshake::Key);
        }
    }
    Ok(())
}

/// Removes the tokens from the offered subprotocols, so that no later code logs, traces or repeats them.
pub fn take_tokens(headers: &mut HeaderMap) -> Option<OfferedTokens> {
    let has_token = |line: &HeaderValue| line.as_bytes().windows(TOKEN.len()).any(|it| it == TOKEN.as_bytes());
    if !headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().any(has_token) {
        return None;
    }
    let offered =
        headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().flat_map(|line| line.as_bytes().split(|it| *it == b','));
    let (mut tokens, mut others) = (Vec::new(), Vec::new());
    for name in offered.map(<[u8]>::trim_ascii) {
        match name.strip_prefix(TOKEN.as_bytes()) {
            Some(token) => tokens.push(Secret::new(String::from_utf8_lossy(token).into_owned())),
            None => others.push(name),
        }
    }
    let others = HeaderValue::from_bytes(&others.join(&b", "[..])).ok().filter(|others| !others.is_empty());
    headers.remove(SEC_WEBSOCKET_PROTOCOL);
    if let Some(others) = others {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, others);
    }
    (!tokens.is_empty()).then_some(OfferedTokens(tokens))
}

/// Returns the value of a header that occurs exactly once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}

/// Returns whether a header, a list of tokens in one or more lines, contains this token.
fn lists(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    let mut tokens = headers.get_all(name).iter().flat_map(|line| line.as_bytes().split(|it| *it == b','));
    tokens.any(|it| it.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;

    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

    fn request(method: &str, headers: &[(&str, &str)]) -> Request {
        let mut request = Request::builder().method(method).uri("/");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(Body::empty()).unwrap()
    }

    fn checked(headers: &[(&str, &str)]) -> Result<(), BadHandshake> {
        check(&mut request("GET", headers).into_parts().0)
    }

    const RIGHT: [(&str, &str); 4] = [
        ("upgrade", "websocket"),
        ("connection", "upgrade"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", KEY),
    ];

    /// Returns a valid handshake with these values replaced; an empty value removes the header.
    fn with(changed: &[(&'static str, &'static str)]) -> Vec<(&'static str, &'static str)> {
        let kept = RIGHT.into_iter().filter(|(name, _)| !changed.iter().any(|(other, _)| other == name));
        kept.chain(changed.iter().copied().filter(|(_, value)| *value != "-")).collect()
    }

    #[test]
    fn handshake_follows_the_rfc() {
        use BadHandshake::{Body, Key, NoUpgrade, Version};
        for (changed, expected) in [
            (&[][..], Ok(())),
            (&[("upgrade", "h2c, WebSocket")], Ok(())),
            (&[("upgrade", "h2c"), ("upgrade", "websocket")], Ok(())),
            (&[("connection", "keep-alive, Upgrade")], Ok(())),
            (&[("connection", "keep-alive"), ("connection", "Upgrade")], Ok(())),
            (&[("content-length", "0")], Ok(())),
            (&[("upgrade", "-")], Err(NoUpgrade)),
            (&[("upgrade", "websockets")], Err(NoUpgrade)),
            (&[("connection", "-")], Err(NoUpgrade)),
            (&[("connection", "no-upgrade")], Err(NoUpgrade)),
            (&[("sec-websocket-version", "-")], Err(Version)),
            (&[("sec-websocket-version", "8")], Err(Version)),
            (&[("sec-websocket-version", "13"), ("sec-websocket-version", "13")], Err(Version)),
            (&[("sec-websocket-key", "-")], Err(Key)),
            (&[("sec-websocket-key", "")], Err(Key)),
            (&[("sec-websocket-key", "c2hvcnQ=")], Err(Key)),
            (&[("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZSB0b28gbG9uZw==")], Err(Key)),
            (&[("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ")], Err(Key)),
            (&[("sec-websocket-key", "not base64 at all, no!==")], Err(Key)),
            (&[("sec-websocket-key", KEY), ("sec-websocket-key", KEY)], Err(Key)),
            (&[("content-length", "5")], Err(Body)),
            (&[("transfer-encoding", "chunked")], Err(Body)),
        ] {
            assert_eq!(checked(&with(changed)), expected, "{changed:?}");
        }
        assert_eq!(check(&mut request("POST", &RIGHT).into_parts().0), Err(NoUpgrade));
    }

    #[test]
    fn only_get_or_extended_connect_asks_for_a_websocket() {
        for (method, version, protocol, expected) in [
            ("GET", Version::HTTP_11, None, true),
            ("POST", Version::HTTP_11, None, false),
            ("HEAD", Version::HTTP_11, None, false),
            ("GET", Version::HTTP_10, None, false),
            ("GET", Version::HTTP_2, None, false),
            ("CONNECT", Version::HTTP_2, None, false),
            ("CONNECT", Version::HTTP_2, Some("websocket"), true),
            ("CONNECT", Version::HTTP_2, Some("connect-udp"), false),
        ] {
            let mut request = request(method, &RIGHT);
            *request.version_mut() = version;
            if let Some(protocol) = protocol {
                request.extensions_mut().insert(Protocol::from_static(protocol));
            }
            assert_eq!(asks(&request), expected, "{method} {version:?} {protocol:?}");
        }
    }

    #[test]
    fn tokens_are_removed_from_the_subprotocols() {
        for (lines, tokens, left) in [
            (&["distillery-1"][..], &[][..], Some("distillery-1")),
            (&["distillery-1, distillery.token.dst_a"], &["dst_a"], Some("distillery-1")),
            (&["distillery.token.dst_a", "distillery-1,pow-1"], &["dst_a"], Some("distillery-1, pow-1")),
            (&["distillery.token.dst_a"], &["dst_a"], None),
            (&["distillery.token."], &[""], None),
            (&["distillery.token.a,distillery.token.b"], &["a", "b"], None),
        ] {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(SEC_WEBSOCKET_PROTOCOL, line.parse().unwrap());
            }
            let taken = take_tokens(&mut headers).map(|OfferedTokens(taken)| taken).unwrap_or_default();
            assert_eq!(taken.iter().map(Secret::reveal).collect::<Vec<_>>(), tokens, "{lines:?}");
            let kept = headers.get(SEC_WEBSOCKET_PROTOCOL).map(|it| it.to_str().unwrap());
            assert_eq!(kept, left, "{lines:?}");
        }
    }
}
