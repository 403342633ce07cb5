//! Pending writes that are already in effect: new sessions, and the last uses of tokens.

use super::{Accounts, Hash, now};
use crate::{connections::change, database::StoreError};
use distillery_core::principal::UserId;
use parking_lot::Mutex;
use rusqlite::{Connection, params};
use std::collections::HashMap;

/// Maximum number of sessions that wait. Each one took a password to make.
const SESSIONS: usize = 10_000;
/// Maximum number of tokens whose last use waits. Further uses are not recorded.
const USES: usize = 10_000;

/// A session that is not written yet.
#[derive(Clone)]
pub(super) struct Session {
    pub user: UserId,
    /// The hash of the password that began it. The session is over if the user's password has changed.
    pub password: Option<String>,
    pub created: i64,
    pub expires: i64,
}

/// Pending writes. An entry is removed once it is written, while the writing connection is held.
#[derive(Default)]
pub(super) struct Pending {
    sessions: Mutex<HashMap<Hash, Session>>,
    /// Times of last use, by the id of the token.
    uses: Mutex<HashMap<String, i64>>,
}

impl Pending {
    pub fn session(&self, secret: &Hash) -> Option<Session> {
        self.sessions.lock().get(secret).cloned()
    }

    /// Adds a session. Returns false if there is no room for it.
    pub fn begin(&self, secret: Hash, session: Session) -> bool {
        let mut sessions = self.sessions.lock();
        if sessions.len() >= SESSIONS {
            let now = now();
            sessions.retain(|_, session| session.expires > now);
        }
        let room = sessions.len() < SESSIONS;
        if room {
            sessions.insert(secret, session);
        }
        room
    }

    /// Removes a session. Returns whether it was there.
    pub fn end(&self, secret: &Hash) -> bool {
        self.sessions.lock().remove(secret).is_some()
    }

    pub fn note_use(&self, token: &str, at: i64) {
        let mut uses = self.uses.lock();
        if uses.len() < USES || uses.contains_key(token) {
            uses.insert(token.to_owned(), at);
        }
    }

    pub fn used(&self, token: &str) -> Option<i64> {
        self.uses.lock().get(token).copied()
    }

    fn is_empty(&self) -> bool {
        self.sessions.lock().is_empty() && self.uses.lock().is_empty()
    }
}

impl Accounts {
    /// Returns whether there are pending writes.
    pub fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Writes all pending entries, or none. After a failure, they stay pending.
    pub fn write_pending(&self) -> Result<(), StoreError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let mut connection = self.writer.lock()?;
        let (sessions, uses) = (self.pending.sessions.lock().clone(), self.pending.uses.lock().clone());
        change(self.writer.database(), &mut connection, |db| write(db, &sessions, &uses))?;
        self.pending.sessions.lock().retain(|secret, _| !sessions.contains_key(secret));
        self.pending.uses.lock().retain(|token, at| uses.get(token) != Some(at));
        Ok(())
    }
}

fn write(db: &Connection, sessions: &HashMap<Hash, Session>, uses: &HashMap<String, i64>) -> rusqlite::Result<()> {
    db.execute("DELETE FROM sessions WHERE expires <= ?1", [now()])?;
    // The user can have been removed by now, or can have a new password.
    let mut begin = db.prepare(
        "INSERT OR IGNORE INTO sessions (hash, user, created, expires)
            SELECT ?1, name, ?4, ?5 FROM users WHERE id = ?2 AND password IS ?3",
    )?;
    for (Hash(hash), Session { user, password, created, expires }) in sessions {
        begin.execute(params![hash, user.as_str(), password, created, expires])?;
    }
    let mut note = db.prepare("UPDATE tokens SET used = ?2 WHERE id = ?1 AND (used IS NULL OR used < ?2)")?;
    for (token, at) in uses {
        note.execute(params![token, at])?;
    }
    Ok(())
}
