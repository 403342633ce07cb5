//! The database: one SQLite file in the `data` directory, its schema, and its errors in words.
//!
//! Several processes can have it open: the server, and the command line beside it. All functions here block, so they
//! must not run on threads that serve sockets.

mod backup;
mod schema;

use distillery_core::private::{self, NotPrivate, Use};
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};
use schema::MIGRATIONS;
use std::{
    fs::File,
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

/// The name of the file in the `data` directory.
pub const FILE: &str = "distillery.db";

/// Suffixes of the files that SQLite keeps beside the database.
const BESIDE: [&str; 2] = ["-wal", "-shm"];

/// Timeout of a write that waits for another one.
pub(super) const BUSY: Duration = Duration::from_secs(5);
/// Timeout of a read that must wait, such as while another process recovers from a crash.
const BUSY_TO_READ: Duration = Duration::from_secs(1);

/// The schema version of this program.
pub(super) const SCHEMA: u32 = MIGRATIONS.len() as u32;

/// An error of the database. Earlier changes stay, and no change is made by half.
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
    #[error("cannot use {}: {error}", .file.display())]
    NotPrivate { file: PathBuf, error: NotPrivate },
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

/// The location of the database. Each user of it opens a connection of its own.
#[derive(Clone, Debug)]
pub struct Database {
    file: PathBuf,
}

impl Database {
    /// Opens the database in the directory `data`. Makes it if there is none, and migrates its schema.
    pub fn open(data: &Path) -> Result<Self, StoreError> {
        Self::open_with(data, FILE, MIGRATIONS)
    }

    /// Opens the database `name` in the directory `data`. Makes it if there is none, and migrates its schema.
    pub(super) fn open_with(data: &Path, name: &str, migrations: &[&str]) -> Result<Self, StoreError> {
        let file = data.join(name);
        let impossible = |error| StoreError::Impossible { file: file.clone(), error };
        let not_private = |error| match error {
            NotPrivate::Io(error) => impossible(error),
            error => StoreError::NotPrivate { file: file.clone(), error },
        };
        private::directory(data, Use::Visit).map_err(not_private)?;
        // The database contains hashes of credentials. SQLite gives the files beside it the same mode when it makes
        // them.
        for end in [""].into_iter().chain(BESIDE) {
            private::file(&data.join(format!("{name}{end}")), Use::Visit).map_err(not_private)?;
        }
        File::options().create(true).truncate(false).write(true).mode(0o600).open(&file).map_err(impossible)?;
        let database = Self { file };
        database.migrate(migrations)?;
        Ok(database)
    }

    /// Returns the file of the database.
    pub(super) fn file(&self) -> &Path {
        &self.file
    }

    /// Refers to the database in `file`, which exists.
    pub(super) fn at(file: PathBuf) -> Self {
        Self { file }
    }

    /// Opens a connection whose commits survive a loss of power.
    pub(super) fn connect(&self) -> Result<Connection, StoreError> {
        self.connected().map_err(self.told())
    }

    /// Opens a connection that only reads, and waits for no write.
    pub(super) fn connect_to_read(&self) -> Result<Connection, StoreError> {
        let connect = || {
            // In WAL mode, a reader has to write to the files beside the database.
            let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let connection = Connection::open_with_flags(&self.file, flags)?;
            connection.busy_timeout(BUSY_TO_READ)?;
            connection.pragma_update(None, "query_only", true)?;
            Ok(connection)
        };
        connect().map_err(self.told())
    }

    /// Returns the error of a write that timed out while it waited for others.
    pub(super) fn busy(&self) -> StoreError {
        StoreError::Busy(self.file.clone())
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

    /// Returns a function that turns an error of SQLite into one that says what to do.
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

    /// Migrates the schema to the last of `migrations`, one whole step at a time.
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
            // Another process can have been faster.
            if version(&transaction)? == found {
                transaction.execute_batch(step).map_err(self.told())?;
                transaction.pragma_update(None, "user_version", found + 1).map_err(self.told())?;
                transaction.commit().map_err(self.told())?;
            }
        }
    }

    /// Checks the whole database, and returns its faults as an error.
    pub fn check(&self) -> Result<(), StoreError> {
        self.check_with(&self.connect()?)
    }

    /// Checks the whole database over `connection`, and returns its faults as an error.
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::PermissionsExt};

    pub(super) fn add(connection: &Connection, name: &str) -> rusqlite::Result<usize> {
        connection.execute("INSERT INTO users (name, scopes, created) VALUES (?1, '', 0)", [name])
    }

    pub(super) fn count(connection: &Connection) -> u32 {
        connection.query_row("SELECT count(*) FROM users", [], |row| row.get(0)).unwrap()
    }

    #[test]
    fn database_is_made_once_and_is_private() {
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
    fn each_step_of_the_schema_keeps_the_data() {
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
    fn processes_belong_to_accounts_that_existed_before_them() {
        let directory = tempfile::tempdir().unwrap();
        let database = Database { file: directory.path().join(FILE) };
        File::create(&database.file).unwrap();
        database.migrate(&MIGRATIONS[..3]).unwrap();
        let before = database.connect().unwrap();
        let process = "INSERT INTO processes (id, user, call, params, plugin, generation, started, cpu_ms, memory, \
                       bytes_in, bytes_out) VALUES (?1, ?2, 'x', '[]', 'x', 1, ?3, 0, 0, 0, 0)";
        before.execute("INSERT INTO users VALUES ('ada', NULL, '', 100), ('bob', NULL, '', 100)", []).unwrap();
        for (id, user, started) in [(1, "ada", 99_000), (2, "ada", 101_000), (3, "bob", 101_000), (4, "eve", 101_000)] {
            before.execute(process, (vec![id as u8; 16], user, started)).unwrap();
        }
        database.migrate(MIGRATIONS).unwrap();
        let after = database.connect().unwrap();
        let ids = "SELECT 'user:' || id FROM users WHERE name = ?1";
        let id = |name| after.query_row(ids, [name], |row| row.get::<_, Option<String>>(0)).unwrap();
        let owners: Vec<Option<String>> = (after.prepare("SELECT owner FROM processes ORDER BY id").unwrap())
            .query_map([], |row| row.get(0))
            .unwrap()
            .map(Result::unwrap)
            .collect();
        assert_eq!(owners, [None, id("ada"), id("bob"), None]);
        assert!(id("ada").is_some_and(|id| id.len() == "user:".len() + 32) && id("ada") != id("bob"));
    }

    #[test]
    fn failed_step_changes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let database = Database::open(directory.path()).unwrap();
        let broken = [MIGRATIONS, &["CREATE TABLE half (x TEXT); CREATE TABLE users (x TEXT)"]].concat();
        assert!(matches!(database.migrate(&broken), Err(StoreError::Other { .. })));
        let connection = database.connect().unwrap();
        assert!(connection.execute("SELECT * FROM half", []).unwrap_err().to_string().contains("no such table"));
        database.migrate(MIGRATIONS).unwrap();
    }

    #[test]
    fn newer_schema_is_not_touched() {
        let directory = tempfile::tempdir().unwrap();
        let database = Database::open(directory.path()).unwrap();
        database.connect().unwrap().pragma_update(None, "user_version", 99).unwrap();
        let error = Database::open(directory.path()).unwrap_err().to_string();
        assert!(error.contains("was made by a newer distillery (schema 99, this one knows up to "), "{error}");
    }

    #[test]
    fn file_that_is_not_a_database_is_not_touched() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join(FILE);
        fs::write(&file, "no database, but long enough to be looked at: ".repeat(100)).unwrap();
        let before = fs::read(&file).unwrap();
        let error = Database::open(directory.path()).unwrap_err();
        assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
        assert_eq!(fs::read(&file).unwrap(), before);
    }

    #[test]
    fn row_without_its_parent_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let database = Database::open(directory.path()).unwrap();
        let connection = database.connect().unwrap();
        connection.pragma_update(None, "foreign_keys", false).unwrap();
        connection.execute("INSERT INTO sessions VALUES (x'00', 'gone', 0, 0)", []).unwrap();
        let error = database.check_with(&connection).unwrap_err().to_string();
        assert!(error.contains("a row of sessions belongs to nobody"), "{error}");
    }

    #[test]
    fn directory_that_cannot_be_made_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        fs::write(&file, "").unwrap();
        let error = Database::open(&file).unwrap_err().to_string();
        assert!(error.contains("set `data` in distillery.yaml"), "{error}");
    }

    #[test]
    fn read_only_database_is_reported_and_can_be_read() {
        let directory = tempfile::tempdir().unwrap();
        let database = Database::open(directory.path()).unwrap();
        let connection = database.connect().unwrap();
        add(&connection, "ada").unwrap();
        // SQLite reports the error of a read-only file system.
        connection.pragma_update(None, "query_only", true).unwrap();
        let error = database.told()(add(&connection, "bob").unwrap_err());
        assert!(
            error.to_string().contains("cannot be written: let the user that runs the server write there"),
            "{error}"
        );
        assert_eq!(count(&connection), 1);
    }

    #[test]
    fn full_disk_is_reported_and_loses_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let database = Database::open(directory.path()).unwrap();
        let connection = database.connect().unwrap();
        add(&connection, "ada").unwrap();
        // SQLite reports the error of a full disk.
        let pages: u32 = connection.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
        connection.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(())).unwrap();
        let full = (0..10_000).find_map(|n| add(&connection, &format!("user{n}")).err()).unwrap();
        let error = database.told()(full);
        assert!(matches!(error, StoreError::Full(_)), "{error}");
        assert!(count(&database.connect().unwrap()) >= 1);
        database.connect().unwrap().execute("DELETE FROM users WHERE name = 'ada'", []).unwrap();
    }
}
