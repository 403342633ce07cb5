//! The systems and the news in the database: each change is written before it is shown.
//!
//! News also comes from files, which only users with access to the files can change. All functions here block.

use super::{
    database::{Database, StoreError},
    news::{News, NewsItem, safe_html},
    systems::{System, Systems},
};
use distillery_config as config;
use distillery_config::SystemParts;
use distillery_core::systems as guests;
use parking_lot::Mutex;
use rusqlite::{Connection, TransactionBehavior, params};
use std::{collections::BTreeMap, sync::Arc};
use time::{OffsetDateTime, UtcOffset, format_description::well_known::Rfc3339};

/// Maximum number of systems, and of stored news: each response contains all of them.
const MOST: usize = 10_000;

pub struct Public {
    database: Database,
    kept: Mutex<Kept>,
    pub systems: Arc<Systems>,
    pub news: Arc<News>,
}

struct Kept {
    connection: Connection,
    systems: BTreeMap<String, System>,
    /// News from the API.
    news: BTreeMap<String, NewsItem>,
    files: Vec<NewsItem>,
}

/// A news item from the API.
#[derive(Clone, Debug)]
pub struct Written {
    pub id: String,
    pub date: OffsetDateTime,
    pub title: String,
    /// The text, as Markdown.
    pub content: String,
}

#[derive(Debug, thiserror::Error)]
pub enum PublicError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("there are {MOST} of them, and there cannot be more: remove one first")]
    TooMany,
    #[error("{0:?} is a file among the news of this server, and can only be changed there")]
    File(String),
    #[error("a moment before the year 0 cannot be written")]
    BadMoment,
}

impl std::fmt::Debug for Public {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Public")
    }
}

/// Gives guests access to the systems.
impl guests::Directory for Public {
    fn list(&self) -> Vec<guests::System> {
        let systems = self.systems.list().into_iter().map(|system| guests::System {
            slug: system.slug,
            url: system.url,
            tagline: system.tagline,
            entity_count: system.entity_count,
            bundle_count: system.bundle_count,
            last_edit: system.last_edit.and_then(rfc3339),
        });
        systems.collect()
    }

    fn put(&self, system: guests::System) -> Result<bool, String> {
        let checked = config::System::checked(SystemParts {
            slug: &system.slug,
            url: &system.url,
            tagline: &system.tagline,
            entity_count: system.entity_count,
            bundle_count: system.bundle_count,
            last_edit: system.last_edit.as_deref(),
        })?;
        self.put_system(System::from(&checked)).map_err(PublicError::for_guests)
    }

    fn remove(&self, slug: &str) -> Result<bool, String> {
        self.remove_system(slug).map_err(PublicError::for_guests)
    }
}

impl PublicError {
    /// Returns the error without paths of the server, which only the log has.
    fn for_guests(self) -> String {
        match self {
            Self::Store(error) => {
                tracing::error!(%error, "changing the systems for a guest failed");
                "the server failed to keep it".to_owned()
            }
            other => other.to_string(),
        }
    }
}

impl Public {
    /// Opens the systems and news in `database`. If it has never had systems, they begin as `first`.
    pub fn open(database: &Database, first: Vec<System>, files: &News) -> Result<Self, PublicError> {
        let told = database.told();
        let mut connection = database.connect()?;
        let seed = |connection: &mut Connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            if transaction.execute("INSERT OR IGNORE INTO seeded VALUES ('systems')", [])? > 0 {
                for system in &first {
                    insert_system(&transaction, system)?;
                }
            }
            transaction.commit()
        };
        if first.iter().any(|system| system.last_edit.is_some_and(|moment| rfc3339(moment).is_none())) {
            return Err(PublicError::BadMoment);
        }
        // The start of the server waits for a write of another process only if it has something to write.
        let seeded = "SELECT EXISTS (SELECT 1 FROM seeded WHERE what = 'systems')";
        if !connection.query_row(seeded, [], |row| row.get::<_, bool>(0)).map_err(&told)? {
            seed(&mut connection).map_err(&told)?;
        }
        let systems = systems(&connection).map_err(&told)?;
        let news = news(&connection).map_err(&told)?;
        let kept = Kept { connection, systems, news, files: files.list() };
        let public =
            Self { database: database.clone(), systems: Arc::default(), news: Arc::default(), kept: Mutex::new(kept) };
        let kept = public.kept.lock();
        public.show_systems(&kept)?;
        public.show_news(&kept)?;
        drop(kept);
        Ok(public)
    }

    /// Adds a system, or replaces the one with the same slug. Returns whether it is new.
    pub fn put_system(&self, system: System) -> Result<bool, PublicError> {
        let mut kept = self.kept.lock();
        if system.last_edit.is_some_and(|moment| rfc3339(moment).is_none()) {
            return Err(PublicError::BadMoment);
        }
        if !kept.systems.contains_key(&system.slug) && kept.systems.len() >= MOST {
            return Err(PublicError::TooMany);
        }
        insert_system(&kept.connection, &system).map_err(self.database.told())?;
        let new = kept.systems.insert(system.slug.clone(), system).is_none();
        self.show_systems(&kept)?;
        Ok(new)
    }

    /// Removes a system. Returns whether it was there.
    pub fn remove_system(&self, slug: &str) -> Result<bool, PublicError> {
        let mut kept = self.kept.lock();
        kept.connection.execute("DELETE FROM systems WHERE slug = ?1", [slug]).map_err(self.database.told())?;
        let removed = kept.systems.remove(slug).is_some();
        self.show_systems(&kept)?;
        Ok(removed)
    }

    /// Adds a news item, or replaces the one with the same id. Returns whether it is new.
    pub fn put_news(&self, written: &Written) -> Result<(NewsItem, bool), PublicError> {
        let mut kept = self.kept.lock();
        let Written { id, date, title, content } = written;
        if kept.files.iter().any(|file| file.id == *id) {
            return Err(PublicError::File(id.clone()));
        }
        if !kept.news.contains_key(id) && kept.news.len() >= MOST {
            return Err(PublicError::TooMany);
        }
        let moment = rfc3339(*date).ok_or(PublicError::BadMoment)?;
        let sql = "INSERT OR REPLACE INTO news VALUES (?1, ?2, ?3, ?4)";
        kept.connection.execute(sql, params![id, moment, title, content]).map_err(self.database.told())?;
        let item = rendered(written);
        let new = kept.news.insert(id.clone(), item.clone()).is_none();
        self.show_news(&kept)?;
        Ok((item, new))
    }

    /// Removes a news item. Returns whether it was there.
    pub fn remove_news(&self, id: &str) -> Result<bool, PublicError> {
        let mut kept = self.kept.lock();
        if kept.files.iter().any(|file| file.id == id) {
            return Err(PublicError::File(id.to_owned()));
        }
        kept.connection.execute("DELETE FROM news WHERE id = ?1", [id]).map_err(self.database.told())?;
        let removed = kept.news.remove(id).is_some();
        self.show_news(&kept)?;
        Ok(removed)
    }

    fn show_systems(&self, kept: &Kept) -> Result<(), PublicError> {
        self.systems.replace(kept.systems.values().cloned().collect()).map_err(|_| PublicError::BadMoment)
    }

    fn show_news(&self, kept: &Kept) -> Result<(), PublicError> {
        // A file with the same name can have been added since, and takes precedence.
        let posted = kept.news.values().filter(|item| kept.files.iter().all(|file| file.id != item.id));
        let all = kept.files.iter().chain(posted).cloned().collect();
        self.news.set(all).map_err(|_| PublicError::BadMoment)
    }
}

fn insert_system(connection: &Connection, system: &System) -> rusqlite::Result<usize> {
    connection.execute(
        "INSERT OR REPLACE INTO systems VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![
            system.slug,
            system.url,
            system.tagline,
            system.entity_count as i64,
            system.bundle_count as i64,
            system.last_edit.and_then(rfc3339),
        ],
    )
}

fn systems(connection: &Connection) -> rusqlite::Result<BTreeMap<String, System>> {
    let mut statement = connection.prepare("SELECT * FROM systems")?;
    let systems = statement.query_map([], |row| {
        let system = System {
            slug: row.get(0)?,
            url: row.get(1)?,
            tagline: row.get(2)?,
            entity_count: row.get::<_, i64>(3)? as u64,
            bundle_count: row.get::<_, i64>(4)? as u64,
            last_edit: row.get::<_, Option<String>>(5)?.and_then(|it| OffsetDateTime::parse(&it, &Rfc3339).ok()),
        };
        Ok((system.slug.clone(), system))
    })?;
    systems.collect()
}

fn news(connection: &Connection) -> rusqlite::Result<BTreeMap<String, NewsItem>> {
    let mut statement = connection.prepare("SELECT * FROM news")?;
    let news = statement.query_map([], |row| {
        let date = OffsetDateTime::parse(&row.get::<_, String>(1)?, &Rfc3339);
        let (id, title, content) = (row.get(0)?, row.get(2)?, row.get(3)?);
        let date = date.unwrap_or(OffsetDateTime::UNIX_EPOCH);
        let item = rendered(&Written { id, date, title, content });
        Ok((item.id.clone(), item))
    })?;
    news.collect()
}

fn rendered(written: &Written) -> NewsItem {
    let Written { id, date, title, content } = written.clone();
    NewsItem { id, date, title, content: safe_html(&content) }
}

fn rfc3339(moment: OffsetDateTime) -> Option<String> {
    moment.checked_to_offset(UtcOffset::UTC)?.format(&Rfc3339).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    fn system(slug: &str, tagline: &str) -> System {
        System {
            slug: slug.into(),
            url: "https://a.example".into(),
            tagline: tagline.into(),
            entity_count: u64::from(u32::MAX) + 1,
            bundle_count: 0,
            last_edit: Some(datetime!(2024-05-01 0:00:00.5 UTC)),
        }
    }

    fn written(id: &str, content: &str) -> Written {
        Written { id: id.into(), date: datetime!(2024-05-01 0:00 UTC), title: "T".into(), content: content.into() }
    }

    #[test]
    fn systems_begin_as_configured_and_keep_changes() {
        let directory = tempfile::tempdir().unwrap();
        let open = |first| {
            let database = Database::open(directory.path()).unwrap();
            Public::open(&database, first, &News::default()).unwrap()
        };
        let public = open(vec![system("a", "first"), system("b", "first")]);
        assert!(public.remove_system("a").unwrap() && !public.remove_system("a").unwrap());
        assert!(!public.put_system(system("b", "second")).unwrap());
        assert!(public.put_system(system("c", "second")).unwrap());
        let shown = public.systems.list();
        assert_eq!(shown, [system("b", "second"), system("c", "second")]);
        drop(public);
        assert_eq!(open(vec![system("z", "later")]).systems.list(), shown);
    }

    #[test]
    fn news_is_stored_and_shown_sanitized() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("file.md"), "---\ntitle: F\ndate: 2020-01-01\n---\n").unwrap();
        let (files, _) = News::read(directory.path());
        let open = || Public::open(&Database::open(directory.path()).unwrap(), Vec::new(), &files).unwrap();
        let public = open();
        let (item, new) = public.put_news(&written("one", "*so* <script>alert(1)</script>")).unwrap();
        assert!(new && item.content.contains("<em>so</em>") && !item.content.contains("script"), "{item:?}");
        assert!(!public.put_news(&written("one", "other")).unwrap().1);
        assert!(matches!(public.put_news(&written("file", "")), Err(PublicError::File(_))));
        assert!(matches!(public.remove_news("file"), Err(PublicError::File(_))));
        let shown = public.news.list();
        assert_eq!(shown.iter().map(|it| it.id.as_str()).collect::<Vec<_>>(), ["one", "file"]);
        drop(public);
        let public = open();
        assert_eq!(public.news.list(), shown);
        assert!(public.remove_news("one").unwrap() && !public.remove_news("one").unwrap());
        assert_eq!(public.news.list().len(), 1);
    }

    #[test]
    fn invalid_change_is_not_stored() {
        let directory = tempfile::tempdir().unwrap();
        let public = Public::open(&Database::open(directory.path()).unwrap(), Vec::new(), &News::default()).unwrap();
        let before = System { last_edit: Some(datetime!(-1-01-01 0:00 UTC)), ..system("a", "") };
        assert!(matches!(public.put_system(before), Err(PublicError::BadMoment)));
        assert!(public.systems.list().is_empty());
    }
}
