//! Keeps what is served like what lies in the plugin directories: notices changes, loads what changed, and swaps it in
//! as a new generation. What does not load changes nothing.
//!
//! All of it happens on a thread of its own, and the loading on threads beside it. When to load what is decided by
//! `plugin::plan`. It never knows who asks, and where a configuration comes from.

mod keeper;
mod looking;
mod reload;
mod rollback;

use super::{
    Catalog, Plugin, Snapshot,
    first_load::FirstLoad,
    generation::{Change, What},
    load::{Loaded, Loader},
    notice::Notice,
};
use crate::config;
use keeper::{Done, Keeper};
use std::{
    io,
    path::PathBuf,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};
use tokio::sync::oneshot;

/// What there is to watch.
pub struct Watch {
    /// The directory of all plugins.
    pub root: PathBuf,
    pub how: config::Watch,
    pub loader: Loader,
    pub catalog: Arc<Catalog>,
    /// What is to be loaded at the start.
    pub first: FirstLoad,
    /// Reads the configuration again.
    pub reread: Box<dyn FnMut() -> Result<Reread, String> + Send>,
}

/// What there is to watch, and what of it is loaded.
struct Loads {
    root: PathBuf,
    how: config::Watch,
    loader: Loader,
    catalog: Arc<Catalog>,
    /// As it is in the catalog.
    loaded: Vec<Loaded>,
    reread: Box<dyn FnMut() -> Result<Reread, String> + Send>,
}

/// What reading the configuration again gave.
pub struct Reread {
    /// What loads plugins from now on.
    pub loader: Loader,
    /// The keys that have a new value.
    pub changed: Vec<&'static str>,
    /// The keys whose new value has no effect before the next start.
    pub restart: Vec<&'static str>,
}

/// What a reload did with the configuration.
#[derive(Clone, Debug, Default)]
pub struct Reloaded {
    pub changed: Vec<&'static str>,
    pub restart: Vec<&'static str>,
    /// Why the configuration stays as it is.
    pub error: Option<String>,
    /// The generations whose processes hold what the operator has revoked.
    pub holders: Vec<Holder>,
}

/// A generation whose processes hold more than the rules of this moment give.
#[derive(Clone, Debug)]
pub struct Holder {
    pub plugin: Arc<Plugin>,
    /// What they hold, each in words.
    pub rights: Vec<String>,
}

/// What a rollback did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RolledBack {
    /// The generation that serves now.
    pub generation: u64,
    /// Why a restart will not know of it.
    pub forgotten: Option<String>,
}

/// Why a plugin cannot go back to the generation before.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoWayBack {
    #[error("there is no plugin {0:?}")]
    Unknown(String),
    #[error("no earlier generation of {0:?} is kept: only one that served since the server was started is")]
    NothingKept(String),
    #[error("the generation before does not serve any more: {0}")]
    Refused(String),
    #[error("the server is shutting down")]
    Ending,
}

/// Speaks to the thread that watches.
#[derive(Clone, Debug)]
pub struct Watcher {
    inbox: mpsc::Sender<Message>,
}

#[derive(Debug)]
enum Message {
    Notice(Notice),
    Loaded(Box<Done>),
    Reload(oneshot::Sender<Reloaded>),
    RollBack(String, oneshot::Sender<Result<RolledBack, NoWayBack>>),
    End,
}

impl Watcher {
    /// Reads the configuration again, renews the rights of all that serves, and looks at all plugins. The answer comes
    /// when all of them are loaded; none comes when the server ends.
    pub fn reload(&self) -> oneshot::Receiver<Reloaded> {
        self.ask(Message::Reload)
    }

    /// Serves the generation that served before, until the directory changes again, also after a restart.
    pub async fn roll_back(&self, name: &str) -> Result<RolledBack, NoWayBack> {
        self.ask(|answer| Message::RollBack(name.to_owned(), answer)).await.unwrap_or(Err(NoWayBack::Ending))
    }

    /// Ends the thread. What loads at this moment is not waited for.
    pub fn end(&self) {
        // It may have ended already.
        let _ = self.inbox.send(Message::End);
    }

    /// One whose thread has ended.
    #[cfg(test)]
    pub(crate) fn ended() -> Self {
        Self { inbox: mpsc::channel().0 }
    }

    fn ask<T>(&self, message: impl FnOnce(oneshot::Sender<T>) -> Message) -> oneshot::Receiver<T> {
        let (answer, answered) = oneshot::channel();
        // Where nobody listens any more, the answer is dropped with the question.
        let _ = self.inbox.send(message(answer));
        answered
    }
}

impl Watch {
    /// Begins with the first load, and then to watch: no change is missed, also of what changed since it was loaded.
    /// What is asked of the watcher meanwhile is answered after the first load.
    ///
    /// Nobody waits for the end of the thread: a look at a disk that does not answer would hold up the end of the server.
    pub fn start(self) -> io::Result<Watcher> {
        let (sender, messages) = mpsc::channel();
        let watcher = Watcher { inbox: sender.clone() };
        thread::Builder::new().name("watch".into()).spawn(move || {
            let Self { root, how, loader, catalog, first, reread } = self;
            let loaded = first.run(&loader, &catalog);
            let watched = catalog.clone();
            let keeper = Keeper::new(Loads { root, how, loader, catalog, loaded, reread }, sender);
            watched.loading.watching();
            drop(watched);
            keeper.run(&messages);
        })?;
        Ok(watcher)
    }
}

/// Says in the log what became of generations. `took` is how long the one of this name took to load, and `left` how many
/// plugins of the first load are still to come.
pub fn report(changes: &[Change], snapshot: &Snapshot, took: impl Fn(&str) -> Option<Duration>, left: Option<usize>) {
    for Change { plugin, generation, what } in changes {
        let ms = took(plugin).map(|took| took.as_millis() as u64);
        let serving = snapshot.plugins().get(plugin).and_then(|state| state.serving.as_ref());
        match (what, serving) {
            (What::Serving { digest }, Some(it)) => tracing::info!(
                plugin,
                generation,
                digest,
                kind = %it.program.kind(),
                calls = it.manifest.calls.len(),
                on_demand = it.program.is_on_demand(),
                ms,
                left,
                "plugin loaded"
            ),
            (What::Retired { processes }, _) => tracing::info!(plugin, generation, processes, "generation retired"),
            (What::Failed { why }, serving) => {
                let serving = serving.map(|plugin| plugin.generation);
                tracing::error!(plugin, generation, error = why, serving, ms, left, "plugin not loaded");
            }
            (What::Removed, _) => tracing::info!(plugin, generation, "plugin removed"),
            // That is said when it happens.
            (What::Freed, _) | (What::Serving { .. }, None) => {}
        }
    }
}
