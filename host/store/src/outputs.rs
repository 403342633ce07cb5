//! The output of processes, compressed, in a database of its own: its writer never holds up the other stores, and it
//! can be deleted while the server does not run. All functions here block.

use super::{
    connections::{Readers, change},
    database::{Database, StoreError},
};
use distillery_core::stream::{Stream, recording::Recorded};
use rusqlite::{Connection, OptionalExtension, params};
use std::path::Path;
use time::OffsetDateTime;
use uuid::Uuid;

/// The name of the file in the `data` directory.
pub const FILE: &str = "output.db";

/// Maximum size of a part before it is compressed: a reader holds one at a time.
const PART: usize = 256 << 10;
/// Bounds what a damaged part can take when it is read.
const PART_READ: usize = 2 * PART;
/// The fastest level that still halves text. The output of a log shrinks to a tenth.
const LEVEL: i32 = 1;

const MIGRATIONS: &[&str] = &["
    CREATE TABLE outputs (
        process BLOB PRIMARY KEY,
        stdout INTEGER NOT NULL,
        stderr INTEGER NOT NULL,
        size INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE parts (
        id INTEGER PRIMARY KEY,
        process BLOB NOT NULL,
        stdout INTEGER NOT NULL,
        stderr INTEGER NOT NULL,
        data BLOB NOT NULL
    ) STRICT;
    CREATE INDEX parts_process ON parts (process, id);
"];

/// Bounds of all stored output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Maximum bytes on disk.
    pub size: u64,
    /// Maximum number of processes.
    pub count: u64,
}

/// A part of the output of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Later parts of a process have larger ids.
    pub id: i64,
    /// The entries of [`distillery_core::stream::recording::entries`].
    pub entries: Vec<u8>,
}

/// The reader of the output.
pub struct Outputs {
    readers: Readers,
}

/// Opens the database beside the one of the history.
pub fn open(beside: &Database) -> Result<Database, StoreError> {
    let directory = beside.file().parent().unwrap_or_else(|| Path::new("."));
    Database::open_with(directory, FILE, MIGRATIONS)
}

impl Outputs {
    pub fn open(database: &Database) -> Result<Self, StoreError> {
        Ok(Self { readers: Readers::open(database)? })
    }

    /// Returns how many bytes the process has written to each stream, including those that are not stored. `None` if
    /// nothing is stored.
    pub fn ends(&self, process: Uuid) -> Result<Option<[u64; 2]>, StoreError> {
        let sql = "SELECT stdout, stderr FROM outputs WHERE process = ?1";
        self.readers.read(|db| {
            db.query_row(sql, [process.into_bytes()], |row| {
                Ok([row.get::<_, i64>(0)? as u64, row.get::<_, i64>(1)? as u64])
            })
            .optional()
        })
    }

    /// Returns the first part behind `after` with bytes of `stream` at or behind the offset `from`.
    pub fn next(&self, process: Uuid, stream: Stream, from: u64, after: i64) -> Result<Option<Part>, StoreError> {
        let column = stream.name();
        let sql =
            format!("SELECT id, data FROM parts WHERE process = ?1 AND id > ?2 AND {column} > ?3 ORDER BY id LIMIT 1");
        let found = self.readers.read(|db| {
            let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get::<_, Vec<u8>>(1)?));
            db.query_row(&sql, params![process.into_bytes(), after, from as i64], read).optional()
        })?;
        // A part that cannot be read is left out, like bytes that were never stored.
        Ok(found.map(|(id, data)| Part { id, entries: zstd::bulk::decompress(&data, PART_READ).unwrap_or_default() }))
    }
}

/// The writer of the output. Only the server has one.
pub struct OutputWriter {
    database: Database,
    connection: Connection,
}

impl OutputWriter {
    /// Opens the database for writing. A loss of power can lose its last moments, a crash of the server cannot.
    pub fn open(database: &Database) -> Result<Self, StoreError> {
        let connection = database.connect()?;
        connection.pragma_update(None, "synchronous", "normal").map_err(database.told())?;
        Ok(Self { database: database.clone(), connection })
    }

    /// Stores all of `recorded`, or nothing. Returns the size on disk.
    pub fn write(&mut self, recorded: Vec<Recorded>) -> Result<u64, StoreError> {
        let mut parts = Vec::new();
        for part in recorded.into_iter().flat_map(|recorded| recorded.parts(PART)) {
            let data = zstd::bulk::compress(&part.entries, LEVEL).unwrap_or_default();
            parts.push((part.process, part.ends.map(|end| end as i64), data));
        }
        let size = parts.iter().map(|(.., data)| data.len() as u64).sum();
        change(&self.database, &mut self.connection, |db| {
            let mut part = db.prepare("INSERT INTO parts (process, stdout, stderr, data) VALUES (?1, ?2, ?3, ?4)")?;
            let mut whole = db.prepare(
                "INSERT INTO outputs VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO UPDATE SET stdout = ?2, stderr = ?3, \
                 size = size + ?4",
            )?;
            for (process, [stdout, stderr], data) in &parts {
                let process = process.into_bytes();
                part.execute(params![process, stdout, stderr, data])?;
                whole.execute(params![process, stdout, stderr, data.len() as i64])?;
            }
            Ok(())
        })?;
        Ok(size)
    }

    /// Removes the output of processes that began before `oldest`, and of the oldest beyond `bounds`. Returns the size
    /// that is left.
    pub fn prune(&mut self, oldest: OffsetDateTime, bounds: Bounds) -> Result<u64, StoreError> {
        let millis = (oldest.unix_timestamp_nanos() / 1_000_000).max(0) as u128;
        // An id begins with the millisecond in which it was made.
        let first = Uuid::from_u128(millis << 80);
        change(&self.database, &mut self.connection, |db| {
            let (mut count, mut size, mut last_gone) = (0, 0, None);
            let mut all = db.prepare("SELECT process, size FROM outputs ORDER BY process DESC")?;
            let mut rows = all.query([])?;
            while let Some(row) = rows.next()? {
                let (process, its_size) = (Uuid::from_bytes(row.get(0)?), row.get::<_, i64>(1)? as u64);
                if process < first || count + 1 > bounds.count || size + its_size > bounds.size {
                    last_gone = Some(process.into_bytes());
                    break;
                }
                (count, size) = (count + 1, size + its_size);
            }
            if let Some(process) = last_gone {
                db.execute("DELETE FROM parts WHERE process <= ?1", [process])?;
                db.execute("DELETE FROM outputs WHERE process <= ?1", [process])?;
            }
            Ok(size)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use distillery_core::stream::recording::{Recorder, entries};
    use std::{fs, os::unix::fs::PermissionsExt};

    fn recorded(text: &[u8]) -> Recorded {
        let (recorder, _queue) = Recorder::new(usize::MAX);
        let recording = recorder.begin(Uuid::now_v7(), false);
        recording.write(Stream::Stdout, text);
        recording.take()
    }

    fn read(outputs: &Outputs, process: Uuid, from: u64) -> Vec<u8> {
        let (mut after, mut whole) = (0, Vec::new());
        while let Some(part) = outputs.next(process, Stream::Stdout, from, after).unwrap() {
            after = part.id;
            for entry in entries(&part.entries).filter(|entry| entry.stream == Stream::Stdout) {
                let skipped = from.saturating_sub(entry.offset).min(entry.bytes.len() as u64) as usize;
                whole.extend_from_slice(&entry.bytes[skipped..]);
            }
        }
        whole
    }

    fn store() -> (tempfile::TempDir, Outputs, OutputWriter) {
        let directory = tempfile::tempdir().unwrap();
        let database = open(&Database::open(directory.path()).unwrap()).unwrap();
        (directory, Outputs::open(&database).unwrap(), OutputWriter::open(&database).unwrap())
    }

    #[test]
    fn output_is_private_compressed_and_read_from_any_offset() {
        let (directory, outputs, mut writer) = store();
        let text: Vec<u8> = (0..1_000_000u32).map(|n| (n / 1000 % 256) as u8).collect();
        let recorded = recorded(&text);
        let process = recorded.process;
        let size = writer.write(vec![recorded]).unwrap();
        assert!(size < 200_000, "{size}");
        assert_eq!(outputs.ends(process).unwrap(), Some([1_000_000, 0]));
        for from in [0, 1, 262_144, 999_999, 1_000_000] {
            assert!(read(&outputs, process, from) == text[from as usize..], "{from}");
        }
        assert_eq!(outputs.ends(Uuid::nil()).unwrap(), None);
        for file in fs::read_dir(directory.path()).unwrap().map(|it| it.unwrap()) {
            assert_eq!(file.metadata().unwrap().permissions().mode() & 0o077, 0, "{:?}", file.file_name());
        }
    }

    #[test]
    fn oldest_output_is_removed_beyond_each_bound() {
        let (_directory, outputs, mut writer) = store();
        let all: Vec<_> = (0..10).map(|n| recorded(format!("{n}").repeat(100).as_bytes())).collect();
        let ids: Vec<_> = all.iter().map(|it| it.process).collect();
        let size = writer.write(all).unwrap();
        let kept = || ids.iter().filter(|id| outputs.ends(**id).unwrap().is_some()).count();
        let past = OffsetDateTime::now_utc() - time::Duration::HOUR;
        let all = Bounds { size, count: 10 };
        assert_eq!(writer.prune(past, all).unwrap(), size);
        assert_eq!(kept(), 10);
        writer.prune(past, Bounds { count: 8, ..all }).unwrap();
        assert_eq!((kept(), outputs.ends(ids[1]).unwrap()), (8, None));
        assert!(writer.prune(past, Bounds { size: size / 2, ..all }).unwrap() <= size / 2);
        assert!((4..=5).contains(&kept()) && outputs.ends(ids[9]).unwrap().is_some());
        writer.prune(past + time::Duration::DAY, all).unwrap();
        assert_eq!(kept(), 0);
    }
}
