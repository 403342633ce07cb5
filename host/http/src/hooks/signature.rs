//! The proof that a delivery comes from the service of a webhook, in the forms of three services. All comparisons take
//! constant time.

use axum::http::HeaderMap;
use distillery_config::HookFormat;
use distillery_core::secret::Secret;
use distillery_observe::metrics::hooks::Rejected;
use hmac_sha256::{HMAC, Hash};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The maximum number of signatures in one header. A service sends two while it changes its secret.
const SIGNATURES: usize = 8;

/// What identifies a delivery. A service repeats it only if it repeats the delivery.
pub(super) type DeliveryId = [u8; 32];

/// Checks the proof of a delivery, and returns what identifies the delivery.
pub(super) fn verify(
    format: HookFormat,
    secret: &Secret,
    window: Duration,
    headers: &HeaderMap,
    body: &[u8],
    now: SystemTime,
) -> Result<DeliveryId, Rejected> {
    match format {
        HookFormat::Github => {
            let shown = only(headers, "x-hub-signature-256").ok_or(Rejected::NoSignature)?;
            let signature = shown.strip_prefix("sha256=").and_then(bytes_of_hex).ok_or(Rejected::BadSignature)?;
            if !HMAC::verify(body, secret.reveal(), &signature) {
                return Err(Rejected::BadSignature);
            }
            Ok(id(headers, &["x-github-delivery"], body))
        }
        HookFormat::Gitlab => {
            let shown = only(headers, "x-gitlab-token").ok_or(Rejected::NoSignature)?;
            // The digests have one length, so the comparison does not reveal that of the secret.
            if !HMAC::verify(shown, secret.reveal(), &HMAC::mac(secret.reveal(), secret.reveal())) {
                return Err(Rejected::BadSignature);
            }
            Ok(id(headers, &["idempotency-key", "x-gitlab-event-uuid"], body))
        }
        HookFormat::Stripe => {
            let shown = only(headers, "stripe-signature").ok_or(Rejected::NoSignature)?;
            stripe(shown, secret, window, body, now)
        }
    }
}

/// Checks `t=TIME,v1=SIGNATURE`, with one time and any number of signatures.
fn stripe(
    shown: &str,
    secret: &Secret,
    window: Duration,
    body: &[u8],
    now: SystemTime,
) -> Result<DeliveryId, Rejected> {
    let fields = || shown.split(',').filter_map(|field| field.trim().split_once('='));
    let mut times = fields().filter(|(name, _)| *name == "t").map(|(_, time)| time);
    let (Some(time), None) = (times.next(), times.next()) else { return Err(Rejected::BadSignature) };
    let signed = || {
        let mut signed = HMAC::new(secret.reveal());
        [time.as_bytes(), b".", body].into_iter().for_each(|part| signed.update(part));
        signed
    };
    let signatures = fields().filter(|(name, _)| *name == "v1").take(SIGNATURES);
    let signatures = signatures.filter_map(|(_, signature)| bytes_of_hex(signature));
    if !signatures.fold(false, |any, signature| signed().finalize_verify(&signature) | any) {
        return Err(Rejected::BadSignature);
    }
    // Only now: otherwise anyone would learn the server's time.
    let sent = time.parse().ok().and_then(|time| UNIX_EPOCH.checked_add(Duration::from_secs(time)));
    let sent = sent.ok_or(Rejected::BadSignature)?;
    let apart = now.duration_since(sent).unwrap_or_else(|early| early.duration());
    if apart > window { Err(Rejected::Expired) } else { Ok(signed().finalize()) }
}

/// Returns the digest of the first of these headers that is there, or else of the body.
fn id(headers: &HeaderMap, names: &[&str], body: &[u8]) -> DeliveryId {
    let named = names.iter().find_map(|name| headers.get(*name));
    let (kind, content) = named.map_or((&b"body"[..], body), |id| (&b"id"[..], id.as_bytes()));
    let mut hash = Hash::new();
    [kind, content].into_iter().for_each(|part| hash.update(part));
    hash.finalize()
}

/// Returns the text of a header that occurs exactly once.
fn only<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())?.to_str().ok()
}

fn bytes_of_hex(text: &str) -> Option<[u8; 32]> {
    let digits = text.as_bytes();
    let mut bytes = [0; 32];
    if digits.len() != bytes.len() * 2 {
        return None;
    }
    let value = |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = value(pair[0])? << 4 | value(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderName;

    const BODY: &[u8] = b"Hello, World!";
    const SECRET: &str = "It's a Secret to Everybody";
    /// From the documentation of the service, for this body and secret.
    const GITHUB: &str = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
    const NOW: u64 = 1_800_000_000;

    fn verified(format: HookFormat, headers: &[(&str, &str)], body: &[u8]) -> Result<DeliveryId, Rejected> {
        let named = headers.iter().map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap()));
        let mut headers = HeaderMap::new();
        named.for_each(|(name, value)| _ = headers.append(name, value));
        let now = UNIX_EPOCH + Duration::from_secs(NOW);
        verify(format, &Secret::new(SECRET.into()), Duration::from_secs(300), &headers, body, now)
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn stripe_signed(time: &str, secret: &str) -> String {
        hex(&HMAC::mac([time.as_bytes(), b".", BODY].concat(), secret))
    }

    #[test]
    fn github_signature_covers_the_body() {
        let verified = |headers: &[(&str, &str)], body| verified(HookFormat::Github, headers, body);
        assert!(verified(&[("x-hub-signature-256", GITHUB)], BODY).is_ok());
        for (headers, body, reason) in [
            (&[][..], BODY, Rejected::NoSignature),
            (&[("x-hub-signature", GITHUB)], BODY, Rejected::NoSignature),
            (&[("x-hub-signature-256", GITHUB), ("x-hub-signature-256", GITHUB)], BODY, Rejected::NoSignature),
            (&[("x-hub-signature-256", GITHUB)], b"Hello, World?", Rejected::BadSignature),
            (&[("x-hub-signature-256", &GITHUB[7..])], BODY, Rejected::BadSignature),
            (&[("x-hub-signature-256", &GITHUB[..70])], BODY, Rejected::BadSignature),
            (&[("x-hub-signature-256", "sha256=")], BODY, Rejected::BadSignature),
            (&[("x-hub-signature-256", "")], BODY, Rejected::BadSignature),
        ] {
            assert_eq!(verified(headers, body), Err(reason), "{headers:?}");
        }
        let digits = &mut GITHUB.to_owned();
        digits.replace_range(70.., "8");
        assert_eq!(verified(&[("x-hub-signature-256", digits)], BODY), Err(Rejected::BadSignature));
    }

    #[test]
    fn gitlab_token_is_the_secret() {
        let verified = |headers: &[(&str, &str)]| verified(HookFormat::Gitlab, headers, BODY);
        assert!(verified(&[("x-gitlab-token", SECRET)]).is_ok());
        assert_eq!(verified(&[]), Err(Rejected::NoSignature));
        for wrong in ["", " ", "it's a secret to everybody", "It's a Secret to Everybody!", "It's a Secret"] {
            assert_eq!(verified(&[("x-gitlab-token", wrong)]), Err(Rejected::BadSignature), "{wrong:?}");
        }
    }

    #[test]
    fn stripe_signature_covers_time_and_body() {
        let verified = |header: &str| verified(HookFormat::Stripe, &[("stripe-signature", header)], BODY);
        let at = |time: u64| format!("t={time},v1={}", stripe_signed(&time.to_string(), SECRET));
        assert!(verified(&at(NOW)).is_ok() && verified(&at(NOW - 300)).is_ok() && verified(&at(NOW + 300)).is_ok());
        assert_eq!(verified(&at(NOW - 301)), Err(Rejected::Expired));
        assert_eq!(verified(&at(NOW + 301)), Err(Rejected::Expired));
        let (old, new) = (stripe_signed(&NOW.to_string(), "old"), stripe_signed(&NOW.to_string(), SECRET));
        assert!(verified(&format!("t={NOW},v1={old},v1={new},v0=odd")).is_ok());
        for wrong in [
            format!("t={NOW},v1={old}"),
            format!("t={NOW},v0={new}"),
            format!("t={},v1={new}", NOW - 1),
            format!("t={NOW},t={NOW},v1={new}"),
            format!("v1={new}"),
            format!("t={NOW}"),
            format!("t=,v1={}", stripe_signed("", SECRET)),
            format!("t=soon,v1={}", stripe_signed("soon", SECRET)),
            format!("t={NOW},{}v1={new}", format!("v1={old},").repeat(SIGNATURES)),
            String::new(),
        ] {
            assert_eq!(verified(&wrong), Err(Rejected::BadSignature), "{wrong}");
        }
    }

    #[test]
    fn delivery_is_identified_by_its_id_or_else_its_content() {
        let github = |id: Option<&str>| {
            let headers = [Some(("x-hub-signature-256", GITHUB)), id.map(|id| ("x-github-delivery", id))];
            verified(HookFormat::Github, &headers.into_iter().flatten().collect::<Vec<_>>(), BODY).unwrap()
        };
        assert_eq!(github(Some("1")), github(Some("1")));
        assert_ne!(github(Some("1")), github(Some("2")));
        assert_eq!(github(None), github(None));
        let gitlab = |name: &str, body: &[u8]| {
            verified(HookFormat::Gitlab, &[("x-gitlab-token", SECRET), (name, "1")], body).unwrap()
        };
        assert_eq!(gitlab("idempotency-key", b"a"), gitlab("x-gitlab-event-uuid", b"b"));
        assert_ne!(gitlab("x-other", b"a"), gitlab("x-other", b"b"));
    }
}
