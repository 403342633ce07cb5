//! The host of a request, from the request line, `Host` and `:authority` together (RFC 9112, section 3.2, and RFC 9113,
//! section 8.3.1). If they disagree, two readers could interpret the request differently.

use crate::answer::ApiError;
use axum::http::{HeaderValue, Method, Request, StatusCode, Uri, Version, header::HOST, uri::PathAndQuery};
use distillery_core::origin::Origin;

/// The origin of a request: scheme, host and port as the client sees them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target(pub Origin);

/// The reason why a request has no valid host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadAuthority {
    #[error("the request has no host: send one in the header Host")]
    Missing,
    #[error("the request has more than one header Host: send one")]
    Many,
    #[error("the host of the request is not well-formed: send a name or an address, with or without a port")]
    Malformed,
    #[error("the header Host differs from :authority: send one of them, or both the same")]
    Differs,
    #[error("the target of the request is not of HTTP: send a path, or an address with http:// or https://")]
    Scheme,
}

impl From<BadAuthority> for ApiError {
    fn from(error: BadAuthority) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error.to_string())
    }
}

/// Returns the origin of `request`; `None` if it is HTTP/1.0 and names no host. Afterwards `Host` and the path contain
/// all of it.
pub fn take<B>(request: &mut Request<B>, secure: bool) -> Result<Option<Origin>, BadAuthority> {
    let mut lines = request.headers().get_all(HOST).iter();
    let line = lines.next().cloned();
    if lines.next().is_some() {
        return Err(BadAuthority::Many);
    }
    let line = line.map(|line| {
        let text = line.to_str().ok().and_then(|text| Origin::of_host(secure, text.trim()));
        text.ok_or(BadAuthority::Malformed)
    });
    let line = line.transpose()?;
    if request.uri().scheme_str().is_some_and(|scheme| !matches!(scheme, "http" | "https")) {
        return Err(BadAuthority::Scheme);
    }
    let target = match request.uri().authority() {
        Some(authority) => Some(Origin::of_host(secure, authority.as_str()).ok_or(BadAuthority::Malformed)?),
        None => None,
    };
    let origin = match (target, line) {
        (Some(target), Some(line)) if request.version() >= Version::HTTP_2 && target != line => {
            return Err(BadAuthority::Differs);
        }
        // HTTP/1.1 requires the header even though an absolute target overrides it.
        (Some(_), None) if request.version() == Version::HTTP_11 => return Err(BadAuthority::Missing),
        (Some(target), _) => target,
        (None, Some(line)) => line,
        (None, None) if request.version() <= Version::HTTP_10 => return Ok(None),
        (None, None) => return Err(BadAuthority::Missing),
    };
    simplify(request);
    Ok(Some(origin))
}

/// Moves the host of the target, if it has one, into `Host`, so that only the path is left.
fn simplify<B>(request: &mut Request<B>) {
    let Some(host) = request.uri().authority().and_then(|it| HeaderValue::from_str(it.as_str()).ok()) else { return };
    request.headers_mut().insert(HOST, host);
    // The target of CONNECT is an authority without a path.
    let path = match request.uri().path_and_query() {
        Some(path) => path.clone(),
        None if *request.method() == Method::CONNECT => return,
        None => PathAndQuery::from_static("/"),
    };
    *request.uri_mut() = Uri::from(path);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(version: Version, target: &str, hosts: &[&str]) -> (Result<Option<String>, BadAuthority>, Request<()>) {
        let mut request = Request::builder().version(version).uri(target);
        for host in hosts {
            request = request.header(HOST, *host);
        }
        let mut request = request.body(()).unwrap();
        let taken = take(&mut request, false).map(|origin| origin.map(|origin| origin.to_string()));
        (taken, request)
    }

    #[test]
    fn request_has_one_host_or_is_malformed() {
        use BadAuthority::{Differs, Malformed, Many, Missing, Scheme};
        let a = Ok(Some("http://a.example".to_owned()));
        for (version, target, hosts, expected) in [
            (Version::HTTP_11, "/x", &["a.example"][..], a.clone()),
            (Version::HTTP_11, "/x", &["A.Example:80"], a.clone()),
            (Version::HTTP_11, "/x", &[], Err(Missing)),
            (Version::HTTP_11, "/x", &["a.example", "a.example"], Err(Many)),
            (Version::HTTP_11, "/x", &["a.example", "b.example"], Err(Many)),
            (Version::HTTP_11, "/x", &[""], Err(Malformed)),
            (Version::HTTP_11, "/x", &["u@a.example"], Err(Malformed)),
            (Version::HTTP_11, "/x", &["a.example:port"], Err(Malformed)),
            (Version::HTTP_11, "/x", &["a.example:65536"], Err(Malformed)),
            (Version::HTTP_11, "/x", &["a.example/x"], Err(Malformed)),
            (Version::HTTP_11, "/x", &["a.example, b.example"], Err(Malformed)),
            (Version::HTTP_11, "/x", &["[fe80::1%25eth0]"], Err(Malformed)),
            (Version::HTTP_11, "/x", &["[::1]:81"], Ok(Some("http://[::1]:81".into()))),
            (Version::HTTP_11, "http://a.example/x", &["b.example"], a.clone()),
            (Version::HTTP_11, "http://a.example/x", &[], Err(Missing)),
            (Version::HTTP_11, "http://u@a.example/x", &["a.example"], Err(Malformed)),
            (Version::HTTP_11, "ftp://a.example/x", &["a.example"], Err(Scheme)),
            (Version::HTTP_11, "*", &["a.example"], a.clone()),
            (Version::HTTP_10, "/x", &[], Ok(None)),
            (Version::HTTP_10, "/x", &["a.example"], a.clone()),
            (Version::HTTP_10, "/x", &["a.example", "a.example"], Err(Many)),
            (Version::HTTP_2, "http://a.example/x", &[], a.clone()),
            (Version::HTTP_2, "http://a.example/x", &["a.example:80"], a.clone()),
            (Version::HTTP_2, "http://a.example/x", &["b.example"], Err(Differs)),
            (Version::HTTP_2, "http://a.example/x", &["a.example:81"], Err(Differs)),
            (Version::HTTP_2, "/x", &["a.example"], a),
            (Version::HTTP_2, "/x", &[], Err(Missing)),
        ] {
            assert_eq!(taken(version, target, hosts).0, expected, "{version:?} {target} {hosts:?}");
        }
    }

    #[test]
    fn target_is_reduced_to_its_path() {
        for (target, path) in [("http://a.example/x?y", "/x?y"), ("http://a.example", "/"), ("/x", "/x")] {
            let (_, request) = taken(Version::HTTP_11, target, &["a.example"]);
            assert_eq!(request.uri(), &path.parse::<Uri>().unwrap(), "{target}");
            assert_eq!(request.headers()[HOST], "a.example", "{target}");
        }
    }
}
