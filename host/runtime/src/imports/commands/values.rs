//! The types of `wit/call.wit` for commands as values of the component model.

use crate::commands::{Kind, NotStarted};
use distillery_command::{Bound, Ended, Signal, Status};
use wasmtime::component::Val;

/// The signals, in the order of `wit/call.wit`.
pub const SIGNALS: [(&str, Signal); 6] = [
    ("hangup", Signal::Hangup),
    ("interrupt", Signal::Interrupt),
    ("terminate", Signal::Terminate),
    ("kill", Signal::Kill),
    ("user1", Signal::User1),
    ("user2", Signal::User2),
];

fn record<const N: usize>(fields: [(&str, Val); N]) -> Val {
    Val::Record(fields.map(|(name, value)| (name.to_owned(), value)).into())
}

fn variant(case: &str, value: Val) -> Val {
    Val::Variant(case.to_owned(), Some(Box::new(value)))
}

/// Returns the result of `start`.
pub fn started<const N: usize>(running: Result<[(&str, Val); N], NotStarted>) -> Val {
    Val::Result(match running {
        Ok(fields) => Ok(Some(Box::new(record(fields)))),
        Err(NotStarted { kind, why }) => Err(Some(Box::new(variant(case(kind), Val::String(why))))),
    })
}

fn case(kind: Kind) -> &'static str {
    match kind {
        Kind::NotGranted => "not-granted",
        Kind::InvalidParameter => "invalid-parameter",
        Kind::Busy => "busy",
        Kind::Failed => "failed",
    }
}

pub fn ended(Ended { status, bound }: Ended) -> Val {
    let status = match status {
        Status::Exited(status) => variant("exited", Val::U8(status)),
        Status::Signalled(signal) => variant("signalled", Val::U8(signal)),
    };
    let bound = bound.map(|bound| {
        Box::new(Val::Enum(
            match bound {
                Bound::Time => "time",
                Bound::Output => "output",
            }
            .to_owned(),
        ))
    });
    record([("status", status), ("bound", Val::Option(bound))])
}

/// Returns the signal of a value. `None` if it is none.
pub fn signal(value: &Val) -> Option<Signal> {
    let Val::Enum(name) = value else { return None };
    SIGNALS.iter().find(|(known, _)| known == name).map(|(_, signal)| *signal)
}

/// Returns the name and the parameters of a call of `start`.
pub fn wanted(params: &[Val]) -> wasmtime::Result<(String, Vec<(String, String)>)> {
    let text = |value: &Val| match value {
        Val::String(text) => Some(text.clone()),
        _ => None,
    };
    let pair = |value: &Val| match value {
        Val::Tuple(pair) => Some((text(pair.first()?)?, text(pair.get(1)?)?)),
        _ => None,
    };
    let read = || match params {
        [name, Val::List(pairs), ..] => Some((text(name)?, pairs.iter().map(pair).collect::<Option<_>>()?)),
        _ => None,
    };
    read().ok_or_else(|| wasmtime::format_err!("not the name and the parameters of a command"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_match_the_interface() {
        let wit = include_str!("../../../../../wit/call.wit");
        let cases = |head: &str| -> Vec<String> {
            let (_, after) = wit.split_once(head).unwrap();
            let (inside, _) = after.split_once('}').unwrap();
            let lines = inside.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("///"));
            lines.map(|line| line.split(['(', ',']).next().unwrap().to_owned()).collect()
        };
        assert_eq!(cases("enum signal {"), SIGNALS.map(|(name, _)| name));
        let kinds = [Kind::NotGranted, Kind::InvalidParameter, Kind::Busy, Kind::Failed];
        assert_eq!(cases("variant start-error {"), kinds.map(case));
        assert_eq!(cases("enum bound {"), [Bound::Time, Bound::Output].map(Bound::name));
        assert_eq!(cases("variant status {"), ["exited", "signalled"]);
    }
}
