//! Snapshots, backups and restores, with an engine of files.

use super::*;
use distillery_tests::program::{output, printed};
use rustix::process::Signal;
use std::{
    os::unix::fs::symlink,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

#[tokio::test]
async fn restore_accepts_a_snapshot_and_refuses_a_tampered_one() {
    let server = builder().start().await;
    let home = Home::of(&server);
    provisioned(&server, "coins").await;
    fs::write(home.at("coins/data/www/medals"), "Medals").unwrap();
    succeeds(&server, "snapshot", &["coins"]).await;
    let name = home.names("snapshots").remove(0);
    let env = home.read("coins/.env");
    fs::write(home.at("coins/data/www/medals"), "lost").unwrap();
    fs::write(home.at("coins/.env"), "").unwrap();
    assert_eq!(
        fails(&server, "restore", &["coins"]).await,
        "coins is running (web: Up 1 second (healthy)): stop it first"
    );
    succeeds(&server, "stop", &["coins"]).await;
    assert_eq!(fails(&server, "restore", &["coins", "coins-1"]).await, "there is no snapshot \"coins-1\" of coins");

    let whole = fs::read(home.at("snapshots").join(&name)).unwrap();
    let (archive, sums) = (home.at("snapshots").join(&name), home.at("snapshots").join(format!("{name}.sha256")));
    let listed = systems(&server).await;
    for checked in [true, false] {
        if !checked {
            fs::remove_file(&sums).unwrap();
        }
        for at in [20, whole.len() / 2, whole.len() - 4] {
            let mut tampered = whole.clone();
            tampered[at] ^= 0x55;
            fs::write(&archive, tampered).unwrap();
            let said = fails(&server, "restore", &["coins"]).await;
            assert!(said.starts_with(&format!("{name} is refused: ")), "{said}");
            assert_eq!((home.read("coins/data/www/medals").as_str(), home.read("coins/.env").as_str()), ("lost", ""));
            assert_eq!((home.names(".versions").len(), systems(&server).await), (1, listed.clone()));
        }
    }

    fs::write(&archive, whole).unwrap();
    succeeds(&server, "restore", &["coins", &name]).await;
    assert_eq!((home.read("coins/data/www/medals"), home.read("coins/.env")), ("Medals".to_owned(), env));
    assert_eq!((home.names(".versions").len(), home.names(".garbage").len()), (1, 0));
    assert_eq!(systems(&server).await[0]["Tagline"], "Static (stopped)");
}

#[tokio::test]
async fn backup_continues_past_a_broken_instance_and_names_it() {
    let server = builder().start().await;
    let home = Home::of(&server);
    assert_eq!(succeeds(&server, "backup", &[]).await, ["0 of 0 backed up"]);
    for slug in ["atlas", "broken", "coins"] {
        provisioned(&server, slug).await;
    }
    fs::write(home.at("broken/instance.json"), "{").unwrap();
    let end = server.call("backup", &[]).await.finish().await;
    assert!(end.lines.contains(&"2 of 3 backed up".to_owned()), "{:?}", end.lines);
    let last = end.lines.last().unwrap();
    assert!(last.starts_with("failed: broken: broken is broken: instance.json is not understood"), "{last}");
    assert_eq!(end.failure(), "exit status 1: 1 of 3 failed: broken");
    assert_eq!(home.names("snapshots").iter().filter(|name| name.ends_with(".tar.gz")).count(), 2);
}

#[tokio::test]
async fn link_to_secrets_of_another_instance_is_left_out() {
    let server = builder().start().await;
    let home = Home::of(&server);
    for slug in ["coins", "other"] {
        provisioned(&server, slug).await;
    }
    let secrets = home.names(".versions").into_iter().find(|name| name.starts_with("other")).unwrap();
    symlink(format!("../../../{secrets}/.env"), home.at("coins/data/www/env")).unwrap();
    assert!(home.read("coins/data/www/env").contains("SLUG=\"other\""));
    let lines = succeeds(&server, "snapshot", &["coins"]).await;
    assert!(lines.iter().any(|line| line.contains("left out: \"data/www/env\": a link that leads out")), "{lines:?}");
}

/// Swaps a file, or a directory, with a link into another instance, as a container can, until it is dropped.
struct Swapper {
    done: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Swapper {
    fn swaps(place: PathBuf, link: PathBuf) -> Self {
        let done = Arc::new(AtomicBool::new(false));
        let is_done = done.clone();
        let thread = thread::spawn(move || {
            let aside = place.with_extension("aside");
            while !is_done.load(Ordering::Relaxed) {
                fs::rename(&place, &aside).unwrap();
                symlink(&link, &place).unwrap();
                thread::yield_now();
                fs::remove_file(&place).unwrap();
                fs::rename(&aside, &place).unwrap();
            }
        });
        Self { done, thread: Some(thread) }
    }
}

impl Drop for Swapper {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Relaxed);
        _ = self.thread.take().map(JoinHandle::join);
    }
}

#[tokio::test]
async fn snapshot_never_follows_a_link_that_is_swapped_in() {
    const SECRET: &str = "PASSWORD-of-another";
    let server = builder().start().await;
    let home = Home::of(&server);
    for slug in ["coins", "other"] {
        provisioned(&server, slug).await;
    }
    let other =
        home.at(".versions").join(home.names(".versions").into_iter().find(|it| it.starts_with("other")).unwrap());
    fs::create_dir_all(other.join("data/www/deep")).unwrap();
    fs::write(other.join("data/www/deep/file"), SECRET).unwrap();
    fs::create_dir_all(home.at("coins/data/www/deep")).unwrap();
    fs::write(home.at("coins/data/www/deep/file"), "own").unwrap();
    let relative = PathBuf::from("../../../").join(other.file_name().unwrap());
    let file = Path::new("..").join(&relative).join("data/www/deep/file");
    let directory = relative.strip_prefix("..").unwrap().join("data/www");
    for (place, link) in [("coins/data/www/deep/file", file), ("coins/data/www", directory)] {
        let _swapper = Swapper::swaps(home.at(place), link);
        for _ in 0..40 {
            // It can fail, as files come and go. It never contains the secret.
            server.call("snapshot", &["coins"]).await.finish().await;
        }
    }
    let archives = home.names("snapshots").into_iter().filter(|name| name.ends_with(".tar.gz"));
    let mut count = 0;
    for archive in archives {
        count += 1;
        let mut unpack = std::process::Command::new("tar");
        unpack.arg("--extract").arg("--to-stdout").arg("--gzip").arg("--file").arg(home.at("snapshots").join(archive));
        let content = output(&mut unpack);
        assert!(!String::from_utf8_lossy(&content.stdout).contains(SECRET));
    }
    assert!(count > 0);
}

#[tokio::test]
async fn snapshot_interrupted_by_a_kill_is_not_listed() {
    let mut server = builder().start().await;
    let home = Home::of(&server);
    provisioned(&server, "coins").await;
    fs::write(home.at("coins/data/www/large"), vec![7; 200 << 20]).unwrap();
    let mut client = server.call("snapshot", &["coins"]).await;
    assert_eq!(client.line().await, "taking a snapshot of coins");
    server.signal(Signal::KILL);
    server.wait().await;
    server.restart().await;
    assert!(home.names("snapshots").iter().all(|name| name.starts_with('.')), "{:?}", home.names("snapshots"));
    succeeds(&server, "stop", &["coins"]).await;
    assert_eq!(fails(&server, "restore", &["coins"]).await, "there is no snapshot of coins");

    // A cancelled snapshot leaves no more files.
    let left = home.names("snapshots");
    let mut client = server.call("snapshot", &["coins"]).await;
    assert_eq!(client.line().await, "taking a snapshot of coins");
    client.cancel().await;
    assert_eq!(client.finish().await.failure(), "cancelled by the client");
    assert_eq!(home.names("snapshots"), left);
}

/// A small file system, which ends with the test.
struct Small(PathBuf);

impl Small {
    fn mounted(at: PathBuf) -> Self {
        let mut mount = std::process::Command::new("mount");
        printed(&output(mount.args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"]).arg(&at)));
        Self(at)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        output(std::process::Command::new("umount").arg("--lazy").arg(&self.0));
    }
}

#[tokio::test]
async fn full_disk_is_reported_as_such() {
    if !rustix::process::geteuid().is_root() {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "a small file system needs root");
        return eprintln!("SKIPPED: full_disk_is_reported_as_such, for want of root");
    }
    let builder = builder();
    let _small = Small::mounted(instances_of(builder.directory()));
    let server = builder.start().await;
    let home = Home::of(&server);
    provisioned(&server, "coins").await;
    // Random bytes, which no compression makes smaller.
    let random: Vec<u8> = (0..1_200_000).map(|_| fastrand::u8(..)).collect();
    fs::write(home.at("coins/data/www/large"), random).unwrap();
    let said = fails(&server, "snapshot", &["coins"]).await;
    assert!(said.starts_with("the disk is full: free space, then try again ("), "{said}");
    assert_eq!(home.names("snapshots"), [""; 0]);
}
