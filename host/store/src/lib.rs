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
pub mod news;
pub mod processes;
pub mod public;
pub mod schedules;
pub mod systems;

use accounts::Accounts;
use bytes::Bytes;
use database::Database;
use distillery_config::Config;
use news::News;
use public::Public;
use serde::{Serialize, Serializer, ser::Error as _};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use systems::System;
use time::{OffsetDateTime, UtcOffset, format_description::well_known::Rfc3339};

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

/// A response body that is the same for all callers.
#[derive(Clone, Debug)]
pub struct Told {
    pub body: Bytes,
    /// The ETag of this body, in quotes.
    pub tag: Bytes,
}

impl From<Bytes> for Told {
    fn from(body: Bytes) -> Self {
        let digest = Sha256::digest(&body);
        let tag = digest[..16].iter().fold(String::from('"'), |tag, byte| tag + &format!("{byte:02x}")) + "\"";
        Self { body, tag: tag.into() }
    }
}

/// Items with their JSON, which is serialized once and not for each request.
#[derive(Debug)]
struct Listing<T> {
    items: Vec<T>,
    told: Told,
}

impl<T: Serialize> Listing<T> {
    fn new(items: Vec<T>) -> Result<Self, serde_json::Error> {
        let told = Bytes::from(serde_json::to_vec(&items)?).into();
        Ok(Self { items, told })
    }
}

impl<T> Default for Listing<T> {
    fn default() -> Self {
        Self { items: Vec::new(), told: Bytes::from_static(b"[]").into() }
    }
}

/// Writes a moment as [`rfc3339`] does, and `None` as null.
fn rfc3339_or_null<S: Serializer>(moment: &Option<OffsetDateTime>, serializer: S) -> Result<S::Ok, S::Error> {
    match moment {
        Some(moment) => rfc3339(moment, serializer),
        None => serializer.serialize_none(),
    }
}

/// Writes a moment as RFC 3339 in UTC.
fn rfc3339<S: Serializer>(moment: &OffsetDateTime, serializer: S) -> Result<S::Ok, S::Error> {
    let utc = moment.checked_to_offset(UtcOffset::UTC).unwrap_or(*moment);
    serializer.serialize_str(&utc.format(&Rfc3339).map_err(S::Error::custom)?)
}
