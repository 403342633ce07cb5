//! A provision, which ends with a healthy instance or with nothing.

use super::*;
use crate::{action::start::start, template};
use serde_json::json;

#[test]
fn provision_starts_and_lists_an_instance() {
    let bench = bench();
    let mut host = bench.host();
    provision(&bench.mount, &mut host, &form("coins")).unwrap();
    let env = bench.read("coins/.env");
    for line in
        ["SLUG=\"coins\"", "HOST=\"coins.example.org\"", "CONTENT_SECURITY_POLICY=\"img-src 'self'\"", "DRUPAL=\"10\""]
    {
        assert!(env.lines().any(|it| it == line), "{line}: {env}");
    }
    let secrets: Vec<_> = env.lines().filter(|line| line.contains("PASSWORD") || line.contains("SALT")).collect();
    assert_eq!(secrets.len(), 4);
    let value = |line: &&str| line.split('"').nth(1).unwrap().to_owned();
    assert!(secrets.iter().map(value).all(|it| it.len() == 40 && it.chars().all(|c| c.is_ascii_alphanumeric())));
    assert!(value(&secrets[0]) != value(&secrets[1]) && value(&secrets[1]) != value(&secrets[2]));
    assert_eq!(
        bench.read("coins/compose.yaml"),
        fs::read_to_string(format!("{TEMPLATES}/drupal/compose.yaml")).unwrap()
    );
    assert!(bench.at("coins/settings/settings.php").exists() && bench.at("coins/data/database").is_dir());
    assert!(!bench.at("coins").join(template::FILE).exists());
    assert_eq!(
        (bench.tagline("coins").unwrap(), bench.left()),
        ("Drupal 10".to_owned(), STACK.map(str::to_owned).into())
    );
    let found = host.value.unwrap();
    assert_eq!((&found["url"], &found["state"]), (&json!("https://coins.example.org"), &json!("running")));
    assert_eq!((&found["flavor"], &found["services"][1]["state"]), (&json!("Drupal 10"), &json!("healthy")));
    let password = env.lines().find_map(|line| line.strip_prefix("ADMIN_PASSWORD=")).unwrap();
    assert_eq!(found["credentials"], json!({ "user": "admin", "password": password.trim_matches('"') }));
    let ran = &bench.engine.borrow().ran;
    assert!(ran.iter().any(|it| it.starts_with("exec drush site:install")), "{ran:?}");
}

#[test]
fn provision_cancelled_at_any_point_leaves_nothing() {
    let points = with_every_fate(Fate::CancelledAt, |fate| {
        let bench = bench();
        let cancelled = provision(&bench.mount, &mut bench.fated(fate), &form("coins"));
        if cancelled.is_ok() {
            return false;
        }
        assert_eq!((bench.everything(), bench.left()), (NOTHING.map(str::to_owned).into(), vec![]), "{fate:?}");
        assert!(bench.systems.borrow().is_empty(), "{fate:?}");
        true
    });
    assert!(points > 50, "{points}");
}

#[test]
fn provision_killed_at_any_point_is_cleaned_up() {
    let points = with_every_fate(Fate::DiesAt, |fate| {
        let bench = bench();
        bench.provision("other");
        let (before, left) = (bench.everything(), bench.left());
        let mut host = bench.fated(fate);
        if !dies(|| provision(&bench.mount, &mut host, &form("coins"))) {
            return false;
        }
        cleanup(&bench.mount, &mut bench.cleaner(&host), "provision", Some(&form("coins"))).unwrap();
        assert_eq!((bench.everything(), bench.left()), (before, left), "{fate:?}");
        assert_eq!(bench.systems.borrow().keys().collect::<Vec<_>>(), ["other"], "{fate:?}");
        true
    });
    assert!(points > 50, "{points}");
}

#[test]
fn killed_server_leaves_a_whole_instance_or_a_new_provision() {
    let points = with_every_fate(Fate::DiesAt, |fate| {
        let bench = bench();
        let mut host = bench.fated(fate);
        if !dies(|| provision(&bench.mount, &mut host, &form("coins"))) {
            return false;
        }
        // No process cleans up, and the lock of the killed one is old.
        bench.clock.set(bench.clock.get() + 60_000);
        if provision(&bench.mount, &mut bench.host(), &form("coins")).is_err() {
            // It was complete, but perhaps without its entry, which the next call restores.
            start(&bench.mount, &mut bench.host(), &coins()).unwrap();
        }
        assert_eq!(bench.left(), STACK, "{fate:?}");
        assert_eq!(bench.tagline("coins").as_deref(), Some("Drupal 10"), "{fate:?}");
        bench.clock.set(bench.clock.get() + LONGEST_LIFE);
        bench.provision("other");
        let left: Vec<_> = bench.everything().into_iter().filter(|path| path.matches('/').count() == 1).collect();
        assert_eq!(left.iter().filter(|path| path.starts_with(".versions/")).count(), 2, "{fate:?}: {left:?}");
        assert_eq!(left.len(), 2, "{fate:?}: {left:?}");
        true
    });
    assert!(points > 50, "{points}");
}

#[test]
fn failed_provision_names_the_reason_and_leaves_nothing() {
    for (verb, words, told) in [
        ("up", "no such image: drupal", "compose up of coins ended with status 1: no such image: drupal"),
        ("exec", "drush: not found", "the hook provisioned of coins failed: compose exec of coins ended with status 1"),
    ] {
        let bench = bench();
        bench.engine.borrow_mut().fails.insert(verb, words);
        let error = provision(&bench.mount, &mut bench.host(), &form("coins")).unwrap_err();
        assert!(format!("{error:#}").starts_with(told), "{error:#}");
        assert_eq!((bench.everything(), bench.left()), (NOTHING.map(str::to_owned).into(), vec![]), "{verb}");
    }
    let bench = bench();
    let mut host = Fake { systems_fail: true, ..bench.host() };
    assert_eq!(provision(&bench.mount, &mut host, &form("coins")).unwrap_err().to_string(), "the systems: full");
    assert_eq!((bench.everything(), bench.left()), (NOTHING.map(str::to_owned).into(), vec![]));
}

#[test]
fn unhealthy_provision_shows_the_log_and_leaves_nothing() {
    let bench = bench();
    bench.engine.borrow_mut().ill.insert("database");
    let mut host = bench.host();
    let error = provision(&bench.mount, &mut host, &form("coins")).unwrap_err().to_string();
    assert_eq!(error, "coins is not healthy: database: Up 1 second (unhealthy)");
    assert!(host.lines.contains(&"the last line of its log".to_owned()), "{:?}", host.lines);
    assert_eq!((bench.everything(), bench.left()), (NOTHING.map(str::to_owned).into(), vec![]));
}

#[test]
fn provision_that_cannot_be_undone_says_so() {
    let bench = bench();
    bench.engine.borrow_mut().ill.insert("database");
    bench.engine.borrow_mut().hangs = true;
    let error = provision(&bench.mount, &mut bench.host(), &form("coins")).unwrap_err().to_string();
    assert!(error.contains("; what was made could not be removed: its containers are not removed: "), "{error}");
    // The next provision removes it first.
    bench.engine.borrow_mut().hangs = false;
    bench.engine.borrow_mut().ill.clear();
    bench.provision("coins");
    assert_eq!(bench.left(), STACK);
}

#[test]
fn concurrent_provisions_have_one_winner() {
    let bench = bench();
    let points = with_every_fate(Fate::MeanwhileAt, |fate| {
        let bench = Rc::new(self::bench());
        let other = Rc::clone(&bench);
        let won = Rc::new(Cell::new(false));
        let noted = won.clone();
        let meanwhile = move || noted.set(provision(&other.mount, &mut other.host(), &form("coins")).is_ok());
        let mut host = Fake { meanwhile: Some(Box::new(meanwhile)), ..bench.fated(fate) };
        let outcome = provision(&bench.mount, &mut host, &form("coins"));
        // Exactly one of them wins, and its instance is complete.
        assert_eq!(bench.left(), STACK, "{fate:?}");
        assert_eq!(bench.tagline("coins").as_deref(), Some("Drupal 10"), "{fate:?}");
        assert_eq!(fs::read_dir(bench.at(".versions")).unwrap().count(), 1, "{fate:?}");
        assert_eq!(outcome.is_ok(), !won.get(), "{fate:?}");
        if let Err(error) = outcome {
            // The one that comes while the other holds the lock waits until the lock is old, as the other does not go on.
            let told = format!("{error:#}");
            assert!(
                told.starts_with("there is an instance coins already") || told.contains("the lock of coins was lost"),
                "{told}"
            );
        }
        won.get()
    });
    assert!(points > 5, "{points}");

    bench.systems.borrow_mut().insert(
        "atlas".to_owned(),
        System {
            slug: "atlas".into(),
            url: "https://atlas.example".into(),
            tagline: "Maps".into(),
            entity_count: 1,
            bundle_count: 1,
            last_edit: None,
        },
    );
    let error = provision(&bench.mount, &mut bench.host(), &form("atlas")).unwrap_err().to_string();
    assert_eq!(error, "there is a system atlas already, which is not an instance: choose another slug");
    assert_eq!(
        (bench.tagline("atlas").as_deref(), bench.everything()),
        (Some("Maps"), NOTHING.map(str::to_owned).into())
    );
}

#[test]
fn instances_of_a_template_have_different_ports() {
    let templates = tempfile::tempdir().unwrap();
    fs::create_dir(templates.path().join("small")).unwrap();
    let text = "{version: 1, flavors: [{name: Small}], ports: 20000-20002}";
    fs::write(templates.path().join("small").join(template::FILE), text).unwrap();
    fs::write(templates.path().join("small/compose.yaml"), "services: {web: {image: none}}").unwrap();
    let bench = bench_with(templates.path());
    let form = |slug: &str| json!({ "Slug": slug, "Flavor": "Small" }).to_string();
    let mut ports = Vec::new();
    for slug in ["a", "b", "c"] {
        let mut host = Fake { domain: None, ..bench.host() };
        provision(&bench.mount, &mut host, &form(slug)).unwrap();
        ports.push(host.value.unwrap()["url"].as_str().unwrap().to_owned());
    }
    ports.sort();
    assert_eq!(ports, ["http://127.0.0.1:20000", "http://127.0.0.1:20001", "http://127.0.0.1:20002"]);
    let error = provision(&bench.mount, &mut bench.host(), &form("d")).unwrap_err().to_string();
    assert_eq!(error, "all ports of the template small are taken: the operator must give it more");
}

#[test]
fn lock_is_ignored_once_it_is_stale() {
    let bench = bench();
    bench.provision("coins");
    fs::write(bench.at(&format!(".locks/coins.{}.killed", bench.clock.get())), "").unwrap();
    let begun = bench.clock.get();
    bench.stop("coins");
    assert!(bench.clock.get() >= begun + 20_000);
    assert_eq!(bench.tagline("coins").as_deref(), Some("Drupal 10 (stopped)"));
}
