//! An inspection of the database that changes nothing: it makes no file, and migrates no schema.

use super::{
    accounts::user_in,
    database::{Database, FILE, SCHEMA, StoreError},
};
use distillery_core::{auth::Scope, principal::UserId};
use rusqlite::{Connection, OpenFlags};
use rustix::fs::{Access, access};
use std::{fs, path::Path};

/// The state of a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inspection {
    /// There is none; the first start makes it.
    Missing,
    /// A database with this schema, which the next start migrates to `known`.
    Readable { schema: u32, known: u32 },
    /// The database of a killed server, which cannot be read without a write. The next start recovers it.
    Unfinished,
}

/// Inspects the database in the directory `data`, with the rights of this process. A large database takes no longer.
pub fn inspect(data: &Path) -> Result<Inspection, StoreError> {
    look(data, |_, _| Ok(()))
}

/// Reads the whole database in the directory `data`, and returns its faults as an error.
pub fn verify(data: &Path) -> Result<Inspection, StoreError> {
    look(data, Database::check_with)
}

/// Returns the account of a user and its scopes, without a change. `None` if the database cannot be read, or has no such
/// user.
pub fn user(data: &Path, name: &str) -> Result<Option<(UserId, Vec<Scope>)>, StoreError> {
    let mut found = None;
    look(data, |database, connection| {
        found = user_in(connection, name).map_err(database.told())?;
        Ok(())
    })?;
    Ok(found)
}

fn look(
    data: &Path,
    check: impl FnOnce(&Database, &Connection) -> Result<(), StoreError>,
) -> Result<Inspection, StoreError> {
    let file = data.join(FILE);
    let impossible = |error: rustix::io::Errno| StoreError::Impossible { file: file.clone(), error: error.into() };
    match access(&file, Access::READ_OK | Access::WRITE_OK) {
        Err(rustix::io::Errno::NOENT) => return Ok(Inspection::Missing),
        checked => checked.map_err(impossible)?,
    }
    let beside = |suffix: &str| data.join(format!("{FILE}{suffix}"));
    let pending = fs::metadata(beside("-wal")).is_ok_and(|wal| wal.len() > 0);
    if pending && !beside("-shm").exists() {
        return Ok(Inspection::Unfinished);
    }
    let database = Database::at(file.clone());
    let connection = open(&file, pending).map_err(database.told())?;
    let schema: u32 = connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(database.told())?;
    if schema > SCHEMA {
        return Err(StoreError::Newer { file, found: schema, known: SCHEMA });
    }
    check(&database, &connection)?;
    Ok(Inspection::Readable { schema, known: SCHEMA })
}

/// Opens a file for reading. With nothing `pending` beside it, the file is opened as immutable, so that SQLite makes no
/// files.
fn open(file: &Path, pending: bool) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    if pending {
        return Connection::open_with_flags(file, flags);
    }
    let path = file.to_string_lossy();
    let path: String =
        path.chars().map(|c| if "?#%".contains(c) { format!("%{:02X}", c as u32) } else { c.into() }).collect();
    // Two slashes would begin the name of a host.
    let root = if path.starts_with('/') { "//" } else { "" };
    Connection::open_with_flags(format!("file:{root}{path}?immutable=1"), flags | OpenFlags::SQLITE_OPEN_URI)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{collections::BTreeMap, time::SystemTime};

    fn files(data: &Path) -> BTreeMap<String, (u64, SystemTime)> {
        let entries = fs::read_dir(data).unwrap().map(|entry| entry.unwrap());
        let seen = |it: &fs::DirEntry| it.metadata().map(|it| (it.len(), it.modified().unwrap())).unwrap();
        entries.map(|it| (it.file_name().into_string().unwrap(), seen(&it))).collect()
    }

    fn set_schema(data: &Path, schema: u32) {
        let connection = Connection::open(data.join(FILE)).unwrap();
        connection.pragma_update(None, "user_version", schema).unwrap();
    }

    #[test]
    fn inspection_changes_nothing() {
        let root = tempfile::tempdir().unwrap();
        // Characters with a meaning in a database URI.
        let data = root.path().join("da?ta#1 %20");
        assert_eq!(inspect(&data).unwrap(), Inspection::Missing);
        assert!(!data.exists());
        let database = Database::open(&data).unwrap();
        set_schema(&data, SCHEMA - 1);
        let before = files(&data);
        for look in [inspect, verify] {
            assert_eq!(look(&data).unwrap(), Inspection::Readable { schema: SCHEMA - 1, known: SCHEMA });
        }
        assert_eq!(files(&data), before);
        // While a server has the database open, its last writes count.
        let connection = database.connect().unwrap();
        connection.pragma_update(None, "user_version", SCHEMA).unwrap();
        let names = files(&data).into_keys().collect::<Vec<_>>();
        assert_eq!(inspect(&data).unwrap(), Inspection::Readable { schema: SCHEMA, known: SCHEMA });
        assert_eq!(files(&data).into_keys().collect::<Vec<_>>(), names);
    }

    #[test]
    fn newer_and_damaged_databases_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        Database::open(directory.path()).unwrap();
        set_schema(directory.path(), SCHEMA + 1);
        assert!(matches!(inspect(directory.path()), Err(StoreError::Newer { .. })));
        fs::write(
            directory.path().join(FILE),
            "no database, but long enough to be read as the head of one".repeat(100),
        )
        .unwrap();
        assert!(matches!(inspect(directory.path()), Err(StoreError::Damaged { .. })));
    }
}
