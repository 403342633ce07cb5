//! The part of the check about schedules: whether each of them could run its call now.

use super::{Report, output};
use distillery_config::{Config, Schedule};
use distillery_plugin::{Catalog, Snapshot};
use distillery_process::dispatch::examine;
use distillery_store::{identity::acting::acting, inspection};
use time::OffsetDateTime;

/// Reports each schedule, with the reason why its runs would be refused.
pub(super) fn check(config: &Config, snapshot: Snapshot, report: &mut Report) {
    let catalog = Catalog::new(snapshot);
    for (name, schedule) in &config.schedules {
        match refusal(config, &catalog, schedule) {
            Some(why) => report.problem(format_args!("schedule {name}: its runs would be refused: {why}")),
            None => output::line(format_args!(
                "schedule {name}: {} for {}, {}",
                schedule.call,
                schedule.user,
                due(schedule)
            )),
        }
    }
}

fn refusal(config: &Config, catalog: &Catalog, schedule: &Schedule) -> Option<String> {
    let find = |name: &str| inspection::user(&config.data, name);
    let caller = match acting(&schedule.user, &config.auth.anonymous, find) {
        Ok(caller) => caller,
        Err(error) => return Some(error.to_string()),
    };
    let examined = examine(catalog, &caller, schedule.call.as_str(), schedule.params.clone().into());
    examined.err().map(|refusal| refusal.to_string())
}

fn due(schedule: &Schedule) -> String {
    if schedule.paused {
        return "paused".to_owned();
    }
    let timetable = &schedule.timetable;
    match timetable.next_after(OffsetDateTime::now_utc()) {
        Some(next) => format!("next {}", timetable.local(next)),
        None => "never again".to_owned(),
    }
}
