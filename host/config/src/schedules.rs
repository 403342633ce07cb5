//! The schedules: calls that the server runs by itself at times that the operator sets.
//!
//! Only the form is checked here. Whether the call and the user exist, and the call accepts the parameters, can change
//! while the server runs, and is checked when a run is due.

use super::{
    form::{self, Formed},
    source::{ConfigError, Node, Section},
    yaml::Value,
};
use distillery_core::{
    auth::UserName,
    call::{CALL_NAME_FORM, CallName},
    timetable::{BadTimetable, Timetable, Zone},
};
use std::{collections::BTreeMap, fmt, time::Duration};

/// The maximum number of schedules.
const SCHEDULES: usize = 1000;
/// The maximum number of parameters, and of bytes in all of them.
const PARAMS: usize = 256;
const PARAMS_SIZE: usize = 64 << 10;

/// A call that runs at set times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// Unique, and of the form of a call's name.
    pub name: String,
    pub timetable: Timetable,
    pub call: CallName,
    pub params: Vec<String>,
    pub user: RunAs,
    pub overlap: Overlap,
    pub missed: Missed,
    /// The longest delay of a run after its due time.
    pub jitter: Duration,
    /// Whether no run is due.
    pub paused: bool,
}

/// The user whose rights decide whether a schedule can run its call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunAs {
    Operator,
    User(UserName),
}

impl fmt::Display for RunAs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Operator => f.write_str(OPERATOR),
            Self::User(name) => name.fmt(f),
        }
    }
}

/// The rule for a run that is due while an earlier run of the same schedule is still running.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overlap {
    /// The run does not take place.
    #[default]
    Skip,
    /// The run begins after the end of the earlier one. At most one run waits.
    Queue,
    /// The earlier run is cancelled, and this one begins after its end.
    Cancel,
    /// Both run.
    Allow,
}

/// The rule for due times at which no server was running.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Missed {
    /// They are left out.
    #[default]
    Skip,
    /// One run takes the place of all of them.
    RunOnce,
}

pub const OVERLAPS: [(&str, Overlap); 4] =
    [("skip", Overlap::Skip), ("queue", Overlap::Queue), ("cancel", Overlap::Cancel), ("allow", Overlap::Allow)];
pub const MISSED: [(&str, Missed); 2] = [("skip", Missed::Skip), ("run_once", Missed::RunOnce)];

/// The value of `user` that is no user's name.
const OPERATOR: &str = "operator";

/// Reads all schedules, by name.
pub(super) fn read(node: Node<'_>) -> Result<BTreeMap<String, Schedule>, ConfigError> {
    let mut all = BTreeMap::new();
    node.section()?.each(|section, name, node| {
        if name.parse::<CallName>().is_err() {
            return Err(section.refuse_key(name, format!("{name:?} is not a name: write {CALL_NAME_FORM}")));
        }
        if all.len() == SCHEDULES {
            return Err(section.refuse_key(name, format!("one too many: write at most {SCHEDULES} schedules")));
        }
        all.insert(name.to_owned(), Schedule::read(name, node.section()?)?);
        Ok(())
    })?;
    Ok(all)
}

impl Schedule {
    fn read(name: &str, mut section: Section<'_>) -> Result<Self, ConfigError> {
        let expression = section.need("cron", form::text)?;
        let zone = section.get_or("zone", Zone::utc(), zone)?;
        let timetable = Timetable::new(&expression, zone)
            .map_err(|bad: BadTimetable| section.refuse(&["cron"], bad.to_string()))?;
        let schedule = Self {
            name: name.to_owned(),
            timetable,
            call: section.need("call", call)?,
            params: section.list_of("params", param)?,
            // Without a default: a missing user must not be the operator, who is allowed everything.
            user: section.need("user", run_as)?,
            overlap: section.get_or("overlap", Overlap::default(), form::word(&OVERLAPS))?,
            missed: section.get_or("missed", Missed::default(), form::word(&MISSED))?,
            jitter: section.get_or("jitter", Duration::ZERO, form::duration)?,
            paused: section.get_or("paused", false, form::switch)?,
        };
        let size = schedule.params.iter().map(String::len).sum::<usize>();
        if schedule.params.len() > PARAMS || size > PARAMS_SIZE {
            let what = format!("too much: write at most {PARAMS} parameters of {} KiB in total", PARAMS_SIZE >> 10);
            return Err(section.refuse(&["params"], what));
        }
        section.finish()?;
        Ok(schedule)
    }
}

fn zone(value: &Value) -> Formed<Zone> {
    match value {
        Value::Text(name) => Zone::new(name).map_err(|bad| bad.to_string()),
        _ => Err(form::not(value, "a time zone", "a name of the IANA database, such as Europe/Berlin or UTC")),
    }
}

fn call(value: &Value) -> Formed<CallName> {
    let parsed = match value {
        Value::Text(name) => name.parse().ok(),
        _ => None,
    };
    parsed.ok_or_else(|| form::not(value, "the name of a call", CALL_NAME_FORM))
}

/// Parses one parameter. An error never repeats the value, which can be a secret.
fn param(value: &Value) -> Formed<String> {
    match value {
        Value::Text(text) => Ok(text.clone()),
        _ => Err("a parameter is text: write it in quotes".to_owned()),
    }
}

fn run_as(value: &Value) -> Formed<RunAs> {
    match value {
        Value::Text(name) if name == OPERATOR => Ok(RunAs::Operator),
        Value::Text(name) => {
            name.parse().map(RunAs::User).map_err(|bad: distillery_core::auth::BadUserName| bad.to_string())
        }
        _ => Err(form::not(value, "a user", &format!("the name of a user, or {OPERATOR}"))),
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        source::{Source, Variables},
        *,
    };

    fn read_with(text: &str) -> Result<BTreeMap<String, Schedule>, String> {
        let variables = Variables::default();
        let source = Source::new(Path::new("distillery.yaml"), text, &variables);
        Config::read(&source, Path::new("")).map(|config| config.schedules).map_err(|error| error.to_string())
    }

    #[test]
    fn schedule_has_defaults_except_for_the_user() {
        let all = read_with("schedules:\n  nightly: {cron: '0 3 * * *', call: backup, user: operator}\n").unwrap();
        let nightly = &all["nightly"];
        assert_eq!(nightly.timetable.to_string(), "0 3 * * * UTC");
        assert_eq!((nightly.overlap, nightly.missed), (Overlap::Skip, Missed::Skip));
        assert_eq!((nightly.jitter, nightly.paused, nightly.params.len()), (Duration::ZERO, false, 0));
        assert_eq!(nightly.user, RunAs::Operator);
        let error = read_with("schedules:\n  nightly: {cron: '0 3 * * *', call: backup}\n").unwrap_err();
        assert_eq!(error, "distillery.yaml:2:12: schedules.nightly: user is missing: it has no default");
    }

    #[test]
    fn every_key_of_a_schedule_is_read() {
        let all = read_with(
            "schedules:
  a:
    cron: '*/5 * * * *'
    zone: Europe/Berlin
    call: echo
    params: [one, '2']
    user: ada
    overlap: cancel
    missed: run_once
    jitter: 90s
    paused: true
",
        );
        let a = &all.unwrap()["a"];
        assert_eq!(a.timetable.to_string(), "*/5 * * * * Europe/Berlin");
        assert_eq!((a.call.as_str(), a.params.join(" "), a.user.to_string()), ("echo", "one 2".into(), "ada".into()));
        assert_eq!((a.overlap, a.missed), (Overlap::Cancel, Missed::RunOnce));
        assert_eq!((a.jitter, a.paused), (Duration::from_secs(90), true));
    }

    #[test]
    fn wrong_schedule_has_a_precise_error() {
        let with = |keys: &str| format!("schedules:\n  a: {{call: echo, user: ada, {keys}}}\n");
        for (keys, error) in [
            (
                "cron: daily",
                "2:36: schedules.a.cron: \"daily\" is not a cron expression: write minute, hour, day of \
                             month, month and day of week, such as \"30 2 * * *\"",
            ),
            ("cron: '0 0 30 2 *'", "2:36: schedules.a.cron: \"0 0 30 2 *\" is never due: no such day exists"),
            (
                "cron: '@daily', zone: Mars",
                "2:52: schedules.a.zone: \"Mars\" is not a time zone: write a name of the \
                                            IANA database, such as Europe/Berlin or UTC",
            ),
            (
                "cron: '@daily', overlap: both",
                "2:55: schedules.a.overlap: \"both\" is not allowed: write one of skip, \
                                               queue, cancel, allow",
            ),
            ("cron: '@daily', params: [1]", "2:55: schedules.a.params[0]: a parameter is text: write it in quotes"),
        ] {
            assert_eq!(read_with(&with(keys)).unwrap_err(), format!("distillery.yaml:{error}"));
        }
        let nobody = read_with("schedules:\n  a: {cron: '@daily', call: echo, user: nobody}\n").unwrap_err();
        assert!(nobody.contains("schedules.a.user: \"nobody\" has a meaning of its own here"), "{nobody}");
        let name = read_with("schedules:\n  a b: {cron: '@daily', call: echo, user: ada}\n").unwrap_err();
        assert!(name.starts_with("distillery.yaml:2:3: schedules.a b: \"a b\" is not a name: write 1 to 64"), "{name}");
    }
}
