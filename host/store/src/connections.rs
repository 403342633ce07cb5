//! Connections to the database: one that writes, and as many as needed that read.
//!
//! A reader sees the last commit and waits for no writer, as the database is in WAL mode. Queries of every request
//! therefore go to the readers, never to the writing connection.

use super::database::{BUSY, Database, StoreError};
use parking_lot::{Mutex, MutexGuard};
use rusqlite::{Connection, TransactionBehavior};

/// Maximum number of idle connections. More are open only while more requests read at once.
const IDLE: usize = 4;

/// Connections that only read.
pub(super) struct Readers {
    database: Database,
    idle: Mutex<Vec<Connection>>,
}

impl Readers {
    pub fn open(database: &Database) -> Result<Self, StoreError> {
        let first = database.connect_to_read()?;
        Ok(Self { database: database.clone(), idle: Mutex::new(vec![first]) })
    }

    pub fn read<T>(&self, read: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        let idle = self.idle.lock().pop();
        let connection = idle.map_or_else(|| self.database.connect_to_read(), Ok)?;
        let found = read(&connection).map_err(self.database.told());
        let mut idle = self.idle.lock();
        if idle.len() < IDLE {
            idle.push(connection);
        }
        found
    }
}

/// The one connection that writes.
pub(super) struct Writer {
    database: Database,
    connection: Mutex<Connection>,
}

impl Writer {
    pub fn open(database: &Database) -> Result<Self, StoreError> {
        Ok(Self { database: database.clone(), connection: Mutex::new(database.connect()?) })
    }

    /// Runs `work` in a transaction: all of it or nothing.
    pub fn change<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        change(&self.database, &mut *self.lock()?, work)
    }

    /// Waits for another change of this process as long as for one of another process. The waits of queued changes
    /// therefore do not add up.
    pub fn lock(&self) -> Result<MutexGuard<'_, Connection>, StoreError> {
        self.connection.try_lock_for(BUSY).ok_or_else(|| self.database.busy())
    }

    pub fn database(&self) -> &Database {
        &self.database
    }
}

/// Runs `work` in a transaction: all of it or nothing.
pub(super) fn change<T>(
    database: &Database,
    connection: &mut Connection,
    work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> Result<T, StoreError> {
    let done = || {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let done = work(&transaction)?;
        transaction.commit()?;
        Ok(done)
    };
    done().map_err(database.told())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_do_not_wait_for_a_writer() {
        let directory = tempfile::tempdir().unwrap();
        let database = Database::open(directory.path()).unwrap();
        let readers = Readers::open(&database).unwrap();
        let writer = database.connect().unwrap();
        writer.execute_batch("BEGIN IMMEDIATE; INSERT INTO seeded VALUES ('news')").unwrap();
        let count = || readers.read(|db| db.query_row("SELECT count(*) FROM seeded", [], |row| row.get::<_, u32>(0)));
        // One connection that is already open, and one that is opened now.
        let both = readers.read(|_| Ok((count(), count()))).unwrap();
        assert!(matches!(both, (Ok(0), Ok(0))), "{both:?}");
        writer.execute_batch("COMMIT").unwrap();
        assert_eq!(count().unwrap(), 1);
        assert!(readers.idle.lock().len() <= IDLE);
        assert!(readers.read(|db| db.execute("DELETE FROM seeded", [])).is_err(), "a reader never writes");
    }
}
