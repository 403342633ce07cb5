//! `distillery schedules`: lists the schedules of a server, their next and their last runs.

use super::{
    peer::Server,
    running::{columns, one_line, show},
};
use clap::Args;
use distillery_config::Config;
use hyper::Method;
use serde::Deserialize;
use std::{fmt::Write as _, process::ExitCode};

#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    server: Server,
    /// Prints the answer of the server as JSON
    #[arg(long)]
    json: bool,
}

/// A schedule, with the fields that are displayed.
#[derive(Deserialize)]
struct Schedule {
    name: String,
    cron: String,
    zone: String,
    call: String,
    user: String,
    next: Option<String>,
    paused: Option<String>,
    problem: Option<String>,
    running: usize,
    waiting: Option<String>,
    last: Option<Run>,
}

#[derive(Deserialize)]
struct Run {
    due: String,
    state: String,
    message: Option<String>,
}

pub fn run(config: &Config, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let peer = arguments.server.peer(config)?;
    show(&peer, Method::GET, "schedules", arguments.json, |schedules: Vec<Schedule>| listed(&schedules))?;
    Ok(ExitCode::SUCCESS)
}

/// Formats a table of all schedules, and below it a line for each reason.
fn listed(schedules: &[Schedule]) -> String {
    let heads = ["NAME", "WHEN", "CALL", "USER", "NEXT", "LAST", "OUTCOME", "STATE"].map(String::from);
    let rows = schedules.iter().map(|it| {
        let (last, outcome) = it.last.as_ref().map_or(("-", "-"), |last| (last.due.as_str(), last.state.as_str()));
        [
            it.name.clone(),
            format!("{} {}", it.cron, it.zone),
            it.call.clone(),
            it.user.clone(),
            short(it.next.as_deref().unwrap_or("-")),
            short(last),
            outcome.to_owned(),
            state(it).to_owned(),
        ]
    });
    let mut text = columns([heads].into_iter().chain(rows).collect());
    for it in schedules {
        let last = it.last.as_ref().and_then(|last| last.message.as_deref());
        for (what, why) in [("paused", &it.paused.as_deref()), ("problem", &it.problem.as_deref()), ("last run", &last)]
        {
            if let Some(why) = why {
                let _ = writeln!(text, "{}", one_line(&format!("{}: {what}: {why}", it.name)));
            }
        }
    }
    text
}

fn state(schedule: &Schedule) -> &'static str {
    if schedule.waiting.is_some() {
        "waiting"
    } else if schedule.running > 0 {
        "running"
    } else if schedule.paused.is_some() {
        "paused"
    } else if schedule.problem.is_some() {
        "problem"
    } else {
        "ready"
    }
}

/// Shortens a time of the server: without the seconds if they are zero, and without the T.
fn short(moment: &str) -> String {
    match moment.get(16..19) {
        Some(":00") => format!("{} {}{}", &moment[..10], &moment[11..16], &moment[19..]),
        _ => moment.replacen('T', " ", 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_are_listed_with_their_reasons() {
        let answer = r#"[
            {"name": "nightly", "cron": "30 2 * * *", "zone": "Europe/Berlin", "call": "backup", "user": "operator",
             "next": "2026-02-01T02:30:00+01:00", "paused": null, "problem": null, "running": 0, "waiting": null,
             "last": {"due": "2026-01-31T02:30:00+01:00", "state": "exited", "message": "exit status 7"}},
            {"name": "often", "cron": "*/5 * * * * *", "zone": "UTC", "call": "x", "user": "ada",
             "next": "2026-02-01T02:30:05Z", "paused": null, "problem": "unknown call \"x\"", "running": 0,
             "waiting": null, "last": null},
            {"name": "off", "cron": "@daily", "zone": "UTC", "call": "x", "user": "ada", "next": null,
             "paused": "paused in the configuration", "problem": null, "running": 1, "waiting": null, "last": null}
        ]"#;
        let schedules: Vec<Schedule> = serde_json::from_str(answer).unwrap();
        let expected = "\
NAME     WHEN                      CALL    USER      NEXT                     LAST                     OUTCOME  STATE
nightly  30 2 * * * Europe/Berlin  backup  operator  2026-02-01 02:30+01:00   2026-01-31 02:30+01:00   exited   ready
often    */5 * * * * * UTC         x       ada       2026-02-01 02:30:05Z     -                        -        problem
off      @daily UTC                x       ada       -                        -                        -        running
nightly: last run: exit status 7
often: problem: unknown call \"x\"
off: paused: paused in the configuration
";
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let listed = listed(&schedules);
        assert_eq!(listed.lines().map(words).collect::<Vec<_>>(), expected.lines().map(words).collect::<Vec<_>>());
    }
}
