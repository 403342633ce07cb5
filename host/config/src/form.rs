//! Parses values: from a YAML value to a typed one, or to a sentence that says what is allowed.
//!
//! This module knows neither the key of a value nor its position.

use super::yaml::Value;
use distillery_core::{
    auth::{BadScope, Scope},
    call::CallName,
    hosts::{HOST_FORM, HostPattern},
    network::{NETWORK_FORM, Network},
    origin::Origin,
    size::{SIZE_FORM, Size},
};
use std::{net::SocketAddr, ops::RangeInclusive, path::PathBuf, time::Duration};

/// A typed value, or the reason why it is invalid.
pub(super) type Formed<T> = Result<T, String>;

/// The longest duration. Deadlines are sums of an instant and a duration; this bound prevents overflow and exceeds any
/// use.
const LONGEST: Duration = Duration::from_secs(3650 * 24 * 3600);

/// The maximum length of an invalid value in an error.
const SHOWN: usize = 60;

/// Formats the value for an error.
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::Nothing => "nothing".to_owned(),
        Value::Bool(it) => it.to_string(),
        Value::Whole(it) => it.to_string(),
        Value::Fraction(it) => it.to_string(),
        Value::Text(text) => match text.char_indices().nth(SHOWN) {
            Some((end, _)) => format!("{:?}", format!("{}…", &text[..end])),
            None => format!("{text:?}"),
        },
        Value::List(_) => "a list".to_owned(),
        Value::Map(_) => "a mapping".to_owned(),
    }
}

/// Formats the error for an invalid value.
pub(super) fn not(value: &Value, what: &str, allowed: &str) -> String {
    format!("{} is not {what}: write {allowed}", shown(value))
}

pub(super) fn switch(value: &Value) -> Formed<bool> {
    match value {
        Value::Bool(it) => Ok(*it),
        _ => Err(not(value, "a switch", "true or false")),
    }
}

pub(super) fn text(value: &Value) -> Formed<String> {
    match value {
        Value::Text(it) => Ok(it.clone()),
        Value::Bool(_) | Value::Whole(_) | Value::Fraction(_) => Err(not(value, "text", "it in quotes")),
        _ => Err(not(value, "text", "one line of text")),
    }
}

pub(super) fn path(value: &Value) -> Formed<PathBuf> {
    match value {
        Value::Text(it) if !it.is_empty() => Ok(it.into()),
        Value::Bool(_) | Value::Whole(_) | Value::Fraction(_) => Err(not(value, "a path", "it in quotes")),
        _ => Err(not(value, "a path", "the path of a file or a directory")),
    }
}

pub(super) fn address(value: &Value) -> Formed<SocketAddr> {
    let parsed = match value {
        Value::Text(it) => it.parse().ok(),
        _ => None,
    };
    parsed.ok_or_else(|| not(value, "an address", "an IP address and a port, such as 127.0.0.1:8080 or \"[::1]:8080\""))
}

/// Parses a network, or one address.
pub(super) fn network(value: &Value) -> Formed<Network> {
    let parsed = match value {
        Value::Text(it) => it.parse().ok(),
        _ => None,
    };
    parsed.ok_or_else(|| not(value, "a network", NETWORK_FORM))
}

/// Parses a duration, which can be zero.
pub(super) fn duration(value: &Value) -> Formed<Duration> {
    let parsed = match value {
        Value::Text(it) if it != "0" => humantime::parse_duration(it).ok(),
        _ => None,
    };
    let form = "a number with a unit, such as 30s, 5m or 1h 30m";
    let duration = parsed.ok_or_else(|| not(value, "a duration", form))?;
    if duration > LONGEST {
        return Err(format!("{} is too long: write at most 3650days", shown(value)));
    }
    Ok(duration)
}

/// Parses a duration above zero, for waits that zero would make impossible.
pub(super) fn wait(value: &Value) -> Formed<Duration> {
    match duration(value)? {
        Duration::ZERO => Err(format!("{} is too short: write more than 0s", shown(value))),
        duration => Ok(duration),
    }
}

pub(super) fn size(allowed: RangeInclusive<Size>) -> impl Fn(&Value) -> Formed<Size> {
    move |value| {
        let parsed = match value {
            Value::Whole(it) => u64::try_from(*it).ok().map(Size::bytes),
            Value::Text(it) => it.parse().ok(),
            _ => None,
        };
        let size = parsed.ok_or_else(|| not(value, "a size", SIZE_FORM))?;
        if !allowed.contains(&size) {
            let (low, high) = (allowed.start(), allowed.end());
            return Err(format!("{} is out of range: write a size from {low} to {high}", shown(value)));
        }
        Ok(size)
    }
}

pub(super) fn count<T: TryFrom<u64>>(allowed: RangeInclusive<u64>) -> impl Fn(&Value) -> Formed<T> {
    move |value| {
        let parsed = match value {
            Value::Whole(it) => u64::try_from(*it).ok().filter(|it| allowed.contains(it)),
            _ => None,
        };
        parsed.and_then(|it| T::try_from(it).ok()).ok_or_else(|| {
            let form = format!("a whole number from {} to {}", allowed.start(), allowed.end());
            not(value, "a count that is allowed", &form)
        })
    }
}

/// Parses a value with `inner`, or `word` for no value.
pub(super) fn or_word<T>(
    word: &'static str,
    inner: impl Fn(&Value) -> Formed<T>,
) -> impl Fn(&Value) -> Formed<Option<T>> {
    move |value| match value {
        Value::Text(it) if it == word => Ok(None),
        _ => inner(value).map(Some).map_err(|why| format!("{why}, or {word}")),
    }
}

/// Parses one of a few words.
pub(super) fn word<T: Copy>(words: &'static [(&'static str, T)]) -> impl Fn(&Value) -> Formed<T> {
    move |value| {
        let written = match value {
            Value::Text(it) => it.as_str(),
            Value::Bool(true) => "true",
            Value::Bool(false) => "false",
            _ => "",
        };
        words.iter().find(|(word, _)| *word == written).map(|(_, meaning)| *meaning).ok_or_else(|| {
            let list = words.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", ");
            format!("{} is not allowed: write one of {list}", shown(value))
        })
    }
}

const ORIGIN_FORM: &str = "scheme, host and port as browsers send them, such as https://a.example or \
                           http://localhost:3000: in lower case, without a path and without the port that is the \
                           scheme's own";

/// Parses an origin exactly as browsers send it, for comparison byte by byte.
pub(super) fn origin(value: &Value) -> Formed<String> {
    match value {
        Value::Text(it) if is_origin(it) => Ok(it.clone()),
        _ => Err(not(value, "an origin", ORIGIN_FORM)),
    }
}

/// Parses an origin in any spelling and normalizes it as browsers do, or `*` for every one.
pub(super) fn origin_or_all(value: &Value) -> Formed<String> {
    let parsed = match value {
        Value::Text(it) if it == "*" => Some(it.clone()),
        Value::Text(it) => it.parse().ok().map(|origin: Origin| origin.to_string()),
        _ => None,
    };
    let form =
        "scheme, host and perhaps port, such as https://a.example or http://localhost:3000, or \"*\" for every origin";
    parsed.ok_or_else(|| not(value, "an origin", form))
}

/// Parses a host pattern.
pub(super) fn host(value: &Value) -> Formed<HostPattern> {
    let parsed = match value {
        Value::Text(it) => it.parse().ok(),
        _ => None,
    };
    parsed.ok_or_else(|| not(value, "a host", HOST_FORM))
}

fn is_origin(text: &str) -> bool {
    let (rest, own_port) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
        (Some(rest), _) => (rest, ":443"),
        (_, Some(rest)) => (rest, ":80"),
        _ => return false,
    };
    let plain =
        |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '-' | '_' | ':' | '[' | ']');
    let Ok(authority) = rest.parse::<http::uri::Authority>() else { return false };
    let host = authority.host();
    let whole = match authority.port_u16() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    };
    rest.chars().all(plain) && !rest.ends_with(own_port) && !host.is_empty() && rest == whole
}

/// Parses a scope.
pub(super) fn scope(value: &Value) -> Formed<Scope> {
    match value {
        Value::Text(it) => it.parse().map_err(|error: BadScope| error.to_string()),
        _ => Err(not(value, "a scope", "the name of one in quotes")),
    }
}

/// Parses a web address for display.
pub(super) fn url(value: &Value) -> Formed<String> {
    let form = "an address that begins with https:// or http://, such as https://a.example/";
    match value {
        Value::Text(it) if is_url(it) => Ok(it.clone()),
        _ => Err(not(value, "an address of the web", form)),
    }
}

fn is_url(text: &str) -> bool {
    let web = text.starts_with("https://") || text.starts_with("http://");
    web && text.parse::<http::Uri>().is_ok_and(|uri| uri.host().is_some_and(|host| !host.is_empty()))
}

/// Parses the name of an environment variable.
pub(super) fn variable(value: &Value) -> Formed<String> {
    match value {
        Value::Text(it) => variable_name(it).map(|()| it.clone()),
        _ => Err(not(value, "the name of a variable", VARIABLE_FORM)),
    }
}

const VARIABLE_FORM: &str = "letters, digits and underscores, not beginning with a digit";

/// Checks that guests can be given a variable of this name: the server's own variables are reserved.
pub(super) fn variable_name(name: &str) -> Formed<()> {
    let begins = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if !begins || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return Err(format!("{name:?} is not the name of a variable: write {VARIABLE_FORM}"));
    }
    if name.starts_with("DISTILLERY_") {
        return Err(format!("{name:?} is set by the server: write a name that does not begin with DISTILLERY_"));
    }
    Ok(())
}

/// Checks that a plugin can have this name: its directory can name a call.
pub(super) fn plugin_name(name: &str) -> Formed<()> {
    name.parse::<CallName>()
        .map(drop)
        .map_err(|_| format!("{name:?} is not the name of a plugin: write {}", distillery_core::call::CALL_NAME_FORM))
}

/// Parses a filter for the log: levels, and targets with levels.
pub(super) fn filter(value: &Value) -> Formed<String> {
    let form = "off, error, warn, info, debug or trace, or a list of these for parts of the program, such as \
                info,distillery=debug";
    let Value::Text(text) = value else { return Err(not(value, "a log level", form)) };
    // A word that is not a level would count as a target with all levels, which is hardly ever intended.
    let level = |word: &str| word.parse::<tracing_subscriber::filter::LevelFilter>().is_ok();
    let bare = |directive: &str| directive.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | ':' | '-'));
    let meant = text.split(',').map(str::trim).all(|it| !it.is_empty() && (!bare(it) || level(it)));
    if meant && tracing_subscriber::EnvFilter::builder().parse(text).is_ok() {
        Ok(text.clone())
    } else {
        Err(not(value, "a log level", form))
    }
}

/// Parses a time in RFC 3339 format.
pub(super) fn moment(value: &Value) -> Formed<time::OffsetDateTime> {
    use time::format_description::well_known::Rfc3339;
    let parsed = match value {
        Value::Text(it) => time::OffsetDateTime::parse(it, &Rfc3339).ok(),
        _ => None,
    };
    parsed.ok_or_else(|| not(value, "a time", "date, time and zone as RFC 3339 does, such as 2026-01-31T12:00:00Z"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str) -> Value {
        Value::Text(text.to_owned())
    }

    #[test]
    fn duration_needs_a_unit() {
        assert_eq!(duration(&written("1h 30m")), Ok(Duration::from_secs(5400)));
        assert_eq!(duration(&written("250ms")), Ok(Duration::from_millis(250)));
        assert_eq!(duration(&written("0s")), Ok(Duration::ZERO));
        let form = "is not a duration: write a number with a unit, such as 30s, 5m or 1h 30m";
        assert_eq!(duration(&Value::Whole(30)), Err(format!("30 {form}")));
        assert_eq!(duration(&Value::Fraction(0.5)), Err(format!("0.5 {form}")));
        assert_eq!(duration(&Value::Nothing), Err(format!("nothing {form}")));
        for text in ["0", "30", "soon", "-5s", "5 parsecs", ""] {
            assert_eq!(duration(&written(text)), Err(format!("{text:?} {form}")));
        }
        assert_eq!(duration(&written("11years")).unwrap_err(), "\"11years\" is too long: write at most 3650days");
        assert_eq!(wait(&written("0s")).unwrap_err(), "\"0s\" is too short: write more than 0s");
    }

    #[test]
    fn size_stays_within_its_range() {
        let form = size(Size::kib(64)..=Size::mib(16));
        assert_eq!(form(&written("1MiB")), Ok(Size::mib(1)));
        assert_eq!(form(&Value::Whole(65536)), Ok(Size::kib(64)));
        let range = "is out of range: write a size from 64KiB to 16MiB";
        assert_eq!(form(&written("17MiB")), Err(format!("\"17MiB\" {range}")));
        assert_eq!(form(&Value::Whole(0)), Err(format!("0 {range}")));
        assert_eq!(form(&Value::Whole(-1)), Err(format!("-1 is not a size: write {SIZE_FORM}")));
        assert_eq!(form(&written("12 potatoes")), Err(format!("\"12 potatoes\" is not a size: write {SIZE_FORM}")));
    }

    #[test]
    fn count_stays_within_its_range() {
        let form = or_word("auto", count::<u32>(1..=10));
        assert_eq!(form(&Value::Whole(10)), Ok(Some(10)));
        assert_eq!(form(&written("auto")), Ok(None));
        for (value, it) in [(Value::Whole(0), "0"), (Value::Whole(11), "11"), (Value::Fraction(1.5), "1.5")] {
            let expected = format!("{it} is not a count that is allowed: write a whole number from 1 to 10, or auto");
            assert_eq!(form(&value), Err(expected));
        }
    }

    #[test]
    fn origins_have_the_form_of_browsers() {
        for text in ["https://a.example", "http://localhost:3000", "http://[::1]:8081", "https://1.2.3.4:8443"] {
            assert!(origin(&written(text)).is_ok(), "{text:?}");
        }
        let bad = ["a.example", "https://", "https://a.example/", "https://A.example", "ftp://a.example", "null", "*"];
        for text in bad.into_iter().chain([
            "https://a.example:443",
            "http://a.example:80",
            "https://u@a.example",
            "https://a:",
            "https://a:65536",
        ]) {
            assert!(origin(&written(text)).is_err(), "{text:?}");
        }
    }

    #[test]
    fn listed_origins_are_normalized() {
        for (text, spelled) in
            [("*", "*"), ("https://A.Example:443", "https://a.example"), ("http://[0:0::1]:80", "http://[::1]")]
        {
            assert_eq!(origin_or_all(&written(text)), Ok(spelled.to_owned()));
        }
        for text in ["a.example", "https://a.example/", "null", "https://u@a.example"] {
            assert!(origin_or_all(&written(text)).is_err(), "{text:?}");
        }
    }

    #[test]
    fn log_level_is_not_any_word() {
        for text in ["info", "off", "WARN", "info,distillery=debug", "distillery[call{name=x}]=trace,warn"] {
            assert_eq!(filter(&written(text)), Ok(text.to_owned()));
        }
        for text in ["verbose", "", "info,", "info,distillery=loud", "distillery"] {
            assert!(filter(&written(text)).is_err(), "{text:?}");
        }
    }

    #[test]
    fn guests_cannot_get_variables_of_the_server() {
        assert_eq!(variable(&written("API_KEY")), Ok("API_KEY".to_owned()));
        for text in ["", "1A", "A-B", "A=B", "DISTILLERY_USER"] {
            assert!(variable(&written(text)).is_err(), "{text:?}");
        }
    }

    #[test]
    fn error_shortens_a_long_value() {
        let text = shown(&written(&"ä".repeat(100)));
        assert_eq!(text, format!("\"{}…\"", "ä".repeat(60)));
        assert_eq!(shown(&written("two\nlines")), "\"two\\nlines\"");
    }
}
