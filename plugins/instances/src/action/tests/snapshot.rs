//! Snapshots: their content, refused ones, backups and their retention.

use super::*;
use crate::{
    action::{backup::backup, prune::prune, restore::restore},
    retention::Retention,
};
use serde_json::json;

/// Restores a modified snapshot, and returns the error.
fn tampered(bench: &Bench, change: impl FnOnce(Vec<u8>) -> Vec<u8>) -> String {
    let name = |extension: &str| format!("snapshots/coins-20990101T000000000Z{extension}");
    let source = bench.read("newest");
    fs::write(bench.at(&name(".tar.gz")), change(fs::read(bench.at(&source)).unwrap())).unwrap();
    let before = bench.everything();
    let error = restore(&bench.mount, &mut bench.host(), &coins(), None).unwrap_err();
    assert_eq!(bench.everything(), before, "{error:#}");
    format!("{error:#}")
}

/// Modifies a `tar.gz`, entry by entry.
fn repacked(archive: &[u8], mut each: impl FnMut(&str, Vec<u8>) -> Vec<(String, tar::EntryType, Vec<u8>)>) -> Vec<u8> {
    use std::io::Read;
    let mut builder = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
    for entry in tar::Archive::new(flate2::read::GzDecoder::new(archive)).entries().unwrap() {
        let mut entry = entry.unwrap();
        let (name, kind) = (String::from_utf8(entry.path_bytes().into_owned()).unwrap(), entry.header().entry_type());
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        let same = (name.clone(), kind, content.clone());
        let mut all = each(&name, content);
        if all.is_empty() {
            all.push(same);
        }
        for (name, kind, content) in all {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(kind);
            header.set_mode(0o644);
            if kind.is_symlink() || kind.is_hard_link() {
                header.set_size(0);
                header.set_link_name(std::str::from_utf8(&content).unwrap()).unwrap();
            } else {
                header.set_size(content.len() as u64);
            }
            // Written directly: the writer would refuse some of these names.
            header.as_mut_bytes()[..100].fill(0);
            header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
            header.set_cksum();
            let content = if kind.is_file() { content } else { Vec::new() };
            builder.append(&header, content.as_slice()).unwrap();
        }
    }
    builder.into_inner().unwrap().finish().unwrap()
}

#[test]
fn modified_snapshot_is_refused_and_changes_nothing() {
    use tar::EntryType as Kind;
    let bench = bench();
    bench.provision("coins");
    bench.stop("coins");
    let name = format!("snapshots/{}", bench.snapshot("coins"));
    fs::write(bench.at("newest"), &name).unwrap();

    let whole = fs::read(bench.at(&name)).unwrap();
    fs::write(bench.at(&name), [&whole[..], b"x"].concat()).unwrap();
    let before = bench.everything();
    let error = format!("{:#}", restore(&bench.mount, &mut bench.host(), &coins(), None).unwrap_err());
    assert!(error.ends_with("is refused: its checksum does not match"), "{error}");
    assert_eq!(bench.everything(), before);
    fs::write(bench.at(&name), whole).unwrap();

    // The rest has no checksum file.
    let file = |name: &str, content: &str| vec![(name.to_owned(), Kind::Regular, content.as_bytes().to_vec())];
    let beside = |kind: Kind, path: &'static str, target: &'static str| {
        move |archive: Vec<u8>| {
            repacked(&archive, |name, content| {
                if name != "coins/.env" {
                    return Vec::new();
                }
                let added = (path.to_owned(), kind, target.as_bytes().to_vec());
                vec![added, (name.to_owned(), Kind::Regular, content)]
            })
        }
    };
    let said = tampered(&bench, |archive| {
        repacked(&archive, |name, _| if name == "coins/.env" { file(name, "ROOT=1") } else { Vec::new() })
    });
    assert!(said.contains("the checksum of \".env\" does not match"), "{said}");
    let said = tampered(&bench, |archive| archive[..archive.len() / 2].to_vec());
    assert!(said.contains("it is damaged") || said.contains("it is incomplete"), "{said}");
    let said = tampered(&bench, |_| b"no archive".to_vec());
    assert!(said.contains("is refused: "), "{said}");
    for (kind, path, target, told) in [
        (Kind::Regular, "coins/../other/.env", "", "leads out of it"),
        (Kind::Regular, "/etc/passwd", "", "which is not part of coins"),
        (Kind::Regular, "other/.env", "", "which is not part of coins"),
        (Kind::Regular, "coins//a", "", "leads out of it"),
        (Kind::Regular, "coins/nowhere/a", "", "but not its directory"),
        (Kind::Symlink, "coins/a", "../other", "leads out of it"),
        (Kind::Symlink, "coins/a", "/etc", "leads out of it"),
        (Kind::Symlink, "coins/a", "data", "that its manifest does not name"),
        (Kind::Link, "coins/a", "coins/.env", "neither a file nor a directory nor a link"),
        (Kind::Fifo, "coins/a", "", "neither a file nor a directory nor a link"),
        (Kind::Regular, "coins/.env", "x", "twice"),
        (Kind::Regular, "coins/a", "x", "that its manifest does not name"),
        (Kind::Directory, "coins/a", "", "that its manifest does not name"),
        (Kind::Regular, "manifest.json", "{}", "its manifest is not understood"),
    ] {
        let said = tampered(&bench, beside(kind, path, target));
        assert!(said.contains(told), "{path}: {said}");
    }
    // Complete, but of another instance.
    bench.provision("other");
    let other = format!("snapshots/{}", bench.snapshot("other"));
    fs::write(bench.at("newest"), other).unwrap();
    assert!(tampered(&bench, |it| it).contains("which is not part of coins"));
}

#[test]
fn snapshot_of_a_running_instance_has_a_dump() {
    let bench = bench();
    bench.provision("coins");
    fs::write(bench.at("coins/data/database/raw"), "inconsistent").unwrap();
    let mut host = bench.host();
    snapshot(&bench.mount, &mut host, &coins()).unwrap();
    assert!(host.lines.contains(&"dumping database.sql".to_owned()), "{:?}", host.lines);
    let name = host.value.unwrap()["snapshot"].as_str().unwrap().to_owned();
    let mut names = Vec::new();
    repacked(&fs::read(bench.at("snapshots").join(&name)).unwrap(), |name, _| {
        names.push(name.to_owned());
        Vec::new()
    });
    assert!(names.contains(&"coins/dumps/database.sql".to_owned()), "{names:?}");
    assert!(names.iter().all(|name| !name.contains("data/database")), "{names:?}");
    // A stopped one has its files instead.
    bench.stop("coins");
    let mut names = Vec::new();
    repacked(&fs::read(bench.at("snapshots").join(bench.snapshot("coins"))).unwrap(), |name, _| {
        names.push(name.to_owned());
        Vec::new()
    });
    assert!(names.contains(&"coins/data/database/raw".to_owned()), "{names:?}");

    bench.start("coins");
    bench.engine.borrow_mut().fails.insert("exec", "access denied");
    let error = format!("{:#}", snapshot(&bench.mount, &mut bench.host(), &coins()).unwrap_err());
    assert_eq!(error, "database.sql cannot be dumped: compose exec of coins ended with status 1: access denied");
    assert!(fs::read_dir(bench.at("snapshots")).unwrap().count() == 4);
}

#[test]
fn snapshot_fails_if_the_instance_changes_meanwhile() {
    let bench = Rc::new(bench());
    bench.provision("coins");
    bench.stop("coins");
    let points = with_every_fate(Fate::MeanwhileAt, |fate| {
        let other = bench.clone();
        let meanwhile = move || other.start("coins");
        let mut host = Fake { meanwhile: Some(Box::new(meanwhile)), ..bench.fated(fate) };
        let error = snapshot(&bench.mount, &mut host, &coins()).err().map(|error| error.to_string());
        let started = !bench.left().iter().all(|it| it.starts_with("volume"));
        if started {
            bench.stop("coins");
        }
        // A start at the very beginning or the very end does no harm.
        let told = error.is_none_or(|it| it.starts_with("coins was changed by another call") || it.contains("neither"));
        assert!(told, "{fate:?}");
        started
    });
    assert!(points > 5, "{points}");
}

#[test]
fn cancelled_snapshot_leaves_nothing() {
    let points = with_every_fate(Fate::CancelledAt, |fate| {
        let bench = bench();
        bench.provision("coins");
        let cancelled = snapshot(&bench.mount, &mut bench.fated(fate), &coins()).is_err();
        let left = fs::read_dir(bench.at("snapshots")).unwrap().count();
        assert_eq!(left, if cancelled { 0 } else { 2 }, "{fate:?}");
        cancelled
    });
    assert!(points > 10, "{points}");
}

#[test]
fn backup_continues_after_failures_and_names_them() {
    let bench = bench();
    assert!(backup(&bench.mount, &mut bench.host()).is_ok(), "of nothing");
    for slug in ["atlas", "broken", "coins"] {
        bench.provision(slug);
    }
    fs::remove_file(bench.at("broken/instance.json")).unwrap();
    std::os::unix::fs::symlink("nowhere", bench.at("dangling")).unwrap();
    let mut host = bench.host();
    let error = backup(&bench.mount, &mut host).unwrap_err().to_string();
    assert_eq!(error, "2 of 4 failed: broken, dangling");
    assert_eq!(
        host.lines[host.lines.len() - 3..],
        [
            "2 of 4 backed up",
            "failed: broken: broken is broken: it has no instance.json: No such file or directory (os error 2)",
            "failed: dangling: dangling is broken: it is a link to \"nowhere\""
        ]
    );
    assert_eq!(fs::read_dir(bench.at("snapshots")).unwrap().count(), 4);
}

#[test]
fn prune_removes_old_snapshots_with_their_checksums() {
    let bench = bench();
    bench.provision("coins");
    for _ in 0..4 {
        bench.snapshot("coins");
    }
    fs::write(bench.at("snapshots/mine.tar.gz"), "").unwrap();
    fs::write(bench.at("snapshots/coins-20200101T000000000Z.tar.gz.sha256"), "").unwrap();
    let names = || {
        let mut names = crate::mount::names(&bench.at("snapshots")).unwrap();
        names.sort();
        names
    };
    let before = names();
    let two = Retention { last: 2, daily: 1, weekly: 0, monthly: 0 };
    let mut host = bench.host();
    prune(&bench.mount, &mut host, None, two, true).unwrap();
    assert_eq!((host.lines[0].as_str(), names()), ("coins: 2 kept, 2 to remove", before.clone()));
    let mut host = bench.host();
    prune(&bench.mount, &mut host, Some(&"other".parse().unwrap()), two, false).unwrap();
    assert_eq!(host.value, Some(json!({ "kept": 0, "removed": 0 })));
    let mut host = bench.host();
    prune(&bench.mount, &mut host, Some(&coins()), two, false).unwrap();
    assert_eq!(host.value, Some(json!({ "kept": 2, "removed": 2 })));
    // The newest two, with their checksums, and the file of another purpose.
    assert_eq!(names(), before[5..]);
}
