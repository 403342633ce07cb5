//! Calls on running and stopped instances: start, stop, status, exec, log and cron.

use super::*;
use crate::action::{cron::cron, exec::exec, log::log, status::status};
use serde_json::json;

#[test]
fn start_and_stop_act_on_containers() {
    let bench = bench();
    bench.provision("coins");
    let edited = || bench.systems.borrow()["coins"].last_edit.clone();
    let first = edited();
    bench.clock.set(bench.clock.get() + 5000);
    bench.start("coins");
    assert_eq!((edited(), bench.left()), (first.clone(), STACK.map(str::to_owned).into()));
    let mut host = bench.host();
    stop(&bench.mount, &mut host, &coins()).unwrap();
    assert_eq!(host.value.unwrap()["state"], "stopped");
    assert_eq!(host.lines[1..], ["coins is stopped", "  database: no container", "  web: no container"]);
    // Its data stays.
    assert_eq!(bench.left(), ["volume coins"]);
    let second = edited();
    assert!(second != first && bench.read("coins/instance.json").contains("\"state\": \"stopped\""));
    bench.clock.set(bench.clock.get() + 5000);
    bench.stop("coins");
    assert_eq!((edited(), bench.tagline("coins").as_deref()), (second, Some("Drupal 10 (stopped)")));
    let mut host = bench.host();
    start(&bench.mount, &mut host, &coins()).unwrap();
    assert_eq!(
        host.value.unwrap()["services"][0],
        json!({"service": "database", "state": "healthy", "status": "Up 1 second (healthy)"})
    );
    let unknown = "unknown".parse().unwrap();
    let error = start(&bench.mount, &mut bench.host(), &unknown).unwrap_err().to_string();
    assert_eq!(error, "there is no instance unknown");
}

#[test]
fn stop_fails_if_a_container_runs_on() {
    let bench = bench();
    bench.provision("coins");
    bench.engine.borrow_mut().hangs = true;
    let error = stop(&bench.mount, &mut bench.host(), &coins()).unwrap_err().to_string();
    assert_eq!(error, "coins is not down: database: Up 1 second (healthy)");
    assert_eq!(bench.tagline("coins").as_deref(), Some("Drupal 10"));
}

#[test]
fn cancelled_start_takes_down_what_was_down() {
    let mut taken_down = 0;
    with_every_fate(Fate::CancelledAt, |fate| {
        let bench = bench();
        bench.provision("coins");
        bench.stop("coins");
        if start(&bench.mount, &mut bench.fated(fate), &coins()).is_ok() {
            return false;
        }
        let ran = bench.engine.borrow().ran.clone();
        taken_down += usize::from(ran.iter().rev().take(2).eq(["ps", "down"]));
        assert_eq!(bench.left(), ["volume coins"], "{fate:?}: {ran:?}");
        assert_eq!(bench.tagline("coins").as_deref(), Some("Drupal 10 (stopped)"), "{fate:?}");
        true
    });
    assert!(taken_down > 5, "{taken_down}");
}

#[test]
fn changed_domain_reaches_existing_instances() {
    let bench = bench();
    bench.provision("coins");
    let mut host = Fake { domain: Some("example.com"), ..bench.host() };
    start(&bench.mount, &mut host, &coins()).unwrap();
    assert_eq!(bench.systems.borrow()["coins"].url, "https://coins.example.com");
    assert!(bench.read("coins/.env").contains("HOST=\"coins.example.com\"\n"));
    assert_eq!(host.value.unwrap()["url"], "https://coins.example.com");
}

#[test]
fn status_compares_the_engine_with_what_was_wanted() {
    let bench = bench();
    for slug in ["atlas", "broken", "coins"] {
        bench.provision(slug);
    }
    bench.stop("atlas");
    fs::write(bench.at("broken/instance.json"), "{").unwrap();
    let mut host = bench.host();
    status(&bench.mount, &mut host, Some(&coins())).unwrap();
    let expected = [
        "coins is running: https://coins.example.org",
        "  database: Up 1 second (healthy)",
        "  web: Up 1 second (healthy)",
    ];
    assert_eq!(host.lines, expected);
    // A container is gone without a call.
    let slug = coins();
    let command = Compose::new("down", &slug);
    bench.engine.borrow_mut().run(&command, Vec::new());
    let mut host = bench.host();
    let error = status(&bench.mount, &mut host, None).unwrap_err().to_string();
    assert_eq!(error, "1 instances cannot be looked at: broken");
    assert!(host.lines.contains(&"coins is stopped, although it was started: https://coins.example.org".to_owned()));
    let value = host.value.unwrap();
    assert_eq!((&value["instances"][0]["slug"], &value["instances"][0]["state"]), (&json!("atlas"), &json!("stopped")));
}

#[test]
fn exec_runs_in_the_service_of_the_template() {
    let bench = bench();
    bench.provision("coins");
    let mut host = bench.host();
    assert_eq!(exec(&bench.mount, &mut host, &coins(), "drush status", None).unwrap(), 0);
    assert_eq!(host.passed, engine::DUMP.as_bytes());
    exec(&bench.mount, &mut host, &coins(), "id", Some("database")).unwrap();
    let ran = bench.engine.borrow().ran.clone();
    assert_eq!(ran[ran.len() - 4..], ["exec web", "drush status", "exec database", "id"]);
}

#[test]
fn cron_runs_in_running_instances() {
    let bench = bench();
    for slug in ["atlas", "coins"] {
        bench.provision(slug);
    }
    bench.stop("atlas");
    let mut host = bench.host();
    cron(&bench.mount, &mut host, None).unwrap();
    assert_eq!(host.value.unwrap(), json!({ "instances": 1, "failed": 0, "failures": [] }));
    assert_eq!(bench.engine.borrow().ran.last().unwrap(), "exec drush cron");
    let error = cron(&bench.mount, &mut bench.host(), Some(&"atlas".parse().unwrap())).unwrap_err().to_string();
    assert_eq!(error, "atlas is stopped: start it first");
    bench.engine.borrow_mut().fails.insert("exec", "it is locked");
    let error = cron(&bench.mount, &mut bench.host(), None).unwrap_err().to_string();
    assert_eq!(error, "1 of 1 failed: coins");
}

#[test]
fn log_waits_for_containers_and_ends_with_a_cancel() {
    let bench = bench();
    bench.provision("coins");
    bench.stop("coins");
    let other = Rc::new(bench);
    let starter = other.clone();
    let meanwhile = move || starter.start("coins");
    let host = other.fated(Fate::MeanwhileAt(2));
    let mut host = Fake { meanwhile: Some(Box::new(meanwhile)), ..host };
    // The call only ends by a cancel or a failure.
    host.engine.borrow_mut().fails.insert("logs", "over");
    let error = log(&other.mount, &mut host, &coins(), "10").unwrap_err().to_string();
    assert_eq!(error, "compose logs of coins ended with status 1: over");
    let mut cancelled = other.fated(Fate::CancelledAt(1));
    log(&other.mount, &mut cancelled, &coins(), "10").unwrap();
}
