use super::*;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use std::{ffi::OsStr, fs, os::unix::ffi::OsStrExt, os::unix::fs::symlink};

const LIMITS: FileLimits = FileLimits { count: 100, size: Size::kib(64) };

fn root(files: &[(&str, &str)]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for (file, text) in files {
        let path = root.path().join("files").join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    root
}

fn read(root: &tempfile::TempDir) -> Result<Tree, FilesError> {
    Tree::read(root.path(), Path::new("files"), LIMITS)
}

fn refused(root: &tempfile::TempDir) -> String {
    let refused = read(root).unwrap_err().to_string();
    assert!(!refused.contains(char::is_control), "{refused:?}");
    refused
}

#[test]
fn digest_covers_names_contents_and_links() {
    let digest = |files: &[(&str, &str)], link: Option<(&str, &str)>| {
        let root = root(files);
        link.into_iter().for_each(|(path, target)| symlink(target, root.path().join("files").join(path)).unwrap());
        read(&root).unwrap().digest
    };
    let first = digest(&[("a", "1"), ("d/b", "2")], None);
    assert_eq!(first, digest(&[("d/b", "2"), ("a", "1")], None));
    let others = [
        digest(&[("a", "1"), ("d/b", "3")], None),
        digest(&[("a", "1"), ("d/c", "2")], None),
        digest(&[("a", "1"), ("db", "2")], None),
        digest(&[("a", "12"), ("d/b", "")], None),
        digest(&[("a", "1")], None),
        digest(&[("a", "1"), ("d/b", "2")], Some(("l", "a"))),
        digest(&[("a", "1"), ("d/b", "2")], Some(("l", "d"))),
    ];
    for (at, other) in others.iter().enumerate() {
        assert!(*other != first && !others[..at].contains(other), "{at}");
    }
}

#[test]
fn empty_directories_and_temporary_files_do_not_count() {
    let root = root(&[("a", "1")]);
    let first = read(&root).unwrap();
    fs::create_dir(root.path().join("files/empty")).unwrap();
    fs::write(root.path().join("files/.a.swp"), "half").unwrap();
    assert_eq!(read(&root).unwrap(), first);
    assert_eq!((first.count(), first.size), (1, Size::bytes(1)));
}

#[test]
fn number_and_size_are_bounded() {
    let names: Vec<_> = (0..100).map(|number| number.to_string()).collect();
    let files: Vec<_> = names.iter().map(|name| (name.as_str(), "x")).collect();
    let many = root(&files);
    assert_eq!(read(&many).unwrap().count(), 100);
    fs::create_dir(many.path().join("files/empty")).unwrap();
    assert!(
        refused(&many).starts_with("more than 100 files, links and directories: remove some, or raise limits.files")
    );
    let large = root(&[("a", &"x".repeat(60 << 10)), ("b", &"x".repeat(4 << 10))]);
    assert_eq!(read(&large).unwrap().size, Size::kib(64));
    fs::write(large.path().join("files/c"), "x").unwrap();
    assert!(refused(&large).starts_with("larger than 64KiB together"));
}

#[test]
fn ten_thousand_files_are_refused_early() {
    let root = root(&[]);
    let directory = root.path().join("files");
    fs::create_dir(&directory).unwrap();
    for number in 0..10_000 {
        fs::File::create(directory.join(number.to_string())).unwrap();
    }
    assert!(refused(&root).starts_with("more than 100 files"));
    let all = FileLimits { count: 10_000, ..LIMITS };
    assert_eq!(Tree::read(root.path(), Path::new("files"), all).unwrap().count(), 10_000);
}

#[test]
fn deep_directories_and_long_paths_are_refused() {
    let path = |depth: usize| format!("{}file", "d/".repeat(depth));
    assert_eq!(read(&root(&[(&path(DEPTH), "x")])).unwrap().count(), 1);
    assert!(refused(&root(&[(&path(DEPTH + 1), "x")])).contains("nested more than 32 deep"));
    let long = format!("{0}/{0}/{0}/{0}/{0}/x", "n".repeat(250));
    assert!(refused(&root(&[(&long, "x")])).contains("its path is longer than 1024 bytes"));
}

#[test]
fn names_with_escape_sequences_are_kept_and_shown_escaped() {
    let root = root(&[("a\u{1b}[2Jb\n", "x")]);
    let kept = read(&root).unwrap();
    assert_eq!(kept.items.keys().collect::<Vec<_>>(), ["a\u{1b}[2Jb\n"]);
    symlink("/etc/passwd", root.path().join("files/\u{1b}]0;title\u{7}")).unwrap();
    assert!(refused(&root).contains("a link to \"/etc/passwd\", which is outside"));
}

#[test]
fn anything_but_files_directories_and_inner_links_is_refused() {
    let inner = root(&[("a", "1")]);
    symlink("a", inner.path().join("files/link")).unwrap();
    assert_eq!(read(&inner).unwrap().count(), 2);
    for (target, why) in [("../secret", "a link to \"../secret\""), ("/etc/passwd", "a link to \"/etc/passwd\"")] {
        let root = root(&[("a", "1")]);
        symlink(target, root.path().join("files/link")).unwrap();
        assert!(refused(&root).contains(why));
    }
    let pipe = root(&[("a", "1")]);
    mknodat(CWD, pipe.path().join("files/pipe"), FileType::Fifo, Mode::RWXU, 0).unwrap();
    assert!(refused(&pipe).contains("\"pipe\": not a regular file, directory or link"));
    let bytes = root(&[("a", "1")]);
    fs::write(bytes.path().join("files").join(OsStr::from_bytes(b"\xff")), "x").unwrap();
    assert!(refused(&bytes).contains("its name is not UTF-8 text"));
}

#[test]
fn link_to_another_directory_is_not_followed() {
    let root = root(&[]);
    fs::create_dir(root.path().join("elsewhere")).unwrap();
    assert!(matches!(read(&root), Err(FilesError::Missing)));
    symlink("elsewhere", root.path().join("files")).unwrap();
    assert!(matches!(read(&root), Err(FilesError::NotADirectory)));
    symlink("..", root.path().join("elsewhere/up")).unwrap();
    let below = Tree::read(root.path(), Path::new("elsewhere/up/elsewhere"), LIMITS);
    assert!(matches!(below, Err(FilesError::NotADirectory)));
}
