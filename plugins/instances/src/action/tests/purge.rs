//! A purge, which removes everything or nothing that an instance needs.

use super::*;
use crate::action::purge::purge;

#[test]
fn purge_needs_confirmation_and_keeps_snapshots() {
    let bench = bench();
    bench.provision("coins");
    bench.provision("other");
    bench.snapshot("coins");
    for answer in ["", "other", "coins "] {
        let mut host = Fake { answer: answer.to_owned(), ..bench.host() };
        let error = purge(&bench.mount, &mut host, &coins(), false).unwrap_err().to_string();
        assert_eq!(error, "that is not coins: nothing was purged");
    }
    assert!(bench.at("coins/.env").exists() && bench.tagline("coins").is_some());
    purge(&bench.mount, &mut Fake { answer: "coins".to_owned(), ..bench.host() }, &coins(), false).unwrap();
    assert!(!bench.at("coins").exists() && bench.tagline("coins").is_none());
    assert_eq!(fs::read_dir(bench.at(".versions")).unwrap().count(), 1);
    assert_eq!(fs::read_dir(bench.at("snapshots")).unwrap().count(), 2);
    assert!(bench.at("other/.env").exists() && bench.tagline("other").is_some());
    assert!(bench.left().iter().all(|it| it.contains("other")), "{:?}", bench.left());
    let error = purge(&bench.mount, &mut bench.host(), &coins(), true).unwrap_err().to_string();
    assert_eq!(error, "there is no instance coins");
}

#[test]
fn purge_ended_at_any_point_leaves_an_instance_or_nothing() {
    for told in [true, false] {
        let points = with_every_fate(if told { Fate::CancelledAt } else { Fate::DiesAt }, |fate| {
            let bench = bench();
            bench.provision("coins");
            let before = bench.everything();
            let mut host = bench.fated(fate);
            let mut ended = true;
            if dies(|| {
                ended = purge(&bench.mount, &mut host, &coins(), true).is_err();
                Ok(())
            }) {
                cleanup(&bench.mount, &mut bench.cleaner(&host), "purge", Some("coins")).unwrap();
            }
            if bench.mount.current(&coins()).unwrap().is_some() {
                assert_eq!(bench.everything(), before, "{fate:?}");
                assert!(bench.tagline("coins").is_some(), "{fate:?}");
            } else {
                assert!(bench.tagline("coins").is_none() && bench.left().is_empty(), "{fate:?}");
                bench.clock.set(bench.clock.get() + LONGEST_LIFE);
                bench.mount.sweep(Moment(bench.clock.get()), None).unwrap();
                assert_eq!(bench.everything(), NOTHING, "{fate:?}");
            }
            ended
        });
        assert!(points > 10, "{points}");
    }
}

#[test]
fn purge_keeps_an_instance_whose_containers_remain() {
    let bench = bench();
    bench.provision("coins");
    let before = bench.everything();
    bench.engine.borrow_mut().hangs = true;
    let error = purge(&bench.mount, &mut bench.host(), &coins(), true).unwrap_err().to_string();
    assert!(error.starts_with("coins is not removed, its engine still has container coins_database, "), "{error}");
    assert_eq!((bench.everything(), bench.tagline("coins").is_some()), (before, true));
}

#[test]
fn broken_instance_is_purged() {
    let bench = bench();
    bench.provision("coins");
    fs::remove_file(bench.at("coins/instance.json")).unwrap();
    purge(&bench.mount, &mut bench.host(), &coins(), true).unwrap();
    assert_eq!((bench.everything(), bench.left()), (NOTHING.map(str::to_owned).into(), vec![]));
}
