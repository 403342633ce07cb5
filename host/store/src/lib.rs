//! Data that outlives the server, in a database ([`database`]), and the public data in memory, ready to be sent:
//! systems and news.
//!
//! It knows nothing of callers. Only this module names rusqlite.
#![forbid(unsafe_code)]
// They panic where stdout or stderr cannot be written: only the command line prints.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

pub mod accounts;
mod connections;
pub mod database;
pub mod identity;
pub mod inspection;
mod listing;
mod moments;
pub mod news;
pub mod outputs;
pub mod processes;
pub mod public;
pub mod schedules;
pub mod systems;

pub use listing::Told;

use accounts::Accounts;
use database::Database;
use distillery_config::Config;
use news::News;
use public::Public;
use std::sync::Arc;
use systems::System;

/// All stored data.
pub struct Store {
    pub public: Arc<Public>,
    pub database: Database,
    pub accounts: Arc<Accounts>,
}

impl Store {
    /// Opens the stores that `config` names. News files that cannot be read are named in the log and left out.
    pub fn open(config: &Config) -> anyhow::Result<Self> {
        let (news, problems) = News::read(&config.news);
        for problem in problems {
            tracing::warn!("{problem}");
        }
        let database = Database::open(&config.data)?;
        let accounts = Arc::new(Accounts::open(&database)?);
        let first = config.systems.iter().map(System::from).collect();
        let public = Arc::new(Public::open(&database, first, &news)?);
        Ok(Self { public, database, accounts })
    }
}

/// Runs blocking work on a thread that is allowed to block.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
