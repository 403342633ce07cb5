//! The history of processes in the database. All functions here block.

use super::{
    connections::Readers,
    database::{Database, StoreError},
};
use distillery_core::principal::Principal;
use rusqlite::{Connection, Row, ToSql, TransactionBehavior, params, params_from_iter};
use std::borrow::Cow;
use time::OffsetDateTime;
use uuid::Uuid;

/// The beginning of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Begun {
    /// Later processes have larger ids.
    pub id: Uuid,
    /// The name of the user at the time. Empty if anonymous.
    pub user: String,
    pub owner: Principal,
    /// The schedule that started it. `None` if a caller did.
    pub schedule: Option<String>,
    pub call: String,
    /// `None` in place of a secret.
    pub params: Vec<Option<String>>,
    pub plugin: String,
    pub generation: u64,
    /// Accurate to the millisecond.
    pub started: OffsetDateTime,
}

/// The end of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// `None` if the server did not observe the end.
    pub at: Option<OffsetDateTime>,
    /// One of [`OUTCOMES`].
    pub outcome: Cow<'static, str>,
    pub message: Option<String>,
    pub stop: Option<Cow<'static, str>>,
    pub cleanup: Option<Cow<'static, str>>,
    /// The value of the call, as JSON.
    pub value: Option<Box<str>>,
    pub used: Used,
}

/// The resources that a process has used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    pub cpu_ms: u64,
    pub memory: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub commands: CommandsUsed,
}

/// The resources that the granted commands of a process have used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CommandsUsed {
    pub count: u64,
    pub ms: u64,
    pub cpu_ms: u64,
    /// The peak memory in bytes of the largest of their processes.
    pub memory: u64,
}

/// All outcomes of a process, in one word.
pub const OUTCOMES: [&str; 6] = ["success", "exited", "trapped", "cancelled", "failed", INTERRUPTED];
/// The outcome of a process whose server crashed.
pub const INTERRUPTED: &str = "interrupted";

impl Ended {
    /// Returns the end of a process whose server crashed.
    pub fn interrupted() -> Self {
        Self {
            at: None,
            outcome: INTERRUPTED.into(),
            message: Some("interrupted by a crash".into()),
            stop: None,
            cleanup: None,
            value: None,
            used: Used::default(),
        }
    }
}

/// A query for processes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Only processes that began before this one.
    pub before: Option<Uuid>,
    pub call: Option<String>,
    pub user: Option<String>,
    pub owner: Option<Principal>,
    pub outcome: Option<String>,
    /// Only processes that began at this time or later.
    pub since: Option<OffsetDateTime>,
    /// Only processes that began before this time.
    pub until: Option<OffsetDateTime>,
    /// Only processes with this text in a parameter or in the message, in any case of its ASCII letters.
    pub text: Option<String>,
    pub limit: usize,
}

/// The reader of the history.
pub struct Processes {
    readers: Readers,
}

const COLUMNS: &str = "id, user, owner, call, params, plugin, generation, started, ended, outcome, message, stop, cleanup, \
                       value, cpu_ms, memory, bytes_in, bytes_out, schedule, commands, commands_ms, commands_cpu_ms, \
                       commands_memory";

/// Finds a text in lower case in a parameter or in the message. `lower` knows only the letters of ASCII.
const TEXT: &str = "EXISTS (SELECT 1 FROM (SELECT value FROM json_each(params) UNION ALL SELECT message) \
                    WHERE instr(lower(value), ?) > 0)";

impl Processes {
    pub fn open(database: &Database) -> Result<Self, StoreError> {
        Ok(Self { readers: Readers::open(database)? })
    }

    /// Returns the requested processes, newest first.
    pub fn page(&self, wanted: &Wanted) -> Result<Vec<(Begun, Option<Ended>)>, StoreError> {
        let before = wanted.before.map(|id| id.into_bytes().to_vec());
        let owner = wanted.owner.as_ref().map(Principal::stored);
        let since = wanted.since.map(millis);
        let until = wanted.until.map(millis);
        let text = wanted.text.as_deref().map(str::to_ascii_lowercase);
        let conditions: [(&str, &dyn ToSql, bool); 8] = [
            ("id < ?", &before, before.is_some()),
            ("owner IS ?", &owner, owner.is_some()),
            ("call = ?", &wanted.call, wanted.call.is_some()),
            ("user = ?", &wanted.user, wanted.user.is_some()),
            ("outcome = ?", &wanted.outcome, wanted.outcome.is_some()),
            ("started >= ?", &since, since.is_some()),
            ("started < ?", &until, until.is_some()),
            (TEXT, &text, text.is_some()),
        ];
        let given = || conditions.iter().filter(|(_, _, given)| *given);
        let conditions: String = given().map(|(condition, ..)| format!(" AND {condition}")).collect();
        let limit = wanted.limit as i64;
        let values = given().map(|(_, value, _)| *value).chain([&limit as &dyn ToSql]);
        let sql = format!("SELECT {COLUMNS} FROM processes WHERE TRUE{conditions} ORDER BY id DESC LIMIT ?");
        self.readers.read(|db| db.prepare(&sql)?.query_map(params_from_iter(values), process)?.collect())
    }

    pub fn one(&self, id: Uuid) -> Result<Option<(Begun, Option<Ended>)>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM processes WHERE id = ?1");
        self.readers.read(|db| db.prepare(&sql)?.query_map([id.into_bytes()], process)?.next().transpose())
    }
}

fn process(row: &Row<'_>) -> rusqlite::Result<(Begun, Option<Ended>)> {
    let number = |at| row.get::<_, i64>(at).map(|it| it as u64);
    let begun = Begun {
        id: Uuid::from_bytes(row.get(0)?),
        user: row.get(1)?,
        owner: Principal::read(row.get::<_, Option<String>>(2)?.as_deref()),
        schedule: row.get(18)?,
        call: row.get(3)?,
        params: serde_json::from_str(&row.get::<_, String>(4)?).unwrap_or_default(),
        plugin: row.get(5)?,
        generation: number(6)?,
        started: moment(row.get(7)?),
    };
    let Some(outcome) = row.get::<_, Option<String>>(9)? else { return Ok((begun, None)) };
    let ended = Ended {
        at: row.get::<_, Option<i64>>(8)?.map(moment),
        outcome: outcome.into(),
        message: row.get(10)?,
        stop: row.get::<_, Option<String>>(11)?.map(Cow::from),
        cleanup: row.get::<_, Option<String>>(12)?.map(Cow::from),
        value: row.get(13)?,
        used: Used {
            cpu_ms: number(14)?,
            memory: number(15)?,
            bytes_in: number(16)?,
            bytes_out: number(17)?,
            commands: CommandsUsed { count: number(19)?, ms: number(20)?, cpu_ms: number(21)?, memory: number(22)? },
        },
    };
    Ok((begun, Some(ended)))
}

/// The writer of the history. Only the server has one.
pub struct Writer {
    database: Database,
    connection: Connection,
}

impl Writer {
    /// Opens the history for writing. A loss of power can lose its last moments, which is not worth a sync to disk for
    /// each write.
    pub fn open(database: &Database) -> Result<Self, StoreError> {
        let connection = database.connect()?;
        connection.pragma_update(None, "synchronous", "normal").map_err(database.told())?;
        Ok(Self { database: database.clone(), connection })
    }

    /// Marks processes that never ended as interrupted: the server that ran them is gone.
    pub fn mark_interrupted(&self) -> Result<usize, StoreError> {
        let Ended { outcome, message, .. } = Ended::interrupted();
        let sql = "UPDATE processes SET outcome = ?1, message = ?2 WHERE outcome IS NULL";
        self.connection.execute(sql, params![outcome, message]).map_err(self.database.told())
    }

    /// Writes all of these processes, or none. Replaces those that exist.
    pub fn write<'a>(
        &mut self,
        processes: impl IntoIterator<Item = (&'a Begun, Option<&'a Ended>)>,
    ) -> Result<(), StoreError> {
        self.written(processes).map_err(self.database.told())
    }

    fn written<'a>(
        &mut self,
        processes: impl IntoIterator<Item = (&'a Begun, Option<&'a Ended>)>,
    ) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let sql = format!(
            "INSERT OR REPLACE INTO processes ({COLUMNS}) VALUES \
             (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23)"
        );
        let mut insert = transaction.prepare(&sql)?;
        for (begun, ended) in processes {
            let used = ended.map_or(Used::default(), |ended| ended.used);
            insert.execute(params![
                begun.id.into_bytes(),
                begun.user,
                begun.owner.stored(),
                begun.call,
                serde_json::to_string(&begun.params).unwrap_or_default(),
                begun.plugin,
                begun.generation as i64,
                millis(begun.started),
                ended.and_then(|ended| ended.at).map(millis),
                ended.map(|ended| &ended.outcome),
                ended.and_then(|ended| ended.message.as_deref()),
                ended.and_then(|ended| ended.stop.as_deref()),
                ended.and_then(|ended| ended.cleanup.as_deref()),
                ended.and_then(|ended| ended.value.as_deref()),
                used.cpu_ms as i64,
                used.memory as i64,
                used.bytes_in as i64,
                used.bytes_out as i64,
                begun.schedule,
                used.commands.count as i64,
                used.commands.ms as i64,
                used.commands.cpu_ms as i64,
                used.commands.memory as i64,
            ])?;
        }
        drop(insert);
        transaction.commit()
    }

    /// Removes processes that began before `oldest`, and the oldest beyond `most`. Never removes a running process.
    pub fn prune(&self, oldest: OffsetDateTime, most: u64) -> Result<usize, StoreError> {
        // An id begins with the millisecond in which it was made.
        let first = Uuid::from_u128((millis(oldest).max(0) as u128) << 80);
        let prune = || {
            let old = self
                .connection
                .execute("DELETE FROM processes WHERE id < ?1 AND outcome IS NOT NULL", [first.into_bytes()])?;
            let beyond = "DELETE FROM processes WHERE outcome IS NOT NULL AND id <= \
                          (SELECT id FROM processes ORDER BY id DESC LIMIT 1 OFFSET ?1)";
            Ok(old + self.connection.execute(beyond, [i64::try_from(most).unwrap_or(i64::MAX)])?)
        };
        prune().map_err(self.database.told())
    }
}

fn millis(moment: OffsetDateTime) -> i64 {
    (moment.unix_timestamp_nanos() / 1_000_000) as i64
}

fn moment(millis: i64) -> OffsetDateTime {
    let nanos = i128::from(millis) * 1_000_000;
    OffsetDateTime::from_unix_timestamp_nanos(nanos).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;
    use time::Duration;

    fn begun(user: &str, call: &str) -> Begun {
        Begun {
            id: Uuid::now_v7(),
            user: user.into(),
            owner: if user.is_empty() { Principal::Anonymous } else { Principal::Forwarded(user.into()) },
            schedule: (call == "grind").then(|| "nightly".into()),
            call: call.into(),
            params: vec![Some("a".into()), None],
            plugin: "p".into(),
            generation: 3,
            started: moment(millis(OffsetDateTime::now_utc())),
        }
    }

    fn ended(outcome: &'static str) -> Ended {
        Ended {
            at: Some(moment(1_700_000_000_123)),
            outcome: outcome.into(),
            message: Some("why".into()),
            stop: Some("told".into()),
            cleanup: None,
            value: Some("{}".into()),
            used: Used {
                cpu_ms: 1,
                memory: 2,
                bytes_in: 3,
                bytes_out: u64::from(u32::MAX) + 4,
                commands: CommandsUsed { count: 5, ms: 6, cpu_ms: 7, memory: 8 },
            },
        }
    }

    fn bobs_of(wanted: &Wanted) -> Wanted {
        Wanted { user: Some("bob".into()), ..wanted.clone() }
    }

    fn store() -> (TempDir, Processes, Writer) {
        let directory = tempfile::tempdir().unwrap();
        let database = Database::open(directory.path()).unwrap();
        (directory, Processes::open(&database).unwrap(), Writer::open(&database).unwrap())
    }

    #[test]
    fn stored_end_replaces_the_beginning() {
        let (_directory, processes, mut writer) = store();
        let (one, end) = (begun("ada", "echo"), ended("exited"));
        writer.write([(&one, None)]).unwrap();
        assert_eq!(processes.one(one.id).unwrap(), Some((one.clone(), None)));
        writer.write([(&one, Some(&end))]).unwrap();
        assert_eq!(processes.one(one.id).unwrap(), Some((one, Some(end))));
        assert_eq!(processes.one(Uuid::nil()).unwrap(), None);
    }

    #[test]
    fn page_is_filtered_and_continues_where_the_last_ended() {
        let (_directory, processes, mut writer) = store();
        let all: Vec<_> = (0..10).map(|n| begun(["ada", "bob"][n % 2], ["echo", "ask", "grind"][n % 3])).collect();
        let end = ended("success");
        writer.write(all.iter().map(|it| (it, (it.call != "ask").then_some(&end)))).unwrap();
        let page = |wanted: Wanted| {
            processes.page(&wanted).unwrap().into_iter().map(|(begun, _)| begun.id).collect::<Vec<_>>()
        };
        let id = |n: usize| all[n].id;
        let wanted = Wanted { limit: 3, ..Wanted::default() };
        assert_eq!(page(wanted.clone()), [id(9), id(8), id(7)]);
        assert_eq!(page(Wanted { before: Some(id(7)), ..wanted.clone() }), [id(6), id(5), id(4)]);
        let bobs = Wanted { user: Some("bob".into()), ..wanted.clone() };
        assert_eq!(page(bobs.clone()), [id(9), id(7), id(5)]);
        assert_eq!(page(Wanted { call: Some("ask".into()), ..bobs.clone() }), [id(7), id(1)]);
        assert_eq!(page(Wanted { outcome: Some("success".into()), ..bobs }), [id(9), id(5), id(3)]);
        assert_eq!(page(Wanted { text: Some("WHY".into()), ..bobs_of(&wanted) }), [id(9), id(5), id(3)]);
        assert!(page(Wanted { text: Some("%".into()), ..wanted.clone() }).is_empty());
        let first = all[0].started;
        assert!(page(Wanted { until: Some(first), ..wanted.clone() }).is_empty());
        assert_eq!(page(Wanted { since: Some(first), ..wanted.clone() }), [id(9), id(8), id(7)]);
        assert!(page(Wanted { since: Some(first + Duration::HOUR), ..wanted.clone() }).is_empty());
        assert!(page(Wanted { user: Some("' OR 1".into()), ..wanted.clone() }).is_empty());
        let owner = |owner| Wanted { owner: Some(owner), ..wanted.clone() };
        assert_eq!(page(owner(Principal::Forwarded("bob".into()))), [id(9), id(7), id(5)]);
        assert!(page(owner(Principal::Anonymous)).is_empty());
    }

    #[test]
    fn only_unended_processes_are_marked_as_interrupted() {
        let (_directory, processes, mut writer) = store();
        let (lost, whole, end) = (begun("", "echo"), begun("", "echo"), ended("success"));
        writer.write([(&lost, None), (&whole, Some(&end))]).unwrap();
        assert_eq!(writer.mark_interrupted().unwrap(), 1);
        assert_eq!(writer.mark_interrupted().unwrap(), 0);
        assert_eq!(processes.one(lost.id).unwrap().unwrap().1, Some(Ended::interrupted()));
        assert_eq!(processes.one(whole.id).unwrap().unwrap().1, Some(end));
    }

    #[test]
    fn pruning_removes_old_and_surplus_but_never_running() {
        let (_directory, processes, mut writer) = store();
        let (running, end) = (begun("", "echo"), ended("success"));
        let all: Vec<_> = (0..10).map(|_| begun("", "echo")).collect();
        writer.write([(&running, None)]).unwrap();
        writer.write(all.iter().map(|it| (it, Some(&end)))).unwrap();
        let count = || processes.page(&Wanted { limit: 100, ..Wanted::default() }).unwrap().len();
        let now = OffsetDateTime::now_utc();
        assert_eq!(writer.prune(now - Duration::HOUR, 100).unwrap(), 0);
        assert_eq!(writer.prune(now - Duration::HOUR, 4).unwrap(), 6);
        assert_eq!(count(), 5);
        assert!(processes.one(all[9].id).unwrap().is_some() && processes.one(all[5].id).unwrap().is_none());
        assert_eq!(writer.prune(now + Duration::HOUR, 100).unwrap(), 4);
        assert!(processes.one(running.id).unwrap().is_some());
    }
}
