use super::*;
use crate::files::AT;

const LIMITS: FileLimits = FileLimits { count: 20_000, size: Size::mib(1) };

/// A plugin directory beside an archive with its store.
struct Bench {
    root: TempDir,
    store: Arc<FileStore>,
}

fn bench() -> Bench {
    let root = tempfile::tempdir().unwrap();
    let store = Arc::new(FileStore::of(root.path().join("archive")));
    Bench { root, store }
}

impl Bench {
    fn write(&self, file: &str, text: &str) {
        let path = self.root.path().join("plugin/files").join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn tree(&self) -> Tree {
        Tree::read(&self.root.path().join("plugin"), Path::new("files"), LIMITS).unwrap()
    }

    fn keep(&self) -> Kept {
        self.store.keep(&self.tree(), Some((Path::new(""), AT))).unwrap()
    }

    fn archive(&self) -> PathBuf {
        self.root.path().join("archive")
    }

    fn kept(&self, tree: &str, file: &str) -> PathBuf {
        self.archive().join(DIRECTORY).join(TREES).join(tree).join(file)
    }

    fn count(&self, directory: &str) -> usize {
        fs::read_dir(self.archive().join(DIRECTORY).join(directory)).map_or(0, Iterator::count)
    }
}

#[test]
fn files_are_kept_whatever_happens_to_the_plugin() {
    let bench = bench();
    bench.write("a", "1");
    bench.write("d/b", "2");
    symlink("d/b", bench.root.path().join("plugin/files/link")).unwrap();
    let tree = bench.tree();
    let _kept = bench.keep();
    // In place, so that a hard link would change as well.
    bench.write("a", "other");
    fs::remove_dir_all(bench.root.path().join("plugin/files/d")).unwrap();
    let read = |file: &str| fs::read_to_string(bench.kept(&tree.digest, file)).unwrap();
    assert_eq!([read("a"), read("d/b"), read("link")], ["1", "2", "2"]);
    assert_eq!(super::read(&bench.archive(), &tree.digest).unwrap(), tree);
}

#[test]
fn equal_files_are_kept_once() {
    let bench = bench();
    bench.write("same", "s");
    bench.write("also", "s");
    bench.write("a", "1");
    let (first, _kept) = (bench.tree(), bench.keep());
    bench.write("a", "2");
    let (second, _also) = (bench.tree(), bench.keep());
    assert_ne!(first, second);
    let inode = |tree: &Tree, file: &str| fs::metadata(bench.kept(&tree.digest, file)).unwrap().ino();
    assert_eq!(inode(&first, "same"), inode(&second, "same"));
    assert_eq!(inode(&first, "same"), inode(&first, "also"));
    assert_eq!((bench.count(BLOBS), bench.count(TREES)), (3, 2));
}

#[test]
fn kept_files_have_one_time_and_no_right_to_write() {
    let bench = bench();
    bench.write("a", "1");
    let (tree, _kept) = (bench.tree(), bench.keep());
    let metadata = fs::metadata(bench.kept(&tree.digest, "a")).unwrap();
    assert_eq!(metadata.permissions().mode() & 0o777, 0o400);
    assert_eq!(metadata.modified().unwrap(), SystemTime::UNIX_EPOCH + MODIFIED);
}

#[test]
fn file_that_changes_after_it_was_read_is_not_kept() {
    for change in [
        (|bench: &Bench| bench.write("a", "2")) as fn(&Bench),
        |bench| bench.write("a", "longer"),
        |bench| bench.write("more", "x"),
        |bench| fs::remove_file(bench.root.path().join("plugin/files/a")).unwrap(),
        |bench| {
            fs::remove_file(bench.root.path().join("plugin/files/a")).unwrap();
            symlink("b", bench.root.path().join("plugin/files/a")).unwrap();
        },
    ] {
        let bench = bench();
        bench.write("a", "1");
        bench.write("b", "1");
        let tree = bench.tree();
        change(&bench);
        let refused = bench.store.keep(&tree, Some((Path::new(""), AT))).unwrap_err();
        assert!(matches!(refused, FilesError::Changed(_) | FilesError::ChangedAsWhole), "{refused}");
        assert_eq!(bench.count(TREES), 0);
    }
}

#[test]
fn only_unused_files_are_removed() {
    let bench = bench();
    bench.write("a", "1");
    let (first, used) = (bench.tree(), bench.keep());
    bench.write("a", "2");
    let archived = bench.tree();
    drop(bench.keep());
    fs::create_dir_all(bench.archive().join("echo/version")).unwrap();
    fs::write(bench.archive().join("echo/version").join(REFERENCE), &archived.digest).unwrap();
    bench.write("a", "3");
    drop(bench.keep());
    // Another server on the same directory: its view of what is in use is the locks.
    let other = FileStore::of(bench.archive());
    other.collect().unwrap();
    assert!(bench.kept(&first.digest, "a").exists() && bench.kept(&archived.digest, "a").exists());
    assert_eq!((bench.count(TREES), bench.count(BLOBS)), (2, 2));
    drop(used);
    fs::remove_dir_all(bench.archive().join("echo")).unwrap();
    other.collect().unwrap();
    assert_eq!((bench.count(TREES), bench.count(BLOBS)), (0, 0));
    assert_eq!(fs::read_dir(bench.archive().join(DIRECTORY)).unwrap().count(), 2);
}

#[test]
fn dropped_files_are_removed_without_a_request() {
    let bench = bench();
    bench.write("a", "1");
    drop(bench.keep());
    let until = std::time::Instant::now() + Duration::from_secs(60);
    while bench.count(TREES) + bench.count(BLOBS) > 0 {
        assert!(std::time::Instant::now() < until, "they are still there");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn damaged_files_are_replaced() {
    let bench = bench();
    bench.write("a", "1");
    bench.write("b", "2");
    let tree = bench.tree();
    let kept = bench.keep();
    // As after a crash: the name is there, and the content is not.
    let path = bench.kept(&tree.digest, "a");
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    fs::write(&path, "").unwrap();
    let restarted = Arc::new(FileStore::of(bench.archive()));
    let again = restarted.keep(&tree, Some((Path::new(""), AT))).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "1");
    assert_ne!(again.mounted, kept.mounted, "the damaged directory is in use, and only moved");
}

#[test]
fn temporary_store_is_removed_with_its_last_user() {
    let bench = bench();
    bench.write("a", "1");
    let store = Arc::new(FileStore::default());
    let kept = store.keep(&bench.tree(), Some((Path::new(""), AT))).unwrap();
    let root = store.root().unwrap();
    drop(store);
    assert!(root.exists());
    drop(kept);
    assert!(!root.exists());
}
