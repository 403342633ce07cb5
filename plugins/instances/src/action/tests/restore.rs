//! A restore, which verifies everything first, and leaves the old content or the new one.

use super::*;
use crate::action::{purge::purge, restore::restore};

/// Adds all kinds of files to an instance.
fn with_data(bench: &Bench) {
    bench.provision("coins");
    let at = |path: &str| bench.at("coins/data/files").join(path);
    fs::create_dir_all(at(&format!("deep/{}", "d".repeat(200)))).unwrap();
    fs::write(at(&format!("deep/{0}/{0}", "d".repeat(200))), "deep").unwrap();
    fs::write(at("big"), vec![b'x'; 300_000]).unwrap();
    fs::write(at("empty"), "").unwrap();
    fs::write(at("Zoë \n"), "odd").unwrap();
    std::os::unix::fs::symlink("../big", at("deep/inside")).unwrap();
    std::os::unix::fs::symlink("../../../../other/.env", at("outside")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", at("absolute")).unwrap();
    let socket = std::os::unix::net::UnixListener::bind(at("socket"));
    drop(socket.unwrap());
}

#[test]
fn restore_brings_back_everything_in_a_snapshot() {
    let bench = bench();
    with_data(&bench);
    let mut host = bench.host();
    snapshot(&bench.mount, &mut host, &coins()).unwrap();
    let name = host.value.unwrap()["snapshot"].as_str().unwrap().to_owned();
    for left_out in ["outside", "absolute", "socket"] {
        assert!(host.lines.iter().any(|line| line.starts_with("left out: ") && line.contains(left_out)), "{left_out}");
    }
    let env = bench.read("coins/.env");
    bench.systems.borrow_mut().get_mut("coins").unwrap().tagline = "Coins & medals".to_owned();
    fs::write(bench.at("coins/.env"), "").unwrap();
    fs::remove_file(bench.at("coins/data/files/big")).unwrap();
    fs::write(bench.at("coins/data/files/later"), "").unwrap();

    let error = restore(&bench.mount, &mut bench.host(), &coins(), None).unwrap_err().to_string();
    assert_eq!(error, "coins is running (database: Up 1 second (healthy)): stop it first");
    bench.stop("coins");
    restore(&bench.mount, &mut bench.host(), &coins(), Some(&name)).unwrap();
    assert_eq!(bench.read("coins/.env"), env);
    assert_eq!(bench.read("coins/data/files/deep/inside").len(), 300_000);
    assert_eq!(bench.read(&format!("coins/data/files/deep/{0}/{0}", "d".repeat(200))), "deep");
    assert_eq!(bench.read("coins/data/files/Zoë \n"), "odd");
    assert!(!bench.at("coins/data/files/later").exists());
    assert!(bench.read("coins/instance.json").contains("\"state\": \"stopped\""));
    assert_eq!(bench.tagline("coins").as_deref(), Some("Coins & medals"));
    assert_eq!(fs::read_dir(bench.at(".versions")).unwrap().count(), 1);

    // Also for a deleted instance, and for a broken one.
    fs::remove_file(bench.at("coins/instance.json")).unwrap();
    restore(&bench.mount, &mut bench.host(), &coins(), None).unwrap();
    purge(&bench.mount, &mut bench.host(), &coins(), true).unwrap();
    restore(&bench.mount, &mut bench.host(), &coins(), None).unwrap();
    assert_eq!((bench.read("coins/.env"), bench.tagline("coins").as_deref()), (env, Some("Drupal 10 (stopped)")));
}

#[test]
fn restore_ended_at_any_point_leaves_old_or_new_content() {
    for told in [true, false] {
        let fate = if told { Fate::CancelledAt } else { Fate::DiesAt };
        let points = with_every_fate(fate, |fate| {
            let bench = bench();
            bench.provision("coins");
            bench.snapshot("coins");
            bench.stop("coins");
            fs::write(bench.at("coins/data/later"), "").unwrap();
            let mut host = bench.fated(fate);
            let mut ended = true;
            if dies(|| restore(&bench.mount, &mut host, &coins(), None).inspect(|()| ended = false)) {
                cleanup(&bench.mount, &mut bench.cleaner(&host), "restore", Some("coins")).unwrap();
            }
            let versions = fs::read_dir(bench.at(".versions")).unwrap().count();
            let is_new = !bench.at("coins/data/later").exists();
            // The previous content can be deleted later, but is not an instance any more.
            assert!(versions == 1 || is_new && versions == 2, "{fate:?}: {versions}");
            assert!(bench.read("coins/instance.json").contains("stopped"), "{fate:?}");
            assert_eq!(bench.tagline("coins").as_deref(), Some("Drupal 10 (stopped)"), "{fate:?}");
            assert_eq!(fs::read_dir(bench.at(".locks")).unwrap().count(), 0, "{fate:?}");
            ended
        });
        assert!(points > 20, "{points}");
    }
}

#[test]
fn restored_dump_is_loaded_by_the_next_start() {
    let bench = bench();
    bench.provision("coins");
    fs::write(bench.at("coins/data/database/raw"), "inconsistent").unwrap();
    bench.snapshot("coins");
    bench.stop("coins");
    restore(&bench.mount, &mut bench.host(), &coins(), None).unwrap();
    assert_eq!(bench.read("coins/dumps/database.sql"), engine::DUMP);
    assert!(!bench.at("coins/data/database/raw").exists());
    // It cannot be saved before it is loaded, but again while it is stopped.
    let again = bench.snapshot("coins");
    restore(&bench.mount, &mut bench.host(), &coins(), Some(&again)).unwrap();

    bench.engine.borrow_mut().ran.clear();
    bench.start("coins");
    let engine = bench.engine.borrow();
    assert_eq!((engine.ran[1].as_str(), engine.ran[3].as_str()), ("remove", "up"), "{:?}", engine.ran);
    assert!(engine.ran.last().unwrap().starts_with("exec mariadb "), "{:?}", engine.ran);
    assert_eq!(engine.input, engine::DUMP.as_bytes());
    assert!(!bench.at("coins/dumps").exists() && bench.read("coins/instance.json").contains("\"restored\": false"));
}

#[test]
fn interrupted_load_is_repeated_by_the_next_start() {
    let points = with_every_fate(Fate::DiesAt, |fate| {
        let bench = bench();
        bench.provision("coins");
        bench.snapshot("coins");
        bench.stop("coins");
        restore(&bench.mount, &mut bench.host(), &coins(), None).unwrap();
        let mut host = bench.fated(fate);
        let died = dies(|| start(&bench.mount, &mut host, &coins()));
        bench.clock.set(bench.clock.get() + 60_000);
        bench.start("coins");
        let loaded = bench.engine.borrow().ran.iter().any(|it| it.starts_with("exec mariadb "));
        assert!(loaded && !bench.at("coins/dumps").exists(), "{fate:?}");
        assert!(bench.read("coins/instance.json").contains("\"restored\": false"), "{fate:?}");
        died
    });
    assert!(points > 30, "{points}");
}

#[test]
fn restore_adapts_the_url_to_this_server() {
    let bench = bench();
    bench.provision("coins");
    bench.snapshot("coins");
    bench.stop("coins");
    let mut host = Fake { domain: Some("example.com"), ..bench.host() };
    restore(&bench.mount, &mut host, &coins(), None).unwrap();
    assert!(host.lines.contains(&"its URL is https://coins.example.com now".to_owned()), "{:?}", host.lines);
    assert_eq!(bench.systems.borrow()["coins"].url, "https://coins.example.com");
    let mut host = Fake { domain: Some("not a domain"), ..bench.host() };
    let before = bench.everything();
    let error = format!("{:#}", restore(&bench.mount, &mut host, &coins(), None).unwrap_err());
    assert!(error.contains("INSTANCES_DOMAIN is \"not a domain\""), "{error}");
    assert_eq!(bench.everything(), before);
}

#[test]
fn restore_refuses_an_instance_that_was_stopped_only_in_name() {
    let bench = bench();
    bench.provision("coins");
    bench.snapshot("coins");
    let text = bench.read("coins/instance.json").replace("\"running\"", "\"stopped\"");
    fs::write(bench.at("coins/instance.json"), text).unwrap();
    let error = restore(&bench.mount, &mut bench.host(), &coins(), None).unwrap_err().to_string();
    assert!(error.starts_with("coins is running (database: "), "{error}");
}
