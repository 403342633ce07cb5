//! Schedules: calls that the server runs by itself, for the operator or for a user.

use super::operations::metrics;
use distillery_store::{
    database::Database,
    schedules::{MISSED, Run, Schedules},
};
use distillery_tests::{
    Guest, Server,
    http::get_at,
    log::Line,
    patiently,
    program::{failed, printed, text, worked},
    server::Builder,
};
use hyper::Method;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::{collections::BTreeSet, time::Duration};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

const SECRETIVE: &str = "calls: {args: {params: [{name: slug, pattern: '[a-z]+'}, {name: key, secret: true}]}}";

fn builder() -> Builder {
    metrics::builder()
        .plugin("args", Guest::component("args"), SECRETIVE)
        .bare_plugin("exit", Guest::component("exit"))
        .bare_plugin("sleep", Guest::component("sleep"))
        .bare_plugin("cat", Guest::example("echo"))
}

/// A schedule that is due every second.
fn often(call: &str, params: &[&str]) -> Value {
    json!({"cron": "* * * * * *", "call": call, "params": params, "user": "operator"})
}

/// A schedule that is due once a year, and never during a test.
fn yearly(call: &str, user: &str) -> Value {
    json!({"cron": "0 0 29 2 *", "zone": "Europe/Berlin", "call": call, "user": user})
}

fn with(mut schedule: Value, key: &str, value: impl Into<Value>) -> Value {
    schedule[key] = value.into();
    schedule
}

async fn list_as(server: &Server, bearer: &str) -> Vec<Value> {
    let answer = server.request(Method::GET, "/api/v1/schedules", &[("authorization", bearer)]).await;
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    answer.json().as_array().expect("a list").clone()
}

async fn list(server: &Server) -> Vec<Value> {
    server.operator(Method::GET, "/api/v1/schedules").await.json().as_array().expect("a list").clone()
}

/// Returns the list once it matches.
#[expect(clippy::disallowed_methods, reason = "nothing tells of a change of the list, so it is polled")]
async fn list_when(server: &Server, wanted: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    let matching = async {
        loop {
            let listed = list(server).await;
            if wanted(&listed) {
                return listed;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    patiently("the list of schedules", matching).await
}

async fn processes(server: &Server) -> Vec<Value> {
    let answer = server.operator(Method::GET, "/api/v1/processes?limit=500").await;
    answer.json().as_array().expect("a list").clone()
}

fn names(schedules: &[Value]) -> Vec<&str> {
    schedules.iter().map(|schedule| schedule["name"].as_str().expect("a name")).collect()
}

fn is(message: &'static str, schedule: &'static str) -> impl Fn(&Line) -> bool {
    move |line| line.message() == message && line.field("schedule") == schedule
}

/// Waits until so many runs of a schedule have started, and returns their lines in the log.
async fn started(server: &Server, schedule: &'static str, count: usize) -> Vec<Line> {
    server.log().lines_of("scheduled runs", count, is("scheduled run started", schedule)).await
}

/// Returns whether a process of this id has ended with this outcome, once it has ended.
#[expect(clippy::disallowed_methods, reason = "the end of a process that is no client's is polled")]
async fn outcome(server: &Server, id: &str) -> Value {
    let ended = async {
        loop {
            let process = server.operator(Method::GET, &format!("/api/v1/processes/{id}")).await.json();
            if process["outcome"] != "running" {
                return process;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    patiently("the end of a process", ended).await
}

fn schedules(data: &std::path::Path) -> Schedules {
    Schedules::open(&Database::open(data).expect("a database")).expect("schedules")
}

/// Returns a daily schedule that was due half an hour ago.
fn half_an_hour_ago(call: &str, params: &[&str]) -> Value {
    let due = OffsetDateTime::now_utc() - time::Duration::minutes(30);
    with(often(call, params), "cron", format!("{} {} * * *", due.minute(), due.hour()))
}

/// Makes a database in which the schedule `nightly` with this expression counts from two days ago on.
fn two_days_ago(builder: &Builder, cron: &Value) {
    let since = OffsetDateTime::now_utc() - time::Duration::days(2);
    let active = [("nightly", format!("{} UTC", cron.as_str().expect("an expression")))];
    schedules(&builder.directory().join("data")).register(&["nightly"], &active, since).expect("a schedule");
}

fn last(server: &Server, schedule: &str) -> Option<Run> {
    schedules(&server.data()).last_runs().expect("runs").remove(schedule)
}

#[tokio::test]
async fn scheduled_run_is_a_process_of_its_schedule() {
    let schedules = json!({"often": often("args", &["coins", "swordfish"]), "nightly": yearly("exit", "operator")});
    let server = builder().set("schedules", schedules).start().await;
    let run = started(&server, "often", 1).await.remove(0);
    let process = outcome(&server, &run.field("process")).await;
    assert_eq!((&process["schedule"], &process["user"]), (&json!("often"), &json!("operator")));
    assert_eq!((&process["outcome"], &process["params"]), (&json!("success"), &json!(["coins", null])));
    let ended = server.process_ended("args").await;
    assert_eq!(ended.field("schedule"), "often");
    server.log().line("the next run", is("scheduled run started", "often")).await;
    let listed = list(&server).await;
    assert_eq!(names(&listed), ["nightly", "often"]);
    assert_eq!((&listed[0]["last"], &listed[0]["zone"]), (&Value::Null, &json!("Europe/Berlin")));
    assert!(listed[0]["next"].as_str().unwrap().ends_with("-02-29T00:00:00+01:00"), "{}", listed[0]["next"]);
    assert_eq!((&listed[1]["problem"], &listed[1]["params"]), (&Value::Null, &json!(["coins", null])));
    assert!(listed[1]["last"]["due"].is_string());
    let table = printed(&server.run(&["schedules"]));
    assert!(table.contains("often    * * * * * * UTC           args  operator  "), "{table}");
    let table = worked(&server.run(&["ps", "--all", "--call", "args"]));
    assert!(table.contains(" operator (schedule often) "), "{table}");
    assert!(!format!("{:?}", server.log().lines()).contains("swordfish"));
}

#[tokio::test]
async fn call_of_a_schedule_sees_the_end_of_its_input() {
    let server = builder().set("schedules", json!({"often": often("cat", &[])})).start().await;
    let run = started(&server, "often", 1).await.remove(0);
    assert_eq!(outcome(&server, &run.field("process")).await["outcome"], "success");
}

#[tokio::test]
async fn refused_run_is_reported_and_stops_nothing() {
    let ada = |call: &str, params: &[&str]| with(often(call, params), "user", "ada");
    let builder = builder().set(
        "schedules",
        json!({
            "unknown-call": often("gone", &["swordfish"]),
            "unknown-user": with(often("exit", &["0"]), "user", "eve"),
            "not-allowed": ada("exit", &["0"]),
            "wrong-params": ada("args", &["COINS", "swordfish"]),
            "fine": with(often("exit", &["0"]), "cron", "0 0 29 2 *"),
        }),
    );
    builder.user("ada", &["call:args"]);
    let expected = [
        ("not-allowed", "not authorized to run \"exit\""),
        ("unknown-call", "unknown call \"gone\""),
        ("unknown-user", "there is no user \"eve\": `distillery user list` shows all"),
        ("wrong-params", "parameter \"slug\" does not match [a-z]+"),
    ];
    let checked = builder.run(&["check"], "");
    assert_eq!(failed(&checked), "");
    let said = text(&checked.stdout);
    for (name, why) in expected {
        assert!(said.contains(&format!("schedule {name}: its runs would be refused: {why}\n")), "{said}");
    }
    assert!(said.contains("schedule fine: exit for operator, next "), "{said}");
    assert!(said.ends_with("4 problems\n"), "{said}");

    let server = builder.start().await;
    for (name, why) in expected {
        let line = server.log().line("a refused run", is("scheduled run refused", name)).await;
        assert_eq!((line.level(), line.field("error").as_str()), ("ERROR", why));
    }
    // The next runs are due within a second.
    let refused = |schedule: &Value| schedule["name"] == "fine" || schedule["last"]["state"] == "refused";
    let listed = list_when(&server, |listed| listed.iter().all(refused)).await;
    assert_eq!(names(&listed)[0], "fine");
    assert_eq!(listed[0]["problem"], Value::Null);
    for (schedule, (name, why)) in listed[1..].iter().zip(expected) {
        assert_eq!((&schedule["name"], &schedule["problem"]), (&json!(name), &json!(why)));
        assert_eq!((&schedule["last"]["state"], &schedule["last"]["message"]), (&json!("refused"), &json!(why)));
    }
    assert_eq!(listed[2]["params"], json!([null]), "the secrets of an unknown call are not known");
    let table = printed(&server.run(&["schedules"]));
    assert!(table.contains("unknown-call: problem: unknown call \"gone\"\n"), "{table}");
    let metrics = get_at(server.operators_address().await, "/metrics").await;
    let metrics = String::from_utf8_lossy(&metrics.body);
    let count = "distillery_schedule_runs_total{schedule=\"unknown-call\",result=\"refused\"} ";
    assert!(metrics.contains(count) && !metrics.contains(&format!("{count}0\n")), "{metrics}");
    assert!(metrics.contains("distillery_schedule_runs_total{schedule=\"fine\",result=\"started\"} 0\n"), "{metrics}");
    assert!(!format!("{:?}", server.log().lines()).contains("swordfish"));
    // A right that the user gets counts at the next due time.
    worked(&server.run(&["user", "scopes", "ada", "call:exit"]));
    started(&server, "not-allowed", 1).await;
}

#[tokio::test]
async fn reload_applies_schedules_and_leaves_their_runs() {
    let schedules = json!({"old": often("sleep", &[]), "off": with(often("exit", &["0"]), "paused", true)});
    let mut server = builder().set("schedules", schedules).start().await;
    let run = started(&server, "old", 1).await.remove(0).field("process");
    let paused = list(&server).await.remove(0);
    assert_eq!((&paused["paused"], &paused["next"]), (&json!("paused in the configuration"), &Value::Null));
    server.log().line("a run to be left out", is("scheduled run left out", "old")).await;

    let changed = json!({"new": often("exit", &["0"]), "off": with(often("exit", &["0"]), "paused", false)});
    server.reconfigure("schedules", changed);
    assert!(worked(&server.run(&["reload"])).contains("taken over: schedules\n"));
    assert_eq!(names(&list(&server).await), ["new", "off"]);
    started(&server, "new", 1).await;
    started(&server, "off", 1).await;
    let process = server.operator(Method::GET, &format!("/api/v1/processes/{run}")).await.json();
    assert_eq!((&process["outcome"], &process["schedule"]), (&json!("running"), &json!("old")));

    server.reconfigure("schedules", json!({"new": {"cron": "often"}}));
    assert!(failed(&server.run(&["reload"])).contains("\"often\" is not a cron expression"));
    assert_eq!(names(&list(&server).await), ["new", "off"]);
}

#[tokio::test]
async fn overlapping_run_cancels_the_earlier_one() {
    let schedules = json!({"often": with(often("sleep", &[]), "overlap", "cancel")});
    let server = builder().grace(Duration::ZERO).set("schedules", schedules).start().await;
    let runs = started(&server, "often", 3).await;
    for run in &runs[..2] {
        let process = outcome(&server, &run.field("process")).await;
        assert_eq!(process["outcome"], "cancelled");
        assert!(process["message"].as_str().unwrap().starts_with("cancelled by an operator"), "{process}");
    }
    let running = processes(&server).await.iter().filter(|process| process["outcome"] == "running").count();
    assert!(running <= 1, "{running} run at once");
}

#[tokio::test]
async fn scheduled_process_can_be_attached_to_and_cancelled() {
    let builder = builder().set("schedules", json!({"often": with(often("sleep", &[]), "user", "ada")}));
    let (ada, bob) = (builder.user("ada", &["call:sleep"]), builder.user("bob", &["call:*"]));
    let server = builder.start().await;
    let id = started(&server, "often", 1).await.remove(0).field("process");
    let attach = json!({"type": "attach", "id": id});
    let mut talk = server.talk_with(&[("authorization", &ada)]).await;
    talk.say(attach.clone()).await;
    assert_eq!(talk.message("attached").await["call"], "sleep");
    assert_eq!(talk.stdout(7).await, b"asleep\n");
    let mut other = server.talk_with(&[("authorization", &bob)]).await;
    other.say(attach).await;
    assert!(other.finish().await.failure("refused").contains("that you may attach to"));
    worked(&server.run(&["cancel", "--force", &id]));
    assert_eq!(outcome(&server, &id).await["outcome"], "cancelled");
}

#[tokio::test]
async fn schedules_are_listed_only_for_their_users() {
    let schedules = json!({"adas": yearly("exit", "ada"), "operators": yearly("exit", "operator")});
    let builder = builder().set("schedules", schedules);
    let [ada, bob, watcher] = [("ada", vec![]), ("bob", vec!["call:*"]), ("watcher", vec!["schedules:read"])]
        .map(|(name, scopes)| builder.user(name, &scopes));
    let server = builder.start().await;
    assert_eq!(names(&list_as(&server, &ada).await), ["adas"]);
    assert!(list_as(&server, &bob).await.is_empty());
    assert_eq!(names(&list_as(&server, &watcher).await), ["adas", "operators"]);
    assert_eq!(server.request(Method::GET, "/api/v1/schedules", &[]).await.status, 401);
    // A later user of the same name is another one for the schedule as well: it acts for the present account.
    worked(&server.run(&["user", "remove", "ada"]));
    assert!(list_as(&server, &watcher).await[0]["problem"].as_str().unwrap().starts_with("there is no user \"ada\""));
}

#[tokio::test]
async fn missed_run_takes_place_once_after_a_restart() {
    let nightly = with(half_an_hour_ago("exit", &["0"]), "missed", "run_once");
    let builder = builder().set("schedules", json!({"nightly": nightly}));
    two_days_ago(&builder, &nightly["cron"]);
    let mut server = builder.start().await;
    let run = started(&server, "nightly", 1).await.remove(0);
    outcome(&server, &run.field("process")).await;
    for _ in 0..2 {
        server.terminate();
        server.wait().await;
        server.restart().await;
    }
    // The next run is tomorrow's: what was missed has no second one.
    assert_eq!(processes(&server).await.len(), 1);
    assert_eq!(list(&server).await[0]["last"]["state"], "success");
}

#[tokio::test]
async fn missed_run_is_left_out_unless_configured() {
    let nightly = half_an_hour_ago("exit", &["0"]);
    let builder = builder().set("schedules", json!({"nightly": nightly}));
    two_days_ago(&builder, &nightly["cron"]);
    let server = builder.start().await;
    server.log().line("a missed run", is("scheduled run left out", "nightly")).await;
    let run = last(&server, "nightly").expect("a run");
    assert_eq!((run.result.state.as_ref(), run.result.process), (MISSED, None));
    assert!(run.due < OffsetDateTime::now_utc() && processes(&server).await.is_empty());
    assert_eq!(list(&server).await[0]["last"]["message"], "no server was running at the time");
}

#[tokio::test]
async fn changed_timetable_has_missed_nothing() {
    let nightly = with(half_an_hour_ago("exit", &["0"]), "missed", "run_once");
    let often = often("exit", &["0"]);
    let builder = builder().set("schedules", json!({"nightly": nightly, "often": often}));
    two_days_ago(&builder, &json!("0 * * * *"));
    let server = builder.start().await;
    started(&server, "often", 2).await;
    assert_eq!(last(&server, "nightly"), None);
}

#[tokio::test]
async fn run_interrupted_by_a_crash_is_marked() {
    let mut server = builder().set("schedules", json!({"often": often("sleep", &[])})).start().await;
    let run = started(&server, "often", 1).await.remove(0);
    server.log().line("a run to be left out", is("scheduled run left out", "often")).await;
    let due = OffsetDateTime::parse(&run.field("due"), &Rfc3339).expect("a time");
    server.crash_and_restart().await;
    // The crashed run is in the way of no other one.
    started(&server, "often", 1).await;
    let crashed = schedules(&server.data()).run("often", due).expect("runs").expect("a run");
    assert_eq!(crashed.result.state, "interrupted");
}

#[tokio::test]
async fn takeover_runs_no_due_time_twice() {
    let mut server = builder().set("schedules", json!({"often": often("exit", &["0"])})).start().await;
    started(&server, "often", 1).await;
    let mut lines = Vec::new();
    for _ in 0..3 {
        let old = server.take_over().await;
        started(&server, "often", 2).await;
        assert_eq!(old.wait().await.code(), Some(0));
        lines.extend(old.log().lines());
    }
    lines.extend(server.log().lines());
    let due = lines.iter().filter(|line| is("scheduled run started", "often")(line)).map(|line| line.field("due"));
    let due: Vec<_> = due.collect();
    assert!(due.len() >= 7, "{due:?}");
    assert_eq!(due.iter().collect::<BTreeSet<_>>().len(), due.len(), "{due:?}");
    let (times, runs) = (due.len(), processes(&server).await);
    assert!(runs.len() >= times && runs.iter().all(|run| run["schedule"] == "often"), "{times} of {runs:?}");
}

#[tokio::test]
async fn run_of_the_previous_server_is_in_the_way() {
    let mut server = builder().set("schedules", json!({"often": often("sleep", &[])})).start().await;
    let run = started(&server, "often", 1).await.remove(0).field("process");
    let old = server.take_over().await;
    server.log().line("a run to be left out", is("scheduled run left out", "often")).await;
    assert!(!server.log().lines().iter().any(is("scheduled run started", "often")));
    old.signal(Signal::TERM);
    old.wait().await;
    started(&server, "often", 1).await;
    let process = outcome(&server, &run).await;
    assert_eq!(process["outcome"], "cancelled");
}

#[tokio::test]
async fn ending_server_begins_no_run() {
    let server = builder()
        .plugin("sleep", Guest::component("sleep"), "calls: {sleep: {access: public}}\ncancel: {grace: 3s}")
        .set("schedules", json!({"often": often("exit", &["0"])}))
        .start()
        .await;
    let mut sleeping = server.call("sleep", &[]).await;
    sleeping.line().await;
    started(&server, "often", 2).await;
    server.terminate();
    server.wait().await;
    let lines = server.log().lines();
    let drain = lines.iter().position(|line| line.message().starts_with("draining")).expect("a drain");
    assert!(!lines[drain..].iter().any(is("scheduled run started", "often")));
    assert_eq!(last(&server, "often").expect("a run").result.state, "success");
}
