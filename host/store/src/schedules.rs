//! The schedules in the database: from when on each one counts, and its last runs. All functions here block.
//!
//! A run begins with a claim of its due time: [`Schedules::claim`] succeeds once for each due time, for all servers that
//! share the database. Due times without a claim, after the moment from which a schedule counts, are missed ones.

use super::{
    connections::{Readers, Writer},
    database::{Database, StoreError},
    processes::INTERRUPTED,
};
use rusqlite::{Connection, OptionalExtension, Row, params};
use std::{borrow::Cow, collections::BTreeMap};
use time::OffsetDateTime;
use uuid::Uuid;

/// The number of runs that are kept of each schedule.
const RUNS: u32 = 100;
/// The maximum length of a stored message.
const MESSAGE: usize = 1 << 10;

/// The state of a run that is claimed, and has no process yet.
pub const STARTING: &str = "starting";
/// The state of a run whose process has not ended.
pub const RUNNING: &str = "running";
/// The state of a run that was left out because an earlier one was still running.
pub const SKIPPED: &str = "skipped";
/// The state of a run that was left out because no server was running in time.
pub const MISSED: &str = "missed";
/// The state of a run that could not begin.
pub const REFUSED: &str = "refused";
/// All states of a run without an end of its process. A run whose process has ended has the outcome as its state.
pub const STATES: [&str; 5] = [STARTING, RUNNING, SKIPPED, MISSED, REFUSED];

/// The schedules, and their runs.
pub struct Schedules {
    readers: Readers,
    writer: Writer,
}

/// The progress of a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The schedule counts from here on.
    pub since: OffsetDateTime,
    /// The latest due time that was claimed.
    pub last: Option<OffsetDateTime>,
}

/// A due time of a schedule, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    pub due: OffsetDateTime,
    /// The time of the claim.
    pub claimed: OffsetDateTime,
    pub result: RunResult,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunResult {
    /// One of [`STATES`], or the outcome of its process.
    pub state: Cow<'static, str>,
    /// The reason of a failure.
    pub message: Option<String>,
    pub process: Option<Uuid>,
}

impl RunResult {
    pub fn new(state: impl Into<Cow<'static, str>>, message: Option<String>, process: Option<Uuid>) -> Self {
        Self { state: state.into(), message, process }
    }
}

impl Schedules {
    pub fn open(database: &Database) -> Result<Self, StoreError> {
        Ok(Self { readers: Readers::open(database)?, writer: Writer::open(database)? })
    }

    /// Registers the active schedules, by name and timetable, and returns their progress. One that is new, or has
    /// another timetable, counts from `now` on. Forgets all that are not active, and the runs of those that are not
    /// `configured`.
    pub fn register(
        &self,
        configured: &[&str],
        active: &[(&str, String)],
        now: OffsetDateTime,
    ) -> Result<BTreeMap<String, Progress>, StoreError> {
        let now = now.unix_timestamp();
        self.writer.change(|db| {
            forget(db, "SELECT name FROM schedules", "DELETE FROM schedules WHERE name = ?1", |name| {
                active.iter().any(|(it, _)| *it == name)
            })?;
            forget(db, "SELECT DISTINCT schedule FROM runs", "DELETE FROM runs WHERE schedule = ?1", |name| {
                configured.contains(&name)
            })?;
            let mut all = BTreeMap::new();
            for (name, timetable) in active {
                db.execute(
                    "INSERT INTO schedules (name, timetable, since) VALUES (?1, ?2, ?3) ON CONFLICT (name) DO UPDATE \
                     SET timetable = ?2, since = ?3 WHERE timetable <> ?2",
                    params![name, timetable, now],
                )?;
                let since = db.query_row("SELECT since FROM schedules WHERE name = ?1", [name], |row| row.get(0))?;
                let last = db.query_row("SELECT max(due) FROM runs WHERE schedule = ?1", [name], |row| row.get(0))?;
                let last = Option::<i64>::map(last, moment);
                all.insert((*name).to_owned(), Progress { since: moment(since), last });
            }
            Ok(all)
        })
    }

    /// Claims a due time, with its first result. Returns false if it was already claimed.
    pub fn claim(
        &self,
        schedule: &str,
        due: OffsetDateTime,
        now: OffsetDateTime,
        result: &RunResult,
    ) -> Result<bool, StoreError> {
        self.writer.change(|db| {
            let claimed = db.execute(
                "INSERT INTO runs (schedule, due, claimed, state, message) VALUES (?1, ?2, ?3, ?4, ?5)
                    ON CONFLICT (schedule, due) DO NOTHING",
                params![
                    schedule,
                    due.unix_timestamp(),
                    now.unix_timestamp(),
                    result.state,
                    shortened(result.message.as_deref())
                ],
            )?;
            // In the order of the claims: the due times of a clock that was wrong can lie far ahead.
            db.execute(
                "DELETE FROM runs WHERE schedule = ?1 AND rowid <= \
                 (SELECT rowid FROM runs WHERE schedule = ?1 ORDER BY rowid DESC LIMIT 1 OFFSET ?2)",
                params![schedule, RUNS],
            )?;
            Ok(claimed == 1)
        })
    }

    /// Replaces the result of a claimed run.
    pub fn settle(&self, schedule: &str, due: OffsetDateTime, result: &RunResult) -> Result<(), StoreError> {
        self.writer.change(|db| {
            db.execute(
                "UPDATE runs SET state = ?3, message = ?4, process = ?5 WHERE schedule = ?1 AND due = ?2",
                params![
                    schedule,
                    due.unix_timestamp(),
                    result.state,
                    shortened(result.message.as_deref()),
                    result.process.map(Uuid::into_bytes)
                ],
            )
            .map(drop)
        })
    }

    /// Gives a claim back: the run has not begun, and another server can claim it.
    pub fn release(&self, schedule: &str, due: OffsetDateTime) -> Result<(), StoreError> {
        self.writer.change(|db| {
            let sql = "DELETE FROM runs WHERE schedule = ?1 AND due = ?2 AND state = ?3";
            db.execute(sql, params![schedule, due.unix_timestamp(), STARTING]).map(drop)
        })
    }

    /// Marks all runs without an end as interrupted: the server that began them is gone. Returns their number.
    pub fn mark_interrupted(&self) -> Result<usize, StoreError> {
        self.writer.change(|db| {
            let sql = "UPDATE runs SET state = ?1, message = 'interrupted by a crash' WHERE state IN (?2, ?3)";
            db.execute(sql, params![INTERRUPTED, STARTING, RUNNING])
        })
    }

    /// Returns whether a run of the schedule has not ended, on whichever server it runs.
    pub fn is_running(&self, schedule: &str) -> Result<bool, StoreError> {
        const ANY: &str = "SELECT EXISTS (SELECT 1 FROM runs WHERE schedule = ?1 AND state IN (?2, ?3))";
        self.readers.read(|db| db.query_row(ANY, params![schedule, STARTING, RUNNING], |row| row.get(0)))
    }

    /// Returns the last run of each schedule, by name.
    pub fn last_runs(&self) -> Result<BTreeMap<String, Run>, StoreError> {
        const LAST: &str = "SELECT schedule, due, claimed, state, message, process FROM runs WHERE rowid IN \
                            (SELECT max(rowid) FROM runs GROUP BY schedule)";
        self.readers.read(|db| db.prepare(LAST)?.query_map([], |row| Ok((row.get(0)?, run(row)?)))?.collect())
    }

    /// Returns one run, if its due time is claimed.
    pub fn run(&self, schedule: &str, due: OffsetDateTime) -> Result<Option<Run>, StoreError> {
        const ONE: &str =
            "SELECT schedule, due, claimed, state, message, process FROM runs WHERE schedule = ?1 AND due = ?2";
        self.readers.read(|db| db.query_row(ONE, params![schedule, due.unix_timestamp()], run).optional())
    }
}

/// Deletes the rows of all names that are not to be kept.
fn forget(db: &Connection, names: &str, delete: &str, keep: impl Fn(&str) -> bool) -> rusqlite::Result<()> {
    let names = db.prepare(names)?.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<Vec<String>>>()?;
    for name in names.iter().filter(|name| !keep(name)) {
        db.execute(delete, [name])?;
    }
    Ok(())
}

fn run(row: &Row<'_>) -> rusqlite::Result<Run> {
    let result = RunResult {
        state: row.get::<_, String>(3)?.into(),
        message: row.get(4)?,
        process: row.get::<_, Option<[u8; 16]>>(5)?.map(Uuid::from_bytes),
    };
    Ok(Run { due: moment(row.get(1)?), claimed: moment(row.get(2)?), result })
}

fn shortened(message: Option<&str>) -> Option<&str> {
    message.map(|message| &message[..message.floor_char_boundary(MESSAGE)])
}

fn moment(seconds: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{sync::Arc, thread};
    use tempfile::TempDir;

    fn schedules() -> (TempDir, Schedules) {
        let directory = tempfile::tempdir().unwrap();
        let database = Database::open(directory.path()).unwrap();
        (directory, Schedules::open(&database).unwrap())
    }

    fn starting() -> RunResult {
        RunResult::new(STARTING, None, None)
    }

    fn progress(since: i64, last: Option<i64>) -> Progress {
        Progress { since: moment(since), last: last.map(moment) }
    }

    #[test]
    fn due_time_is_claimed_once_by_several_servers() {
        let directory = tempfile::tempdir().unwrap();
        let database = Database::open(directory.path()).unwrap();
        let servers: Vec<_> = (0..4).map(|_| Arc::new(Schedules::open(&database).unwrap())).collect();
        let claims = servers.iter().map(|server| {
            let server = server.clone();
            thread::spawn(move || {
                (0..20).filter(|due| server.claim("a", moment(*due), moment(100), &starting()).unwrap()).count()
            })
        });
        let claims: Vec<_> = claims.collect();
        assert_eq!(claims.into_iter().map(|claims| claims.join().unwrap()).sum::<usize>(), 20);
        assert!(servers[0].claim("b", moment(0), moment(100), &starting()).unwrap(), "another schedule");
    }

    #[test]
    fn unchanged_schedule_keeps_its_progress() {
        let (_directory, schedules) = schedules();
        let register = |timetable: &str, now: i64| {
            let all = schedules.register(&["a"], &[("a", timetable.to_owned())], moment(now)).unwrap();
            all["a"]
        };
        assert_eq!(register("daily", 100), progress(100, None));
        schedules.claim("a", moment(150), moment(151), &starting()).unwrap();
        assert_eq!(register("daily", 200), progress(100, Some(150)));
        assert_eq!(register("hourly", 300), progress(300, Some(150)), "another timetable counts from now on");
        // Not active: as when it is paused.
        assert!(schedules.register(&["a"], &[], moment(400)).unwrap().is_empty());
        assert_eq!(register("hourly", 500), progress(500, Some(150)));
        schedules.register(&[], &[], moment(600)).unwrap();
        assert_eq!(register("hourly", 700), progress(700, None), "the runs of a removed schedule are forgotten");
    }

    #[test]
    fn run_is_shown_with_its_last_result() {
        let (_directory, schedules) = schedules();
        let process = Uuid::now_v7();
        assert!(!schedules.is_running("a").unwrap());
        schedules.claim("a", moment(50), moment(50), &RunResult::new(MISSED, Some("late".into()), None)).unwrap();
        schedules.claim("a", moment(100), moment(101), &starting()).unwrap();
        assert!(schedules.is_running("a").unwrap() && !schedules.is_running("b").unwrap());
        let running = RunResult::new(RUNNING, None, Some(process));
        schedules.settle("a", moment(100), &running).unwrap();
        let run = schedules.last_runs().unwrap().remove("a").unwrap();
        assert_eq!(run, Run { due: moment(100), claimed: moment(101), result: running });
        let ended = RunResult::new("exited", Some("ä".repeat(MESSAGE)), Some(process));
        schedules.settle("a", moment(100), &ended).unwrap();
        let run = schedules.run("a", moment(100)).unwrap().unwrap();
        assert_eq!(run.result.state, "exited");
        assert_eq!(run.result.message.unwrap().len(), MESSAGE);
        assert!(!schedules.is_running("a").unwrap());
        assert_eq!(schedules.run("a", moment(50)).unwrap().unwrap().result.state, MISSED);
    }

    #[test]
    fn released_claim_can_be_claimed_again() {
        let (_directory, schedules) = schedules();
        let claim = || schedules.claim("a", moment(100), moment(101), &starting()).unwrap();
        assert!(claim() && !claim());
        schedules.release("a", moment(100)).unwrap();
        assert!(claim());
        schedules.settle("a", moment(100), &RunResult::new(RUNNING, None, Some(Uuid::nil()))).unwrap();
        schedules.release("a", moment(100)).unwrap();
        assert!(!claim(), "a run that has begun is not given back");
        assert_eq!(schedules.mark_interrupted().unwrap(), 1);
        assert_eq!(schedules.run("a", moment(100)).unwrap().unwrap().result.state, INTERRUPTED);
    }

    #[test]
    fn number_of_kept_runs_is_bounded() {
        let (_directory, schedules) = schedules();
        // Made while the clock was far ahead.
        for due in 0..i64::from(RUNS) {
            schedules.claim("a", moment(1_000_000 + due), moment(0), &starting()).unwrap();
        }
        for due in 0..30 {
            schedules.claim("a", moment(due), moment(due), &starting()).unwrap();
            assert!(!schedules.claim("a", moment(due), moment(due), &starting()).unwrap());
        }
        let all: u32 =
            schedules.readers.read(|db| db.query_row("SELECT count(*) FROM runs", [], |row| row.get(0))).unwrap();
        assert_eq!(all, RUNS);
        assert!(schedules.run("a", moment(29)).unwrap().is_some());
        assert!(schedules.run("a", moment(1_000_000)).unwrap().is_none());
    }
}
