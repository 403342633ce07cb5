use super::*;
use rustix::{
    fs::{CWD, Timespec, UTIME_OMIT, mknodat},
    io::Errno,
};
use std::{
    collections::BTreeSet, fs, os::unix::fs::symlink, os::unix::net::UnixListener, time::Duration, time::UNIX_EPOCH,
};

/// Accepts files and directories.
fn check(kind: FileType) -> io::Result<FileType> {
    match kind {
        FileType::RegularFile | FileType::Directory => Ok(kind),
        FileType::Symlink => Err(Errno::LOOP.into()),
        _ => Err(Errno::PERM.into()),
    }
}

fn opened(directory: &Path, path: &str, follow: bool, flags: OFlags) -> Result<FileType, Option<i32>> {
    let directory = File::open(directory).unwrap();
    open_checked(&directory, path, follow, flags, check).map(|(_, kind)| kind).map_err(|error| error.raw_os_error())
}

#[test]
fn portable_open_refuses_pipes_sockets_and_devices() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    mknodat(CWD, path.join("pipe"), FileType::Fifo, Mode::RWXU, 0).unwrap();
    let _socket = UnixListener::bind(path.join("socket")).unwrap();
    symlink("pipe", path.join("link")).unwrap();
    for name in ["pipe", "socket", "link"] {
        for flags in [OFlags::RDONLY, OFlags::WRONLY, OFlags::RDWR, OFlags::RDWR | OFlags::TRUNC] {
            assert_eq!(opened(path, name, true, flags), Err(Some(Errno::PERM.raw_os_error())), "{name}: {flags:?}");
        }
    }
    assert_eq!(opened(Path::new("/dev"), "null", true, OFlags::RDONLY), Err(Some(Errno::PERM.raw_os_error())));
}

#[test]
fn portable_open_looks_again_after_opening() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    fs::write(path.join("file"), "text").unwrap();
    let root = File::open(path).unwrap();
    // Between the two looks another process replaces the file by a pipe, which has no reader.
    let replaced = open_checked(&root, "file", true, OFlags::RDONLY, |kind| {
        if kind == FileType::RegularFile {
            fs::remove_file(path.join("file")).unwrap();
            mknodat(CWD, path.join("file"), FileType::Fifo, Mode::RWXU, 0).unwrap();
        }
        check(kind)
    });
    assert_eq!(replaced.unwrap_err().raw_os_error(), Some(Errno::PERM.raw_os_error()));
}

#[test]
fn portable_open_stays_below_its_directory() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("file"), "text").unwrap();
    let inside = outside.path().join("inside");
    fs::create_dir(&inside).unwrap();
    symlink("../file", inside.join("link")).unwrap();
    symlink("own", inside.join("good")).unwrap();
    fs::write(inside.join("own"), "text").unwrap();
    for path in ["../file", "link", "/etc/passwd"] {
        assert!(opened(&inside, path, true, OFlags::RDONLY).is_err(), "{path}");
    }
    assert_eq!(opened(&inside, "good", false, OFlags::RDONLY), Err(Some(Errno::LOOP.raw_os_error())));
    assert_eq!(opened(&inside, "good", true, OFlags::RDONLY), Ok(FileType::RegularFile));
    assert_eq!(opened(&inside, ".", true, OFlags::RDONLY), Ok(FileType::Directory));
    assert_eq!(opened(&inside, ".", true, OFlags::RDWR), Err(Some(Errno::ISDIR.raw_os_error())));
    assert_eq!(fs::read_to_string(inside.join("own")).unwrap(), "text");
    assert_eq!(opened(&inside, "own", true, OFlags::RDWR | OFlags::TRUNC), Ok(FileType::RegularFile));
    assert_eq!(fs::read_to_string(inside.join("own")).unwrap(), "");
}

#[test]
fn portable_times_are_set_without_opening() {
    let outside = tempfile::tempdir().unwrap();
    let directory = outside.path().join("directory");
    fs::create_dir_all(directory.join("inner")).unwrap();
    let pipe = directory.join("inner/pipe");
    mknodat(CWD, &pipe, FileType::Fifo, Mode::RWXU, 0).unwrap();
    symlink("inner/pipe", directory.join("link")).unwrap();
    symlink("../outside", directory.join("escape")).unwrap();
    fs::write(outside.path().join("outside"), "").unwrap();
    let root = File::open(&directory).unwrap();
    let keep = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
    let set = |path: &str, seconds: i64| {
        let last_modification = Timespec { tv_sec: seconds, tv_nsec: 0 };
        set_times(&root, path, &Timestamps { last_access: keep, last_modification })
    };
    let modified = |path: &Path| fs::metadata(path).unwrap().modified().unwrap().duration_since(UNIX_EPOCH).unwrap();
    for (seconds, path) in [(5, "inner/pipe"), (6, "link")] {
        set(path, seconds).unwrap();
        assert_eq!(modified(&pipe), Duration::from_secs(seconds as u64), "{path}");
    }
    set(".", 7).unwrap();
    assert_eq!(modified(&directory), Duration::from_secs(7));
    assert!(set("escape", 8).is_err() && set("../outside", 8).is_err());
    assert_ne!(modified(&outside.path().join("outside")), Duration::from_secs(8));
}

#[test]
fn portable_directory_is_lost_with_its_path() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("mounted");
    fs::create_dir(&path).unwrap();
    let mounted = Directory::open(&path).unwrap();
    assert_eq!(mounted.path().unwrap(), path.canonicalize().unwrap());
    fs::rename(&path, directory.path().join("moved")).unwrap();
    assert!(mounted.path().is_err());
    fs::create_dir(&path).unwrap();
    let error = mounted.path().unwrap_err().to_string();
    assert!(error.ends_with("was moved or replaced: reload the plugin"), "{error}");
    fs::remove_dir(&path).unwrap();
    symlink("moved", &path).unwrap();
    assert!(mounted.path().is_err(), "a link is another object");
}

#[test]
fn portable_listing_continues_at_the_position_of_an_entry() {
    let directory = tempfile::tempdir().unwrap();
    for number in 0..100 {
        File::create(directory.path().join(number.to_string())).unwrap();
    }
    let opened = File::open(directory.path()).unwrap();
    let mut pages = Pages::open(&opened).unwrap();
    assert_eq!(pages.device().unwrap(), directory.path().metadata().unwrap().dev());
    let (mut in_pages, mut reads) = (BTreeSet::new(), 0);
    loop {
        let before = in_pages.len();
        pages
            .read(|entry, is_last| {
                assert!(in_pages.insert(entry.name));
                !is_last
            })
            .unwrap();
        reads += 1;
        if in_pages.len() == before {
            break;
        }
    }
    assert_eq!((in_pages.len(), reads), (102, 4), "with `.` and `..`");
    let (mut one_by_one, mut from) = (BTreeSet::new(), 0);
    loop {
        let mut pages = Pages::open(&opened).unwrap();
        pages.seek(from).unwrap();
        let mut last = None;
        pages
            .read(|entry, _| {
                last = Some(entry);
                false
            })
            .unwrap();
        let Some(entry) = last else { break };
        from = entry.next;
        assert!(one_by_one.insert(entry.name));
    }
    assert_eq!(one_by_one, in_pages);
}

#[test]
fn portable_append_keeps_what_other_guests_appended() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    fs::write(&path, "first ").unwrap();
    std::thread::scope(|threads| {
        for _ in 0..4 {
            threads.spawn(|| {
                let file = File::options().write(true).open(&path).unwrap();
                for _ in 0..100 {
                    assert_eq!(append(&file, b"line").unwrap(), 4);
                }
            });
        }
    });
    assert_eq!(fs::read_to_string(&path).unwrap(), format!("first {}", "line".repeat(400)));
}

#[test]
fn portable_stand_in_has_its_file() {
    let directory = always_there().unwrap();
    let name = std::str::from_utf8(&FILE_ALWAYS_THERE).unwrap();
    assert!(stat(&directory, Path::new(name), FollowSymlinks::No).is_ok());
}

#[test]
fn other_systems_say_why_they_do_not_bound_compilations() {
    let why = unbounded_worker().unwrap();
    let refused = [worker(b"").err(), end_with_parent().err(), bound_memory(Size::mib(1)).err()];
    for error in refused {
        assert_eq!(error.unwrap().to_string(), why);
    }
}

#[test]
fn unlimited_files_fall_back_to_what_macos_allows() {
    let limits = |maximum| limits_of_open_files(maximum).collect::<Vec<_>>();
    assert_eq!(limits(None), [None, Some(10_240)]);
    assert_eq!(limits(Some(4096)), [Some(4096), Some(4096)]);
    assert_eq!((most_mappings(), address_space()), (u64::MAX, None));
}
