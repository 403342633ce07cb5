//! The calls, with a cancel, a failure or a crash at every point.

use super::{
    backup::backup, cleanup::cleanup, provision::provision, purge::purge, rebuild::rebuild, restore::restore,
    snapshot::snapshot, switch::switch, update::update,
};
use crate::{Host, Mount, host::System, instance::State, moment::Moment, mount::LONGEST_LIFE, slug::Slug};
use anyhow::{Result, bail};
use serde_json::Value;
use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    rc::Rc,
    time::Duration,
};

/// All systems, which outlive processes.
type Systems = Rc<RefCell<BTreeMap<String, System>>>;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Lives,
    /// Cancelled at this query.
    CancelledAt(usize),
    /// At this query for a cancel, another process comes.
    MeanwhileAt(usize),
    /// Killed at this query, as by a forced end.
    DiesAt(usize),
}

struct Fake {
    process: String,
    systems: Systems,
    systems_fail: bool,
    fate: Fate,
    asked: Cell<usize>,
    clock: Rc<Cell<u64>>,
    dice: u64,
    answer: String,
    lines: Vec<String>,
    value: Option<Value>,
    looked: Cell<usize>,
    meanwhile: Option<Box<dyn Fn()>>,
}

struct Bench {
    directory: tempfile::TempDir,
    mount: Mount,
    systems: Systems,
    clock: Rc<Cell<u64>>,
    processes: Cell<usize>,
}

fn bench() -> Bench {
    let directory = tempfile::tempdir().unwrap();
    let mount = Mount::open(directory.path()).unwrap();
    let (systems, clock) = (Systems::default(), Rc::new(Cell::new(1_769_860_800_000)));
    Bench { directory, mount, systems, clock, processes: Cell::default() }
}

impl Bench {
    fn host(&self) -> Fake {
        self.processes.set(self.processes.get() + 1);
        Fake {
            process: format!("p{:06}", self.processes.get()),
            systems: self.systems.clone(),
            systems_fail: false,
            fate: Fate::Lives,
            asked: Cell::new(0),
            clock: self.clock.clone(),
            dice: self.processes.get() as u64,
            answer: String::new(),
            lines: Vec::new(),
            value: None,
            looked: Cell::new(0),
            meanwhile: None,
        }
    }

    fn fated(&self, fate: Fate) -> Fake {
        Fake { fate, ..self.host() }
    }

    /// Returns the host of the cleanup after `host`.
    fn cleaner(&self, host: &Fake) -> Fake {
        Fake { process: host.process.clone(), ..self.host() }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.directory.path().join(path)
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.at(path)).unwrap()
    }

    fn provision(&self, slug: &str) {
        provision(&self.mount, &mut self.host(), &form(slug)).unwrap();
    }

    fn stop(&self, slug: &str) {
        switch(&self.mount, &mut self.host(), &slug.parse().unwrap(), State::Stopped).unwrap();
    }

    /// Returns all files, hidden or not, except finished snapshots.
    fn everything(&self) -> Vec<String> {
        let mut all = Vec::new();
        list(self.directory.path(), "", &mut all);
        all.retain(|path| !path.starts_with("snapshots/coins"));
        all
    }

    fn tagline(&self, slug: &str) -> Option<String> {
        self.systems.borrow().get(slug).map(|system| system.tagline.clone())
    }
}

fn list(directory: &Path, before: &str, all: &mut Vec<String>) {
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let path = format!("{before}{}", entry.file_name().to_str().unwrap());
        if entry.file_type().unwrap().is_dir() {
            list(&entry.path(), &format!("{path}/"), all);
        }
        all.push(path);
    }
    all.sort();
}

fn form(slug: &str) -> String {
    format!(r#"{{"Slug": "{slug}", "Flavor": "Drupal 10", "System": {{"ContentSecurityPolicy": "img-src 'self'"}}}}"#)
}

fn coins() -> Slug {
    "coins".parse().unwrap()
}

const NOTHING: [&str; 4] = [".garbage", ".locks", ".versions", "snapshots"];

impl Fake {
    fn step(&self) {
        self.asked.set(self.asked.get() + 1);
        if self.fate == Fate::DiesAt(self.asked.get()) {
            panic!("forced to end");
        }
    }
}

impl Host for Fake {
    fn process(&self) -> String {
        self.process.clone()
    }

    fn now(&self) -> Moment {
        self.step();
        self.clock.set(self.clock.get() + 1);
        Moment(self.clock.get())
    }

    fn random(&mut self, bytes: &mut [u8]) {
        self.step();
        for byte in bytes {
            self.dice = self.dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *byte = (self.dice >> 56) as u8;
        }
    }

    fn domain(&self) -> Option<String> {
        Some("example.org".to_owned())
    }

    fn is_cancelled(&self) -> bool {
        self.step();
        self.looked.set(self.looked.get() + 1);
        if let (true, Some(meanwhile)) = (self.fate == Fate::MeanwhileAt(self.looked.get()), &self.meanwhile) {
            meanwhile();
        }
        matches!(self.fate, Fate::CancelledAt(at) if at <= self.asked.get())
    }

    fn pause(&mut self, time: Duration) {
        self.clock.set(self.clock.get() + time.as_millis() as u64);
    }

    fn say(&mut self, line: &str) {
        self.step();
        self.lines.push(line.to_owned());
    }

    fn ask(&mut self, question: &str) -> Result<String> {
        self.say(question);
        Ok(self.answer.clone())
    }

    fn set_value(&mut self, value: &Value) {
        self.step();
        self.value = Some(value.clone());
    }

    fn systems(&self) -> Result<Vec<System>> {
        self.step();
        Ok(self.systems.borrow().values().cloned().collect())
    }

    fn put_system(&mut self, system: &System) -> Result<()> {
        self.step();
        if self.systems_fail {
            bail!("the systems: full");
        }
        self.systems.borrow_mut().insert(system.slug.clone(), system.clone());
        self.step();
        Ok(())
    }

    fn remove_system(&mut self, slug: &str) -> Result<()> {
        self.step();
        self.systems.borrow_mut().remove(slug);
        self.step();
        Ok(())
    }
}

/// Runs `action` with one fate after the other, until one comes too late. Returns the number of fates.
fn with_every_fate(fate: impl Fn(usize) -> Fate, mut action: impl FnMut(Fate) -> bool) -> usize {
    (1..).take_while(|at| action(fate(*at))).count()
}

/// Tells whether the process of `action` ends before its fate.
fn dies(action: impl FnOnce() -> Result<()>) -> bool {
    catch_unwind(AssertUnwindSafe(action)).is_err()
}

#[test]
fn provision_creates_and_lists_an_instance() {
    let bench = bench();
    let mut host = bench.host();
    provision(&bench.mount, &mut host, &form("coins")).unwrap();
    let compose = bench.read("coins/compose.yaml");
    assert!(compose.contains("drupal:10-apache") && compose.contains("Host(`coins.example.org`)"), "{compose}");
    assert!(!compose.contains("{slug}") && !compose.contains("{host}") && !compose.contains("{image}"));
    let env = bench.read("coins/.env");
    assert!(env.contains("CONTENT_SECURITY_POLICY=\"img-src 'self'\"\n"), "{env}");
    let secrets: Vec<_> = env.lines().filter(|line| line.contains("PASSWORD") || line.contains("SALT")).collect();
    assert_eq!(secrets.len(), 3);
    let value = |line: &&str| line.split('"').nth(1).unwrap().to_owned();
    assert!(secrets.iter().map(value).all(|it| it.len() == 40 && it.chars().all(|c| c.is_ascii_alphanumeric())));
    assert!(value(&secrets[0]) != value(&secrets[1]) && value(&secrets[1]) != value(&secrets[2]));
    assert_eq!(bench.tagline("coins").unwrap(), "Drupal 10");
    let expected = serde_json::json!({"slug": "coins", "url": "https://coins.example.org", "flavor": "drupal-10"});
    assert_eq!(host.value.unwrap(), expected);
}

#[test]
fn provision_cancelled_at_any_point_leaves_nothing() {
    let points = with_every_fate(Fate::CancelledAt, |fate| {
        let bench = bench();
        let cancelled = provision(&bench.mount, &mut bench.fated(fate), &form("coins"));
        if cancelled.is_ok() {
            return false;
        }
        assert_eq!(bench.everything(), NOTHING, "{fate:?}");
        assert!(bench.systems.borrow().is_empty(), "{fate:?}");
        true
    });
    assert!(points > 10, "{points}");
}

#[test]
fn provision_killed_at_any_point_is_cleaned_up() {
    let points = with_every_fate(Fate::DiesAt, |fate| {
        let bench = bench();
        bench.provision("other");
        let before = bench.everything();
        let mut host = bench.fated(fate);
        if !dies(|| provision(&bench.mount, &mut host, &form("coins"))) {
            return false;
        }
        cleanup(&bench.mount, &mut bench.cleaner(&host), "provision", Some(&form("coins"))).unwrap();
        assert_eq!(bench.everything(), before, "{fate:?}");
        assert_eq!(bench.systems.borrow().keys().collect::<Vec<_>>(), ["other"], "{fate:?}");
        true
    });
    assert!(points > 20, "{points}");
}

#[test]
fn killed_server_leaves_complete_instances_or_none() {
    let points = with_every_fate(Fate::DiesAt, |fate| {
        let bench = bench();
        let mut host = bench.fated(fate);
        if !dies(|| provision(&bench.mount, &mut host, &form("coins"))) {
            return false;
        }
        // No process cleans up.
        if bench.mount.current(&coins()).unwrap().is_some() {
            // Complete, but perhaps without its entry, which the next call restores.
            assert!(bench.read("coins/compose.yaml").contains("distillery-coins"), "{fate:?}");
            switch(&bench.mount, &mut bench.host(), &coins(), State::Running).unwrap();
        } else {
            assert!(bench.systems.borrow().is_empty(), "{fate:?}");
            bench.provision("coins");
        }
        assert_eq!(bench.tagline("coins").as_deref(), Some("Drupal 10"), "{fate:?}");
        bench.clock.set(bench.clock.get() + LONGEST_LIFE);
        bench.provision("other");
        let left: Vec<_> = bench.everything().into_iter().filter(|path| path.matches('/').count() == 1).collect();
        assert_eq!(left.iter().filter(|path| path.starts_with(".versions/")).count(), 2, "{fate:?}: {left:?}");
        assert_eq!(left.len(), 2, "{fate:?}: {left:?}");
        true
    });
    assert!(points > 20, "{points}");
}

#[test]
fn provision_without_a_system_entry_leaves_nothing() {
    let bench = bench();
    let mut host = Fake { systems_fail: true, ..bench.host() };
    let error = provision(&bench.mount, &mut host, &form("coins")).unwrap_err().to_string();
    assert_eq!(error, "the systems: full");
    assert_eq!(bench.everything(), NOTHING);
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
        assert!(bench.read("coins/compose.yaml").contains("distillery-coins"), "{fate:?}");
        assert_eq!(bench.tagline("coins").as_deref(), Some("Drupal 10"), "{fate:?}");
        assert_eq!(fs::read_dir(bench.at(".versions")).unwrap().count(), 1, "{fate:?}");
        assert_eq!(outcome.is_ok(), !won.get(), "{fate:?}");
        if let Err(error) = outcome {
            assert_eq!(error.to_string(), "there is an instance coins already: choose another slug");
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
fn lock_is_ignored_once_it_is_stale() {
    let bench = bench();
    bench.provision("coins");
    fs::write(bench.at(&format!(".locks/coins.{}.killed", bench.clock.get())), "").unwrap();
    let begun = bench.clock.get();
    bench.stop("coins");
    assert!(bench.clock.get() >= begun + 20_000);
    assert_eq!(bench.tagline("coins").as_deref(), Some("Drupal 10 (stopped)"));
}

#[test]
fn purge_needs_confirmation_and_keeps_snapshots() {
    let bench = bench();
    bench.provision("coins");
    bench.provision("other");
    snapshot(&bench.mount, &mut bench.host(), &coins()).unwrap();
    for answer in ["", "other", "coins "] {
        let mut host = Fake { answer: answer.to_owned(), ..bench.host() };
        let error = purge(&bench.mount, &mut host, &coins()).unwrap_err().to_string();
        assert_eq!(error, "that is not coins: nothing was purged");
    }
    assert!(bench.at("coins/.env").exists() && bench.tagline("coins").is_some());
    purge(&bench.mount, &mut Fake { answer: "coins".to_owned(), ..bench.host() }, &coins()).unwrap();
    assert!(!bench.at("coins").exists() && bench.tagline("coins").is_none());
    assert_eq!(fs::read_dir(bench.at(".versions")).unwrap().count(), 1);
    assert_eq!(fs::read_dir(bench.at("snapshots")).unwrap().count(), 2);
    assert!(bench.at("other/.env").exists() && bench.tagline("other").is_some());
    let error = purge(&bench.mount, &mut bench.host(), &coins()).unwrap_err().to_string();
    assert_eq!(error, "there is no instance coins");
}

#[test]
fn purge_ended_at_any_point_leaves_all_or_nothing() {
    let points = with_every_fate(Fate::DiesAt, |fate| {
        let bench = bench();
        bench.provision("coins");
        let before = bench.everything();
        let mut host = Fake { answer: "coins".to_owned(), ..bench.fated(fate) };
        if !dies(|| purge(&bench.mount, &mut host, &coins())) {
            return false;
        }
        cleanup(&bench.mount, &mut bench.cleaner(&host), "purge", Some("coins")).unwrap();
        if bench.mount.current(&coins()).unwrap().is_some() {
            assert_eq!(bench.everything(), before, "{fate:?}");
            assert!(bench.tagline("coins").is_some(), "{fate:?}");
        } else {
            assert!(bench.tagline("coins").is_none(), "{fate:?}");
            bench.clock.set(bench.clock.get() + LONGEST_LIFE);
            bench.mount.sweep(Moment(bench.clock.get()), None).unwrap();
            assert_eq!(bench.everything(), NOTHING, "{fate:?}");
        }
        true
    });
    assert!(points > 10, "{points}");
}

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
    assert_eq!(error, "coins is running: stop it first");
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
    purge(&bench.mount, &mut Fake { answer: "coins".to_owned(), ..bench.host() }, &coins()).unwrap();
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
            snapshot(&bench.mount, &mut bench.host(), &coins()).unwrap();
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
    let mut host = bench.host();
    snapshot(&bench.mount, &mut host, &coins()).unwrap();
    bench.stop("coins");
    let name = format!("snapshots/{}", host.value.unwrap()["snapshot"].as_str().unwrap());
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
    let mut host = bench.host();
    snapshot(&bench.mount, &mut host, &"other".parse().unwrap()).unwrap();
    let other = format!("snapshots/{}", host.value.unwrap()["snapshot"].as_str().unwrap());
    fs::write(bench.at("newest"), other).unwrap();
    assert!(tampered(&bench, |it| it).contains("which is not part of coins"));
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
fn start_and_stop_change_the_state_once() {
    let bench = bench();
    bench.provision("coins");
    let edited = || bench.systems.borrow()["coins"].last_edit.clone();
    let first = edited();
    bench.clock.set(bench.clock.get() + 5000);
    switch(&bench.mount, &mut bench.host(), &coins(), State::Running).unwrap();
    assert_eq!(edited(), first);
    bench.stop("coins");
    let second = edited();
    assert!(second != first && bench.read("coins/instance.json").contains("\"state\": \"stopped\""));
    bench.clock.set(bench.clock.get() + 5000);
    bench.stop("coins");
    assert_eq!((edited(), bench.tagline("coins").as_deref()), (second, Some("Drupal 10 (stopped)")));
    let nobody = "nobody".parse().unwrap();
    let error = switch(&bench.mount, &mut bench.host(), &nobody, State::Running).unwrap_err().to_string();
    assert_eq!(error, "there is no instance nobody");
}

#[test]
fn rebuild_replaces_only_files_of_the_template() {
    let bench = bench();
    bench.provision("coins");
    let (compose, env) = (bench.read("coins/compose.yaml"), bench.read("coins/.env"));
    fs::write(bench.at("coins/compose.yaml"), "changed").unwrap();
    fs::write(bench.at("coins/settings/php.ini"), "mine").unwrap();
    fs::write(bench.at("coins/data/files/a"), "mine").unwrap();
    rebuild(&bench.mount, &mut bench.host(), &coins(), None).unwrap();
    assert_eq!((bench.read("coins/compose.yaml"), bench.read("coins/.env")), (compose, env.clone()));
    assert_eq!(
        (bench.read("coins/settings/php.ini"), bench.read("coins/data/files/a")),
        ("mine".into(), "mine".into())
    );
    let system = r#"{"PHP": "8.1", "ContentSecurityPolicy": "img-src *"}"#;
    rebuild(&bench.mount, &mut bench.host(), &coins(), Some(system)).unwrap();
    assert_eq!(bench.read("coins/.env"), env.replace("img-src 'self'", "img-src *"));
    let bad = r#"{"ContentSecurityPolicy": "\"\nDATABASE_PASSWORD=\"x"}"#;
    assert!(rebuild(&bench.mount, &mut bench.host(), &coins(), Some(bad)).is_err());
    assert_eq!(bench.read("coins/.env"), env.replace("img-src 'self'", "img-src *"));
    let error = rebuild(&bench.mount, &mut bench.host(), &"nobody".parse().unwrap(), None).unwrap_err().to_string();
    assert_eq!(error, "there is no instance nobody");
}

#[test]
fn update_reaches_the_newest_template_and_keeps_data() {
    let bench = bench();
    bench.provision("coins");
    let (compose, env) = (bench.read("coins/compose.yaml"), bench.read("coins/.env"));
    let age = |version: u32| {
        let text = bench.read("coins/instance.json").replace("\"template\": 1", &format!("\"template\": {version}"));
        fs::write(bench.at("coins/instance.json"), text).unwrap();
    };
    // As created by a version without a salt.
    let older: String = env.lines().filter(|line| !line.contains("SALT")).map(|line| format!("{line}\n")).collect();
    fs::write(bench.at("coins/.env"), format!("# mine\n{older}")).unwrap();
    fs::write(bench.at("coins/compose.yaml"), "old").unwrap();
    fs::write(bench.at("coins/settings/php.ini"), "mine").unwrap();
    age(0);
    let error = rebuild(&bench.mount, &mut bench.host(), &coins(), None).unwrap_err().to_string();
    assert!(error.ends_with("update the instance first"), "{error}");
    update(&bench.mount, &mut bench.host(), &coins()).unwrap();
    assert_eq!((bench.read("coins/compose.yaml"), bench.read("coins/settings/php.ini")), (compose, "mine".to_owned()));
    let updated = bench.read("coins/.env");
    assert!(updated.starts_with(&format!("# mine\n{older}")) && updated.contains("\nHASH_SALT=\""), "{updated}");
    let mut host = bench.host();
    update(&bench.mount, &mut host, &coins()).unwrap();
    assert_eq!(host.lines, ["coins already has the newest version of the template: 1"]);
    assert_eq!(bench.read("coins/.env"), updated);
    fs::write(
        bench.at("coins/instance.json"),
        bench.read("coins/instance.json").replace("\"template\": 1", "\"template\": 2"),
    )
    .unwrap();
    assert!(update(&bench.mount, &mut bench.host(), &coins()).is_err());
}

#[test]
fn longest_life_exceeds_the_time_limit() {
    // An hour, its grace period and its cleanup: see plugin.yaml.
    assert!(include_str!("../../plugin.yaml").contains("limits: {time: 1h}"));
    assert!(Duration::from_millis(LONGEST_LIFE) > Duration::from_secs(3600 + 600));
}
