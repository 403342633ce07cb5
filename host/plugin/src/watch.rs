//! Keeps the served plugins in step with the plugin directories: notices changes, loads them, and publishes new
//! generations. A plugin that does not load changes nothing.
//!
//! This work happens on a thread of its own, and loads run on further threads. `plugin::debounce` decides when to load a
//! plugin. This module knows neither its callers nor the source of the configuration.

mod looking;
mod reconciler;
mod reload;
mod rollback;

use super::{
    catalog::Catalog,
    first_load::FirstLoad,
    load::{Loaded, Loader},
    notice::Notice,
    plugin::Plugin,
};
use distillery_config as config;
use reconciler::{Done, Reconciler};
use std::{
    io,
    path::PathBuf,
    sync::{Arc, mpsc},
    thread,
};
use tokio::sync::oneshot;

/// The inputs of the watcher.
pub struct Watch {
    /// The directory of all plugins.
    pub root: PathBuf,
    pub how: config::Watch,
    pub loader: Loader,
    pub catalog: Arc<Catalog>,
    /// The load at the start.
    pub first: FirstLoad,
    /// Rereads the configuration.
    pub reread: Box<dyn FnMut() -> Result<Reread, String> + Send>,
}

/// The watched plugins, and the loaded versions of them.
struct Loads {
    root: PathBuf,
    how: config::Watch,
    loader: Loader,
    catalog: Arc<Catalog>,
    /// As in the catalog.
    loaded: Vec<Loaded>,
    reread: Box<dyn FnMut() -> Result<Reread, String> + Send>,
}

/// The result of rereading the configuration.
pub struct Reread {
    /// The loader from now on.
    pub loader: Loader,
    /// The keys with a new value.
    pub changed: Vec<&'static str>,
    /// The keys whose new value takes effect only at the next start.
    pub restart: Vec<&'static str>,
}

/// The effect of a reload on the configuration.
#[derive(Clone, Debug, Default)]
pub struct Reloaded {
    pub changed: Vec<&'static str>,
    pub restart: Vec<&'static str>,
    /// The reason why the configuration is unchanged.
    pub error: Option<String>,
    /// The generations whose processes hold rights that the operator has revoked.
    pub holders: Vec<Holder>,
}

/// A generation whose processes hold more rights than the current rules grant.
#[derive(Clone, Debug)]
pub struct Holder {
    pub plugin: Arc<Plugin>,
    /// The rights, in words.
    pub rights: Vec<String>,
}

/// The result of a rollback.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RolledBack {
    /// The generation that is served now.
    pub generation: u64,
    /// The reason why a restart will forget the rollback.
    pub forgotten: Option<String>,
}

/// The reason why a plugin cannot be rolled back.
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

/// A handle to the thread that watches.
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
    /// Rereads the configuration, renews the rights of all served plugins, and checks all plugins. The answer comes
    /// when all of them are loaded; no answer comes if the server ends.
    pub fn reload(&self) -> oneshot::Receiver<Reloaded> {
        self.ask(Message::Reload)
    }

    /// Serves the previous generation until the directory changes again, even after a restart.
    pub async fn roll_back(&self, name: &str) -> Result<RolledBack, NoWayBack> {
        self.ask(|answer| Message::RollBack(name.to_owned(), answer)).await.unwrap_or(Err(NoWayBack::Ending))
    }

    /// Ends the thread, without waiting for running loads.
    pub fn end(&self) {
        // The thread can have ended already.
        let _ = self.inbox.send(Message::End);
    }

    /// Returns a watcher whose thread has ended.
    #[doc(hidden)]
    pub fn ended() -> Self {
        Self { inbox: mpsc::channel().0 }
    }

    fn ask<T>(&self, message: impl FnOnce(oneshot::Sender<T>) -> Message) -> oneshot::Receiver<T> {
        let (answer, answered) = oneshot::channel();
        // Without a listener, the answer is dropped with the question.
        let _ = self.inbox.send(message(answer));
        answered
    }
}

impl Watch {
    /// Starts the first load and then the watch. No change is missed, even one that happens during the load. Requests
    /// to the watcher are answered after the first load.
    ///
    /// No caller waits for the end of the thread: a disk that does not answer would hold up the end of the server.
    pub fn start(self) -> io::Result<Watcher> {
        let (sender, messages) = mpsc::channel();
        let watcher = Watcher { inbox: sender.clone() };
        thread::Builder::new().name("watch".into()).spawn(move || {
            let Self { root, how, loader, catalog, first, reread } = self;
            let loaded = first.run(&loader, &catalog);
            // Files of versions that nothing uses any more.
            loader.operator.grants.files.collect_soon();
            let watched = catalog.clone();
            let reconciler = Reconciler::new(Loads { root, how, loader, catalog, loaded, reread }, sender);
            watched.loading.watching();
            drop(watched);
            reconciler.run(&messages);
        })?;
        Ok(watcher)
    }
}
