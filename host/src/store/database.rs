//! The database: one SQLite file in the `data` directory, its schema, and its errors in words.
//!
//! Several processes may have it open: the server, and the command line beside it. Everything here blocks, so that it has
//! no place on the threads that serve sockets.

use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};
use std::{
    fs::{self, File},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

/// The name of the file in the `data` directory.
pub const FILE: &str = "distillery.db";

/// How long one who writes waits for another who does.
const BUSY: Duration = Duration::from_secs(5);

/// What each version of the schema adds to the one before. One that was released never changes.
const MIGRATIONS: &[&str] = &[
    "
    CREATE TABLE users (
        name TEXT PRIMARY KEY,
        password TEXT,
        scopes TEXT NOT NULL,
        created INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE tokens (
        id TEXT PRIMARY KEY,
        user TEXT NOT NULL REFERENCES users ON DELETE CASCADE,
        hash BLOB NOT NULL UNIQUE,
        label TEXT NOT NULL,
        scopes TEXT NOT NULL,
        created INTEGER NOT NULL,
        expires INTEGER,
        used INTEGER
    ) STRICT;
    CREATE INDEX tokens_user ON tokens (user);
    CREATE TABLE sessions (
        hash BLOB PRIMARY KEY,
        user TEXT NOT NULL REFERENCES users ON DELETE CASCADE,
        created INTEGER NOT NULL,
        expires INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX sessions_user ON sessions (user);
    CREATE INDEX sessions_expires ON sessions (expires);
",
    "
    CREATE TABLE processes (
        id BLOB PRIMARY KEY,
        user TEXT NOT NULL,
        call TEXT NOT NULL,
        params TEXT NOT NULL,
        plugin TEXT NOT NULL,
        generation INTEGER NOT NULL,
        started INTEGER NOT NULL,
        ended INTEGER,
        outcome TEXT,
        message TEXT,
        stop TEXT,
        cleanup TEXT,
        value TEXT,
        cpu_ms INTEGER NOT NULL,
        memory INTEGER NOT NULL,
        bytes_in INTEGER NOT NULL,
        bytes_out INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX processes_user ON processes (user);
",
    "
    CREATE TABLE systems (
        slug TEXT PRIMARY KEY,
        url TEXT NOT NULL,
        tagline TEXT NOT NULL,
        entity_count INTEGER NOT NULL,
        bundle_count INTEGER NOT NULL,
        last_edit TEXT
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE news (
        id TEXT PRIMARY KEY,
        date TEXT NOT NULL,
        title TEXT NOT NULL,
        content TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE seeded (what TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;
",
];

/// The version of the schema that this program knows.
pub(super) const SCHEMA: u32 = MIGRATIONS.len() as u32;

/// Why the database did not do as it was told. What it did before stays done, and nothing is done by half.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error(
        "{} was made by a newer distillery (schema {found}, this one knows up to {known}): use that one, or put back a \
         backup from before it",
        .file.display()
    )]
    Newer { file: PathBuf, found: u32, known: u32 },
    #[error(
        "cannot use {}: {error}; run this as the user that runs the server, and set `data` in distillery.yaml to a \
         directory that this user can write",
        .file.display()
    )]
    Impossible { file: PathBuf, error: io::Error },
    #[error(
        "{} cannot be written: let the user that runs the server write there, or set `data` in distillery.yaml to \
         another directory",
        .0.display()
    )]
    ReadOnly(PathBuf),
    #[error("the disk of {} is full: nothing was changed; free some space and try again", .0.display())]
    Full(PathBuf),
    #[error("{} is in use by somebody who does not let go of it: nothing was changed; try again", .0.display())]
    Busy(PathBuf),
    #[error("{} is damaged or no database: put back a backup ({error})", .file.display())]
    Damaged { file: PathBuf, error: rusqlite::Error },
    #[error("{} is damaged: put back a backup ({what})", .file.display())]
    Wrong { file: PathBuf, what: String },
    #[error("{}: {error}", .file.display())]
    Other { file: PathBuf, error: rusqlite::Error },
}

/// Where the database is. Each who uses it opens a connection of their own.
#[derive(Clone, Debug)]
pub struct Database {
    file: PathBuf,
}

impl Database {
    /// The database in the directory `data`, made if there is none, with the schema of this distillery.
    pub fn open(data: &Path) -> Result<Self, StoreError> {
        let file = data.join(FILE);
        let impossible = |error| StoreError::Impossible { file: file.clone(), error };
        fs::create_dir_all(data).map_err(impossible)?;
        // It holds what proves who somebody is, so that nobody but its owner may read it. SQLite gives the files beside
        // it the same mode.
        File::options().create(true).truncate(false).write(true).mode(0o600).open(&file).map_err(impossible)?;
        let database = Self { file };
        database.migrate(MIGRATIONS)?;
        Ok(database)
    }

    /// The database in `file`, which is there.
    pub(super) fn at(file: PathBuf) -> Self {
        Self { file }
    }

    /// A connection whose commits last even when the machine loses its power.
    pub(super) fn connect(&self) -> Result<Connection, StoreError> {
        self.connected().map_err(self.told())
    }

    fn connected(&self) -> rusqlite::Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.file, flags)?;
        connection.busy_timeout(BUSY)?;
        connection.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
        connection.pragma_update(None, "synchronous", "full")?;
        connection.pragma_update(None, "foreign_keys", true)?;
        Ok(connection)
    }

    /// Turns an error of SQLite into one that says what to do.
    pub(super) fn told(&self) -> impl Fn(rusqlite::Error) -> StoreError + use<> {
        let file = self.file.clone();
        move |error| {
            let file = file.clone();
            match error.sqlite_error_code() {
                Some(ErrorCode::DiskFull) => StoreError::Full(file),
                Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
                    StoreError::ReadOnly(file)
                }
                Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::Busy(file),
                Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => StoreError::Damaged { file, error },
                _ => StoreError::Other { file, error },
            }
        }
    }

    /// Brings the schema up to the last of `migrations`, one whole step after the other.
    fn migrate(&self, migrations: &[&str]) -> Result<(), StoreError> {
        let mut connection = self.connect()?;
        let known = migrations.len() as u32;
        let version = |connection: &Connection| {
            connection.pragma_query_value(None, "user_version", |row| row.get::<_, u32>(0)).map_err(self.told())
        };
        loop {
            let found = version(&connection)?;
            if found > known {
                return Err(StoreError::Newer { file: self.file.clone(), found, known });
            }
            let Some(step) = migrations.get(found as usize) else { return Ok(()) };
            let transaction =
                connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(self.told())?;
            // Another process may have been quicker.
            if version(&transaction)? == found {
                transaction.execute_batch(step).map_err(self.told())?;
                transaction.pragma_update(None, "user_version", found + 1).map_err(self.told())?;
                transaction.commit().map_err(self.told())?;
            }
        }
    }

    /// Looks at all of it, and says what is wrong with it.
    pub fn check(&self) -> Result<(), StoreError> {
        self.check_with(&self.connect()?)
    }

    /// Looks at all of it over `connection`, and says what is wrong with it.
    pub(super) fn check_with(&self, connection: &Connection) -> Result<(), StoreError> {
        let found = |sql| -> rusqlite::Result<Vec<String>> {
            connection.prepare(sql)?.query_map([], |row| row.get(0))?.collect()
        };
        let mut wrong = found("PRAGMA integrity_check").map_err(self.told())?;
        wrong.retain(|it| it != "ok");
        let lost = found("SELECT \"table\" FROM pragma_foreign_key_check").map_err(self.told())?;
        wrong.extend(lost.into_iter().map(|table| format!("a row of {table} belongs to nobody")));
        if wrong.is_empty() {
            Ok(())
        } else {
            Err(StoreError::Wrong { file: self.file.clone(), what: wrong.join("; ") })
        }
    }

    /// Writes all of it, as it is at this moment, into a new file, whoever else uses it.
    pub fn backup(&self, to: &Path) -> Result<(), StoreError> {
        let impossible = |error| StoreError::Impossible { file: to.to_owned(), error };
        if to.exists() {
            return Err(impossible(io::Error::new(io::ErrorKind::AlreadyExists, "there is such a file already")));
        }
        // What has the name of the backup is always a whole one.
        let mut aside = to.as_os_str().to_owned();
        aside.push(".part");
        let aside = PathBuf::from(aside);
        let mut options = File::options();
        options.create(true).truncate(true).write(true).mode(0o600).open(&aside).map_err(impossible)?;
        let write = || {
            let connection = self.connect()?;
            let path = aside.to_string_lossy();
            connection.execute("VACUUM INTO ?1", [&path]).map_err(Self { file: to.to_owned() }.told())?;
            File::open(&aside).and_then(|file| file.sync_all()).map_err(impossible)?;
            fs::rename(&aside, to).map_err(impossible)
        };
        write().inspect_err(|_| drop(fs::remove_file(&aside)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn add(connection: &Connection, name: &str) -> rusqlite::Result<usize> {
        connection.execute("INSERT INTO users VALUES (?1, NULL, '', 0)", [name])
    }

    fn count(connection: &Connection) -> u32 {
        connection.query_row("SELECT count(*) FROM users", [], |row| row.get(0)).unwrap()
    }

    #[test]
    fn it_is_made_once_and_is_its_owners() {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("data");
        let first = Database::open(&data).unwrap();
        add(&first.connect().unwrap(), "ada").unwrap();
        assert_eq!(count(&Database::open(&data).unwrap().connect().unwrap()), 1);
        first.check_with(&first.connect().unwrap()).unwrap();
        for file in fs::read_dir(&data).unwrap().map(|it| it.unwrap()) {
            assert_eq!(file.metadata().unwrap().permissions().mode() & 0o077, 0, "{:?}", file.file_name());
        }
    }

    #[test]
    fn each_step_of_the_schema_keeps_what_was_there() {
        let directory = tempfile::tempdir().unwrap();
        let database = Database::open(directory.path()).unwrap();
        add(&database.connect().unwrap(), "ada").unwrap();
        let more = [MIGRATIONS, &["ALTER TABLE users ADD COLUMN mail TEXT"]].concat();
        database.migrate(&more).unwrap();
        database.migrate(&more).unwrap();
        let connection = database.connect().unwrap();
        let mail = connection.query_row("SELECT mail FROM users", [], |row| row.get::<_, Option<String>>(0));
        assert_eq!(mail.unwrap(), None);
    }

    #[test]
    fn a_step_that_fails_leaves_nothing_behind() {
        let directory = tempfile::tempdir().unwrap();
        let database = Database::open(directory.path()).unwrap();
        let broken = [MIGRATIONS, &["CREATE TABLE half (x TEXT); CREATE TABLE users (x TEXT)"]].concat();
        assert!(matches!(database.migrate(&broken), Err(StoreError::Other { .. })));
        let connection = database.connect().unwrap();
        assert!(connection.execute("SELECT * FROM half", []).unwrap_err().to_string().contains("no such table"));
        database.migrate(MIGRATIONS).unwrap();
    }

    #[test]
    fn a_newer_schema_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let database = Database::open(directory.path()).unwrap();
        database.connect().unwrap().pragma_update(None, "user_version", 99).unwrap();
        let error = Database::open(directory.path()).unwrap_err().to_string();
        assert!(error.contains("was made by a newer distillery (schema 99, this one knows up to "), "{error}");
    }

    #[test]
    fn what_is_no_database_is_left_as_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join(FILE);
        fs::write(&file, "no database, but long enough to be looked at: ".repeat(100)).unwrap();
        let before = fs::read(&file).unwrap();
        let error = Database::open(directory.path()).unwrap_err();
        assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
        assert_eq!(fs::read(&file).unwrap(), before);
    }

    #[test]
    fn a_row_that_belongs_to_nobody_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let database = Database::open(directory.path()).unwrap();
        let connection = database.connect().unwrap();
        connection.pragma_update(None, "foreign_keys", false).unwrap();
        connection.execute("INSERT INTO sessions VALUES (x'00', 'gone', 0, 0)", []).unwrap();
        let error = database.check_with(&connection).unwrap_err().to_string();
        assert!(error.contains("a row of sessions belongs to nobody"), "{error}");
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        fs::write(&file, "").unwrap();
        let error = Database::open(&file).unwrap_err().to_string();
        assert!(error.contains("set `data` in distillery.yaml"), "{error}");
    }

    #[test]
    fn what_cannot_be_written_is_told_and_can_still_be_read() {
        let directory = tempfile::tempdir().unwrap();
        let database = Database::open(directory.path()).unwrap();
        let connection = database.connect().unwrap();
        add(&connection, "ada").unwrap();
        // SQLite answers what a file system that is read-only makes it answer.
        connection.pragma_update(None, "query_only", true).unwrap();
        let error = database.told()(add(&connection, "bob").unwrap_err());
        assert!(
            error.to_string().contains("cannot be written: let the user that runs the server write there"),
            "{error}"
        );
        assert_eq!(count(&connection), 1);
    }

    #[test]
    fn a_full_disk_is_told_and_loses_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let database = Database::open(directory.path()).unwrap();
        let connection = database.connect().unwrap();
        add(&connection, "ada").unwrap();
        // SQLite answers what a full disk makes it answer.
        let pages: u32 = connection.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
        connection.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(())).unwrap();
        let full = (0..10_000).find_map(|n| add(&connection, &format!("user{n}")).err()).unwrap();
        let error = database.told()(full);
        assert!(matches!(error, StoreError::Full(_)), "{error}");
        assert!(count(&database.connect().unwrap()) >= 1);
        database.connect().unwrap().execute("DELETE FROM users WHERE name = 'ada'", []).unwrap();
    }

    #[test]
    fn a_backup_is_whole_and_never_in_the_place_of_another_file() {
        let directory = tempfile::tempdir().unwrap();
        let database = Database::open(&directory.path().join("data")).unwrap();
        let open = database.connect().unwrap();
        add(&open, "ada").unwrap();
        let copy = directory.path().join(FILE);
        database.backup(&copy).unwrap();
        add(&open, "bob").unwrap();
        assert_eq!(count(&Database::open(directory.path()).unwrap().connect().unwrap()), 1);
        let again = database.backup(&copy).unwrap_err().to_string();
        assert!(again.contains("there is such a file already"), "{again}");
        assert!(!directory.path().join("distillery.db.part").exists());
    }
}
