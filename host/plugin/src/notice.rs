//! Change events of the operating system: the watched directories, and the plugins that a change concerns. Only this
//! module uses `notify`.
//!
//! This module decides nothing, and reads no file.

use super::{discover, look::Look, stat::Identity};
use notify::{
    EventKind, RecommendedWatcher, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode, ModifyKind},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

/// The maximum number of watched directories without a plugin; any further ones are polled.
const EMPTY: usize = 1000;

/// A change event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The entry at this path was created, removed or replaced.
    Changed(PathBuf),
    /// This file was written to and is still open.
    Written(PathBuf),
    /// A writer closed this file.
    Closed(PathBuf),
    /// Events were lost.
    Missed,
}

/// The plugins that a change concerns.
#[derive(Debug, PartialEq, Eq)]
pub enum Whose<'a> {
    /// The manifests or modules of these plugins changed.
    Plugins(&'a BTreeSet<String>),
    /// Only polling can tell.
    Unknown,
    Nobodys,
}

/// The watched directories.
pub struct Notices {
    watcher: RecommendedWatcher,
    /// By real path: events refer to directories, whatever their names.
    watched: BTreeMap<PathBuf, Identity>,
    /// The places of each plugin, cached until its look changes: resolving them takes longer than a look.
    places: BTreeMap<String, (Look, Places)>,
    /// The real path of the root directory.
    root: Option<PathBuf>,
    map: Map,
}

/// The real paths where changes of a plugin happen.
#[derive(Debug)]
struct Places {
    /// Its directories and files.
    own: BTreeSet<PathBuf>,
    /// The directories of the files that it brings along.
    trees: BTreeSet<PathBuf>,
}

/// The owners of real paths.
#[derive(Debug, Default)]
struct Map {
    /// Directories in which every name matters.
    trees: BTreeMap<PathBuf, BTreeSet<String>>,
    /// Plugin directories, and files that matter to plugins.
    owners: BTreeMap<PathBuf, BTreeSet<String>>,
    /// The parent of the root, and the root's name in it; other names in the parent are irrelevant.
    above: Option<(PathBuf, PathBuf)>,
}

impl Notices {
    /// Starts without any watched directory. `tell` is called on a thread of its own and must not block.
    pub fn start(tell: impl Fn(Notice) + Send + 'static) -> notify::Result<Self> {
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let Ok(event) = event else { return tell(Notice::Missed) };
            if event.need_rescan() {
                return tell(Notice::Missed);
            }
            let as_notice: fn(PathBuf) -> Notice = match event.kind {
                EventKind::Access(AccessKind::Close(AccessMode::Write)) => Notice::Closed,
                // The server itself opens and reads files.
                EventKind::Access(_) => return,
                EventKind::Modify(ModifyKind::Data(_)) => Notice::Written,
                _ => Notice::Changed,
            };
            event.paths.into_iter().map(as_notice).for_each(&tell);
        })?;
        Ok(Self { watcher, watched: BTreeMap::new(), places: BTreeMap::new(), root: None, map: Map::default() })
    }

    /// Watches exactly the root, its plugins and directories that can become plugins. Returns whether any directory is
    /// newly watched, so that earlier changes in it are unknown, and the error if one cannot be watched.
    pub fn watch(&mut self, root: &Path, plugins: &BTreeMap<String, Look>) -> (bool, Option<notify::Error>) {
        let real = root.canonicalize().ok();
        if self.root != real {
            self.places.clear();
            self.root.clone_from(&real);
        }
        self.places.retain(|name, _| plugins.contains_key(name));
        self.map = Map::default();
        let mut wanted: BTreeSet<_> = plugins.iter().flat_map(|(name, look)| self.place(name, look)).collect();
        wanted.extend(real);
        // A directory without a plugin can get one soon: developers create a directory and then fill it.
        let empty = discover::visible_directories(root, |name| !plugins.contains_key(name));
        wanted.extend(empty.take(EMPTY).filter_map(|it| it.canonicalize().ok()));
        // A relative path of one part has an empty parent.
        let above = root.parent().map(|above| if above.as_os_str().is_empty() { Path::new(".") } else { above });
        if let (Some(above), Some(name)) = (above.and_then(|above| above.canonicalize().ok()), root.file_name()) {
            wanted.insert(above.clone());
            self.map.above = Some((above, name.into()));
        }
        self.unwatch_others(&wanted);
        self.unwatch_stale(&wanted);
        self.watch_all(wanted)
    }

    /// Watches the places that `look` found for one plugin, in addition to those already watched.
    pub fn watch_one(&mut self, name: &str, look: &Look) -> (bool, Option<notify::Error>) {
        let wanted = self.place(name, look);
        self.unwatch_stale(&wanted);
        self.watch_all(wanted)
    }

    /// Records the places of a plugin. Returns the directories to watch for it.
    fn place(&mut self, name: &str, look: &Look) -> BTreeSet<PathBuf> {
        if look.lies_deeper() || self.places.get(name).is_none_or(|(known, _)| known != look) {
            let places = Places { own: look.places(), trees: look.trees() };
            self.places.insert(name.to_owned(), (look.clone(), places));
        }
        let mut wanted = BTreeSet::new();
        let Some((_, Places { own, trees })) = self.places.get(name) else { return wanted };
        for tree in trees {
            wanted.insert(tree.clone());
            self.map.trees.entry(tree.clone()).or_default().insert(name.to_owned());
        }
        for place in own {
            let directory = if place.is_dir() { Some(place.as_path()) } else { place.parent() };
            wanted.extend(directory.map(Path::to_owned));
            self.map.owners.entry(place.clone()).or_default().insert(name.to_owned());
        }
        wanted
    }

    /// Stops watching all directories except `wanted`.
    fn unwatch_others(&mut self, wanted: &BTreeSet<PathBuf>) {
        let others = self.watched.keys().filter(|path| !wanted.contains(*path));
        self.unwatch(others.cloned().collect());
    }

    /// Stops watching paths at which another directory has taken the place of the watched one.
    fn unwatch_stale<'a>(&mut self, paths: impl IntoIterator<Item = &'a PathBuf>) {
        let stale = |path: &&PathBuf| {
            self.watched.get(*path).is_some_and(|known| Identity::of(path).ok().as_ref() != Some(known))
        };
        let stale = paths.into_iter().filter(stale).cloned().collect();
        self.unwatch(stale);
    }

    fn unwatch(&mut self, paths: Vec<PathBuf>) {
        for path in paths {
            // The directory can be removed, and its watch with it.
            let _ = self.watcher.unwatch(&path);
            self.watched.remove(&path);
        }
    }

    fn watch_all(&mut self, wanted: BTreeSet<PathBuf>) -> (bool, Option<notify::Error>) {
        let (mut new, mut problem) = (false, None);
        for path in wanted {
            if self.watched.contains_key(&path) {
                continue;
            }
            let Ok(identity) = Identity::of(&path) else { continue };
            match self.watcher.watch(&path, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    self.watched.insert(path, identity);
                    new = true;
                }
                Err(error) if matches!(error.kind, notify::ErrorKind::PathNotFound) => {}
                Err(error) => problem = Some(error),
            }
        }
        (new, problem)
    }

    pub fn whose(&self, notice: &Notice) -> Whose<'_> {
        self.map.whose(notice)
    }
}

impl Map {
    fn whose(&self, notice: &Notice) -> Whose<'_> {
        let (Notice::Changed(path) | Notice::Written(path) | Notice::Closed(path)) = notice else {
            return Whose::Unknown;
        };
        if let Some(owners) = self.owners.get(path) {
            return Whose::Plugins(owners);
        }
        let (directory, name) = (path.parent(), path.file_name().map(Path::new));
        if let Some(owners) = directory.and_then(|it| self.trees.get(it)) {
            return Whose::Plugins(owners);
        }
        if let Some(owners) =
            directory.and_then(|it| self.owners.get(it)).filter(|_| name.is_some_and(discover::matters))
        {
            return Whose::Plugins(owners);
        }
        let beside_root = |(above, root): &(PathBuf, PathBuf)| {
            directory == Some(above) && name != Some(root) && !self.owners.contains_key(above)
        };
        match notice {
            // A replaced link changes everything below it; written bytes affect only their file.
            Notice::Changed(_) if !self.above.as_ref().is_some_and(beside_root) => Whose::Unknown,
            _ => Whose::Nobodys,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn change_belongs_to_the_plugins_of_its_files() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
        let map = Map {
            trees: BTreeMap::from([("/srv/plugins/echo/files".into(), names(&["echo"]))]),
            owners: BTreeMap::from([
                ("/srv/plugins/echo".into(), names(&["echo"])),
                ("/srv/build/out.bin".into(), names(&["ask", "echo"])),
            ]),
            above: Some(("/srv".into(), "plugins".into())),
        };
        let whose = |kind: fn(PathBuf) -> Notice, path: &str| format!("{:?}", map.whose(&kind(path.into())));
        for kind in [Notice::Changed, Notice::Written, Notice::Closed] {
            for path in [
                "/srv/plugins/echo/x.wasm",
                "/srv/plugins/echo/plugin.yaml",
                "/srv/plugins/echo",
                "/srv/plugins/echo/files/any",
            ] {
                assert_eq!(whose(kind, path), "Plugins({\"echo\"})", "{path}");
            }
            assert_eq!(whose(kind, "/srv/build/out.bin"), "Plugins({\"ask\", \"echo\"})");
            assert_eq!(whose(kind, "/srv/other"), "Nobodys");
        }
        for path in ["/srv/plugins/echo/..data", "/srv/plugins/new", "/srv/plugins"] {
            assert_eq!(whose(Notice::Changed, path), "Unknown", "{path}");
            assert_eq!(whose(Notice::Written, path), "Nobodys", "{path}");
        }
        assert_eq!(map.whose(&Notice::Missed), Whose::Unknown);
    }

    #[test]
    fn new_module_in_an_empty_directory_is_reported() {
        let root = tempfile::tempdir().unwrap();
        let plugins = root.path().canonicalize().unwrap().join("plugins");
        std::fs::create_dir_all(plugins.join("empty")).unwrap();
        let (tell, told) = std::sync::mpsc::channel();
        let mut notices = Notices::start(move |notice| _ = tell.send(notice)).unwrap();
        assert!(matches!(notices.watch(&plugins, &BTreeMap::new()), (true, None)));
        let module = plugins.join("empty/x.wasm");
        std::fs::write(&module, "").unwrap();
        let notice = told.recv_timeout(std::time::Duration::from_secs(60)).unwrap();
        assert_eq!((&notice, notices.whose(&notice)), (&Notice::Changed(module), Whose::Unknown));
    }
}
